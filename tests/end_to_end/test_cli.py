"""The command line from start to end: what is printed where, with which status, and which files are left."""

import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm import __version__
from fundamentallm.cli import main
from fundamentallm.run.events import Evaluated
from fundamentallm.train.checkpoint import load
from tests.conftest import journal_events
from tests.end_to_end.conftest import TEXT, TINY

Run = Callable[..., Any]
LINE = re.compile(
    r"Epoch (\d+)/(\d+) \| train_loss=\d\.\d{3} \| val_loss=(\d\.\d{3}) \| lr=\d\.\d\de-\d\d "
    r"\| throughput=\d+ tokens/sec"
)
PROGRAM = (sys.executable, "-m", "fundamentallm")
NEW = ["train", "text.txt", *TINY, "--epochs=1", "--output-dir=run"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a text in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def test_a_pipe_gets_one_line_an_epoch_and_nothing_else(here: Path, run: Run) -> None:
    done = run(*NEW, "--epochs=3")
    assert done.status == 0, done.err
    matches = [LINE.fullmatch(line) for line in done.out.splitlines()]
    assert [found and found.group(1, 2) for found in matches] == [("1", "3"), ("2", "3"), ("3", "3")]
    logged = [event.val_loss for event in journal_events(here / "run", Evaluated)]
    assert [found and found[3] for found in matches] == [f"{loss:.3f}" for loss in logged]
    assert "writing to run\n" in done.err and f"best validation loss {min(logged):.4f} (epoch 3)" in done.err
    files = {"config.yaml", "journal.jsonl", "tokenizer.json", "lock", "last.pt", "best.pt", "final_model.pt"}
    assert {path.name for path in (here / "run").iterdir()} == files | {f"checkpoint_epoch_{n}.pt" for n in (1, 2, 3)}

    advice = re.search(r"^try it with: fundamentallm (generate \S+)$", done.err, re.MULTILINE)
    assert advice is not None
    text = run(*advice[1].split(), "--prompt", "Once upon a time", "--max-tokens", 30, "--seed", 1)
    assert (text.status, text.err) == (0, "")
    assert text.out.startswith("Once upon a time") and len(text.out) == len("Once upon a time") + 30 + 1


def test_a_run_under_nohup_ignores_the_hangup(here: Path, launch: Run) -> None:
    process = launch(*NEW, "--epochs=8", prepare="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    process.until_printed("Epoch 1/8")
    process.signal(signal.SIGHUP)
    assert process.wait() == 0 and process.out.splitlines()[-1].startswith("Epoch 8/8 ")


def test_a_run_is_written_over_only_when_asked_and_the_old_one_is_moved(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*NEW, "--seed=1"]) == 0
    before = (here / "run" / "journal.jsonl").read_bytes()
    capsys.readouterr()
    assert main(NEW) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("--output-dir run: holds a run already; ") and err.count("\n") == 1
    assert (here / "run" / "journal.jsonl").read_bytes() == before
    for seed in (2, 3):
        assert main([*NEW, "--overwrite", f"--seed={seed}"]) == 0
    seeds = [load(here / folder / "best.pt").settings().seed for folder in ("run.old-1", "run.old-2", "run")]
    assert seeds == [1, 2, 3] and (here / "run.old-1" / "journal.jsonl").read_bytes() == before
    assert main(["train", "--resume-from", "run/last.pt", "--epochs", "2", "--overwrite"]) == 2


def test_presets_are_listed_and_shown_and_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    listed = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in listed if line and not line.startswith(" ")]
    assert names[:4] == ["tiny", "small", "medium", "large"] and max(map(len, listed)) <= 80
    assert main(["presets", "tiny"]) == 0
    assert "model_dim: 64\n" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fundamentallm {__version__}\n"


CLOSED_PIPE = "import os; reader, writer = os.pipe(); os.dup2(writer, 1); os.close(reader); os.close(writer)"


def test_a_reader_that_leaves_does_not_stop_the_training(here: Path, run: Run) -> None:
    done = run(*NEW, prepare=CLOSED_PIPE)
    assert done.status == 0 and "Traceback" not in done.err and "Error" not in done.err
    assert (here / "run" / "final_model.pt").exists()


# ---- in a terminal ----


@pytest.mark.parametrize("columns", [80, 120])
def test_a_terminal_shows_a_live_bar_and_keeps_each_epoch(here: Path, screen: Run, columns: int) -> None:
    seen = screen(*PROGRAM, *NEW, "--epochs=12", columns=columns, rows=24)
    frames = [""]

    def ended(shown: str) -> bool:
        frames.append(shown)
        return "try it with" in shown

    seen.see(ended)
    assert seen.status() == 0
    # a screen that is the same three times, some milliseconds apart, was not caught while it was drawn
    looks = zip(frames, frames[1:], frames[2:], strict=False)
    whole = [first for first, second, third in looks if first == second == third] + frames[-1:]
    screens = [[line.rstrip() for line in frame.splitlines() if line.strip()] for frame in whole]
    bar, fields = r"\[█*░*\] \d+%", r"train_loss=\S+ \| val_loss=\S+ \| lr=\S+ \| throughput=\d+ tokens/sec"
    place = r"Epoch \d+/12"
    rest = r"\| ETA \S+ \| grad_norm=\d+\.\d{3}( \| perplexity=\d+\.\d\d)?"
    first, second = {80: (rf"{place} {bar} {rest}", fields), 120: (rf"{place} {rest}", rf"{bar}  \|  {fields}")}[
        columns
    ]
    shown = [lines for lines in screens if len(lines) > 1 and "ETA" in lines[-2]]
    torn = [lines[-2:] for lines in shown if not (re.fullmatch(first, lines[-2]) and re.fullmatch(second, lines[-1]))]
    assert shown and not torn
    kept = [line for line in shown[-1][:-2] if line.startswith("Epoch")]
    numbers = [int(line.split()[1].split("/")[0]) for line in kept]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) and len(numbers) > 3
    assert any("Epoch 12/12" in line for line in screens[-1]) and "ETA" not in "".join(screens[-1])


def test_a_terminal_is_not_commanded_by_what_a_model_writes(here: Path, screen: Run) -> None:
    (here / "wild.txt").write_text("\x1b]0;owned\x07\x1b[2J" * 300)
    assert main(["train", "wild.txt", *NEW[2:]]) == 0
    seen = screen(*PROGRAM, "generate", "run", "--prompt", "\x1b[2J", "--max-tokens", "50", columns=80)
    assert seen.status() == 0
    seen.see("\ufffd[2J")
    assert b"\x1b" not in seen.bytes and b"\x07" not in seen.bytes
