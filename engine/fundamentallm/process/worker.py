"""A process that trains, or writes samples, for a console: obeys commands, emits events, prints nothing.

- Its first act, before torch is imported, is to send everything printed to engine.log: a warning of a C library would
  land in the middle of the console's screen.
- It never waits for its console: an event that the queue does not take is dropped there and stays in the journal.
- It outlives its console; after the end of the run it stays only while its console may still ask for samples.
"""

import multiprocessing
import os
import queue
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fundamentallm.config.config import Config
from fundamentallm.errors import NothingToDo, UserError, describe_error, describe_fault
from fundamentallm.process.prepare import take_back
from fundamentallm.process.system import obeyed
from fundamentallm.run.commands import Command, Stop
from fundamentallm.run.events import FAULT, Event, Failed
from fundamentallm.run.folder import ENGINE_LOG
from fundamentallm.run.journal import unshare
from fundamentallm.run.range_test import STEPS, Point, Suggestion, suggest
from fundamentallm.run.spec import RunSpec
from fundamentallm.untrusted import open_for_writing

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

    from fundamentallm.train.trainer import Trainer

NICENESS = 5
DRAIN_SECONDS = 0.2  # for what is still on its way to the console when the worker ends
BUG = "this is a fault of the program; engine.log has the details"


def main(spec: RunSpec, events: "Queue[Event]", commands: "Queue[Command | None]") -> None:
    """Train a run, then answer questions while the console stays. Exits with a status as `fundamentallm train` does."""
    events.cancel_join_thread()  # the exit of this process does not wait until somebody reads them

    def emit(event: Event) -> None:
        with suppress(queue.Full):  # the reader sees the gap in `seq` and reads the journal
            events.put_nowait(event)

    log = spec.folder / ENGINE_LOG
    try:
        unshare(log)
        _detach(open_for_writing(log, os.O_APPEND))
    except OSError as error:
        _detach(os.open(os.devnull, os.O_WRONLY))
        emit(Failed(time=time.time(), step=0, error=f"{log}: {describe_error(error)}"))
        return _exit(1)
    from fundamentallm.train.trainer import Trainer  # which may print what it likes from here on

    inbox = CommandQueue(commands)
    try:
        trainer = Trainer(spec, emit, inbox.poll)
    except UserError as error:
        take_back(spec.folder, [spec.folder])
        emit(Failed(time=time.time(), step=0, error=str(error)))
        return _exit(0 if spec.auto and isinstance(error, NothingToDo) else 1)
    except Exception as error:
        traceback.print_exc()
        emit(Failed(time=time.time(), step=0, error=f"{describe_fault(error)}; {BUG}", cause=FAULT))
        return _exit(1)
    inbox.trainer = trainer
    with obeyed(lambda _: trainer.stop(), signal.SIGINT, signal.SIGTERM) as received:
        try:
            end = trainer.run()
        except Exception as error:
            traceback.print_exc()
            end = trainer.fail(f"{describe_fault(error)}; {BUG}", FAULT)
        complete = trainer.close()
    failed = isinstance(end, Failed) or end.unsaved or not complete
    while inbox.open:
        trainer.control.obey_commands(inbox.poll(timeout=0.25))
    _exit(1 if failed else 128 + received[0] if received else 0)


def write_samples(checkpoint: Path, events: "Queue[Event]", commands: "Queue[Command | None]") -> None:
    """Write samples with the model of a checkpoint while the console stays that asks for them. Writes no file."""

    def prepare(emit: Callable[[object], None], inbox: CommandQueue) -> Callable[[list[Command]], None]:
        from fundamentallm.train.loaded import load
        from fundamentallm.train.samples import SampleControl

        return SampleControl(load(checkpoint), emit, inbox.poll).obey_commands

    _assist(prepare, events, commands)


def find_rate(config: Config, points: "Queue[Point | Suggestion | Failed]", commands: "Queue[Command | None]") -> None:
    """Make a range test of a new model for the console that asked for it, and report each step. Writes no run."""

    def prepare(emit: Callable[[object], None], inbox: CommandQueue) -> Callable[[list[Command]], None]:
        from fundamentallm.train.find_rate import range_test

        found = []
        for point in range_test(config, STEPS):
            found.append(point)
            emit(point)
        emit(suggest(found))
        return lambda _: None

    _assist(prepare, points, commands)


def _assist(
    prepare: Callable[[Callable[[object], None], "CommandQueue"], Callable[[list[Command]], None]],
    events: "Queue[Any]",
    commands: "Queue[Command | None]",
) -> None:
    """Do what is no run: `prepare` it, then let what that returns obey commands while the console stays."""
    _detach(os.open(os.devnull, os.O_WRONLY))
    events.cancel_join_thread()
    inbox = CommandQueue(commands)

    def emit(event: object) -> None:
        while inbox.open:  # no journal could fill a gap, so an event waits for the console to take those before it
            with suppress(queue.Full):
                return events.put(event, timeout=0.25)
        _exit(0)  # nobody wants it any more

    try:
        obey = prepare(emit, inbox)
    except Exception as error:
        emit(Failed(step=0, error=str(error) if isinstance(error, UserError) else describe_fault(error)))
        return _exit(1)
    while inbox.open:
        obey(inbox.poll(timeout=0.25))
    _exit(0)


class CommandQueue:
    """The commands of the console that started the worker, and whether that console is still there."""

    def __init__(self, commands: "Queue[Command | None]") -> None:
        self._commands, self._console = commands, multiprocessing.parent_process()
        self._closed = self._lost = False
        self.trainer: Trainer | None = None  # once there is one, it is notified when the console is lost

    @property
    def open(self) -> bool:
        """Whether another command may come: the console neither closed the queue nor died."""
        return not self._closed and self._console is not None and self._console.is_alive()

    def poll(self, timeout: float = 0.0) -> list[Command]:
        """Return the commands since the last call; waits up to `timeout` seconds for the first.

        If the console ends without closing the queue, a run with `on_console_loss: stop` gets a Stop. The console
        closes it when the user leaves the run.
        """
        received: list[Command] = []
        with suppress(queue.Empty):
            while True:
                command = self._commands.get(timeout=0.0 if received else timeout)
                if command is None:
                    self._closed = True
                else:
                    received.append(command)
        if self.trainer is not None and not self.open and not self._lost:
            self._lost = True  # say it once: another console may watch the run from now on
            if not self._closed and self.trainer.state.config.on_console_loss == "stop":
                received.append(Stop(who="its lost console"))
        return received


def _detach(log: int) -> None:
    """Leave the console's screen, keyboard, signals and share of the processor; print into the open file `log`."""
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    os.setsid()
    os.nice(NICENESS)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _exit(status: int) -> None:
    """Exit, giving what is still on its way a moment; the journal has it all."""
    time.sleep(DRAIN_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
