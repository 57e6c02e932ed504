"""Bad input: one clear line a problem, exit status 2, no traceback, nothing left on the disk."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fundamentallm.errors import UserError
from tests.conftest import file_contents
from tests.engine.cli.conftest import TEXT, TINY, Refused, Run


@pytest.fixture
def checkpoint(trained: Path) -> bytes:
    return (trained / "best.pt").read_bytes()


@pytest.fixture(autouse=True)
def text(run: Run) -> None:
    """Commands run beside a text."""
    Path("text.txt").write_text(TEXT)


DATA = {
    "missing": (None, "data.txt: no such file (looked in {cwd})"),
    "empty": (b"", "data.txt: has no text"),
    "blank": (b" \n\n", "data.txt: has no text"),
    "binary": (b"abc\0def" * 900, "data.txt: is not a text file: it has a zero character"),
    "latin-1": (
        b"abc\nna\xefve" * 900,
        "data.txt: is not UTF-8 (byte 0xef in line 2, offset 6): it looks like Latin-1 or Windows-1252; convert it: "
        "iconv -f WINDOWS-1252 -t UTF-8 data.txt > data.txt.utf8 && mv data.txt.utf8 data.txt",
    ),
    "short": (
        b"0123456789" * 10,
        "data.txt: --val-split 0.1 of 100 characters leaves 90 to train on and 10 to validate on, and a run needs 257 "
        "and 2; --max-seq-len 89 is the largest that fits",
    ),
}


@pytest.mark.parametrize("kind", DATA)
def test_data_that_cannot_be_learnt_from_is_refused(refused: Refused, kind: str) -> None:
    raw, line = DATA[kind]
    if raw is not None:
        Path("data.txt").write_bytes(raw)
    for flags in (["--output-dir", "out/deep"], []):
        assert refused("train", "data.txt", *flags) == [line.format(cwd=Path.cwd())]


# Arguments, and the line that refuses them; one that ends in … is the beginning of the line.
TRAIN = {
    "--num-heads 7 --model-dim 256": "--num-heads: 7 does not divide model_dim 256; 1, 2, 4, 8, 16, 32, 64 or 128 do",
    "--model-dim ten": "--model-dim: ten is not a whole number, at least 2, at most 16,384",
    "--stride 300": "--stride: 300 is more than max_seq_len 256; text would be skipped",
    "--json --dry-run": "--json: prints what happens in a run, and --dry-run starts none; leave one out",
    "--profile 5 --detach": "--profile: prints a table of one process; leave out --detach and --processes",
    "--max-restarts 2": "--max-restarts: is for several --processes, which start again when one is lost",
    "--device cuda:99": "--device cuda:99…",
    "--device abacus": "--device abacus: no such device; there are cpu, cuda, cuda:1, mps and auto",
    "--preset tinny": "--preset tinny: no such preset; did you mean tiny?",
    "--config none.yaml": "none.yaml: cannot be read: No such file or directory",
    "--resume-from=": "'': is no path; . is the current folder",
    "--resume-from none.pt": "--resume-from none.pt: no such checkpoint",
    "--output-dir text.txt": "--output-dir text.txt: is a file; name a folder",
    "--output-dir text.txt/run": "--output-dir text.txt/run: {cwd}/text.txt cannot be written to",
    "--tensorboard --log-dir text.txt": "--log-dir text.txt: {cwd}/text.txt cannot be written to",
    "--tensorboard --log-dir text.txt/deeper": "--log-dir text.txt/deeper: {cwd}/text.txt cannot be written to",
    "--modle-dim 16": "--modle-dim: no such option; did you mean --model-dim?",
    "empty": "empty: holds no .txt or .md file; name its files, or a pattern with --include",
}  # fmt: skip
OTHERS = {
    "train many": (
        "many: --val-split 0.1 of 150 characters leaves 50 of the longest of its 3 texts to train on and 15 to "
        "validate on, and a run needs 257 and 2; --max-seq-len 49 is the largest that fits"
    ),
    "train": "no data: name a text file to learn from, or a preset or configuration file that does",
    "trian": "trian: no such command; did you mean train?",
    "generate": "Missing argument 'CHECKPOINT'; see fundamentallm generate --help",
    "completion": (
        "Missing argument '[bash|zsh|fish]'. Choose from: bash, zsh, fish; see fundamentallm completion --help"
    ),
    "bench --seconds x": "Invalid value for '--seconds': 'x' is not a valid whole number; …",
    "doctor --seconds=601": "Invalid value for '--seconds': 601 is not in the range 0<=x<=600; …",
    "evaluate run": "Missing argument 'DATA...'; see fundamentallm evaluate --help",
    "config show --json --yaml": "--yaml: --json was given too; leave one out",
    "config show --epoch 3": "--epoch: no such option; did you mean --epochs?",
    "find-lr": "no data: name a text file to learn from, or a preset or configuration file that does",
    "find-lr nowhere.txt": "nowhere.txt: …",
    "find-lr nowhere.txt --steps 3": "Invalid value for '--steps'…",
    "generate x.pt --temperature -1": "--temperature: -1 is out of bounds; it must be at least 0, at most 100",
    "sample run --top-p 0": "--top-p: 0 is out of bounds; it must be above 0, at most 1",
    "generate x.pt --max-token 5": "--max-token: no such option; did you mean --max-tokens?",
    "evaluate x.pt text.txt": "x.pt: no such checkpoint",
    "evaluate x.pt none.txt": "none.txt: no such file (looked in {cwd})",
    "presets -dash": "-d: no such option; there are --help",
    "evaluate x.pt text.txt --output no/where.json": "--output no/where.json: its folder does not exist",
}


@pytest.mark.parametrize("words", [*(f"train text.txt {flags}" for flags in TRAIN), *OTHERS])
def test_wrong_arguments_are_refused_in_one_line_that_names_them(refused: Refused, words: str) -> None:
    Path("empty").mkdir()
    Path("many").mkdir()
    for name in "abc":
        Path(f"many/{name}.txt").write_text(TEXT[:50])
    flags = words.removeprefix("train text.txt ")
    lines = refused(*words.split())
    line = {**TRAIN, **OTHERS}[flags].format(cwd=Path.cwd())
    assert lines == [line] or (line[-1] == "…" and len(lines) == 1 and lines[0].startswith(line[:-1])), lines


def test_texts_that_are_too_short_can_be_trained_on_with_the_advice(run: Run) -> None:
    Path("many").mkdir()
    for name in "abc":
        Path(f"many/{name}.txt").write_text(TEXT[:50])
    assert run("train", "many", "--output-dir", "new", *TINY, "--epochs=1", "--max-seq-len=49")[0] == 0


@pytest.mark.parametrize("path", ["~nobody-at-all/x", "x" * 300])
def test_a_path_that_cannot_exist_is_refused_everywhere(refused: Refused, path: str) -> None:
    commands = (
        ["train", path], ["train", "text.txt", "--output-dir", path], ["train", "text.txt", "--config", path],
        ["train", "--resume-from", path], ["generate", path], ["evaluate", path, "text.txt"],
        ["evaluate", "run", "text.txt", "--output", path],
    )  # fmt: skip
    for command in commands:
        (line,) = refused(*command)
        assert line.startswith(f"{path[:100]}: cannot be looked up: ")


def test_a_full_disk_is_one_line(refused: Refused, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "mkdir", full)
        assert refused("train", "text.txt", "--output-dir", "x") == [
            "--output-dir x: cannot be made: No space left on device"
        ]
    if Path("/dev/full").exists():
        command = [sys.executable, "-m", "fundamentallm", "generate", str(trained), "--max-tokens", "5"]
        with open("/dev/full", "w") as device:
            done = subprocess.run(command, stdout=device, stderr=subprocess.PIPE, text=True)
        assert (done.returncode, done.stderr) == (1, "the output: No space left on device\n")


def test_a_file_that_is_no_checkpoint_is_refused_by_every_command(refused: Refused, checkpoint: bytes) -> None:
    Path("cut.pt").write_bytes(checkpoint[: len(checkpoint) // 2])
    torch.save({"model": {"w": torch.zeros(3)}}, "other.pt")
    for name, message in {"cut.pt": "is damaged", "other.pt": "is not a checkpoint of this program"}.items():
        for command in (
            ["generate", name], ["evaluate", name, "text.txt"], ["score", name, "text.txt"],
            ["export", name, "exported"], ["train", "--resume-from", name, "--output-dir", "new/run"],
        ):  # fmt: skip
            (line,) = refused(*command)
            assert line.startswith(f"{name}: {message}")


def test_resuming_refuses_only_typed_flags_that_cannot_change(refused: Refused, checkpoint: bytes) -> None:
    Path("good.pt").write_bytes(checkpoint)
    Path("other.txt").write_text(TEXT[::-1])
    resume = ("train", "text.txt", "--resume-from", "good.pt", "--output-dir", "new")
    assert refused(*resume, "--epochs", "2", "--model-dim", "32", "--seed", "4") == [
        "--model-dim: cannot change on resume: the checkpoint has 16; leave it out",
        "--seed: cannot change on resume: the checkpoint has 0; leave it out",
    ]
    assert refused(*resume, "--epochs", "1") == ["good.pt: epoch 1 of 1 is done; give a larger total with --epochs"]
    assert refused("train", "other.txt", *resume[2:], "--epochs", "2") == [
        "other.txt: is not the text that good.pt was trained on; restore the text, or start a new run"
    ]


def test_what_comes_from_a_checkpoint_is_said_to_with_the_flag_that_overrides_it(
    refused: Refused, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("train", "text.txt", "--output-dir", "run", "--epochs=1", *TINY)[0] == 0
    Path("text.txt").rename("moved.txt")
    lost = f"text.txt: no such file (looked in {Path.cwd()}); the path comes from run/"
    end = ", and DATA overrides it"
    assert refused("train", "--resume-from", "run", "--epochs=2") == [f"{lost}last.pt{end}"]
    assert refused("train", "--resume", "auto", "--output-dir=run", "--epochs=2") == [f"{lost}config.yaml{end}"]
    assert refused("train", "gone.txt", "--resume-from", "run", "--epochs=2") == [
        f"gone.txt: no such file (looked in {Path.cwd()})"
    ]
    assert run("train", "moved.txt", "--resume-from", "run", "--epochs=2")[0] == 0

    def lacks(name: str) -> None:
        raise UserError(f"--device {name}: no CUDA device here")

    monkeypatch.setattr("fundamentallm.train.state.choose_device", lacks)
    lost = "--device cpu: no CUDA device here"
    resume = ("train", "--resume-from", "run", "--epochs=3")
    assert refused(*resume) == [f"{lost}; the setting comes from run/last.pt, and --device overrides it"]
    assert refused(*resume, "--device=cpu") == [lost]


def test_a_run_that_was_moved_for_one_that_fails_to_start_is_as_it_was(
    refused: Refused, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("train", "text.txt", "--output-dir", "run", "--epochs=1", *TINY)[0] == 0
    before = file_contents(Path())

    def lacks(name: str) -> None:
        assert Path("run.old-1").is_dir()
        raise UserError(f"--device {name}: no CUDA device here")

    monkeypatch.setattr("fundamentallm.train.state.choose_device", lacks)
    assert len(refused("train", "text.txt", "--output-dir", "run", "--overwrite", *TINY)) == 1
    assert file_contents(Path()) == before


@pytest.mark.parametrize(
    "words", ["generate", "evaluate x.pt text.txt --output", "data inspect", "train", "train text.txt --resume-from"]
)
def test_an_empty_path_is_not_the_current_folder(refused: Refused, words: str) -> None:
    assert refused(*words.split(), "") == ["'': is no path; . is the current folder"]
    assert refused("runs", "show", "")[0].startswith("'': no such run")


@pytest.mark.parametrize(("program", "late"), [("fundamentallm", "click"), ("fundamentallm_tui", "textual")])
def test_an_interrupt_while_the_modules_are_imported_ends_the_program_quietly(
    tmp_path: Path, program: str, late: str
) -> None:
    (tmp_path / f"{late}.py").write_text("raise KeyboardInterrupt")
    command = [sys.executable, "-m", program, *(["attach"] if late == "textual" else ["--version"])]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_what_does_not_compute_does_not_import_torch(loaded: Callable[..., set[str]]) -> None:
    found = loaded(["--version"], ["--help"], ["train", "--help"], ["presets"], ["presets", "tiny"])
    assert not {"torch", "tensorboard", "wandb"} & found
