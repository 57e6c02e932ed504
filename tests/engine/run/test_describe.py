"""One sentence for each event that a log shows."""

from dataclasses import replace

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
