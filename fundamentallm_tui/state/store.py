"""What the console shows of its run: plain data that events change and panes read. Knows no screen and no thread.

- `RunHistory` says what the events mean. The store adds what only a console has: what the user asked for, lines for
  the charts and the log, the text of a sample, and a clock for the time left.
- A run has ended (one of ENDED) or is under way. What the user asked for shows at once; what the
  run then reports replaces it.
"""

import time
from array import array
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from fundamentallm.config.config import Config
from fundamentallm.run import events
from fundamentallm.run.commands import Set
from fundamentallm.run.describe import BAD, FAINT, PLAIN, WARN
from fundamentallm.run.events import Answered, Event, Progress, Sampled
from fundamentallm.run.folder import LAST
from fundamentallm.run.history import RECENT_STEPS, RunHistory
from fundamentallm_tui.charts.series import SMOOTHING, Series, Smoothed
from fundamentallm_tui.keys import named
from fundamentallm_tui.state.event_log import LogLine, join_progress, log_lines, to_lines

IDLE, STOPPED, FINISHED, FAILED = "idle", "stopped", "finished", "failed"
INTERRUPTED = "interrupted"  # its process ended before the run did; the list of runs says the same
ENDED = (IDLE, STOPPED, FINISHED, FAILED, INTERRUPTED)
BRIEF_PHASES = ("evaluating", "saving", "sampling")  # mostly over within 0.3 s
BRIEF_SECONDS = 0.3  # a brief phase that is shorter is not shown

# What the user asked for, and the phases in which the run does it.
REACHED_IN = {"pausing": ("pausing", "paused"), "stopping": ("stopping",), "training": ("training", "compiling")}


@dataclass
class SampleText:
    """The samples of one command, which are written together."""

    id: str = ""
    prompt: str = ""
    texts: list[str] = field(default_factory=lambda: [""])  # what the model has added to the prompt, of each sample
    chosen: int = 0  # the number of the sample that is looked at
    finished: set[int] = field(default_factory=set)  # the numbers of the samples that are whole
    step: int = 0
    done: bool = True
    problem: str = ""
    file: str = ""  # the checkpoint that they are written with; empty: the process of the run writes them

    @property
    def text(self) -> str:
        """The sample that is looked at."""
        return self.texts[self.chosen]

    def fail(self, problem: str) -> None:
        """The samples come to no end, if they have not yet."""
        if not self.done:
            self.problem, self.done = problem, True

    def take(self, event: Event) -> None:
        """Take in a piece that belongs to these samples, or the answer to the command, after which none comes."""
        match event:
            case Answered():
                self.fail(event.why)
            case Sampled() if 0 <= event.number < len(self.texts):
                self.texts[event.number] += event.text
                self.step = event.step
                if event.done:
                    self.finished.add(event.number)
                self.done = len(self.finished) == len(self.texts)


class Store:
    """Everything that the panes show. Each `Series` is by step."""

    def __init__(self) -> None:
        self.train, self.val = Series(), Series()  # the losses
        self.rate, self.norm = Series(), Series()  # the learning rate, and the norm of the gradient
        self.speed, self.memory = Series(), Series()  # tokens a second, and MiB
        self.tokens, self.seconds = Series(), Series()  # trained on since the run began, and how long that took
        self.saves = Series()  # the checkpoints that stay: 1 for one that the user asked for, else 0
        self.smoothed = {factor: Smoothed(factor) for factor in SMOOTHING if factor}  # the training loss, by how much
        self._series = (
            self.train, self.val, self.rate, self.norm, self.speed, self.memory, self.tokens, self.seconds, self.saves,
            *self.smoothed.values(),
        )  # fmt: skip
        self.sent_ids: set[str] = set()  # of the commands that this console sent
        self.unanswered: dict[str, Set] = {}  # the changes among them that the run has not answered, by their ids
        self.refused: dict[str, str] = {}  # why the run refused a change, by setting, until the form has shown it
        self._lines: list[LogLine] = []
        self.clear()

    def _forget_history(self) -> None:
        self.history = RunHistory(RECENT_STEPS)  # what the run's events mean
        for series in self._series:
            series.truncate_after(float("-inf"))
        self.saved, self._saved_at = "", -1  # the newest checkpoint, of several at one step last.pt; and its step
        self._trains_since = 0.0
        self.total_steps = self.epochs = 0  # how far the run goes; before it starts, as the form plans it

    # What the user does

    def clear(self) -> None:
        """Forget the run that has ended: the next start makes a new one."""
        self.phase = IDLE  # one of ENDED, or what the run is doing
        self.wanted = ""  # the phase that the user asked for, until the run reports it
        self.name = ""  # the preset's, or how fast a replay is
        self.folder: Path | None = None  # of the run; None where none is shown
        self.behind = False  # whether the journal has more than was read: the run stands elsewhere than is shown
        self.loaded = False  # whether the run's process has started it, and takes commands
        self.attached = self.replayed = False  # another process started it; its journal is only played back
        self.sample = SampleText()
        self.unanswered.clear()
        self.refused.clear()
        self._planned: Config | None = None
        self._progress: Progress | None = None
        self._phase_before, self._phase_since = IDLE, 0.0
        self._eta: float | None = None  # seconds, as it was at `_eta_at`
        self._eta_at = 0.0
        self._forget_history()

    def plan(self, name: str, config: Config, total_steps: int) -> None:
        """Without a run: this is what the next start would train."""
        self.name, self._planned = name, config
        self.epochs, self.total_steps = config.epochs, total_steps

    def begin(self, folder: Path, name: str, config: Config, *, resumes: bool) -> None:
        """This console starts a run; `resumes`: it is the one that is shown."""
        if not resumes:
            self._forget_history()
        self._resumed_from = self.phase if resumes else IDLE
        self.folder, self.name, self._planned = folder, name, config
        self.phase, self.wanted, self.epochs = "loading", "", config.epochs
        self.loaded = self.attached = self.replayed = False
        self._eta = self._progress = None

    def not_started(self) -> None:
        """There is no process after `begin`: a run that it would have resumed is as before, another is forgotten."""
        if self._resumed_from == IDLE:
            self.clear()
        self.phase, self.wanted = self._resumed_from, ""
        self._update_length()

    def attach(self, folder: Path, name: str, *, replayed: bool = False) -> None:
        """Show a run that another process started."""
        self.clear()
        self.folder, self.name, self.phase = folder, name, "loading"
        self.attached, self.replayed = True, replayed

    def request(self, phase: str) -> None:
        """The user asked for a phase: show it until the run reports more."""
        self._hold_eta()
        self.wanted = phase

    # What panes read

    @property
    def under_way(self) -> bool:
        return self.phase not in ENDED

    @property
    def paused(self) -> bool:
        """Paused, or about to be."""
        return (self.wanted or self.phase) in ("pausing", "paused")

    @property
    def stopping(self) -> bool:
        return "stopping" in (self.wanted, self.phase)

    @property
    def config(self) -> Config | None:
        """The settings as they are now, live changes included; None where they are not known."""
        return self.history.settings or self._planned

    @property
    def expected(self) -> Config | None:
        """The settings as they are when the run has made the changes that this console has sent."""
        changes = {command.setting: command.value for command in self.unanswered.values()}
        return replace(self.config, **changes) if self.config is not None else None

    @property
    def preset(self) -> str:
        """The preset that the run was started with; empty where that is not known."""
        return self.history.started.preset if self.history.started is not None else ""

    @property
    def step(self) -> int:
        return self.history.step

    @property
    def epoch(self) -> int:
        """The epoch of the last step, from 1; 0 before the run has started."""
        return self.history.epoch if self.history.started is not None else 0

    @property
    def tokens_per_second(self) -> float | None:
        return self._progress.tokens_per_second if self._progress is not None else None

    @property
    def grad_norm(self) -> float | None:
        return self._progress.grad_norm[-1] if self._progress is not None else None

    def status(self) -> str:
        """Return what the run does, in one word in capitals."""
        if self.sample.file and not self.sample.done:
            return "SAMPLING"
        if self.wanted:
            return self.wanted.upper()
        if self.phase in ENDED and self.history.unsaved:
            return "NOT SAVED"
        if self.attached and self.behind and self.under_way:
            return "LOADING"
        hidden = self.phase in BRIEF_PHASES and time.monotonic() - self._phase_since < BRIEF_SECONDS
        return (self._phase_before if hidden else self.phase).upper()

    def eta(self) -> float | None:
        """Return the seconds that training still takes; they stand still while nothing is trained."""
        if self._eta is None or not self.under_way:
            return None
        passed = 0.0 if self.paused or self.phase in BRIEF_PHASES else time.monotonic() - self._eta_at
        return max(0.0, self._eta - passed)

    def take_lines(self) -> list[LogLine]:
        """Return the lines for the log since the last call."""
        lines, self._lines = self._lines, []
        return lines

    def log(self, text: str, level: str = PLAIN) -> None:
        """Add a text to the log."""
        self._lines += to_lines(text, level, time.time())

    # What the run reports

    def apply(self, reported: list[Event]) -> set[str]:
        """Take events in, but for samples; returns what changed: run, config, phase, step, curves, log."""
        changed: set[str] = set()
        for part in join_progress(reported):
            changed |= self._apply_progress(part) if isinstance(part, list) else self._apply(part)
        lines = log_lines(reported, self.sample.id, self.sent_ids, resumable=not self.replayed)
        self._lines += lines
        return changed | {"log"} if lines else changed

    def disconnected(self, exit_reason: str, log_tail: list[str]) -> set[str]:
        """The run's process is gone; returns what changed."""
        if not self.under_way:  # the run had ended before; without its process there is only no model to sample from
            return {"phase"}
        self.phase, self.wanted = FAILED if self.history.started is None else INTERRUPTED, ""
        self.unanswered.clear()
        if self.replayed:
            self.phase = STOPPED
            self.log("The journal ends here.", BAD)
        else:
            end = " The end of engine.log:" if log_tail else ""
            self.log(f"Interrupted: {exit_reason or 'its process is gone'}.{end}", BAD)
        for line in log_tail:
            self.log(f"  {line}", FAINT)
        if self.saved and not self.replayed:
            self.log(f"{named('start')} resumes {self.saved}.", WARN)
        return {"phase", "log"}

    def _apply_to_history(self, event: Event) -> None:
        back = self.history.apply(event)
        if back is not None:
            for series in self._series:
                series.truncate_after(back)

    def _apply_progress(self, reports: list[Progress]) -> set[str]:
        for report in reports:
            self._apply_to_history(report)
        steps = array("d", chain.from_iterable(report.step for report in reports))
        losses = array("d", chain.from_iterable(report.train_loss for report in reports))
        for series in (self.train, *self.smoothed.values()):
            series.extend(steps, losses)
        self.rate.extend(steps, chain.from_iterable(report.learning_rate for report in reports))
        self.norm.extend(steps, chain.from_iterable(report.grad_norm for report in reports))
        ends = array("d", [report.step[-1] for report in reports])
        self.speed.extend(ends, [report.tokens_per_second for report in reports])
        self.memory.extend(ends, [report.memory_bytes / 2**20 for report in reports])
        self.tokens.extend(ends, [report.tokens for report in reports])
        before = self.seconds.last[1] if self.seconds.last else 0.0
        since = self._trains_since or reports[0].time
        self.seconds.extend(ends, [before + max(0.0, report.time - since) for report in reports])
        self._trains_since = reports[-1].time
        self._progress, self._eta, self._eta_at = reports[-1], reports[-1].eta_seconds, time.monotonic()
        return {"step", "curves"}

    def _apply(self, event: Event) -> set[str]:
        self._apply_to_history(event)
        match event:
            case events.RunStarted():
                self.loaded, self._trains_since = True, event.time
                if not self.under_way:  # another process resumed it
                    self.phase = "loading"
                self._update_length()
                return {"run", "phase", "step", "curves"}
            case events.Intervention():
                self._update_length()
                return {"config", "curves"}
            case events.Phase() if self.under_way:
                return self._apply_phase(event)
            case events.Evaluated():
                self.val.truncate_after(event.step - 1)  # a resumed run may evaluate a step again
                self.val.append(event.step, event.val_loss)
                return {"curves"}
            case events.CheckpointSaved():
                if event.path == LAST or event.step != self._saved_at:
                    self.saved, self._saved_at = event.path, event.step
                if event.kind not in ("last", "best"):  # those are written over; several may be saved at one step
                    by_hand = event.kind == "hand" or self.saves.last == (event.step, 1.0)
                    self.saves.truncate_after(event.step - 1)
                    self.saves.append(event.step, float(by_hand))
                    return {"curves"}
            case events.Answered():
                return self._apply_answer(event)
            case events.Finished():
                self.phase, self.wanted = (STOPPED if event.reason == "stopped" else FINISHED), ""
                return {"phase", "step"}
            case events.Failed():
                self.saved = event.saved or self.saved
                self.phase, self.wanted = FAILED, ""
                return {"phase", "step"}
        return set()

    def _update_length(self) -> None:
        if self.history.started is not None:
            self.epochs, self.total_steps = self.history.epochs, self.history.started.total_steps

    def _apply_phase(self, event: events.Phase) -> set[str]:
        if event.phase == "training":
            self._trains_since = event.time
        if event.phase != self.phase:
            self._phase_before = self.status().lower()
            self._hold_eta()
            self.phase, self._phase_since = event.phase, time.monotonic()
        if event.phase in REACHED_IN.get(self.wanted, ()):
            self.wanted = ""
        return {"phase"}

    def _apply_answer(self, event: events.Answered) -> set[str]:
        change = self.unanswered.pop(event.id, None)
        if event.ok:
            return {"config"} if change is not None else set()
        if event.command in ("pause", "resume", "stop"):
            self.wanted = ""
        if event.command == "set":  # a change that was answered with an error never took effect
            self._update_length()
            if change is not None:
                self.refused[change.setting] = event.why
            return {"config"}
        return {"phase"}

    def _hold_eta(self) -> None:
        """Remember the time left as it is, before its clock starts or stops."""
        if self._eta is not None:
            self._eta, self._eta_at = self.eta(), time.monotonic()
