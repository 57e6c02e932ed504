"""What the console knows of its run: plain data that events change and panes read. Knows no screen and no thread.

A run rests (IDLE, STOPPED, FINISHED, FAILED) or is under way. What a person asked for shows at once, before the run
has heard of it; what the run then says wins.
"""

import time
from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve, to_dict
from fundamentallm.run.events import (
    Answered,
    CheckpointSaved,
    Evaluated,
    Event,
    Failed,
    Finished,
    Intervention,
    Phase,
    Progress,
    RunStarted,
    Sampled,
    last_step,
)
from fundamentallm.run.folder import LAST
from fundamentallm.run.history import changed_by
from fundamentallm_tui.charts.series import Series
from fundamentallm_tui.state import event_log as story
from fundamentallm_tui.state.event_log import LogLine
from fundamentallm_tui.state.merge import merged

IDLE, STOPPED, FINISHED, FAILED = "idle", "stopped", "finished", "failed"
RESTING = (IDLE, STOPPED, FINISHED, FAILED)
PASSING = ("evaluating", "saving", "sampling")  # usually over in no time
UNSEEN = 0.3  # seconds; a passing phase that is shorter is not shown

# What was asked for, and the phases in which the run has understood.
UNDERSTOOD = {"pausing": ("pausing", "paused"), "stopping": ("stopping",), "training": ("training", "compiling")}


@dataclass
class SampleText:
    """The sample that was asked for last, as far as it has come."""

    id: str = ""
    prompt: str = ""
    text: str = ""
    step: int = 0
    done: bool = True
    problem: str = ""


class Store:
    """Everything that the panes show."""

    def __init__(self) -> None:
        self.train, self.val, self.rate = Series(), Series(), Series()
        self.phase = IDLE
        self.wanted = ""
        self.name = ""
        self.folder: Path | None = None
        self.config: Config | None = None
        self.started: RunStarted | None = None
        self.sample = SampleText()
        self.attached = self.replayed = False
        self.ours: set[str] = set()  # the ids of what this console asked for
        self._lines: list[LogLine] = []
        self._forget_run()

    def _forget_run(self) -> None:
        for series in (self.train, self.val, self.rate):
            series.truncate_after(float("-inf"))
        self.step = self.epoch = self.total_steps = self.epochs = 0
        self.tokens_per_second: float | None = None
        self.grad_norm: float | None = None
        self.saved = ""
        self._saved_at = -1
        self._before = self.phase
        self._since = 0.0
        self._eta: float | None = None
        self._eta_at = 0.0

    # What a person does

    def begin(self, folder: Path, name: str, config: Config, *, goes_on: bool) -> None:
        """A run is being started; `goes_on`: it continues the one that is shown."""
        if not goes_on:
            self._forget_run()
        self.folder, self.name, self.config, self.started = folder, name, config, None
        self.phase, self.wanted, self.epochs = "loading", "", config.epochs
        self.attached = self.replayed = False
        self._eta = self.tokens_per_second = None

    def watch(self, folder: Path, name: str, *, replayed: bool = False) -> None:
        """A run that another process started is to be shown."""
        self.new_run()
        self.folder, self.name, self.phase = folder, name, "loading"
        self.attached, self.replayed = True, replayed

    def want(self, phase: str, now: float | None = None) -> None:
        """A person asked for a phase: it is shown until the run says more."""
        self._hold_eta(time.monotonic() if now is None else now)
        self.wanted = phase

    def ask(self, id: str, prompt: str) -> None:
        """A person asked for a sample."""
        self.sample = SampleText(id=id, prompt=prompt, step=self.step, done=False)

    def new_run(self) -> None:
        """Forget the run that rests: the next start makes a new one."""
        self.phase, self.wanted, self.name = IDLE, "", ""
        self.folder = self.config = self.started = None
        self.sample = SampleText()
        self.attached = self.replayed = False
        self._forget_run()

    # What panes read

    @property
    def under_way(self) -> bool:
        return self.phase not in RESTING

    @property
    def preset(self) -> str:
        """What the run began with; empty where that is not known."""
        return self.started.preset if self.started is not None else ""

    @property
    def paused(self) -> bool:
        """Paused, or on the way there."""
        return (self.wanted or self.phase) in ("pausing", "paused")

    @property
    def stopping(self) -> bool:
        return "stopping" in (self.wanted, self.phase)

    def word(self, now: float | None = None) -> str:
        """The status word."""
        now = time.monotonic() if now is None else now
        if self.wanted:
            return self.wanted.upper()
        hidden = self.phase in PASSING and now - self._since < UNSEEN
        return (self._before if hidden else self.phase).upper()

    def eta(self, now: float | None = None) -> float | None:
        """Seconds that training still takes; stands still while nothing is trained."""
        now = time.monotonic() if now is None else now
        if self._eta is None or not self.under_way:
            return None
        return self._eta if self.paused or self.phase in PASSING else max(0.0, self._eta - (now - self._eta_at))

    def take_lines(self) -> list[LogLine]:
        """Lines for the log since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def say(self, text: str, kind: str = story.PLAIN, moment: float | None = None) -> None:
        """A line for the log."""
        self._lines += story.lines(text, kind, time.time() if moment is None else moment)

    # What the run says

    def apply(self, events: list[Event], now: float | None = None) -> set[str]:
        """Take events in; returns what changed: run, phase, step, curves, sample, log."""
        now = time.monotonic() if now is None else now
        changed: set[str] = set()
        for event in merged(events):
            changed |= self._apply(event, now)
        self._lines += (told := story.tell(events, self.sample.id, self.ours))
        return changed | {"log"} if told else changed

    def died(self, end: str, tail: list[str], now: float | None = None) -> set[str]:
        """The run's process is gone; a run that rests already loses only its model."""
        if not self.under_way:
            return {"phase"}
        self.phase, self.wanted = FAILED, ""
        if self.attached:  # nobody knows of a failure
            self.phase, tail = STOPPED, tail[-3:]
            self.say(
                "The journal ends here." if self.replayed else f"Interrupted: {end or 'its process is gone'}.",
                story.BAD,
            )
        else:
            self.say(f"The engine is gone: {end or 'nobody knows why'}. Its last words, from engine.log:", story.BAD)
            tail = tail or ["(it said nothing)"]
        for line in tail:
            self.say(f"  {line}", story.FAINT)
        if self.saved and not self.replayed:
            self.say(f"F5 goes on from {self.saved}.", story.WARN)
        return {"phase", "log"}

    def _apply(self, event: Event, now: float) -> set[str]:
        match event:
            case RunStarted():
                return self._run_started(event)
            case Phase() if self.under_way:
                return self._entered(event.phase, now)
            case Progress():
                return self._progressed(event, now)
            case Evaluated():
                if event.step > self.val.end:
                    self.val.append(event.step, event.val_loss)
                return {"curves"}
            case CheckpointSaved():
                if event.path == LAST or event.step != self._saved_at:  # of equal states, last.pt
                    self.saved, self._saved_at = event.path, event.step
            case Sampled():
                return self._sampled(event)
            case Answered():
                return self._answered(event)
            case Finished():
                self.step = event.step
                self.epoch = event.epoch
                self.phase, self.wanted = (STOPPED if event.reason == "stopped" else FINISHED), ""
                return {"phase", "step"}
            case Failed():
                self.step = last_step(event)
                self.saved = event.saved or self.saved
                self.phase, self.wanted = FAILED, ""
                return {"phase", "step"}
            case Intervention() if self.config is not None:
                self.config = _with(self.config, {event.setting: event.new}) or self.config
                if self.started is not None:
                    self.started = changed_by(self.started, event)
                    self.epochs, self.total_steps = self.config.epochs, self.started.total_steps
                return {"config"}
        return set()

    def _run_started(self, event: RunStarted) -> set[str]:
        for series in (self.train, self.val, self.rate):
            series.truncate_after(event.step)
        if not self.under_way:  # somebody went on with it
            self.phase = "loading"
        if self.attached:
            self.config = _with(Config(), event.config) or self.config
        self.started = replace(event, preset=event.preset or self.preset)  # only the first start knows it
        self.step, self.total_steps = event.step, event.total_steps
        if event.steps_per_epoch:
            self.epochs = event.total_steps // event.steps_per_epoch
            self.epoch = min(self.epochs, event.step // event.steps_per_epoch + 1)
        return {"run", "phase", "step", "curves"}

    def _entered(self, phase: str, now: float) -> set[str]:
        if phase != self.phase:
            self._before = self.word(now).lower()
            self._hold_eta(now)
            self.phase, self._since = phase, now
        if phase in UNDERSTOOD.get(self.wanted, ()):
            self.wanted = ""
        return {"phase"}

    def _progressed(self, event: Progress, now: float) -> set[str]:
        fresh = len(event.step) - bisect_right(event.step, self.train.end)
        if fresh:
            steps = event.step[-fresh:]
            self.train.extend(steps, event.train_loss[-fresh:])
            self.rate.extend(steps, event.learning_rate[-fresh:])
            self.step, self.grad_norm = steps[-1], event.grad_norm[-1]
        self.epoch, self.tokens_per_second = event.epoch, event.tokens_per_second
        self._eta, self._eta_at = event.eta_seconds, now
        return {"step", "curves"} if fresh else {"step"}

    def _sampled(self, event: Sampled) -> set[str]:
        if not event.id or event.id != self.sample.id:
            return set()
        self.sample.text += event.text
        self.sample.step, self.sample.done = event.step, event.done
        return {"sample"}

    def _answered(self, event: Answered) -> set[str]:
        if event.ok:
            return set()
        if event.id == self.sample.id:
            self.sample.problem, self.sample.done = event.why, True
            return {"sample"}
        if event.command in ("pause", "resume", "stop"):
            self.wanted = ""
        return {"phase"}

    def _hold_eta(self, now: float) -> None:
        """Remember the ETA as it stands, before its clock starts or stops."""
        if self._eta is not None:
            self._eta, self._eta_at = self.eta(now), now


def _with(config: Config, values: dict[str, Any]) -> Config | None:
    """A configuration with other values; None where they are none: an older version, or somebody else's journal."""
    known = {name: value for name, value in values.items() if name in SETTINGS}
    try:
        return resolve(Layer({**to_dict(config), **known}))
    except ConfigError:
        return None
