"""What a dry run tells, and what a run prints when it is asked to be quiet or to speak JSON."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fundamentallm.cli import main
from fundamentallm.cli.preview import words
from fundamentallm.config.config import Layer, resolve
from fundamentallm.config.estimate import estimate
from fundamentallm.run import events
from fundamentallm.run.journal import read_journal
from fundamentallm.train.checkpoint import load

TEXT = "".join(random.Random(1).choices(["the ", "sea ", "old\n"], k=900))
TINY = ["--model-dim=16", "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=16", "--device=cpu"]
TINY += ["--learning-rate=0.01"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["train", *arguments])
        return status, *capsys.readouterr()

    return run


def tree() -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(Path().rglob("*"))}


def lines(out: str) -> dict[str, str]:
    pairs = (re.split(r"  +", line, maxsplit=1) for line in out.splitlines() if "  " in line)
    return {pair[0]: pair[1] for pair in pairs}


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize(
    "flags", [[], ["--accumulation-steps=2", "--epochs=7"], ["--optimizer=adamw", "--preset=tiny"]]
)
def test_a_dry_run_tells_the_numbers_of_the_run_and_writes_nothing(run: Run, flags: list[str]) -> None:
    arguments = ["text.txt", *TINY, "--epochs=2", "--tensorboard", "--log-dir=logs", *flags]
    before = tree()
    status, out, err = run(*arguments, "--output-dir=out/run", "--dry-run")
    assert (status, err) == (0, "") and tree() == before
    told = lines(out)
    assert told["would write to"] == "out/run"
    status, _, said = run(*arguments, "--output-dir=out/run")
    assert status == 0
    started = next(iter(read_journal(Path("out/run"))))
    assert isinstance(started, events.RunStarted)
    assert number(told["model"].split()[0]) == started.parameters and told["model"].endswith(f"on {started.device}")
    assert f"{started.steps_per_epoch:,} steps of" in told["an epoch"]
    assert told["the run"] == f"{started.config['epochs']} epochs, {started.total_steps:,} steps"
    size = estimate(resolve(Layer(started.config)), [TEXT])
    assert told["data"] == (
        f"text.txt: {size.train_tokens:,} training and {size.val_tokens:,} validation characters, "
        f"{started.vocab_size} different"
    )
    assert told["an epoch"].startswith(f"{size.windows:,} windows of 16 tokens, {size.stride} apart: ")
    assert told["memory"].startswith(f"about {size.memory / 2**20:,.0f} MiB")
    assert re.match(r"about \d+ (seconds|minutes)", told["time"])
    notices = [event.text for event in read_journal(Path("out/run")) if isinstance(event, events.Notice)]
    assert [line for line in out.splitlines() if line in notices] == notices and set(notices) <= set(said.splitlines())


def test_a_dry_run_of_a_resume_tells_what_is_left_and_changes_nothing(run: Run) -> None:
    assert run("text.txt", *TINY, "--epochs=2", "--output-dir=run")[0] == 0
    before, threads = tree(), torch.get_num_threads()
    status, out, _ = run("--resume-from=run", "--epochs=5", "--dry-run")
    assert status == 0 and tree() == before and torch.get_num_threads() == threads
    done = load(Path("run/last.pt")).progress().step
    total = done // 2 * 5
    assert lines(out)["the run"] == f"5 epochs, {total} steps, {total - done} left"


def test_a_dry_run_refuses_what_the_run_would_and_allows_what_it_would(run: Run) -> None:
    assert run("text.txt", *TINY, "--epochs=1", "--output-dir=run")[0] == 0
    before = tree()
    status, out, err = run("text.txt", *TINY, "--output-dir=run", "--dry-run")
    assert (status, out) == (2, "") and "holds a run already" in err
    status, out, _ = run("text.txt", *TINY, "--output-dir=run", "--dry-run", "--overwrite")
    assert status == 0 and lines(out)["would write to"] == "run"
    status, out, err = run("text.txt", *TINY, "--tensorboard", "--log-dir=text.txt", "--dry-run")
    assert (status, out) == (2, "") and err.startswith("--log-dir text.txt: ") and err.count("\n") == 1
    assert run("text.txt", *TINY, "--num-heads=7", "--model-dim=256", "--dry-run")[0] == 2
    assert run("--resume-from=run", "--dry-run")[2] == (
        "run/last.pt: epoch 1 of 1 is done; give a larger total with --epochs\n"
    )
    assert tree() == before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 seconds"), (90, "90 seconds"), (120, "2 minutes"), (7199, "120 minutes"), (7200, "2 hours"),
     (86400 * 3.2, "3 days")],
)  # fmt: skip
def test_a_time_is_told_in_the_unit_that_a_person_would_choose(seconds: float, text: str) -> None:
    assert words(seconds) == text


def test_quiet_prints_nothing_when_all_goes_well(run: Run) -> None:
    assert run("text.txt", *TINY, "--epochs=2", "--output-dir=run", "--quiet") == (0, "", "")
    assert run("--resume-from=run", "--epochs=3", "--quiet") == (0, "", "")
    assert run("text.txt", *TINY, "--epochs=1", "--output-dir=run", "--overwrite", "--quiet") == (0, "", "")
    assert Path("run.old-1/journal.jsonl").exists()


def test_quiet_says_what_goes_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("none.txt", "--quiet")[0] == 2

    def fails(self: object, step: int) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr("fundamentallm.train.step.TrainStep.backward", fails)
    status, out, err = run("text.txt", *TINY, "--output-dir=run", "--quiet")
    assert (status, out) == (1, "") and err.startswith("out of memory\ntry this run needs about ")


def test_json_prints_the_journal_line_by_line(run: Run) -> None:
    status, out, err = run("text.txt", *TINY, "--epochs=2", "--output-dir=run", "--json")
    assert (status, err) == (0, "")
    said = [events.decode(line) for line in out.splitlines()]
    assert None not in said and said == list(read_journal(Path("run")))
    assert isinstance(said[0], events.RunStarted) and isinstance(said[-1], events.Finished)
    assert Path("run/journal.jsonl").read_text() == out
    status, out, err = run("text.txt", *TINY, "--epochs=1", "--output-dir=run", "--overwrite", "--json", "--quiet")
    assert (status, err) == (0, "") and all(events.decode(line) for line in out.splitlines())
