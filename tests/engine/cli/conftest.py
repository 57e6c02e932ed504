"""What the tests of the command line share: a command that runs in this process, and a small trained run."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fundamentallm.cli import main

Run = Callable[..., tuple[int, str, str]]
Refused = Callable[..., list[str]]

TINY = ["--model-dim=16", "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=16", "--device=cpu"]
# brackets, braces and escapes, which no layer may take for its own
TEXT = ("[bold]the sea[/] was old, \\[red] and /dawn came {so} early \x1b[31m.\n" * 50)[:3000]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run over `TEXT`; do not change it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    command = ["train", str(folder / "text.txt"), f"--output-dir={folder / 'run'}", "--epochs=1", *TINY, "--quiet"]
    assert main(command) == 0
    return folder / "run"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in an empty folder: status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("no_proxy", "*")

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(arguments)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def refused(run: Run) -> Refused:
    """Runs a command, which must be refused and leave everything as it was. Its lines."""

    def refused(*arguments: str) -> list[str]:
        before = sorted(Path().rglob("*"))
        status, out, err = run(*arguments)
        assert (status, out) == (2, ""), err
        assert sorted(Path().rglob("*")) == before
        return err.splitlines()

    return refused


@pytest.fixture
def loaded() -> Callable[..., set[str]]:
    """The modules that a process has imported after these commands, which all succeed."""

    def ask(*commands: list[str]) -> set[str]:
        code = (
            "import sys; from fundamentallm.cli import main\n"
            f"assert not any([main(command) for command in {list(commands)}])\n"
            "print('modules', *sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        return set(done.stdout.splitlines()[-1].split()[1:])

    return ask
