"""What a journal means: `RunHistory` is the only place that knows what a resume supersedes.

- A run that was resumed went back to a step: what its journal has of later steps no longer counts.
- Only reads: nothing here takes a lock, writes a file or asks a process. No torch.
- A truncated or unknown line never makes reading fail.
"""

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, changed_while_running, resolve, to_dict
from fundamentallm.config.estimate import count_steps
from fundamentallm.errors import UserError, system_errors
from fundamentallm.paths import resume_command
from fundamentallm.run import events
from fundamentallm.run.events import Intervention, RunStarted
from fundamentallm.run.folder import BEST, LAST
from fundamentallm.run.journal import Tail
from fundamentallm.untrusted import MAX_EVENT_BYTES

SKIPPED = events.beginnings(
    events.Sampled, events.Pinned, events.Inspected, events.Explained, events.Attended, events.Nearest
)
PROGRESS = events.beginnings(events.Progress)
RECENT_STEPS = 2**13  # that a watched run keeps for the verdict: 32 bytes each
RECENT_SPEEDS = 2**8
RECENT_LOOKS = 2**11  # some kilobytes each
Look = TypeVar("Look", events.Pinned, events.Inspected)
SPEED_INTERVAL = 5.0  # seconds between two speeds that are kept: each report's is the mean of so many


class RunHistory:
    """The state of a run after each event of its journal, in the order in which they were written."""

    def __init__(self, keep: int | None = None) -> None:
        """`keep`: how many rows of the last steps to keep at least; None: all. It may be changed at any time."""
        self.keep = keep
        # The last start, with live changes since then in `config` and `total_steps`, and the first start's `preset`.
        self.started: RunStarted | None = None
        self.starts: list[RunStarted] = []  # as they were written
        self.phase = ""  # the last one since the last start
        self.paused_at = 0.0  # the time of a pause that has not ended yet, also where the run was stopped meanwhile
        self.end: events.Finished | events.Failed | None = None  # None, too, where the run was resumed
        self.evaluations: list[events.Evaluated] = []  # by increasing step
        # Whose state best.pt holds, also where the run went back since. A lower loss that was not saved does not count.
        self.best: events.Evaluated | None = None
        self.saved: dict[str, events.CheckpointSaved] = {}  # by name: the last checkpoint of the run as it is now
        self._best_saved: events.CheckpointSaved | None = None
        self.pinned: list[events.Pinned] = []  # the answers: all where all rows are kept, else the last ones
        self.inspected: list[events.Inspected] = []  # likewise
        self.progress: events.Progress | None = None  # the last report; None where the run went back to before it
        self.step = 0  # how many are done
        self.began = self.last_event = 0.0  # times of events, UTC in seconds since 1970
        self.steps = array("q")  # a row for each, by increasing step, as in the three columns below
        self.train_loss, self.learning_rate, self.grad_norm = array("d"), array("d"), array("d")
        self.speeds = array("d")  # tokens a second, every few seconds since the last start
        self._speed_kept = 0.0  # when the last one was
        self._last_reported = -1  # step
        self._changes: list[Intervention] = []
        self._to_repeat: list[Intervention] = []  # made before a kill, and not yet repeated after it
        self.impossible: list[Intervention] = []  # that no run of this version can have made: damaged, or another's
        self._unanswered: Intervention | None = None
        self._before_change: RunStarted | None = None  # `started` before the unanswered change
        self._settings: tuple[RunStarted | None, Config | None] = None, None  # for which start

    def apply(self, event: events.Event) -> int | None:
        """Take the next event; returns the step to which the run went back, if it did: later ones are superseded."""
        back = None
        match event:
            case RunStarted():
                back = event.step if event.step < max(self.step, self._last_reported) else None
                self._apply_start(event)
            case events.Progress():
                if event.step[0] <= self._last_reported:  # the journal lacks the start between them
                    back = event.step[0] - 1
                    self._go_back(back)
                self._append(event)
            case events.Evaluated():
                while self.evaluations and self.evaluations[-1].step >= event.step:
                    self.evaluations.pop()
                self.evaluations.append(event)
            case events.CheckpointSaved():
                self.saved[event.path] = event
                last = self.evaluations[-1] if self.evaluations else None
                if event.path == BEST and last and last.step == event.step and isfinite(last.val_loss):
                    self.best, self._best_saved = last, event
            case events.Pinned():
                self._keep_look(self.pinned, event)
            case events.Inspected():
                self._keep_look(self.inspected, event)
            case events.Phase():
                self.phase = event.phase
                if event.phase in ("paused", "training"):
                    self.paused_at = event.time if event.phase == "paused" else 0.0
            case Intervention():
                self._apply_change(event)
            case events.Answered():
                if self._unanswered is not None and not event.ok:  # the change never took effect
                    self._changes.remove(self._unanswered)
                    self.started = self._before_change
                self._unanswered = None
            case events.Finished() | events.Failed():
                self.end = event
        self.step = events.last_step(event)
        if event.time:
            self.began, self.last_event = self.began or event.time, event.time
        return back

    @property
    def config(self) -> dict[str, Any]:
        """The settings as they are now, as plain values; empty before the first start."""
        return self.started.config if self.started is not None else {}

    @property
    def settings(self) -> Config | None:
        """The same as a configuration; None before the first start, and where no run of this version can have them."""
        if self.started is not self._settings[0]:
            self._settings = self.started, None
            with suppress(ConfigError):
                config = resolve(Layer({name: value for name, value in self.config.items() if name in SETTINGS}))
                self._settings = self.started, config
        return self._settings[1]

    @property
    def epochs(self) -> int:
        """The epoch in which the run will end; 0 before the first start."""
        return self.started.epochs if self.started is not None else 0

    @property
    def epoch(self) -> int:
        return self.epoch_of(self.step)

    def epoch_of(self, step: int) -> int:
        """The epoch that a step belongs to, from 1."""
        steps_per_epoch = self.started.steps_per_epoch if self.started is not None else 1
        return max(1, -(-step // steps_per_epoch))

    @property
    def best_left_behind(self) -> bool:
        """Whether the run went back to before the state that best.pt holds: the file stays until a lower loss."""
        return self._best_saved is not None and self.left_behind(self._best_saved.step, self._best_saved.seq)

    @property
    def unsaved(self) -> str:
        """Why the end of the run could not be saved; empty where it was, or has not come."""
        return self.end.unsaved if isinstance(self.end, events.Finished) else ""

    @property
    def completed(self) -> bool:
        """Whether the run reached its end and saved it."""
        return isinstance(self.end, events.Finished) and self.end.reason != "stopped" and not self.unsaved

    @property
    def requested(self) -> dict[str, Any]:
        """The settings that the commands which started and resumed the run asked for, without changes while it ran."""
        requested: dict[str, Any] = {}
        for start in self.starts:
            requested = {**requested, **start.changes} if requested and start.resumed_from else start.config
        return requested

    def changes_since(self, seq: int) -> dict[str, Any]:
        """The settings that commands changed after event `seq`: those that a checkpoint of that moment lacks."""
        changes: dict[str, Any] = {}
        for start in self.starts:
            if start.seq > seq:
                changes = {**changes, **start.changes} if start.recovered else start.changes
        return {name: value for name, value in changes.items() if name in SETTINGS}

    def interventions_from(self, step: int) -> list[Intervention]:
        """What users changed at `step` or later, each once, in order: a recovering run repeats it.

        A run that was resumed from a checkpoint by hand leaves the changes after it behind; one that recovers from a
        kill does not. A setting that a later command names is not changed back.
        """
        changes = (change for change in (*self._changes, *self._to_repeat) if change.step >= step)
        return sorted(changes, key=lambda change: (change.step, change.seq))

    def changes_made(self) -> list[Intervention]:
        """Every change of the run as it is now, in order, those by the commands that resumed it included."""
        starts = [start for start in self.starts[1:] if not self.left_behind(start.step, start.seq)]
        resumed = [
            Intervention(seq=start.seq, step=start.step, setting=name, old=None, new=value, who="a resume")
            for start in starts
            for name, value in start.changes.items()
        ]
        return sorted([*self.interventions_from(0), *resumed], key=lambda change: (change.step, change.seq))

    def checkpoints(self, folder: Path, *, lasting: bool = False) -> list[events.CheckpointSaved]:
        """Return the checkpoints of the run that are in its folder, by step.

        Of several of one step, the last is one that the run will not write again; `lasting`: only such.
        """
        there = [saved for name, saved in self.saved.items() if os.path.isfile(folder / name)]
        kept = [saved for saved in there if not (lasting and saved.kind in ("last", "best"))]
        return sorted(kept, key=lambda saved: (saved.step, saved.kind not in ("last", "best")))

    def checkpoint_at(self, folder: Path, step: int | None, *, lasting: bool) -> events.CheckpointSaved:
        """Return the newest checkpoint of a step or before, or of all; a UserError if there is none in the folder."""
        there = self.checkpoints(folder, lasting=lasting)
        before = [saved for saved in there if step is None or saved.step <= step]
        if not before:
            first = f"of step {step} or before; its first is of step {there[0].step}" if there else "to go back to yet"
            raise UserError(f"{folder} has no checkpoint {first}")
        return before[-1]

    def to_events(self) -> list[events.Event]:
        """What a new journal needs so that it is read as this history: all but the steps before the last report."""
        changes = self.interventions_from(0)
        answers = [  # without one, the next refusal would seem to be that of the change
            events.Answered(seq=c.seq + 1, time=c.time, step=c.step, id="", command="set", ok=True, who=c.who)
            for c in changes
        ]
        best = [self.best, self._best_saved] if self.best else []
        kept = [*self.starts, *changes, *answers, *self.evaluations, *best, self.progress]
        by_number = {event.seq: event for event in kept if event is not None}
        return [by_number[seq] for seq in sorted(by_number)]

    def forget_best(self) -> None:
        """There is no best.pt any more."""
        self.best = self._best_saved = None

    def left_behind(self, step: int, seq: int) -> bool:
        """Whether the run went back to before a state that was saved at `step`, after event `seq`."""
        return any(start.seq > seq and start.step < step for start in self.starts)

    def _apply_start(self, start: RunStarted) -> None:
        undone = [*self._to_repeat, *(change for change in self._changes if change.step >= start.step)]
        self._to_repeat = [c for c in undone if start.recovered and c.setting not in start.changes]
        resumes = start.recovered or start.resumed_from
        self._changes = [c for c in self._changes if resumes and (c.step < start.step or _has_made(start, c))]
        self._unanswered = None
        self.speeds, self._speed_kept = array("d"), start.time  # the last process may have had another machine
        self._go_back(start.step)
        self.starts.append(start)
        self.end, self.phase = None, ""
        preset = start.preset or (self.started.preset if self.started is not None else "")
        self.started = replace(start, preset=preset)

    def _apply_change(self, change: Intervention) -> None:
        if not _is_possible(change):
            self.impossible.append(change)
            return
        before = self.started
        if before is not None:
            config, total_steps = {**before.config, change.setting: change.new}, before.total_steps
            if change.setting in ("epochs", "max_steps"):
                total_steps = _total_steps(config, before)
            self.started = replace(before, config=config, total_steps=total_steps)
        key = (change.step, change.setting, change.new)
        repeated = next((c for c in self._to_repeat if (c.step, c.setting, c.new) == key), None)
        if repeated is not None:
            self._to_repeat.remove(repeated)
        else:  # a user gave a command, which will be answered
            self._unanswered, self._before_change = change, before
        self._changes.append(repeated or change)

    def _keep_look(self, looks: list[Look], look: Look) -> None:
        looks.append(look)
        if self.keep is not None:
            del looks[:-RECENT_LOOKS]

    def _go_back(self, step: int) -> None:
        """Forget what came after `step`."""
        kept = bisect_right(self.steps, step)
        for column in self._columns:
            del column[kept:]
        while self.evaluations and self.evaluations[-1].step > step:
            self.evaluations.pop()
        self.pinned = [event for event in self.pinned if event.step <= step]
        self.inspected = [event for event in self.inspected if event.step <= step]
        if self.progress is not None and events.last_step(self.progress) > step:
            self.progress = None
        self.saved = {name: saved for name, saved in self.saved.items() if saved.step <= step}
        self._last_reported = min(self._last_reported, step)

    @property
    def _columns(self) -> tuple["array[int]", "array[float]", "array[float]", "array[float]"]:
        return self.steps, self.train_loss, self.learning_rate, self.grad_norm

    def _append(self, event: events.Progress) -> None:
        self.progress, self._last_reported = event, event.step[-1]
        self.steps.extend(event.step)
        self.train_loss.extend(event.train_loss)
        self.learning_rate.extend(event.learning_rate)
        self.grad_norm.extend(event.grad_norm)
        if self.keep is not None and len(self.steps) > 2 * self.keep:  # seldom: moving them costs
            for column in self._columns:
                del column[: len(column) - self.keep]
        if event.time >= self._speed_kept + SPEED_INTERVAL:
            self._speed_kept = event.time
            self.speeds.append(event.tokens_per_second)
            del self.speeds[:-RECENT_SPEEDS]


def _has_made(start: RunStarted, change: Intervention) -> bool:
    """Whether a checkpoint of the very step of a change was saved after it; a recovering run makes it again."""
    same_step = change.step == start.step and not start.recovered and change.setting not in start.changes
    return same_step and bool(start.config.get(change.setting) == change.new)


def _is_possible(change: Intervention) -> bool:
    """Whether a run can have made the change: the journal may be someone else's."""
    try:
        value = to_dict(changed_while_running(Config(), change.setting, change.new))[change.setting]
    except UserError:
        return False
    return type(value) is type(change.new) and bool(value == change.new)


def _total_steps(config: dict[str, Any], start: RunStarted) -> int:
    """The steps of a run with this configuration, which is from a journal: its values may have any type."""
    epochs, max_steps = config.get("epochs"), config.get("max_steps")
    epochs = epochs if isinstance(epochs, int) else start.epochs
    return max(0, count_steps(epochs, max_steps if isinstance(max_steps, int) else None, start.steps_per_epoch))


def read_history(folder: Path, steps: bool = True) -> RunHistory:
    """The history of a run; an empty one where there is no journal.

    Without `steps` it has no rows of steps, and most of the journal is skipped, which takes a hundredth of the time. A
    UserError says that the journal cannot be read: resuming without its changes would train another run.
    """
    history, path = RunHistory(None if steps else 0), folder / events.JOURNAL
    with system_errors(f"{path}: cannot be read"):
        if path.exists():
            for event in _read(path, steps):
                history.apply(event)
    return history


def read_started(folder: Path, steps: bool = True) -> RunHistory:
    """The history of a run, as `read_history` reads it; a UserError also where the folder holds none."""
    history = read_history(folder, steps)
    if history.started is None:
        raise no_run(folder)
    return history


def no_run(folder: Path) -> UserError:
    """Return the error that says why a folder has no history of a run."""
    damaged = f"its journal is empty or damaged; {resume_command(folder)} resumes it"
    return UserError(f"{folder}: {damaged if os.path.isfile(folder / LAST) else 'holds no run'}")


def _read(path: Path, steps: bool) -> Iterator[events.Event]:
    """The events of a journal. Without `steps` no samples, and of Progress events in a row only the last."""
    skipped = b""
    for line in chain(Tail(path, MAX_EVENT_BYTES).read(), [b""]):
        if not steps:
            if line.startswith(PROGRESS) and line.endswith(b"}"):  # one that a kill truncated does not
                skipped = line
                continue
            if line.startswith(SKIPPED):
                continue
        for raw in (skipped, line):
            if raw and (event := events.decode(raw)) is not None:
                yield event
        skipped = b""
