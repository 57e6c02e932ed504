"""The command `fllm-tui`: what it says where it cannot open the console."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fundamentallm_tui.__main__ import main


@pytest.mark.parametrize(
    ("terminal", "encoding"),
    [
        ({"TERM": "dumb"}, ""),
        ({"PYTHONIOENCODING": "latin-1"}, "iso8859-1"),
        ({"LC_ALL": "POSIX"}, "ascii"),
        ({"LC_ALL": "xx_XX.ISO-8859-1"}, "iso8859-1"),
        ({"LC_ALL": "xx_XX.unheard-of"}, "unheard-of"),
    ],
)
def test_a_terminal_that_cannot_show_it_gets_one_line_and_exit_2(terminal: dict[str, str], encoding: str) -> None:
    ours, its = pytest.importorskip("pty").openpty()
    command, env = [sys.executable, "-m", "fundamentallm_tui"], {**os.environ, **terminal}
    done = subprocess.run(command, stdin=its, stdout=its, stderr=its, env=env, timeout=60)
    os.close(its)
    shown = os.read(ours, 10_000).decode("ascii")
    os.close(ours)
    assert done.returncode == 2
    assert not encoding or f"draws with UTF-8, and this terminal has {encoding};" in shown
    assert "use `fundamentallm train`" in shown and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--preset", "smal"], "--preset smal: no such preset; did you mean small?"),
        (["attach", "nowhere"], "nowhere: no such run"),
        (["nowhere"], "nowhere: no such run"),
        (["--preset", "tiny", "--start", "nowhere"], "nowhere: no such run"),
        (["replay", "nowhere"], "nowhere: no such run"),
        (["replay", "x", "--speed", "0"], "--speed: 0: must be a number from 0.01 to 1000000"),
        (["replay"], "fllm-tui: replay needs a RUN"),
        (["look", "nowhere"], "fllm-tui: look is no command"),
        (["attach", "--low-bandwidth", "nowhere"], "nowhere: no such run"),
        (["--bogus"], "fllm-tui: unrecognized arguments: --bogus"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        ([], "fllm-tui: needs a terminal that can show it; without one, use `fundamentallm train`"),
    ],
)
def test_what_cannot_be_opened_is_an_error_of_one_line_and_exit_2(arguments: list[str], error: str) -> None:
    done = subprocess.run([sys.executable, "-m", "fundamentallm_tui", *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr and done.stderr.count("\n") == 1


def test_a_hostile_file_does_not_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text('"\\e]0;mine\\a": 1\n')
    assert main(["--config", str(tmp_path / "c.yaml")]) == 2
    assert "·]0;mine·: no such setting" in capsys.readouterr().err
