"""`fundamentallm train -`: the text comes by a pipe once, and the run's folder keeps it."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fundamentallm.data.text import read_standard_input
from fundamentallm.run.history import read_history
from fundamentallm.run.notes import delete_run
from tests.conftest import file_contents
from tests.engine.cli.conftest import TEXT, TINY, Run

Piped = Callable[..., tuple[int, str, str]]


@pytest.fixture
def piped(run: Run, monkeypatch: pytest.MonkeyPatch) -> Piped:
    """Runs `train` with a text on standard input, which can be read once."""

    def piped(text: str, *arguments: str) -> tuple[int, str, str]:
        read_standard_input.cache_clear()  # as in a new process
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return run("train", *arguments, "--quiet")

    return piped


def steps(folder: str) -> int:
    return read_history(Path(folder), steps=False).step


def test_a_run_from_standard_input_is_the_run_from_the_file_and_resumes_without_it(piped: Piped, run: Run) -> None:
    Path("text.txt").write_text(TEXT)
    assert run("train", "text.txt", *TINY, "--epochs=1", "--output-dir=file", "--quiet")[0] == 0
    assert piped(TEXT, "-", *TINY, "--epochs=1")[0] == 0
    assert Path("runs/input-1/input.txt").read_text() == TEXT and read_history(Path("runs/input-1")).config["data"] == [
        "runs/input-1/input.txt"
    ]
    for folder in ("file", "runs/input-1"):
        assert run("train", "--resume-from", folder, "--epochs=2", "--quiet")[0] == 0
    both = [read_history(Path(folder)) for folder in ("file", "runs/input-1")]
    assert both[0].evaluations[-1].val_loss == both[1].evaluations[-1].val_loss


def test_the_same_command_resumes_and_refuses_another_text(piped: Piped) -> None:
    command = ["-", *TINY, "--output-dir=run", "--resume=auto"]
    assert piped(TEXT, *command, "--epochs=1")[0] == 0
    assert piped(TEXT, *command, "--epochs=2")[0] == 0
    first, second = read_history(Path("run")).starts
    assert (first.changes, second.changes) == ({}, {"epochs": 2})
    before = file_contents(Path("run"))
    line = "run/input.txt: is another text than the one from standard input; name another --output-dir\n"
    assert piped(TEXT + "more", *command, "--epochs=3") == (2, "", line)
    assert file_contents(Path("run")) == before


def test_a_run_that_was_moved_finds_its_text(piped: Piped, run: Run) -> None:
    assert piped(TEXT, "-", *TINY, "--epochs=1", "--output-dir=run")[0] == 0
    Path("run").rename("moved")
    assert run("train", "--resume-from", "moved", "--epochs=2", "--quiet")[0] == 0
    Path("moved").rename("again")
    assert run("train", "--resume=auto", "--output-dir=again", "--epochs=3", "--quiet")[0] == 0
    assert read_history(Path("again")).config["data"] == ["again/input.txt"]


def test_a_file_of_that_name_is_neither_overwritten_nor_deleted(piped: Piped, run: Run) -> None:
    Path("mine").mkdir()
    Path("mine/input.txt").write_text("my book")
    line = "mine/input.txt: is another text than the one from standard input; name another --output-dir\n"
    assert piped(TEXT, "-", *TINY, "--output-dir=mine") == (2, "", line)
    assert Path("mine/input.txt").read_text() == "my book"
    Path("mine/input.txt").unlink()
    os.mkfifo("mine/input.txt")
    line = "mine/input.txt: it is not a regular file\n"
    assert piped(TEXT, "-", *TINY, "--output-dir=mine") == (2, "", line), "a pipe is not waited for"
    Path("mine/input.txt").unlink()
    Path("mine/input.txt").write_text(TEXT)
    assert run("train", "mine/input.txt", *TINY, "--epochs=1", "--output-dir=mine", "--quiet")[0] == 0
    assert delete_run(Path("mine")) == ["input.txt"] and Path("mine/input.txt").read_text() == TEXT


@pytest.mark.parametrize("flags", [["--dry-run"], ["--output-dir=out", "--dry-run"]])
def test_a_dry_run_of_standard_input_writes_nothing(piped: Piped, flags: list[str]) -> None:
    status, out, _ = piped(TEXT, "-", *TINY, *flags)
    assert status == 0 and "data            -: 2,700 training and 300 validation characters" in out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "flags", "line"),
    [
        ("", [], "-: has no text\n"),
        (TEXT, ["--device=cuda:9"], "--device cuda:9: "),
        ("abc", [], "-: 3 characters, too few to train on"),
    ],
)
def test_a_start_that_fails_leaves_nothing(piped: Piped, text: str, flags: list[str], line: str) -> None:
    status, out, err = piped(text, "-", *TINY, *flags)
    assert (status, out) == (2, "") and err.startswith(line) and list(Path().iterdir()) == []
