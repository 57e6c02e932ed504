"""Events as lines of the log: sentences from `describe`, what the user can do next, and control characters replaced."""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace

from fundamentallm.run.describe import FAINT, describe, evaluation_columns
from fundamentallm.run.events import (
    Answered,
    CheckpointFailed,
    CheckpointSaved,
    Evaluated,
    Event,
    Failed,
    Finished,
    Progress,
)
from fundamentallm.run.folder import LAST
from fundamentallm_tui.format import clean
from fundamentallm_tui.keys import named

MAX_LINES, MAX_LINE_CHARS, MAX_EVENT_LINES = 5000, 2000, 50
LONG_ROW = 52  # cells of an evaluation with all its columns
EVALUATION_WIDTHS = (9, 11, 9, 9)  # "epoch 123", "train 12.34", "val 12.34", "ppl 1,024"
TICK, TICKED_LINES = "✓", 50  # how far back a save looks for its evaluation
BY_HAND = "checkpoint_step_"  # the file of a save that the user asked for


@dataclass(frozen=True)
class LogLine:
    """A line of the log, without control characters."""

    time: float  # UTC in seconds since 1970; 0: not known, as in engine.log
    level: str  # of `describe`
    text: str
    short: str = ""  # for a log in which the whole does not fit into a row; empty: the text is wrapped
    repeats: bool = False  # of equal lines in a row the log keeps the last
    times: int = 1  # how often it came
    step: int = -1  # of an evaluation or a save, which share a line; -1: of anything else
    tick: str = ""  # what a save adds to the line of its evaluation; empty: this is no save
    saved: str = ""  # the tick of the saves at the step of this evaluation

    def shown(self, room: int = LONG_ROW) -> str:
        """Return the text for rows of so many cells."""
        text = self.short if self.short and room < LONG_ROW else self.text
        text = f"{text} {self.saved}".rstrip()
        return text if self.times == 1 else f"{text}, {self.times} times"


class EventLog:
    """The newest lines of a log, the oldest of them first."""

    def __init__(self) -> None:
        self.lines: list[LogLine] = []

    def add(self, lines: Iterable[LogLine]) -> bool:
        """Add lines; return whether some changed that were there before.

        A save joins the line of its evaluation, and a line that repeats the last one replaces it.
        """
        unchanged = before = len(self.lines)
        for line in lines:
            place = self._place(line)
            unchanged = min(unchanged, place)
            if place == len(self.lines):
                self.lines.append(line)
            elif line.tick and not self.lines[place].tick:  # which is an evaluation
                saved = self.lines[place].saved
                self.lines[place] = replace(self.lines[place], saved=max(saved, line.tick, key=len))
            else:
                self.lines[place] = replace(line, times=self.lines[place].times + 1)
        too_many = len(self.lines) > MAX_LINES
        if too_many:
            del self.lines[: len(self.lines) - MAX_LINES * 9 // 10]
        return too_many or unchanged < before

    def _place(self, line: LogLine) -> int:
        """Find the line that a new one is added to, or replaces; else the place after the last.

        Between two evaluations, what the run saves by itself changes nothing on the line of the one before, unless the
        saves of that one failed.
        """
        end = len(self.lines)
        for place in range(end - 1, max(-1, end - 1 - TICKED_LINES), -1) if line.tick else ():
            other = self.lines[place]
            if other.step >= 0 and not other.tick:  # the newest evaluation
                if other.step == line.step or (line.repeats and other.saved):
                    return place
                break
        last = self.lines[-1] if self.lines else None
        same = last is not None and line.repeats and (line.level, line.text) == (last.level, last.text)
        return end - same


def to_lines(text: str, level: str, time: float, repeats: bool = False) -> list[LogLine]:
    """Return a text as lines for the log; someone else's may have any number of lines of any length."""
    kept = text[: MAX_LINE_CHARS * MAX_EVENT_LINES].splitlines()[:MAX_EVENT_LINES] or [""]
    return [LogLine(time, level, clean(line[:MAX_LINE_CHARS]), repeats=repeats) for line in kept]


def log_lines(
    events: list[Event], sample: str, sent_ids: Container[str] = (), *, resumable: bool = True
) -> list[LogLine]:
    """Return the lines of a batch of events; `sample`: the id of the sample that is shown elsewhere.

    `sent_ids` are the commands of this console; of other commands the log says who gave them. `resumable`: name what
    can be done next with the run, which in a replay is nothing.
    """
    logged: list[LogLine] = []
    for event in _join_files(events):
        if isinstance(event, Answered) and event.id == sample and not event.ok:
            continue
        by = event.who if isinstance(event, Answered) and event.id not in sent_ids else ""
        description = describe(event, by=by)
        if description is not None:
            text, level = description.text + _next_step(event) * resumable, description.level
            repeats = isinstance(event, CheckpointFailed) or (isinstance(event, CheckpointSaved) and level == FAINT)
            lines = to_lines(text, level, event.time, repeats)
            if isinstance(event, Evaluated):
                *short, ppl = map(str.ljust, evaluation_columns(event), EVALUATION_WIDTHS)
                best = "best" if event.best else "    "
                text, short_text = "  ".join([*short, ppl, best]), "  ".join([*short, best])
                lines = [replace(lines[0], text=text, short=short_text, step=event.step)]
            elif isinstance(event, CheckpointSaved):
                by_hand = [name for name in event.path.split(", ") if name.startswith(BY_HAND)]
                lines = [replace(lines[0], step=event.step, tick=clean(" ".join([TICK, *by_hand])[:60]))]
            logged += lines
    return logged


def _next_step(event: Event) -> str:
    """Another line: the file that a start resumes, or that holds the trained model."""
    match event:
        case Failed() if event.saved:
            return f"\n{named('start')} resumes {event.saved}"
        case Finished() if event.unsaved:
            older = f"\n{event.path} holds an older state; {named('start')} resumes the newest"
            return older if event.path else ""
        case Finished(reason="stopped"):
            return f"\n{named('start')} resumes {LAST}"
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


def join_progress(reported: list[Event]) -> Iterator[Event | list[Progress]]:
    """The same events, but the Progress events in a row in one list, where their steps increase.

    Attaching to a run of a hundred thousand steps then extends each line once, not twenty thousand times.
    """
    batch: list[Progress] = []
    for event in reported:
        if batch and not (isinstance(event, Progress) and event.step[0] > batch[-1].step[-1]):
            yield batch
            batch = []
        if isinstance(event, Progress):
            batch.append(event)
        else:
            yield event
    if batch:
        yield batch
