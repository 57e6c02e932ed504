"""The log's words: what each event means, told in one line. Text from outside is made harmless here."""

from collections.abc import Container
from dataclasses import dataclass, replace
from itertools import groupby

from fundamentallm.config.format import format_duration, format_loss, format_parameters, format_size, format_value
from fundamentallm.run.events import (
    Answered,
    CheckpointFailed,
    CheckpointSaved,
    Evaluated,
    Event,
    Failed,
    Finished,
    Intervention,
    Notice,
    Phase,
    RunStarted,
)
from fundamentallm.run.folder import LAST
from fundamentallm_tui.format import clean

LONGEST, MOST = 2000, 50  # characters of a line, and lines of one event
ASKED = {"save": "saved as asked", "stop": "told to stop", "sample": "wrote a sample"}  # by somebody else
PLAIN, FAINT, GOOD, WARN, BAD = "plain", "faint", "good", "warn", "bad"


@dataclass(frozen=True)
class LogLine:
    """`kind` decides the colour. `text` holds no control characters.

    Of the same line again and again, where it is one that `repeats`, the log keeps the last and says how many `times`.
    """

    time: float
    kind: str
    text: str
    repeats: bool = False
    times: int = 1

    @property
    def words(self) -> str:
        return self.text if self.times == 1 else f"{self.text}, {self.times} times"


def lines(text: str, kind: str, moment: float) -> list[LogLine]:
    """One line for each of `text`'s, of which a stranger's may have any number of any length."""
    return [LogLine(moment, kind, clean(line[:LONGEST])) for line in text[: LONGEST * MOST].splitlines()[:MOST] or [""]]


def tell(events: list[Event], sample: str, ours: Container[str] = ()) -> list[LogLine]:
    """The lines of a batch of events; files that were saved at one step, or could not be, share a line.

    Args:
        sample: the id of the sample that is shown elsewhere.
        ours: the ids of the commands of this console; of all others it is said who gave them.
    """
    told: list[LogLine] = []
    for key, group in groupby(events, _alike):
        batch = list(group)
        if key[0] is CheckpointSaved:
            told += _saved([event for event in batch if isinstance(event, CheckpointSaved)])
            continue
        if key[0] is CheckpointFailed:
            told += _unsaved([event for event in batch if isinstance(event, CheckpointFailed)])
            continue
        for event in batch:
            kind, text = _words(event, sample, ours)
            told += lines(text, kind, event.time) if text else []
    return told


def _alike(event: Event) -> tuple[type, int, str]:
    return type(event), getattr(event, "step", 0), getattr(event, "why", "")


def _saved(events: list[CheckpointSaved]) -> list[LogLine]:
    names = ", ".join(event.path for event in events)
    kind = GOOD if any(event.kind in ("hand", "final") for event in events) else FAINT
    told = lines(f"saved {names} ({format_size(events[0].bytes)})", kind, events[-1].time)
    return [replace(line, repeats=kind == FAINT) for line in told]


def _unsaved(events: list[CheckpointFailed]) -> list[LogLine]:
    names = ", ".join(event.path for event in events)
    told = lines(f"could not save {names}: {events[-1].why}", BAD, events[-1].time)
    return [replace(line, repeats=True) for line in told]


def _words(event: Event, sample: str, ours: Container[str]) -> tuple[str, str]:
    by = f" ({event.who})" if isinstance(event, Answered) and event.who and event.id not in ours else ""
    match event:
        case RunStarted():
            return PLAIN, _opening(event)
        case Phase(phase="compiling"):
            return FAINT, "compiling the model for this machine"
        case Evaluated():
            where = f"epoch {event.epoch}" if event.epoch_ended else f"step {event.step}"
            best = "  best" if event.best else ""
            losses = (
                f"train {format_loss(event.train_loss)}  val {format_loss(event.val_loss)}  ppl {event.perplexity:.3g}"
            )
            return PLAIN, f"{where}  {losses}{best}"
        case Intervention():
            change = f"{event.setting} {format_value(event.old)} -> {format_value(event.new)}"
            return PLAIN, f"{change} at step {event.step} ({event.who})"
        case Answered(ok=True, command="pause"):
            return WARN, f"paused at step {event.step}{by}"
        case Answered(ok=True, command="resume"):
            return PLAIN, f"goes on at step {event.step}{by}"
        case Answered(ok=True, command="save" | "stop" | "sample") if by:
            return PLAIN, f"{ASKED[event.command]}{by}"
        case Answered(ok=False) if event.id != sample and event.command != "cancel_sample":  # it was over already
            return WARN, f"{event.command.replace('_', ' ')}: not done: {event.why}{by}"
        case Notice():
            return {"warning": WARN, "error": BAD}.get(event.level, PLAIN), event.text
        case Finished():
            return GOOD, _ending(event)
        case Failed():
            advice = f"\n{event.advice}" if event.advice else ""
            saved = f"\nF5 goes on from {event.saved}" if event.saved else ""
            return BAD, f"failed at step {event.step}: {event.error}{advice}{saved}"
    return PLAIN, ""


def _opening(event: RunStarted) -> str:
    if event.resumed_from:
        return f"goes on from {event.resumed_from} at step {event.step} of {event.total_steps}"
    threads = f"{event.threads} thread{'s' if event.threads != 1 else ''}"
    return (
        f"{format_parameters(event.parameters)} parameters, {event.vocab_size} characters, "
        f"{event.total_steps} steps ({event.steps_per_epoch} an epoch) on {event.device}, {threads}"
    )


def _ending(event: Finished) -> str:
    what = {"stopped": "stopped", "patience": "finished early: no longer improving"}.get(event.reason, "finished")
    best = ""
    if event.best_val_loss is not None:
        best = f", best val {format_loss(event.best_val_loss)} at step {event.best_step}"
    path = f"; {event.path}" if event.path else ""
    if event.reason == "stopped":  # the best model is not what a start goes on from
        path = "" if event.unsaved else f"; {LAST} goes on from there"
    return f"{what} at step {event.step} after {format_duration(event.seconds)}{best}{path}"
