"""Events as lines of the log: sentences from `describe`, what the user can do next, and control characters replaced."""

from collections.abc import Container
from dataclasses import dataclass, replace

from fundamentallm.run.describe import FAINT, describe
from fundamentallm.run.events import Answered, CheckpointFailed, CheckpointSaved, Event, Failed, Finished
from fundamentallm.run.folder import LAST
from fundamentallm_tui.format import clean

MAX_LINE_CHARS, MAX_EVENT_LINES = 2000, 50


@dataclass(frozen=True)
class LogLine:
    """A line of the log, without control characters.

    Of equal lines in a row that may repeat (`repeats`), the log keeps the last and shows how many `times` it came.
    """

    time: float
    level: str  # of `describe`
    text: str
    repeats: bool = False
    times: int = 1

    @property
    def shown(self) -> str:
        return self.text if self.times == 1 else f"{self.text}, {self.times} times"


def to_lines(text: str, level: str, time: float, repeats: bool = False) -> list[LogLine]:
    """Return a text as lines for the log; someone else's may have any number of lines of any length."""
    kept = text[: MAX_LINE_CHARS * MAX_EVENT_LINES].splitlines()[:MAX_EVENT_LINES] or [""]
    return [LogLine(time, level, clean(line[:MAX_LINE_CHARS]), repeats) for line in kept]


def log_lines(events: list[Event], sample: str, sent_ids: Container[str] = ()) -> list[LogLine]:
    """Return the lines of a batch of events.

    Args:
        sample: the id of the sample that is shown elsewhere.
        sent_ids: the ids of the commands of this console; of other commands the log says who gave them.
    """
    logged: list[LogLine] = []
    for event in _join_files(events):
        if isinstance(event, Answered) and event.id == sample and not event.ok:
            continue
        by = event.who if isinstance(event, Answered) and event.id not in sent_ids else ""
        description = describe(event, by=by)
        if description is not None:
            text, level = description.text + _next_step(event), description.level
            repeats = isinstance(event, CheckpointFailed) or (isinstance(event, CheckpointSaved) and level == FAINT)
            logged += to_lines(text, level, event.time, repeats)
    return logged


def _next_step(event: Event) -> str:
    """Another line: the file that a start resumes, or that holds the trained model."""
    match event:
        case Failed() if event.saved:
            return f"\nF5 resumes {event.saved}"
        case Finished() if event.unsaved:
            return f"\n{event.path} holds an older state; F5 resumes the newest" if event.path else ""
        case Finished(reason="stopped"):
            return f"\nF5 resumes {LAST}"
        case Finished() if event.path:
            return f"\nthe model is in {event.path}"
    return ""


def _join_files(events: list[Event]) -> list[Event]:
    """The same events, but files that were saved at one step, or could not be for one reason, share an event."""
    joined: list[Event] = []
    for event in events:
        before = joined[-1] if joined else None
        match before, event:
            case CheckpointSaved(path=path, kind=kind, bytes=size), CheckpointSaved() if before.step == event.step:
                kind = kind if kind in ("hand", "final") else event.kind
                joined[-1] = replace(event, path=f"{path}, {event.path}", kind=kind, bytes=size)
            case CheckpointFailed(step=step, why=why), CheckpointFailed() if (step, why) == (event.step, event.why):
                joined[-1] = replace(event, path=f"{before.path}, {event.path}")
            case _:
                joined.append(event)
    return joined
