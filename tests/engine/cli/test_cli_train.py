"""What a dry run shows, and what a run prints when it is asked to be quiet or to print JSON."""

import re
from pathlib import Path

import pytest
import torch

from fundamentallm.config.config import Layer, resolve
from fundamentallm.data import text_stats
from fundamentallm.run import events
from fundamentallm.run.journal import read_journal
from fundamentallm.run.notes import read_notes
from fundamentallm.train.checkpoint import load
from tests.conftest import file_contents
from tests.engine.cli.conftest import TEXT, TINY, Run
from tests.texts import estimate, read_texts


@pytest.fixture
def train(run: Run) -> Run:
    """Runs `train` beside a text."""
    Path("text.txt").write_text(TEXT)
    return lambda *arguments: run("train", *arguments)


@pytest.fixture
def plain(train: Run) -> str:
    """A text whose held-out part gives no reason for a warning."""
    Path("plain.txt").write_text(read_texts("data/samples/sample_data.txt")[0][:21_000])
    return "plain.txt"


def labelled(out: str) -> dict[str, str]:
    pairs = (re.split(r"  +", line, maxsplit=1) for line in out.splitlines() if "  " in line)
    return {pair[0]: pair[1] for pair in pairs}


@pytest.mark.parametrize(
    "flags", [[], ["--accumulation-steps=2", "--epochs=7"], ["--optimizer=adamw", "--preset=tiny"]]
)
def test_a_dry_run_shows_the_numbers_of_the_run_and_writes_nothing(train: Run, flags: list[str]) -> None:
    arguments = ["text.txt", *TINY, "--epochs=2", "--tensorboard", "--log-dir=logs", *flags]
    before = file_contents(Path())
    status, out, err = train(*arguments, "--output-dir=out/run", "--dry-run")
    assert (status, err) == (0, "") and file_contents(Path()) == before
    shown = labelled(out)
    assert shown["would write to"] == "out/run"
    status, _, printed = train(*arguments, "--output-dir=out/run")
    assert status == 0
    started = next(iter(read_journal(Path("out/run"))))
    assert isinstance(started, events.RunStarted)
    assert shown["model"] == f"{started.parameters:,} parameters on {started.device}"
    assert shown["the run"] == f"{started.config['epochs']} epochs, {started.total_steps:,} steps"
    size = estimate(resolve(Layer(started.config)), [TEXT])
    assert shown["data"] == (
        f"text.txt: {size.train_tokens:,} training and {size.val_tokens:,} validation characters, "
        f"{started.vocab_size} different"
    )
    assert f"\n{size.windows:,} windows of 16 tokens, {size.stride} apart: an epoch reads the text " in out
    assert re.fullmatch(
        r"about \d+ MiB for training and 1 MiB for the text \(1 MiB while it is read\), beside 230 MiB for the program "
        r"itself", shown["memory"],
    )  # fmt: skip
    assert re.fullmatch(r"(less than a minute|about \d+ minutes?), judging by a few small steps here", shown["time"])
    notices = [event.text for event in read_journal(Path("out/run")) if isinstance(event, events.Notice)]
    assert [line for line in out.splitlines() if line in notices] == notices
    assert set(notices) <= set(printed.splitlines())


def test_a_dry_run_of_a_resume_shows_what_is_left_and_changes_nothing(train: Run) -> None:
    assert train("text.txt", *TINY, "--epochs=2", "--output-dir=run")[0] == 0
    before, threads = file_contents(Path()), torch.get_num_threads()
    status, out, _ = train("--resume-from=run", "--epochs=5", "--dry-run")
    assert status == 0 and file_contents(Path()) == before and torch.get_num_threads() == threads
    done = load(Path("run/last.pt")).progress().step
    total = done // 2 * 5
    assert labelled(out)["the run"] == f"5 epochs, {total} steps, {total - done} left"


def test_a_dry_run_refuses_what_the_run_would_and_allows_what_it_would(train: Run) -> None:
    assert train("text.txt", *TINY, "--epochs=1", "--output-dir=run")[0] == 0
    before = file_contents(Path())
    status, out, _ = train("text.txt", *TINY, "--output-dir=run", "--dry-run", "--overwrite")
    assert status == 0 and labelled(out)["would write to"] == "run"
    for flags, message in {
        ("text.txt", *TINY, "--output-dir=run"): "--output-dir run: holds a run already",
        ("text.txt", *TINY, "--tensorboard", "--log-dir=text.txt"): "--log-dir text.txt: ",
        ("text.txt", *TINY, "--num-heads=7"): "--num-heads: 7 does not divide",
        ("--resume-from=run",): "run/last.pt: epoch 1 of 1 is done; give a larger total with --epochs\n",
    }.items():
        status, out, err = train(*flags, "--dry-run")
        assert (status, out) == (2, "") and err.startswith(message) and err.count("\n") == 1
    assert file_contents(Path()) == before


def test_quiet_prints_only_what_goes_wrong(train: Run, plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(plain, *TINY, "--epochs=1", "--output-dir=run", "--quiet") == (0, "", "")
    assert train("--resume-from=run", "--epochs=2", "--quiet") == (0, "", "")
    assert train(plain, *TINY, "--epochs=1", "--output-dir=run", "--overwrite", "--quiet") == (0, "", "")
    assert Path("run.old-1/journal.jsonl").exists() and read_notes(Path("run.old-1")).former_names == ("run",)
    assert train("none.txt", "--quiet")[0] == 2

    def fails(self: object, step: int) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr("fundamentallm.train.step.TrainStep.backward", fails)
    status, out, err = train("text.txt", *TINY, "--output-dir=full", "--quiet")
    assert (status, out) == (1, "") and "out of memory\ntry " in err and "this run needs about " in err


def test_one_of_anything_is_singular(train: Run) -> None:
    Path("short.txt").write_text(TEXT[:38])  # one window, one step, one epoch
    flags = [*TINY, "--epochs=1", "--early-stopping", "--patience=1", "--output-dir=run"]
    printed = [*train("short.txt", *flags, "--dry-run"), *train("short.txt", *flags)]
    printed += train("short.txt", "--resume-from=run", "--epochs=3", "--learning-rate=1e-9")
    text = "\n".join(map(str, printed))
    assert not re.findall(r"(?<![\d.,-])1 [a-z]+s\b", text), text
    for words in ("1 epoch, 1 step", "1 window of 16 tokens", "1 step (1 epoch of 1)", "after 1 step in epoch 1"):
        assert words in text


def test_json_prints_the_journal_line_by_line(train: Run, plain: str) -> None:
    status, out, err = train(plain, *TINY, "--epochs=2", "--output-dir=run", "--json")
    assert (status, err) == (0, "")
    printed = [events.decode(line) for line in out.splitlines()]
    assert printed == list(read_journal(Path("run"))) and Path("run/journal.jsonl").read_text() == out
    assert isinstance(printed[0], events.RunStarted) and isinstance(printed[-1], events.Finished)
    status, out, err = train(plain, *TINY, "--epochs=1", "--output-dir=run", "--overwrite", "--json", "--quiet")
    assert (status, err) == (0, "") and all(events.decode(line) for line in out.splitlines())


def test_a_flag_that_has_no_effect_is_said(train: Run, plain: str) -> None:
    flags = ["--vocab-size=300", "--patience=3", "--text-field=story"]
    status, _, err = train(plain, *TINY, *flags, "--epochs=1", "--output-dir=run")
    said = [line for line in err.splitlines() if line.startswith(("--vocab-size", "--patience", "--text-field"))]
    assert status == 0 and said == [
        "--vocab-size: has no effect: only --tokenizer bpe learns a vocabulary of that size",
        "--patience: has no effect: --early-stopping is off",
        "--text-field story: no file of the data ends in .jsonl",
    ]
    _, _, err = train(plain, *TINY, *flags[:2], "--tokenizer=bpe", "--early-stopping", "--epochs=1", "--dry-run")
    assert "no effect" not in err


def test_a_new_run_warns_of_a_held_out_text_that_measures_little_and_says_what_it_read(
    train: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_stats, "FEW_HELD_OUT", 2000)
    Path("texts").mkdir()
    for name in ("a.txt", "b.md", "c.csv", "d.txt"):
        Path("texts", name).write_text("" if name == "d.txt" else TEXT)
    assert train("texts", *TINY, "--epochs=1", "--output-dir=run")[0] == 0
    notices = [event for event in read_journal(Path("run")) if isinstance(event, events.Notice)]
    warnings = [notice.text for notice in notices if notice.level == "warning"]
    assert [text.split(":")[0] for text in warnings] == [
        "only 600 characters are held out (--val-split 0.1 of 6,000)",
        "100% of the held-out text stands in the training text, too",
    ]
    assert notices[0].text == "read 2 files with 6,000 characters: texts/a.txt, texts/b.md"
    assert notices[1].text == "passed over, because empty: texts/d.txt"
    assert notices[2].text.startswith("left out: texts/c.csv")
    assert train("--resume-from=run", "--epochs=2")[0] == 0
    again = [event for event in read_journal(Path("run")) if isinstance(event, events.Notice)][len(notices) :]
    assert not [notice for notice in again if notice.level == "warning"]
    assert train("texts", "--include=*.csv", *TINY, "--epochs=1", "--output-dir=more")[0] == 0
    assert "read 3 files with 9,000 characters" in Path("more/journal.jsonl").read_text()
    assert next(read_journal(Path("more"))).config["include"] == ["*.csv"]  # type: ignore[union-attr]
