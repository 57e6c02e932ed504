"""Obeys the commands that reach a run: pause, resume, save, stop, set, sample, cancel.

- The trainer calls `obey` between two steps, so a command never meets a half-finished update.
- Commands are obeyed one at a time, in the order in which they arrived, and each is answered exactly once. Only the
  cancel of a sample overtakes others.
- None of this touches what a step depends on, but a setting that is changed on purpose.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fundamentallm.config.config import changed_while_running
from fundamentallm.errors import UserError
from fundamentallm.model.generate import stream
from fundamentallm.run.commands import NAMES, CancelSample, Command, Pause, Resume, Sample, Save, Set, Stop
from fundamentallm.run.events import Answered, Intervention, Sampled
from fundamentallm.run.journal import Inbox
from fundamentallm.run.locks import ConsoleMonitor
from fundamentallm.train.checkpoints import MANUAL

if TYPE_CHECKING:
    from fundamentallm.train.trainer import Trainer

POLL_INTERVAL = 0.05  # seconds between two looks for commands while a run is paused
PIECE_SECONDS = 0.05  # of text in one event of a sample
MAX_SAMPLE_TOKENS = 100_000
MAX_PROMPT_CHARS = 65_536  # no context is longer


class Control:
    """Takes commands from the console that started the run and from the run's inbox, and obeys them.

    Args:
        read_commands: returns the commands that arrived from that console since the last call; must not wait.
    """

    def __init__(self, trainer: "Trainer", folder: Path, read_commands: Callable[[], Sequence[Command]]) -> None:
        self._trainer, self._read_commands = trainer, read_commands
        self._inbox, self._consoles = Inbox(folder), ConsoleMonitor(folder)
        self._queue: deque[Command] = deque()
        self._sampling: Sample | None = None  # the sample that is being written
        self._cancelled = False
        self.paused = self.ended = False

    def obey(self) -> None:
        """Obey what arrived since the last call; while the run is paused, wait here."""
        self.repeat_interventions()
        self._receive(self.read())
        self._obey_queue()
        if not self.paused or self._trainer.stopping:
            return
        self._trainer.report()
        with self._trainer.phase("paused"):
            while self.paused and not self._trainer.stopping:
                time.sleep(POLL_INTERVAL)
                self._receive(self.read())
                self._obey_queue()
                if self._consoles.lost():
                    self._obey(Stop(who="its lost console"))

    def obey_late(self, commands: Iterable[Command]) -> None:
        """After the end of the run: write samples still; refuse everything else."""
        self._receive(commands)
        self._obey_queue()

    def repeat_interventions(self) -> None:
        """Repeat the changes that users made before the run's last process was killed, each at its step."""
        planned = self._trainer.state.origin.interventions
        while planned and planned[0].step <= self._trainer.state.step:
            change = planned.pop(0)
            self._change(change.setting, change.new, change.who, in_journal=True)

    def read(self) -> list[Command]:
        """What arrived since the last call. After the end, the inbox may be that of a process which resumed the run."""
        return [*self._read_commands(), *([] if self.ended else self._inbox.read())]

    def _obey_queue(self) -> None:
        while self._queue:
            self._obey(self._queue.popleft())

    def _obey(self, command: Command) -> None:
        trainer, why = self._trainer, ""
        match command:
            case Sample():
                with nullcontext() if self.ended else trainer.phase("sampling"):
                    why = self._sample(command)
            case _ if self.ended:
                why = "the run has ended"
            case Pause():
                self.paused = True
                self._consoles.begin_pause(command.stays)
            case Resume():
                self.paused = False
            case Save():
                trainer.save([MANUAL.format(trainer.state.step)], recurring=False)
                why = trainer.checkpoints.why_unsaved
            case Stop():
                trainer.stop()
                trainer.enter_phase("stopping")
            case Set():
                why = self._set(command)
            case CancelSample():
                why = "there is no such sample under way"
        self._answer(command, why)

    def _answer(self, command: Command, why: str = "") -> None:
        """`why` it was refused or failed; empty if it was obeyed."""
        step, name = self._trainer.state.step, NAMES[type(command)]
        self._trainer.emit(Answered(step=step, id=command.id, command=name, ok=not why, why=why, who=command.who))

    # ---- settings ----

    def _set(self, command: Set) -> str:
        state = self._trainer.state
        try:
            config = changed_while_running(state.config, command.setting, command.value)
            if config.epochs < state.epoch:
                return f"epochs: epoch {state.epoch} is under way; {state.epoch} is the smallest total"
            if command.setting == "max_steps" and config.max_steps is not None and config.max_steps <= state.step:
                return f"max_steps: step {state.step} is done; {state.step + 1} is the smallest total"
            self._change(command.setting, getattr(config, command.setting), command.who)
        except (UserError, OSError) as error:
            return str(error)
        return ""

    def _change(self, setting: str, value: Any, who: str, *, in_journal: bool = False) -> None:
        """Change a setting once that is on the disk, so that a resumed run can repeat it; else OSError, unchanged."""
        trainer, state = self._trainer, self._trainer.state
        trainer.report()
        if not in_journal:
            trainer.journal.sync()  # a full disk refuses here, before anybody is shown a change
        old = getattr(state.config, setting)
        trainer.emit(Intervention(step=state.step, setting=setting, old=old, new=value, who=who))
        if not in_journal:
            trainer.journal.sync()
        state.change(setting, value)

    # ---- samples ----

    def _receive(self, commands: Iterable[Command]) -> None:
        """Put commands into the queue, but obey a cancel at once: of the sample under way, or of one in the queue."""
        for command in commands:
            sample = self._find_sample(command.sample) if isinstance(command, CancelSample) else None
            if sample is None:
                self._queue.append(command)
                continue
            if sample is self._sampling:
                self._cancelled = True
            else:
                self._queue.remove(sample)
                self._emit_piece(sample, "", [], done=True)
                self._answer(sample)
            self._answer(command)

    def _find_sample(self, id: str) -> Sample | None:
        for command in (self._sampling, *self._queue):
            if isinstance(command, Sample) and command.id == id:
                return command
        return None

    def _sample(self, command: Sample) -> str:
        """Emit a sample piece by piece, to its end, a cancel or a stop. Returns why it failed; empty if it did not."""
        self._sampling, self._cancelled = command, False
        try:
            self._stream(command)
        except UserError as error:
            return str(error)
        except (RuntimeError, MemoryError) as error:  # such as no memory for the cache: the run continues
            return f"the sample broke off: {str(error).partition(chr(10))[0] or 'out of memory'}"
        finally:
            self._sampling = None
        return ""

    def _stream(self, command: Sample) -> None:
        if len(command.prompt) > MAX_PROMPT_CHARS:
            raise UserError(f"the prompt has {len(command.prompt):,} characters; {MAX_PROMPT_CHARS:,} are the most")
        state = self._trainer.state
        prompt = state.tokenizer.encode_prompt(command.prompt)
        max_tokens, temperature = min(command.max_tokens, MAX_SAMPLE_TOKENS), max(0.0, command.temperature)
        top_k = max(0, command.top_k)
        options = replace(command, max_tokens=max_tokens, temperature=temperature, top_k=top_k, num_samples=1)
        text, probabilities, piece_began = "", [], time.monotonic()
        for token, probability in stream(state.model, prompt, options):
            text += state.tokenizer.decode([token])
            probabilities.append(round(probability, 4))
            if time.monotonic() - piece_began < PIECE_SECONDS:
                continue
            self._emit_piece(command, text, probabilities)
            text, probabilities, piece_began = "", [], time.monotonic()
            self._receive(self.read())
            if self._cancelled or self._stop_requested:
                break
        self._emit_piece(command, text, probabilities, done=True)

    @property
    def _stop_requested(self) -> bool:
        """Whether the run is to stop, by a signal or by a command that waits. After its end, only the latter counts."""
        by_signal = self._trainer.stopping and not self.ended
        return by_signal or any(isinstance(command, Stop) for command in self._queue)

    def _emit_piece(self, sample: Sample, text: str, probabilities: list[float], done: bool = False) -> None:
        step, columns = self._trainer.state.step, tuple(probabilities)
        self._trainer.emit(
            Sampled(step=step, id=sample.id, prompt=sample.prompt, text=text, probabilities=columns, done=done)
        )
