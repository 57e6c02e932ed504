"""When and under which names a run is saved.

A save that fails is reported and survived: the next one tries again.
"""

import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from math import isfinite

from fundamentallm.config.format import format_size
from fundamentallm.errors import UserError, describe_error
from fundamentallm.run.events import CheckpointFailed, CheckpointSaved, Event
from fundamentallm.run.folder import BEST, FINAL, LAST, TEMPORARY
from fundamentallm.run.journal import Journal
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.checkpoint import load, save
from fundamentallm.train.state import TrainState

INTERVAL = 60.0  # seconds between saves of last.pt, at least, unless `save_every` says otherwise
EPOCH = "checkpoint_epoch_{}.pt"
EPOCH_NAME = re.compile(EPOCH.replace(".", r"\.").format(r"(\d+)"))
MANUAL = "checkpoint_step_{}.pt"  # the user asked for it; never removed by the program
KINDS = {LAST: "last", BEST: "best", FINAL: "final"}


class CheckpointManager:
    """Saves the state of a run into its folder. `why_unsaved` says why the last save failed; empty if it did not.

    `restore_folder` is called before each save; it makes the folder again if that was deleted.
    """

    def __init__(
        self,
        state: TrainState,
        spec: RunSpec,
        journal: Journal,
        emit: Callable[[Event], None],
        restore_folder: Callable[[], None],
    ) -> None:
        self._state, self._spec, self._folder, self._restore_folder = state, spec, spec.folder, restore_folder
        self._journal, self._emit = journal, emit
        self.why_unsaved = ""
        self._saved: dict[str, int] = {}  # by name: the step of the state that was saved under it last
        self._failed: dict[str, int] = {}  # by name: the step of the state that could not be saved under it
        self._saved_at, self._took = time.monotonic(), 0.0  # of the last save, in seconds
        self._best_loss = self._loss_of_best()  # the validation loss of best.pt; None where there is no valid one
        if self._best_loss is None:
            state.history.forget_best()
        # Of a process that was killed while it saved.
        for leftover in chain.from_iterable(map(self._folder.glob, TEMPORARY)):
            with suppress(OSError):
                leftover.unlink(missing_ok=True)

    def describe_lack_of_space(self) -> str:
        """Return a warning if the disk has less room than this run's checkpoints will need; else an empty string."""
        tensors = (*self._state.model.state_dict().values(), *self._state.optimizer.state_dict().values())
        one = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        epochs = self._state.epochs
        kept = min(self._state.config.keep_checkpoints or epochs, epochs)  # of epochs, beside last, best and final
        needed, free = one * (kept + len(KINDS)), shutil.disk_usage(self._folder).free
        if needed <= free:
            return ""
        text = f"the checkpoints of this run will need about {format_size(needed)} and {format_size(free)} are free"
        return text if kept == 1 else f"{text}; --keep-checkpoints 1 keeps only the newest epoch's"

    def has(self, name: str) -> bool:
        """Whether this process saved the present state under `name`, and the file is there."""
        return self._saved.get(name) == self._state.step and os.path.isfile(self._folder / name)

    @property
    def due(self) -> bool:
        """Whether it is time to save last.pt. Without `save_every`, saving takes at most a fiftieth of the time."""
        every = self._state.config.save_every
        if every:
            return self._state.step % every == 0
        return time.monotonic() - self._saved_at >= max(INTERVAL, 50 * self._took)

    def names_at_start(self) -> list[str]:
        """Return the names to save the first state under, so that there is always something to resume from.

        A process that was killed during a save may have renamed some of its files and others not, or may have renamed
        best.pt and not recorded it in the journal.
        """
        state, source = self._state, self._state.origin.checkpoint
        names, counters = [LAST], state.counters
        if source is None:
            return names
        if self._spec.auto and state.step and not counters.epoch_tokens:
            names.append(EPOCH.format(state.epoch))
        best, on_disk, recorded = counters.best_val_loss, self._best_loss, state.history.best
        missing = on_disk is None or (best is not None and best <= on_disk)
        if self._spec.auto and counters.best_step == state.step and missing:
            names.append(BEST)
        paths = {name: self._folder / name for name in names}
        unrecorded = BEST if recorded is None or recorded.step != state.step else ""
        return [
            name for name, path in paths.items()
            if name == unrecorded or not (os.path.exists(path) and path.samefile(source))
        ]  # fmt: skip

    def names_after_evaluation(self, *, best: bool) -> list[str]:
        """Return the names to save the state under after an evaluation; `best`: it has the lowest loss so far."""
        state, loss = self._state, self._state.counters.val_loss
        assert loss is not None
        # Not `best` alone: the last attempt to write best.pt may have failed, or the run resumed from an earlier state.
        improves = self._best_loss is None or loss < self._best_loss or (best and loss == self._best_loss)
        names = [BEST] if improves and isfinite(loss) else []
        if state.epoch_ended:
            names = [EPOCH.format(state.epoch), *names]
        if state.end_reason:
            names = [*names, FINAL]
        return [LAST, *names] if state.epoch_ended or state.end_reason or self.due else names

    def names_at_end(self, *, stopped: bool) -> list[str]:
        """Return the names to save the last state under: those that it does not have yet, because a save failed, too.

        `stopped`: the run ends before it is completed, so its state is not the final one.
        """
        wanted = [LAST] if stopped else [LAST, FINAL]
        pending = [name for name, step in self._failed.items() if step == self._state.step]
        return [name for name in dict.fromkeys([*wanted, *pending]) if not self.has(name)]

    def save(self, names: list[str]) -> bool:
        """Save the present state under every name, and emit what became of each. Returns whether all were saved.

        The journal is on the disk first: a checkpoint of steps that it lacks would leave a gap in the run's curves.
        """
        step, started = self._state.step, time.monotonic()
        try:
            self._restore_folder()
            self._journal.sync()
            self._state.counters.said = self._journal.events_written
            written, failed = save(self._state.checkpoint(), self._folder, names)
        except OSError as error:
            written, failed = 0, dict.fromkeys(names, describe_error(error))
        self.why_unsaved = next(iter(failed.values()), "")
        self._saved_at = time.monotonic()
        for name, why in failed.items():
            self._failed[name] = step
            self._emit(CheckpointFailed(step=step, path=name, kind=_kind(name), why=why))
        done = [name for name in names if name not in failed]
        if not done:
            return False
        self._took = time.monotonic() - started
        if BEST in done:
            self._best_loss = self._state.counters.val_loss
        for name in done:
            self._saved[name] = step
            self._failed.pop(name, None)
            seconds = round(self._took, 3)
            self._emit(CheckpointSaved(step=step, path=name, kind=_kind(name), bytes=written, seconds=seconds))
        with suppress(OSError):  # old checkpoints only take up room; the next save tries again
            self._remove_old()
        return not failed

    def forget_deleted(self) -> None:
        """Note that best.pt may have been deleted: it is then written at the next evaluation."""
        if not os.path.isfile(self._folder / BEST):
            self._best_loss = None
            self._state.history.forget_best()

    def _loss_of_best(self) -> float | None:
        """Read the validation loss of best.pt: a run that resumes from an earlier state must not make it worse.

        None where there is no valid best.pt: the state of the next evaluation becomes best.pt, even where the counters
        know of a lower loss, as that state is lost. The counters stay as they were saved: early stopping must not
        depend on what the folder holds.
        """
        if self._state.origin.checkpoint is None:
            return None
        with suppress(UserError):
            loss = load(self._folder / BEST).progress().val_loss  # not its best_val_loss, whose state may be lost
            return loss if loss is not None and isfinite(loss) else None
        return None

    def _remove_old(self) -> None:
        """Remove the oldest epochs beyond `keep_checkpoints`; not the later ones of a run that went back."""
        keep, done = self._state.config.keep_checkpoints, self._state.step // self._state.corpus.steps_per_epoch
        if not keep:
            return
        found = (EPOCH_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        epochs = sorted(int(match[1]) for match in found if match)
        for epoch in [epoch for epoch in epochs if epoch <= done][:-keep]:
            (self._folder / EPOCH.format(epoch)).unlink(missing_ok=True)


def _kind(name: str) -> str:
    return KINDS.get(name) or ("epoch" if EPOCH_NAME.fullmatch(name) else "hand")
