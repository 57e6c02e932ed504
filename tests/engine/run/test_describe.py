"""One sentence for each event that a log shows, and numbers as people read them."""

from dataclasses import replace
from typing import Any

from fundamentallm.config import format
from fundamentallm.run import events
from fundamentallm.run.describe import BAD, FAINT, GOOD, PLAIN, WARN, Description, describe
from tests.engine.run.conftest import evaluated, finished, started

STARTED = started(config={"epochs": 4}, parameters=1234567, threads=2)
SIZES = "1,234,567 parameters, 30 characters, 40 steps (4 epochs of 10) on cpu, 2 threads"
SAVED = events.CheckpointSaved(step=1, path="last.pt", kind="last", bytes=1600000, seconds=1.0)
EVALUATED = evaluated(20, 1.25, train_loss=1.5, perplexity=3.49, best=True)
FINISHED = finished(40, epoch=4, val_loss=1.25, best_val_loss=1.2, best_epoch=3, seconds=61.0, tokens=12345)
SPENT = "after 40 steps in epoch 4, 1:01, 12,345 tokens"
END = f"{SPENT}\nbest validation loss 1.2000 (epoch 3)\nlast validation loss 1.2500"


def answered(command: str, why: str = "") -> events.Answered:
    return events.Answered(step=3, id="a", command=command, ok=not why, why=why, who="ada")


SENTENCES: list[tuple[events.Event, str, str]] = [
    (STARTED, PLAIN, SIZES),
    (replace(STARTED, step=5, resumed_from="x.pt", threads=1), PLAIN,
     f"resumed from x.pt at step 5 of 40\n{SIZES.replace('2 threads', '1 thread')}"),
    (events.Phase(step=0, phase="compiling"), FAINT, "compiling the model for this machine"),
    (EVALUATED, PLAIN, "epoch 2  train 1.500  val 1.250  ppl 3.490  best"),
    (replace(EVALUATED, epoch_ended=False, best=False), PLAIN, "step 20  train 1.500  val 1.250  ppl 3.490"),
    (SAVED, FAINT, "saved last.pt (1.6 MB)"),
    (replace(SAVED, kind="hand"), GOOD, "saved last.pt (1.6 MB)"),
    (events.CheckpointFailed(step=1, path="a.pt", kind="last", why="disk full"), BAD, "could not save a.pt: disk full"),
    (events.Intervention(step=3, setting="stride", old=8, new=None, who="ada"), PLAIN,
     "stride 8 -> auto at step 3 (ada)"),
    (events.Intervention(step=3, setting="pin", old=[], new=["The sea"], who="ada"), PLAIN,
     "pin none -> The sea at step 3 (ada)"),
    (answered("pause"), WARN, "paused at step 3 (bo)"),
    (answered("resume"), PLAIN, "resumed at step 3 (bo)"),
    (answered("save"), PLAIN, "saved on request (bo)"),
    (answered("stop"), PLAIN, "asked to stop (bo)"),
    (answered("sample"), PLAIN, "sampled on request (bo)"),
    (answered("set", "no such setting"), WARN, "set failed: no such setting (bo)"),
    (events.Notice(step=0, level="info", text="hello"), PLAIN, "hello"),
    (events.Notice(step=0, level="warning", text="hello"), WARN, "hello"),
    (events.Notice(step=0, level="error", text="hello"), BAD, "hello"),
    (FINISHED, GOOD, f"finished {END}"),
    (replace(FINISHED, reason="patience"), GOOD, f"stopped early: no improvement {END}"),
    (replace(FINISHED, reason="stopped", val_loss=None, best_val_loss=None, unsaved="disk full"), BAD,
     f"stopped {SPENT}\nthe end could NOT be saved: disk full"),
    (events.Failed(step=9, error="out of memory", advice="--batch-size 8"), BAD,
     "failed at step 9: out of memory\ntry --batch-size 8"),
]  # fmt: skip
HIDDEN: list[events.Event] = [
    events.Phase(step=0, phase="training"), events.Sampled(step=1, id="a", prompt="", text="x"),
    answered("cancel_sample", "it had ended"),
]  # fmt: skip


def test_every_event_that_a_log_shows_is_one_sentence() -> None:
    for event, level, text in SENTENCES:
        assert describe(event, by="bo") == Description(level, text)
    assert [describe(event, by="bo") for event in HIDDEN] == [None] * len(HIDDEN)


def test_the_user_is_named_only_by_name_and_what_the_run_itself_asked_for_has_no_sentence() -> None:
    pause = describe(answered("pause"))
    assert pause is not None and pause.text == "paused at step 3"
    assert [describe(answered(command)) for command in ("save", "stop", "sample")] == [None] * 3


NUMBERS: dict[str, list[tuple[Any, str]]] = {
    "loss": [(1.92, "1.920"), (12.3, "12.30"), (123.4, "123.4"), (1e5, "1e+05"), (float("nan"), "nan"), (None, "–")],
    "norm": [(0.414, "0.41"), (12.34, "12.3"), (1234.5, "1234"), (1e5, "1e+05"), (float("inf"), "inf")],
    "rate": [(850, "850"), (24_100, "24.1k"), (999_600, "1.00M"), (1e15, "∞"), (-1, "–")],
    "parameters": [(9_999, "9,999"), (12_345, "12.3 k"), (790_000, "0.79 M"), (1.3e9, "1.30 B")],
    "size": [(512, "512 B"), (1_600_000, "1.6 MB"), (2.5e9, "2.5 GB")],
    "duration": [(4.2, "0:05"), (3599, "59:59"), (7500, "2h05m"), (1_054_800, "12d05h"), (None, "–")],
    "value": [(None, "auto"), (False, "off"), (0.1, "0.1"), (("a", "b"), "a, b"), (3, "3")],
    "time": [(1e300, "–"), (float("nan"), "–")],
}


def test_numbers_are_short() -> None:
    for kind, cases in NUMBERS.items():
        for value, text in cases:
            assert getattr(format, f"format_{kind}")(value) == text
