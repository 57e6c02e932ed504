"""When and under which names a run is saved, and what is said about it.

A save that fails is loud and survivable: an event, and the next one tries again.
"""

import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from fundamentallm.config.format import format_size
from fundamentallm.errors import UserError
from fundamentallm.run.events import CheckpointFailed, CheckpointSaved, Event
from fundamentallm.run.folder import BEST, FINAL, LAST
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import Journal
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.checkpoint import load, peek, save

if TYPE_CHECKING:  # it is built from the latest checkpoint, which is found here
    from fundamentallm.train.state import TrainState

INTERVAL = 60.0  # seconds between saves of last.pt, at least, unless `save_every` says otherwise
EPOCH = "checkpoint_epoch_{}.pt"
HAND = "checkpoint_step_{}.pt"
KINDS = {LAST: "last", BEST: "best", FINAL: "final"}


class CheckpointManager:
    """Saves `parts` into `folder`. `unsaved` says why the newest attempt failed; empty when it did not."""

    def __init__(self, parts: "TrainState", folder: Path, journal: Journal, say: Callable[[Event], None]) -> None:
        self._parts, self._folder, self._journal, self._say = parts, folder, journal, say
        self.unsaved = ""
        self._steps: dict[str, int] = {}  # by name, of the state under it
        self._failed: dict[str, int] = {}  # by name, of the state that it should have had
        self._saved_at, self._took = time.monotonic(), 0.0
        for left in folder.glob(".*.*.tmp"):
            with suppress(OSError):
                left.unlink(missing_ok=True)  # by a process that was killed while it saved

    def warn(self) -> str:
        """What a person should know about the room that this run's checkpoints will need; empty if there is enough."""
        parts = self._parts
        tensors = (*parts.model.state_dict().values(), *parts.optimizer.state_dict().values())
        state = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        kept = parts.config.keep_checkpoints or parts.config.epochs
        needed, free = state * (kept + 3), shutil.disk_usage(self._folder).free
        if needed <= free:
            return ""
        words = f"the checkpoints of this run will need about {format_size(needed)} and {format_size(free)} are free"
        return words if kept == 1 else f"{words}; --keep-checkpoints 1 keeps only the newest epoch's"

    def has(self, name: str) -> bool:
        """Whether the state of now was written under `name`."""
        return self._steps.get(name) == self._parts.counters.step

    @property
    def owed(self) -> list[str]:
        """Names under which the state of now should have been written and was not."""
        return [name for name, step in self._failed.items() if step == self._parts.counters.step]

    @property
    def due(self) -> bool:
        """Whether it is time for last.pt."""
        every = self._parts.config.save_every
        if every:
            return self._parts.counters.step % every == 0
        return time.monotonic() - self._saved_at >= max(INTERVAL, 50 * self._took)

    def save(self, names: list[str]) -> bool:
        """Write the state of now under every name; what was said before is on the disk first. False: not all are."""
        step, started = self._parts.counters.step, time.monotonic()
        try:
            self._journal.sync()
            self._parts.counters.said = self._journal.events_written
            written, failed = save(self._parts.checkpoint(), self._folder, names)
        except OSError as error:
            written, failed = 0, dict.fromkeys(names, error.strerror or str(error))
        self.unsaved = next(iter(failed.values()), "")
        self._saved_at = time.monotonic()
        for name, why in failed.items():
            self._failed[name] = step
            self._say(CheckpointFailed(step=step, path=name, kind=_kind(name), why=why))
        done = [name for name in names if name not in failed]
        if not done:
            return False
        self._took = time.monotonic() - started
        if BEST in done:  # also where the process before this one did not come to it
            self._parts.best_on_disk = self._parts.counters.val_loss
        for name in done:
            self._steps[name] = step
            self._failed.pop(name, None)
            self._say(
                CheckpointSaved(step=step, path=name, kind=_kind(name), bytes=written, seconds=round(self._took, 3))
            )
        with suppress(OSError):  # they only take up room; the next save tries again
            self._remove_old()
        return not failed

    def _remove_old(self) -> None:
        """Of the epochs up to now: later ones are another history's, which a resumed run has left behind."""
        keep, done = (
            self._parts.config.keep_checkpoints,
            self._parts.counters.step // self._parts.corpus.steps_per_epoch,
        )
        if keep:
            numbers = sorted(
                int(found[1])
                for path in self._folder.iterdir()
                if (found := re.fullmatch(r"checkpoint_epoch_(\d+)\.pt", path.name)) and int(found[1]) <= done
            )
            for number in numbers[:-keep]:
                (self._folder / EPOCH.format(number)).unlink(missing_ok=True)


def latest_valid_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint of a folder that was written last and is valid, and what is wrong with newer ones.

    The number of events in the journal when it was saved tells which is newer: a copy of a folder may have lost the
    files' times. States that the user left behind, by resuming from an earlier one, come last.
    """
    history = read_history(folder, steps=False)

    def rank(path: Path) -> tuple[bool, float, int]:
        """The newest has the highest. A damaged file may be the newest of all, and must be named: it comes first."""
        counters, modified = peek(path), path.stat().st_mtime_ns
        if counters is None:
            return True, inf, modified
        return not history.left_behind(counters.step, counters.said), counters.said, modified

    damaged = []
    paths = [path for path in folder.glob("*.pt") if path.is_file()]
    for path in sorted(paths, key=lambda path: (rank(path), path.name), reverse=True):
        try:
            load(path)
        except UserError as error:
            damaged.append(str(error))
            continue
        return path, [f"{error}; an older one is used" for error in damaged]
    return None, [*damaged, "no checkpoint is valid: the run begins anew"] if damaged else []


def names_without_this_state(parts: "TrainState", job: RunSpec) -> list[str]:
    """Names that the state at a run's start should have: from now on there is always something to go on from.

    A save that was cut short has renamed some of its files and others not.
    """
    counters, source = parts.counters, parts.resumed_from
    if source is None:
        return [LAST]
    names = [LAST]
    if job.auto and counters.step and not counters.epoch_tokens:
        names.append(EPOCH.format(parts.epoch))
    if job.auto and counters.best_step == counters.step and _best_is_owed(parts):
        names.append(BEST)
    return [name for name in names if not _same_file(job.folder / name, source)]


def _best_is_owed(parts: "TrainState") -> bool:
    """Whether best.pt is not there, or of an earlier and worse state."""
    disk, best = parts.best_on_disk, parts.counters.best_val_loss
    return disk is None or (best is not None and best <= disk)


def _same_file(a: Path, b: Path) -> bool:
    """Whether two names are of one file."""
    try:
        return a.samefile(b)
    except OSError:
        return False


def _kind(name: str) -> str:
    return KINDS.get(name) or ("epoch" if "epoch" in name else "hand")
