"""The runs that there are, read from their journals: how each stands, and the numbers of its steps.

- Only reads: nothing here takes a lock, writes a file or asks a process.
- A run that was resumed went back to a step: what its journal told of later steps did not happen, and is left out.
- Reading never fails on a torn or foreign line. No torch.
"""

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, to_dict
from fundamentallm.config.settings import closest
from fundamentallm.errors import UserError
from fundamentallm.run.events import (
    Evaluated,
    Event,
    Failed,
    Finished,
    Intervention,
    Phase,
    Progress,
    RunStarted,
    decode,
    last_step,
)
from fundamentallm.run.folder import JOURNAL
from fundamentallm.run.journal import LONGEST_EVENT, Tail
from fundamentallm.run.locks import is_held

RUNS = Path("runs")
DEEPEST = 4  # folders below the one that is searched
STATES = ("training", "paused", "finished", "stopped", "failed", "interrupted")


@dataclass(frozen=True)
class Summary:
    """How a run stands. Times are UTC in seconds since 1970; a loss is None until it was measured.

    `state` is one of `STATES`. An interrupted run has no end, and no process of this machine is writing it.
    `best` is the lowest validation loss that was ever told, as best.pt has it, also where the run went back since.
    """

    folder: Path
    state: str
    started: float
    last_heard: float
    config: dict[str, Any]  # of the last start, and what persons changed since
    parameters: int
    steps: int
    total_steps: int
    epoch: int
    train_loss: float | None  # of the last step
    val_loss: float | None  # of the last evaluation
    best: Evaluated | None
    why: str = ""  # it failed
    preset: str = ""

    @property
    def epochs(self) -> int:
        return epochs_of(self.config)

    @property
    def data(self) -> str:
        """The names of its texts, without their folders."""
        paths = self.config.get("data")
        return ", ".join(Path(str(path)).name for path in paths) if isinstance(paths, list) else ""


@dataclass
class RunHistory:
    """Every step of a run once, by increasing step, in columns; and its evaluations."""

    steps_per_epoch: int = 1
    step: "array[int]" = field(default_factory=lambda: array("q"))
    train_loss: "array[float]" = field(default_factory=lambda: array("d"))
    learning_rate: "array[float]" = field(default_factory=lambda: array("d"))
    grad_norm: "array[float]" = field(default_factory=lambda: array("d"))
    evaluations: list[Evaluated] = field(default_factory=list)

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to, from 1."""
        return max(1, -(-step // self.steps_per_epoch))

    def go_back(self, step: int) -> None:
        """Forget what came after a step."""
        kept = bisect_right(self.step, step)
        for column in (self.step, self.train_loss, self.learning_rate, self.grad_norm):
            del column[kept:]
        while self.evaluations and self.evaluations[-1].step > step:
            self.evaluations.pop()

    def take(self, event: Event) -> None:
        """Hear the next event of the run."""
        match event:
            case RunStarted():
                self.go_back(event.step)
                self.steps_per_epoch = max(1, event.steps_per_epoch)
            case Progress() if event.step:
                self._append(event)
            case Evaluated():
                while self.evaluations and self.evaluations[-1].step >= event.step:
                    self.evaluations.pop()
                self.evaluations.append(event)

    def _append(self, event: Progress) -> None:
        first, count = event.step[0], len(event.step)
        columns = (event.train_loss, event.learning_rate, event.grad_norm)
        follows = not self.step or first > self.step[-1]
        if follows and event.step == tuple(range(first, first + count)) and {len(c) for c in columns} == {count}:
            self.step.extend(event.step)
            self.train_loss.extend(event.train_loss)
            self.learning_rate.extend(event.learning_rate)
            self.grad_norm.extend(event.grad_norm)
            return
        rows = zip(event.step, *columns, strict=False)
        for step, train_loss, learning_rate, grad_norm in rows:
            if self.step and step <= self.step[-1]:  # a start that was not told, or got lost
                self.go_back(step - 1)
            self.step.append(step)
            self.train_loss.append(train_loss)
            self.learning_rate.append(learning_rate)
            self.grad_norm.append(grad_norm)


def epochs_of(config: dict[str, Any]) -> int:
    """The epochs that a journal tells of; 0 where it does not."""
    epochs = config.get("epochs")
    return epochs if isinstance(epochs, int) else 0


def changed_by(start: RunStarted, change: Intervention) -> RunStarted:
    """What a run would say of itself since a person changed a setting of it; a stranger's nonsense changes nothing."""
    row = SETTINGS.get(change.setting)
    try:
        config = {**start.config, change.setting: row.parse(change.new)} if row is not None and row.live else None
    except UserError:
        config = None
    if config is None:
        return start
    total = epochs_of(config) * start.steps_per_epoch if change.setting == "epochs" else start.total_steps
    return replace(start, config=config, total_steps=total)


def find_runs(folder: Path | None = None) -> list[Summary]:
    """The runs in a folder and below it, the newest first.

    Without a folder: those below `runs`, and those whose folders lie in the current one.
    """
    if folder is None:
        found = [*_run_folders(RUNS, DEEPEST), *_run_folders(Path(), 1)]
    else:
        found = list(_run_folders(folder, DEEPEST))
    runs = []
    for path in found:
        try:
            runs.append(summarize(path))
        except UserError:  # somebody else's journal
            continue
    return sorted(runs, key=lambda run: run.started, reverse=True)


def find_run(name: str) -> Path:
    """The folder of a run as a person names it: the folder, a file in it, or its name below `runs`.

    Raises:
        UserError: there is no such run; names the nearest.
    """
    try:
        given = Path(name).expanduser()
        for folder in (given, given.parent if given.is_file() else given, RUNS / given):
            if (folder / JOURNAL).is_file():
                return folder
    except (OSError, RuntimeError, ValueError):  # too long a name, a home that nobody has, a zero byte
        pass
    known = {path.name: path for path in (*_run_folders(Path(), 1), *_run_folders(RUNS, DEEPEST))}
    near = closest(name.rstrip("/").rpartition("/")[2], list(known))
    hint = f"did you mean {known[near]}?" if near else "fundamentallm runs list shows those that there are"
    raise UserError(f"{name[:200]}: no such run; {hint}")


def summarize(folder: Path) -> Summary:
    """
    Raises:
        UserError: the folder has no journal, or one that tells of no run.
    """
    started, last_heard, steps, epoch = 0.0, 0.0, 0, 0
    start: RunStarted | None = None
    end: Finished | Failed | None = None
    best: Evaluated | None = None
    evaluated: Evaluated | None = None
    progress: Progress | None = None
    phase = preset = ""
    for event in _read(folder, whole=False):
        if event.time:
            started, last_heard = started or event.time, event.time
        match event:
            case RunStarted():
                start, end, phase = event, None, ""
                preset = event.preset or preset
                if progress is not None and last_step(progress) > event.step:
                    progress = None
                if evaluated is not None and evaluated.step > event.step:
                    evaluated = None
            case Progress():
                progress = event
            case Evaluated():
                evaluated = event
                if isfinite(event.val_loss) and (best is None or event.val_loss < best.val_loss):
                    best = event
            case Phase():
                phase = event.phase
            case Intervention() if start is not None:
                start = changed_by(start, event)
            case Finished() | Failed():
                end = event
        steps = last_step(event)
    if start is None:
        raise UserError(f"{folder}: its journal tells of no run")
    epoch = max(1, -(-steps // max(1, start.steps_per_epoch))) if steps else 0
    return Summary(
        folder=folder,
        state=_state(folder, end, phase),
        started=started,
        last_heard=last_heard,
        config=start.config,
        parameters=start.parameters,
        steps=steps,
        total_steps=start.total_steps,
        epoch=epoch,
        train_loss=progress.train_loss[-1] if progress is not None and progress.train_loss else None,
        val_loss=evaluated.val_loss if evaluated is not None else None,
        best=best,
        why=end.error if isinstance(end, Failed) else "",
        preset=preset,
    )


def read_history(folder: Path) -> RunHistory:
    """
    Raises:
        UserError: the journal cannot be read.
    """
    history = RunHistory()
    for event in _read(folder, whole=True):
        history.take(event)
    return history


def read_milestones(folder: Path) -> Iterator[Event]:
    """What happened to a run beside its steps and samples; nothing where there is no journal.

    Raises:
        UserError: there is one, and it cannot be read: to go on without what persons changed would be another run.
    """
    if (folder / JOURNAL).exists():
        yield from _read(folder, whole=False)


def changed(config: dict[str, Any]) -> dict[str, Any]:
    """What of a run's configuration differs from the defaults, in the order of the settings."""
    defaults = to_dict(Config())
    return {name: config[name] for name in SETTINGS if name in config and config[name] != defaults[name]}


def _state(folder: Path, end: Finished | Failed | None, phase: str) -> str:
    if isinstance(end, Failed):
        return "failed"
    if end is not None:
        return "stopped" if end.reason == "stopped" else "finished"
    if is_held(folder):
        return "paused" if phase == "paused" else "training"
    return "interrupted"


def _run_folders(top: Path, deepest: int) -> Iterator[Path]:
    """Folders with a journal, `top` included; none is searched for another, nor is a hidden one."""
    if os.path.isfile(top / JOURNAL):
        yield top
        return
    if deepest == 0:
        return
    try:
        below = sorted(entry.name for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in below:
        if not name.startswith("."):
            yield from _run_folders(top / name, deepest - 1)


def _read(folder: Path, *, whole: bool) -> Iterator[Event]:
    """The events of a journal. Unless `whole`, without samples, and of Progress events in a row only the last.

    Most of a journal is steps: a summary without them takes a hundredth of the time.
    """
    waiting = b""
    try:
        for line in Tail(folder / JOURNAL, LONGEST_EVENT).read():
            if not whole and line.startswith(b'{"event":"progress"'):
                waiting = line
                continue
            if not whole and line.startswith(b'{"event":"sample"'):
                continue
            for raw in filter(None, (waiting, line)):
                if (event := decode(raw)) is not None:
                    yield event
            waiting = b""
        if waiting and (event := decode(waiting)) is not None:
            yield event
    except OSError as error:
        raise UserError(f"{folder / JOURNAL}: cannot be read: {error.strerror}") from None
