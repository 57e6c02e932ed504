"""The training loop.

- Decides when the run steps, reports, evaluates, saves and obeys. Other modules decide how each of these is done.
- Does not depend on a screen, on the format of a file, or on a kind of device.
- However `Trainer.run` ends, unless the process is killed or the disk refuses, it leaves a checkpoint of its last valid
  state, which was read back after it was written.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile

import torch

from fundamentallm import __version__
from fundamentallm.config.advice import advise
from fundamentallm.config.config import to_dict
from fundamentallm.config.files import to_yaml
from fundamentallm.config.format import format_count
from fundamentallm.errors import UserError, describe_error
from fundamentallm.run import events
from fundamentallm.run.commands import Command
from fundamentallm.run.folder import BEST, CONFIG, LAST, TOKENIZER, check_folder, holds_run, write_atomic
from fundamentallm.run.health import Verdict, assess_epoch
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import Journal, size_of_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm.run.speed import remember_speed
from fundamentallm.train import distributed, trackers
from fundamentallm.train.checkpoint import refuse_newer
from fundamentallm.train.checkpoints import CheckpointManager
from fundamentallm.train.control import Control
from fundamentallm.train.device import is_out_of_memory, memory_in_use
from fundamentallm.train.evaluate import evaluate
from fundamentallm.train.metrics import Metrics, NotFinite
from fundamentallm.train.samples import answer_pinned
from fundamentallm.train.state import NOT_SAME_BITS, build_state
from fundamentallm.train.step import TrainStep

PLANNED = ("step", "setting", "new", "who", "undoes")  # what the journal keeps of a change that is still to be made
MEASURED_SECONDS = 20.0  # of training, after which its speed is kept for estimates
REPORT_INTERVAL = 0.1  # seconds between two Progress events, at least


class Trainer:
    """Trains one run, from its spec to its end, in this process.

    Args:
        on_event: is called with every event, after it was written to the journal.
        read_commands: returns the commands that arrived since the last call; must not wait.
    """

    def __init__(
        self, spec: RunSpec, on_event: Callable[[events.Event], None], read_commands: Callable[[], Sequence[Command]]
    ) -> None:
        """Prepare the run, up to its first step. After a UserError its folder is as it was."""
        self.spec, self._on_event = spec, on_event
        self.stopping = False
        journal_size = size_of_journal(spec.folder)
        self.state = build_state(spec, say=self._say_loading)
        trackers.check(self.state.config.track)
        self._lock = RunLock(spec.folder)
        try:
            resumes = spec.continues and (holds_run(spec.folder) or self.state.origin.checkpoint is not None)
            check_folder(spec.folder, may_hold_run=resumes)  # again: it may have changed since the first check
            refuse_newer(spec.folder)
            if size_of_journal(spec.folder) != journal_size:
                raise UserError(f"{spec.folder}: another process wrote it during start-up; run the command again")
            self.control = Control(self, spec.folder, read_commands)  # from here on commands reach the run
            if spec.agent_began is not None and self.state.history.paused_at > spec.agent_began:
                self.control.pause()
                self.state.origin.notices.append("the run is paused, as it was when a process was lost")
            self.journal = Journal(spec.folder, self.state.counters.said if spec.continues else 0)
            self.checkpoints = CheckpointManager(self.state, spec, self.journal, self.emit, self.restore_folder)
            self.metrics = Metrics(self.state.device)
            self._take_step = TrainStep(self.state)
            self._seconds_before = self.state.counters.seconds
            self._next_report = 0.0
            self.current_phase = "loading"
            # After everything that can fail: trackers cut the run's curves at this step, and a start that fails must
            # leave those of a run that another process is writing alone.
            origin = self.state.origin
            self._trackers = trackers.start(self.state.config, spec.folder, self.state.step, origin.notices.append)
        except BaseException as error:  # a signal, too: whoever cleans up the folder needs the lock
            self._lock.release()
            if isinstance(error, OSError):
                raise UserError(f"{spec.folder}: {describe_error(error)}") from None
            raise

    def run(self) -> events.Finished | events.Failed:
        """Train to the end. Returns how it ended."""
        try:
            self._begin()
            while (reason := self.state.end_reason or ("stopped" if self.stopping else None)) is None:
                self.step()
                if self.metrics.full or time.monotonic() >= self._next_report:
                    self.report()
                if self.state.pinned_due:  # before the save: a run that is resumed from it has the answers
                    self.answer_pinned()
                if self.state.evaluation_due:
                    self.evaluate()
                elif self.checkpoints.due:
                    self.save([LAST])
                self.control.obey()
            return self._finish(reason)
        except NotFinite as error:
            advice = advise("diverged", self.state.config)
            return self.fail(f"step {self.state.step + 1} was refused: {error}", events.NOT_FINITE, advice)
        except OSError as error:
            return self.fail(f"{self.spec.folder}: {describe_error(error)}", events.DISK)
        except (MemoryError, RuntimeError) as error:
            if distributed.is_lost(error):
                return self.fail(distributed.describe_loss(error), events.PROCESS)
            if not is_out_of_memory(error):
                raise
            self._take_step.discard_gradients()
            return self.fail("out of memory", events.OUT_OF_MEMORY, self.state.advise_out_of_memory())

    def stop(self) -> None:
        """Make `run` finish the step under way, save, and return. Safe to call from a signal handler."""
        self.stopping = True

    def close(self) -> bool:
        """Release the run's folder, and return whether the journal has every event.

        Samples can still be asked for, by `control.obey_commands`; they are not journaled.
        """
        for tracker in self._trackers:
            trackers.close(tracker)
        self._trackers = []
        self.control.ended = True
        complete = self.journal.close()
        self._lock.release()
        return complete

    # ---- the parts of the loop, in the order in which they happen ----

    def _begin(self) -> None:
        state, folder = self.state, self.spec.folder
        write_atomic(folder / CONFIG, to_yaml(state.config))
        write_atomic(folder / TOKENIZER, state.tokenizer.to_json())
        self._emit_start()
        self._verdict = self._judge_epoch()  # of a resumed run: what its journal has announced is not repeated
        for text in state.origin.notices:
            self._notice(text)
        for text in state.origin.warnings:
            self._notice(text, "warning")
        if lack := self.checkpoints.describe_lack_of_space():
            self._notice(lack, "warning")
        if names := self.checkpoints.names_at_start():
            self.save(names)
        self.control.repeat_interventions()
        if state.compiled:
            self._compile()
        if self.control.paused:  # before the phase "training": a run that loses a process now must come back paused
            self.control.obey()
        if self.stopping:
            return
        self.enter_phase("training")
        self.metrics.start_clock()
        if state.evaluation_missing:
            self.evaluate()

    def _compile(self) -> None:
        self.enter_phase("compiling")
        if why := self._take_step.compile(self.state.step):
            self.state.compiled = False
            unlike = f"; {NOT_SAME_BITS}" if self.state.origin.checkpoint else ""
            self._notice(f"the model is not compiled: {why}{unlike}", "warning")

    def step(self) -> None:
        """Take the next optimizer step."""
        with distributed.leading(self.state.step, self.state.config) as asked_to_stop:
            result = self._take_step(self.state.step)
        self.stopping |= asked_to_stop
        self.state.counters.step += 1
        self.metrics.add(self.state.step, result)
        if self._take_step.inspected is not None:
            self.report()
            self.emit(self._take_step.inspected)

    def report(self) -> None:
        """Emit the losses of the steps since the last report.

        A NotFinite says that one is infinite or NaN. The weights have not moved since the step before it.
        """
        self._next_report = time.monotonic() + REPORT_INTERVAL
        if not self.metrics.unread:
            return
        state, read = self.state, self.metrics.read()
        steps = list(takewhile(lambda step: step.is_finite, read))
        broken = len(steps) < len(read)  # on a GPU only: on the CPU the step itself raises
        if broken:
            state.counters.step = read[len(steps)].step - 1
        state.count_steps(steps)
        if steps:
            numbers, train_loss, learning_rate, grad_norm, _ = zip(*steps, strict=True)
            self.emit(events.Progress(
                step=numbers, train_loss=train_loss, learning_rate=learning_rate, grad_norm=grad_norm,
                epoch=state.epoch, tokens=state.counters.tokens, tokens_per_second=self.metrics.tokens_per_second,
                eta_seconds=self.metrics.eta(state.total_steps - state.step), memory_bytes=memory_in_use(state.device),
            ))  # fmt: skip
        if broken:
            raise NotFinite("the loss or its gradient is not finite")

    def evaluate(self, *, recurring: bool = True) -> None:
        """Measure the validation loss, emit it, and save what the end of an epoch or a new best calls for."""
        self.report()
        state = self.state
        with self.phase("evaluating", recurring=recurring):
            corpus, length = state.corpus, state.config.max_seq_len
            result = evaluate(state.model, corpus.val, length, state.precision, corpus.encoded.release)
        best = state.count_evaluation(result.loss)
        train_loss = state.counters.train_loss
        assert train_loss is not None
        self.emit(events.Evaluated(
            step=state.step, epoch=state.epoch, train_loss=train_loss, val_loss=result.loss,
            perplexity=result.perplexity, epoch_ended=state.epoch_ended, best=best,
            bits_per_byte=result.bits_per(state.tokenizer.sizes),
        ))  # fmt: skip
        if state.epoch_ended:
            before, self._verdict = self._verdict, self._judge_epoch()
            if self._verdict.is_warning and self._verdict.kind != before.kind:
                self._notice(self._verdict.sentence, "warning")
        if names := self.checkpoints.names_after_evaluation(best=best):
            self.save(names)

    def answer_pinned(self, *, recurring: bool = True) -> None:
        """Emit the answers to the pinned prompts. One that cannot be given is reported, and training goes on."""
        if not self.state.config.pin:
            return
        self.report()
        with self.phase("sampling", recurring=recurring):
            for prompt in self.state.config.pin:
                if self.stopping:
                    return
                try:
                    self.emit(answer_pinned(self.state, prompt))
                except (MemoryError, RuntimeError) as error:  # such as no memory for the cache
                    self._notice(f"pinned prompt {prompt[:40]!r}: {describe_error(error)}", "warning")

    def save(self, names: list[str], *, recurring: bool = True) -> bool:
        """Save the state under `names`; returns whether all were saved. `recurring` is explained at `phase`."""
        self.report()
        self._count_seconds()
        with self.phase("saving", recurring=recurring):
            return self.checkpoints.save(names)

    def restore_folder(self) -> None:
        """Make the run's folder again if it was deleted while the run trains, with what is in memory.

        An OSError says that it cannot be made, holds another run, or has another name now.
        """
        folder, state = self.spec.folder, self.state
        if not self.journal.is_deleted:
            if not (self.journal.is_in(folder) or self._lock.is_in(folder)):  # it may be another run's by now
                raise OSError(f"the run's folder is no longer at {folder}; move it back")
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not self._lock.is_in(folder):
            self._lock.release()
            try:
                check_folder(folder, may_hold_run=False)
                self._lock = RunLock(folder)
            except UserError as error:
                raise OSError(str(error)) from None
        self.checkpoints.forget_deleted()
        self.journal.begin_again(state.history.to_events())
        self.control.had_console = False  # a console that watches a paused run has a lock of the old journal only
        write_atomic(folder / CONFIG, to_yaml(state.config))
        write_atomic(folder / TOKENIZER, state.tokenizer.to_json())
        lost = f"earlier checkpoints and the losses before step {state.step} are gone"
        self._notice(f"{folder} was deleted and is made again: {lost}", "warning")

    def _finish(self, reason: str) -> events.Finished:
        """Save what is not saved yet and emit how the run ended: "completed", "patience" or "stopped"."""
        state, counters, folder = self.state, self.state.counters, self.spec.folder
        missing = self.checkpoints.names_at_end(stopped=reason == "stopped")
        unsaved = "" if not missing or self.save(missing) else self.checkpoints.why_unsaved
        self.metrics.stop_clock()
        if self.metrics.seconds >= MEASURED_SECONDS:
            remember_speed(state.config, state.size.parameters, self.metrics.mean_tokens_per_second)
        if reason == "patience":
            self._notice(f"stopped early: no improvement in {format_count(counters.epochs_without_gain, 'epoch')}")
        if reason != "stopped" and (late := state.origin.planned):
            left_out = f"left out {format_count(len(late), 'change')} of the other run, at step {late[0].step} or later"
            self._notice(f"{left_out}: this run ended at step {state.step}", "warning")
        self._count_seconds()
        try:
            self.restore_folder()
        except OSError as error:
            unsaved = unsaved or str(error)
        best = state.history.best
        path = next((name for name in (BEST, LAST) if os.path.isfile(folder / name)), None)
        finished = events.Finished(
            step=state.step, reason=reason, epoch=state.epoch, train_loss=counters.train_loss,
            val_loss=counters.val_loss, best_val_loss=best.val_loss if best else None,
            best_step=best.step if best else None,
            best_epoch=best.epoch if best else None, seconds=round(counters.seconds, 1), tokens=counters.tokens,
            path=path, unsaved=unsaved or self.journal.settle(),
        )  # fmt: skip
        self.emit(finished)
        return finished

    def fail(self, error: str, cause: str, advice: str = "") -> events.Failed:
        """Save the last good state and emit what happened; `cause` is one of those of `events.Failed`."""
        valid = not self._take_step.updating  # a half-finished update left weights that are neither old nor new
        try:
            self.report()
        except NotFinite:
            pass
        except RuntimeError:  # the GPU is lost: neither its numbers nor its weights can be read
            valid = False
        if valid and self.state.step and not self.checkpoints.has(LAST):
            self._count_seconds()
            self.checkpoints.save([LAST])
        saved = LAST if os.path.isfile(self.spec.folder / LAST) else None
        failed = events.Failed(step=self.state.step, error=error, advice=advice, saved=saved, cause=cause)
        self.emit(failed)
        return failed

    def _count_seconds(self) -> None:
        self.state.counters.seconds = self._seconds_before + self.metrics.seconds

    # ---- what the run is doing, and who is notified ----

    @contextmanager
    def phase(self, name: str, *, recurring: bool = False) -> Iterator[None]:
        """Do something other than stepping: the clock of the steps stands still, the phase is emitted.

        `recurring`: the steps to come will need the same, so its time counts for the estimate of the time left.
        """
        outer = self.current_phase
        self.metrics.stop_clock()
        self.enter_phase(name)
        began = time.monotonic()
        yield
        if recurring:
            self.metrics.add_recurring(time.monotonic() - began)
        self.enter_phase("stopping" if self.stopping else outer)
        if outer == "training":
            self.metrics.start_clock()

    def enter_phase(self, name: str) -> None:
        """Emit what the run is doing from now on."""
        self.current_phase = name
        self.emit(events.Phase(step=self.state.step, phase=name))

    def emit(self, event: events.Event) -> None:
        """Write an event to the journal, then show it to everybody who watches the run."""
        stamped = self.journal.append(event)
        self.state.history.apply(stamped)
        self._on_event(stamped)
        for tracker in list(self._trackers):
            try:
                tracker.on_event(stamped)
            except Exception as error:  # another program: its faults must not end the run
                self._trackers.remove(tracker)
                trackers.close(tracker)
                self._notice(f"{trackers.title(tracker)} is off, training continues: {error}", "warning")

    def _notice(self, text: str, level: str = "info") -> None:
        self.emit(events.Notice(step=self.state.step, level=level, text=text))

    def _say_loading(self, text: str) -> None:
        """Show how far the reading of a long text is; there is no journal yet that could keep it."""
        self._on_event(events.Notice(time=time.time(), step=0, level="info", text=text))

    def _judge_epoch(self) -> Verdict:
        return assess_epoch(self.state.history, self.state.config, len(self.state.tokenizer))

    def _preset(self) -> str:
        """The preset that the run comes from; when it is resumed, as its first start named it."""
        checkpoint = self.state.origin.checkpoint
        if checkpoint is None:
            return self.spec.preset
        started = self.state.history.started
        if started is None:  # the checkpoint is another run's
            with suppress(UserError):
                started = read_history(checkpoint.parent, steps=False).started
        return started.preset if started is not None else ""

    def _emit_start(self) -> None:
        state, origin, config = self.state, self.state.origin, to_dict(self.state.config)
        planned = ({name: getattr(change, name) for name in PLANNED} for change in origin.planned)
        self.emit(events.RunStarted(
            step=state.step, version=__version__, config=config,
            parameters=state.size.parameters, vocab_size=len(state.tokenizer),
            steps_per_epoch=state.corpus.steps_per_epoch, total_steps=state.total_steps, device=str(state.device),
            threads=torch.get_num_threads(), torch=str(torch.__version__), pid=os.getpid(), host=socket.gethostname(),
            resumed_from=str(origin.checkpoint) if origin.checkpoint else None, recovered=self.spec.auto,
            changes={name: config[name] for name in origin.changes}, preset=self._preset(),
            initialised_from=str(origin.weights) if origin.weights else None, fingerprint=state.fingerprint,
            train_tokens=len(state.corpus.train), planned=tuple(planned),
            processes=distributed.size(),
        ))  # fmt: skip
