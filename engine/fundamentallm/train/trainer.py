"""The training loop.

- Decides *when*: step, report, evaluate, save, obey. How each is done lives elsewhere.
- Knows no screen, no file format and no device.
- Every way out of `Trainer.run` but a kill leaves a checkpoint that was read back, where the disk allowed it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from fundamentallm.config.config import changed_while_running
from fundamentallm.config.files import to_yaml
from fundamentallm.errors import UserError
from fundamentallm.run import commands, events
from fundamentallm.run.commands import Command
from fundamentallm.run.folder import BEST, CONFIG, FINAL, LAST, TOKENIZER, check_folder, write_atomic
from fundamentallm.run.journal import Inbox, Journal, size_of_journal
from fundamentallm.run.locks import ConsoleMonitor, RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import telling, trackers
from fundamentallm.train.checkpoints import EPOCH, HAND, CheckpointManager, names_without_this_state
from fundamentallm.train.control import answer
from fundamentallm.train.device import is_out_of_memory
from fundamentallm.train.evaluate import evaluate
from fundamentallm.train.health import Health, not_finite, out_of_memory
from fundamentallm.train.metrics import Metrics
from fundamentallm.train.schedule import learning_rate, warmup
from fundamentallm.train.state import FAITHFUL, build_state
from fundamentallm.train.step import NotFinite, TrainStep

TICK = 0.1  # seconds between two reports, at least


class Trainer:
    """One run, from its job to its end, by one process.

    Args:
        say: hears every event, after it was written to the journal.
        listen: the commands that arrived since it was last asked; must not wait.
    """

    def __init__(
        self, job: RunSpec, say: Callable[[events.Event], None], listen: Callable[[], Sequence[Command]]
    ) -> None:
        """
        Raises:
            UserError: the job cannot be done; the folder is as it was.
        """
        self._job, self._hear, self._listen = job, say, listen
        self.paused = self.stopping = False
        before = size_of_journal(job.folder)
        self.state = build_state(job)
        self._planned = list(self.state.interventions)
        self._health = Health(self.state.config, len(self.state.tokenizer))
        self._lock = RunLock(job.folder)
        try:
            check_folder(job.folder, may_hold_run=job.continues)  # another may have come and gone meanwhile
            if size_of_journal(job.folder) != before:
                raise UserError(f"{job.folder}: another process wrote it during start-up; run the command again")
            self._inbox = Inbox(job.folder)  # from here on the run can be told things
            self._journal = Journal(job.folder, self.state.counters.said if job.continues else 0)
            self._consoles = ConsoleMonitor(job.folder)
            self._saver = CheckpointManager(self.state, job.folder, self._journal, self._say)
            self._meter = Metrics(self.state.device)
            parts = self.state
            self._stepper = TrainStep(parts.model, parts.optimizer, parts.corpus, parts.config, parts.precision)
            self._seconds_before = parts.counters.seconds
            self._next_report = 0.0
            self._phase_now = "loading"
            # last: what cannot be done must not touch the curves of a run that somebody else is writing
            self._trackers = trackers.start(parts.config, job.folder, parts.counters.step, parts.notices.append)
        except BaseException as error:  # a signal too: whoever takes the folder back needs the lock
            self._lock.release()
            if isinstance(error, OSError):
                raise UserError(f"{job.folder}: {error.strerror}") from None
            raise

    def run(self) -> events.Finished | events.Failed:
        """Train to the end, and say how it ended."""
        try:
            self._begin()
            while (reason := self._end()) is None:
                self.step()
                if self._meter.full or time.monotonic() >= self._next_report:
                    self._report()
                if self._evaluation_due:
                    self._evaluate()
                elif self._saver.due:
                    self._save([LAST])
                self._change_again()
                self._obey(self._heard())
            return self._finish(reason)
        except NotFinite as error:
            return self.fail(f"step {self.state.counters.step + 1} was refused: {error}", not_finite(self.state.config))
        except OSError as error:
            return self.fail(f"{self._job.folder}: {error.strerror or error}", "")
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            self._stepper.forget_gradients()
            return self.fail("out of memory", out_of_memory(self.state.config, len(self.state.tokenizer)))

    def stop(self) -> None:
        """Finish the step under way, save, and return from `run`. Safe to call from a signal handler."""
        self.stopping = True

    def close(self) -> bool:
        """Give the run's directory free. Samples can still be asked for; they are not journaled.

        Returns:
            Whether the journal has all that was said.
        """
        for tracker in self._trackers:
            with suppress(Exception):
                tracker.close()
        self._trackers = []
        told = self._journal.close()
        self._lock.release()
        return told

    def answer_late(self, heard: Sequence[Command]) -> None:
        """Answer what can still be answered after the end."""
        for command in heard:
            if isinstance(command, commands.Sample):
                self.answer_late(self._answer_sample(command))
            else:
                self._answer(command, "the run has ended")

    # ---- the loop's parts, in the order in which they happen ----

    def _begin(self) -> None:
        parts, folder = self.state, self._job.folder
        write_atomic(folder / CONFIG, to_yaml(parts.config))
        write_atomic(folder / TOKENIZER, parts.tokenizer.to_json())
        self._say(telling.run_started(parts, self._job))
        for text in parts.notices:
            self._notice(text)
        for text in parts.warnings:
            self._notice(text, "warning")
        if short := self._saver.warn():
            self._notice(short, "warning")
        if missing := names_without_this_state(parts, self._job):
            self._save(missing)
        self._change_again()
        if parts.compiled:
            self._compile()
        self._enter_phase("training")
        self._meter.go()
        if self.state.counters.step and self.state.epoch_ended and self.state.counters.epoch_tokens:
            self._evaluate()  # the process before this one did not come to it

    def _compile(self) -> None:
        self._enter_phase("compiling")
        if why := self._stepper.compile(self.state.counters.step):
            self.state.compiled = False
            unlike = f"; {FAITHFUL}" if self.state.resumed_from else ""
            self._notice(f"the model is not compiled: {why}{unlike}", "warning")

    def _change_again(self) -> None:
        """The interventions of a process that was killed, each where it was."""
        while self._planned and self._planned[0].step <= self.state.counters.step:
            again = self._planned.pop(0)
            self._change(again.setting, again.new, again.who, known=True)

    def _end(self) -> str | None:
        """Why the run is over, if it is."""
        config, counters = self.state.config, self.state.counters
        if counters.step >= self.state.total_steps:
            return "completed"
        if config.early_stopping and counters.epochs_without_gain >= config.patience:
            return "patience"
        return "stopped" if self.stopping else None

    def step(self) -> None:
        parts, step = self.state, self.state.counters.step
        total, config = parts.total_steps, parts.config
        rising = warmup(total, config.warmup_steps)  # anew at each step: a run that goes on knows only what is now
        rate = learning_rate(step, total, config.learning_rate, config.lr_schedule, rising)
        loss, norm = self._stepper(step, rate)
        self.state.counters.step = step + 1
        self._meter.add(step + 1, loss, norm, rate, parts.corpus.real_rows(step) * parts.config.max_seq_len)

    def _report(self) -> None:
        """Say what the steps since the last report came to."""
        self._next_report = time.monotonic() + TICK
        if not self._meter.waiting:
            return
        parts, counters, columns = self.state, self.state.counters, self._meter.read()
        broken = columns.first_broken
        if broken is not None:  # a GPU: nothing has moved since
            counters.step = broken - 1
            columns = columns.before(broken)
        for loss, tokens in zip(columns.train_loss, columns.tokens, strict=True):
            counters.epoch_loss += loss * tokens
            counters.epoch_tokens += tokens
            counters.tokens += tokens
        if columns.step:
            self._say(telling.progress(parts, columns, self._meter))
        if broken is not None:
            raise NotFinite("the loss or its gradient is not finite")

    @property
    def _evaluation_due(self) -> bool:
        every = self.state.config.eval_every
        return self.state.epoch_ended or bool(every and self.state.counters.step % every == 0)

    def _evaluate(self) -> None:
        """Measure the validation loss, say it, and save what an epoch's end or a new best calls for."""
        self._report()
        parts, counters = self.state, self.state.counters
        with self.phase("evaluating", due=True):
            result = evaluate(parts.model, parts.corpus.val, parts.config.max_seq_len, parts.precision)
        ended, best = self.state.epoch_ended, counters.best_val_loss is None or result.loss < counters.best_val_loss
        counters.train_loss, counters.val_loss = counters.epoch_loss / counters.epoch_tokens, result.loss
        if best:
            counters.best_val_loss, counters.best_step, counters.best_epoch = result.loss, counters.step, parts.epoch
        counters.gained |= best
        if ended:
            counters.epochs_without_gain = 0 if counters.gained else counters.epochs_without_gain + 1
            counters.gained = False
        evaluated = telling.evaluated(parts, result, ended=ended, best=best)
        self._say(evaluated)
        for words in self._health.judge(evaluated):
            self._notice(words, "warning")
        disk = parts.best_on_disk  # not `best`: the last attempt to write it may have failed, or the run was rewound
        names = [BEST] if disk is None or result.loss < disk or (best and result.loss == disk) else []
        if ended:
            counters.epoch_loss, counters.epoch_tokens = 0.0, 0
            real_end = self._end() in ("completed", "patience")
            names = [LAST, EPOCH.format(self.state.epoch), *names, *([FINAL] if real_end else [])]
        elif self._saver.due:
            names = [LAST, *names]
        if names:
            self._save(names)

    def _save(self, names: list[str], *, due: bool = True) -> bool:
        self._report()
        self.state.counters.seconds = self._seconds_before + self._meter.seconds
        with self.phase("saving", due=due):
            return self._saver.save(names)

    def _obey(self, heard: Sequence[Command]) -> None:
        """Take commands; stand still here while paused."""
        for command in heard:
            self._take(command)
        if not self.paused or self.stopping:
            return
        self._report()
        with self.phase("paused"):
            while self.paused and not self.stopping:
                time.sleep(0.05)
                for command in self._heard():
                    self._take(command)
                if self._consoles.lost():
                    self._take(commands.Stop(who="its lost console"))

    def _heard(self) -> list[Command]:
        """What was said since the last time, by the console that started the run and by others."""
        return [*self._listen(), *self._inbox.read()]

    def _take(self, command: Command) -> None:
        match command:
            case commands.Pause():
                self.paused = True
                self._consoles.begin_pause(command.stays)
            case commands.Resume():
                self.paused = False
            case commands.Stop():
                self.stopping = True
                self._enter_phase("stopping")
            case commands.Save():
                self._save([HAND.format(self.state.counters.step)], due=False)
                return self._answer(command, self._saver.unsaved)
            case commands.Sample():
                return self._sample(command)
            case commands.Set():
                return self._answer(command, self._set(command))
            case _:
                return self._answer(command, "there is no such sample under way")
        self._answer(command)

    def _set(self, command: commands.Set) -> str:
        """Change a setting; returns why not, or nothing."""
        try:
            config = changed_while_running(self.state.config, command.setting, command.value)
            if config.epochs < self.state.epoch:
                return f"epochs: epoch {self.state.epoch} is under way; {self.state.epoch} is the least"
            self._change(command.setting, getattr(config, command.setting), command.who)
        except (UserError, OSError) as error:
            return str(error)
        return ""

    def _change(self, name: str, value: Any, who: str, *, known: bool = False) -> None:
        """An intervention: on the disk before it takes effect, so that it can be made again. `known`: it is there."""
        self._report()
        if not known:
            self._journal.sync()  # a disk that is full says so before anything is told
        old = getattr(self.state.config, name)
        self._say(events.Intervention(step=self.state.step, setting=name, old=old, new=value, who=who))
        if not known:
            self._journal.sync()
        self.state.config = self._stepper.config = replace(self.state.config, **{name: value})

    def _sample(self, command: commands.Sample) -> None:
        with self.phase("sampling"):
            later = self._answer_sample(command)
        for other in later:
            self._take(other)

    def _answer_sample(self, command: commands.Sample) -> list[Command]:
        parts, later, why = self.state, [], ""
        try:
            step, stopped = self.state.counters.step, lambda: self.stopping
            later = answer(command, parts.model, parts.tokenizer, step, self._say, self._heard, stopped)
        except UserError as error:
            why = str(error)
        except (RuntimeError, MemoryError) as error:  # no room for the cache, say: the run goes on
            why = f"the sample broke off: {str(error).partition(chr(10))[0] or 'out of memory'}"
        self._answer(command, why)
        return later

    def _finish(self, reason: str) -> events.Finished:
        wanted = [LAST] if reason == "stopped" else [LAST, FINAL]
        missing = [name for name in (*wanted, *self._saver.owed) if not self._saver.has(name)]
        unsaved = "" if not missing or self._save(missing) else self._saver.unsaved
        self._meter.halt()
        if reason == "patience":
            self._notice(f"stopped early: no improvement in {self.state.counters.epochs_without_gain} epochs")
        counters, folder = self.state.counters, self._job.folder
        counters.seconds = self._seconds_before + self._meter.seconds
        name = next((name for name in (BEST, LAST) if (folder / name).is_file()), None)
        finished = telling.finished(self.state, reason, name, unsaved or self._journal.settle())
        self._say(finished)
        return finished

    def fail(self, error: str, advice: str) -> events.Failed:
        """Save the last good state and say what happened."""
        sound = not self._stepper.moving
        try:
            self._report()
        except NotFinite:
            pass
        except RuntimeError:  # a GPU that is gone: its numbers cannot be read, and neither can its weights
            sound = False
        if sound and self.state.counters.step and not self._saver.has(LAST):
            self._saver.save([LAST])
        saved = LAST if (self._job.folder / LAST).is_file() else None
        failed = events.Failed(step=self.state.step, error=error, advice=advice, saved=saved)
        self._say(failed)
        return failed

    # ---- words ----

    @contextmanager
    def phase(self, phase: str, *, due: bool = False) -> Iterator[None]:
        """Something other than stepping: the clock of the steps stands still, the phase is said. `due`: steps to come
        will call for it, too."""
        outer = self._phase_now
        self._meter.halt()
        self._enter_phase(phase)
        began = time.monotonic()
        yield
        if due:
            self._meter.add_between(time.monotonic() - began)
        self._enter_phase("stopping" if self.stopping else outer)
        if outer == "training":
            self._meter.go()

    def _enter_phase(self, name: str) -> None:
        self._phase_now = name
        self._say(events.Phase(step=self.state.step, phase=name))

    def _answer(self, command: Command, why: str = "") -> None:
        name = commands.NAMES[type(command)]
        self._say(
            events.Answered(step=self.state.step, id=command.id, command=name, ok=not why, why=why, who=command.who)
        )

    def _notice(self, text: str, level: str = "info") -> None:
        self._say(events.Notice(step=self.state.step, level=level, text=text))

    def _say(self, event: events.Event) -> None:
        stamped = self._journal.append(event)
        self._hear(stamped)
        for tracker in list(self._trackers):
            try:
                tracker.on_event(stamped)
            except Exception as error:  # a stranger's program: its trouble is not the run's
                self._trackers.remove(tracker)
                self._notice(f"{type(tracker).__name__} is off, training goes on: {error}", "warning")
