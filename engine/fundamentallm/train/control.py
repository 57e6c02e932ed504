"""Obeys the commands that reach a run: pause, resume, save, evaluate, stop, set, sample, cancel, and questions.

- The trainer calls `obey` between two steps, so a command never meets a half-finished update.
- Commands are obeyed one at a time, in the order in which they arrived, and each is answered exactly once, also where
  the run fails while it obeys. Only the cancel of a sample overtakes others.
- No command but `set` changes what a step depends on.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from fundamentallm.config.config import changed_while_running, to_dict
from fundamentallm.errors import UserError, describe_error
from fundamentallm.run import commands
from fundamentallm.run.commands import Command, Set
from fundamentallm.run.events import Event, Intervention
from fundamentallm.run.journal import Journal, inbox_reader
from fundamentallm.run.locks import is_watched
from fundamentallm.train.checkpoints import MANUAL, CheckpointManager
from fundamentallm.train.metrics import NotFinite
from fundamentallm.train.samples import NO_SUCH_SAMPLE, RUN_ENDED, SampleControl
from fundamentallm.train.state import TrainState

POLL_INTERVAL = 0.05  # seconds between two looks for commands while a run is paused


class Controlled(Protocol):
    """What commands need of the trainer, which imports this module."""

    state: TrainState
    journal: Journal
    checkpoints: CheckpointManager
    stopping: bool

    def emit(self, event: Event) -> None: ...
    def enter_phase(self, name: str) -> None: ...
    def phase(self, name: str) -> AbstractContextManager[None]: ...
    def report(self) -> None: ...
    def answer_pinned(self, *, recurring: bool) -> None: ...
    def evaluate(self, *, recurring: bool) -> None: ...
    def save(self, names: list[str], *, recurring: bool) -> bool: ...
    def stop(self) -> None: ...


class Control(SampleControl):
    """Takes commands from the console that started the run, by `read_commands`, and from the run's inbox."""

    def __init__(self, trainer: Controlled, folder: Path, read_commands: Callable[[], Sequence[Command]]) -> None:
        super().__init__(trainer.state, trainer.emit, self._read)
        self._trainer, self._read_console = trainer, read_commands
        self._inbox, self._folder = inbox_reader(folder), folder
        self.paused = self.ended = False
        self.had_console = False  # when the pause began; a run that a shell paused has none to lose

    def obey(self) -> None:
        """Obey what arrived since the last call; while the run is paused, wait here."""
        self.repeat_interventions()
        self.obey_commands(self._read())
        if not self.paused or self._trainer.stopping:
            return
        self._trainer.report()
        with self._trainer.phase("paused"):
            while self.paused and not self._trainer.stopping:
                time.sleep(POLL_INTERVAL)
                self.obey_commands(self._read())
                if self.had_console and not is_watched(self._folder):
                    self._obey(commands.Stop(who="its lost console"))

    def pause(self, from_console: bool = False) -> None:
        """Pause from the next `obey` on; `from_console`: a console that stays asked for it."""
        self.paused = True
        self.had_console = from_console or is_watched(self._folder)

    def repeat_interventions(self) -> None:
        """Make the changes of another run, and those that users made before this run was killed, each at its step."""
        state = self._trainer.state
        for change in _due(state.origin.planned, state.step):
            self._obey(Set(setting=change.setting, value=change.new, who=change.who, undoes=change.undoes))
        for change in _due(state.origin.interventions, state.step):
            self._change(change, change.new, repeated=True)

    def _read(self) -> list[Command]:
        """What arrived since the last call. After the end, the inbox may be that of a process which resumed the run."""
        return [*self._read_console(), *([] if self.ended else self._inbox.read())]

    def _obey(self, command: Command) -> None:
        try:
            why = self._carry_out(command)
        except (NotFinite, MemoryError, RuntimeError) as error:  # the run fails: answer before its end
            self._answer(command, f"the run failed: {describe_error(error)}")
            raise
        self._answer(command, why)

    def _carry_out(self, command: Command) -> str:
        """Obey a command; returns why it was refused or failed, empty if it was obeyed."""
        trainer, why = self._trainer, ""
        match command:
            case commands.Sample() | commands.Explain() | commands.Attend() | commands.Neighbours():
                with nullcontext() if self.ended else trainer.phase("sampling"):
                    why = self._show(command)
            case _ if self.ended:
                why = RUN_ENDED
            case commands.Pause():
                self.pause(command.stays)
            case commands.Resume():
                self.paused = False
            case commands.Save():
                trainer.save([MANUAL.format(trainer.state.step)], recurring=False)
                why = trainer.checkpoints.why_unsaved
            case commands.Evaluate():
                trainer.report()
                counters = trainer.state.counters
                if counters.epoch_tokens and counters.evaluated != trainer.state.step:
                    if not trainer.state.config.pin_every:  # the prompts are answered at each evaluation
                        trainer.answer_pinned(recurring=False)
                    trainer.evaluate(recurring=False)
                else:
                    why = "nothing was trained since the last evaluation"
            case commands.Stop():
                trainer.stop()
                trainer.enter_phase("stopping")
            case Set():
                why = self._set(command)
            case commands.CancelSample():
                why = NO_SUCH_SAMPLE
        return why

    @property
    def _stop_requested(self) -> bool:
        """Whether the run is to stop, by a signal or by a command that waits. After its end, only the latter counts."""
        return (self._trainer.stopping and not self.ended) or super()._stop_requested

    # ---- settings ----

    def _set(self, command: Set) -> str:
        state = self._trainer.state
        try:
            config = changed_while_running(state.config, command.setting, command.value)
            if config.epochs < state.epoch:
                return f"epochs: epoch {state.epoch} is under way; {state.epoch} is the smallest total"
            if command.setting == "max_steps" and config.max_steps is not None and config.max_steps <= state.step:
                return f"max_steps: step {state.step} is done; {state.step + 1} is the smallest total"
            state.check_pinned(config.pin)
            if config != state.config:  # a change to the value that it has would be shown, and repeated elsewhere
                self._change(command, getattr(config, command.setting))
        except UserError as error:
            return str(error)
        except OSError as error:
            return describe_error(error)
        return ""

    def _change(self, change: Set | Intervention, value: Any, *, repeated: bool = False) -> None:
        """Change a setting as soon as the journal has the change on the disk, so that a resumed run can repeat it.

        After an OSError the setting is as it was; if the journal has the change, the refusal that is answered next
        undoes it. `repeated`: the journal has had it on the disk since before a kill.
        """
        trainer, state, setting = self._trainer, self._trainer.state, change.setting
        trainer.report()
        if not repeated:
            trainer.journal.sync()  # a full disk refuses here, before any user sees a change
        old, new = (to_dict(config)[setting] for config in (state.config, state.changed(setting, value)))
        made = Intervention(step=state.step, setting=setting, old=old, new=new, who=change.who, undoes=change.undoes)
        trainer.emit(made)
        if not repeated:
            trainer.journal.sync()
        state.change(setting, value)


def _due(changes: list[Intervention], step: int) -> list[Intervention]:
    """Take the changes of `step` and before out of a list in the order of their steps."""
    due = list(takewhile(lambda change: change.step <= step, changes))
    del changes[: len(due)]
    return due
