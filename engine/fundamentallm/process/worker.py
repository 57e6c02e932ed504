"""A process that trains for a console: obeys commands, says what happens, prints nothing.

- Its first act, before torch is imported, is to send everything printed to engine.log: a C library's warning would land
  in the middle of the console's screen.
- It never waits for its console: an event that the queue does not take is dropped there and stays in the journal.
- It outlives its console; after the end of the run it stays only while somebody may still ask for samples.
"""

import multiprocessing
import os
import queue
import signal
import sys
import time
import traceback
from contextlib import suppress
from multiprocessing.queues import Queue
from pathlib import Path
from typing import TYPE_CHECKING

from fundamentallm.process.signals import obeyed
from fundamentallm.run.commands import Command, Stop
from fundamentallm.run.events import Event, Failed
from fundamentallm.run.folder import ENGINE_LOG
from fundamentallm.run.spec import RunSpec

if TYPE_CHECKING:
    from fundamentallm.train.trainer import Trainer

NICENESS = 5
BUG = "this is a fault of the program; engine.log has the details"


def main(job: RunSpec, events: "Queue[Event]", heard: "Queue[Command | None]") -> None:
    """The whole life of the worker. Ends with a status as `fundamentallm train` does."""
    _detach(job.folder)
    events.cancel_join_thread()  # what nobody reads must not keep this process
    from fundamentallm.errors import NothingLeft, UserError  # from here on torch may print what it likes
    from fundamentallm.train.trainer import Trainer

    def say(event: Event) -> None:
        with suppress(queue.Full):  # the reader will see the gap and look into the journal
            events.put_nowait(event)

    ears = CommandQueue(heard)
    try:
        trainer = Trainer(job, say, ears.listen)
    except UserError as error:
        _take_back(job.folder)
        say(Failed(time=time.time(), step=0, error=str(error)))
        return _leave(0 if job.auto and isinstance(error, NothingLeft) else 1)
    except Exception as error:
        traceback.print_exc()
        say(Failed(time=time.time(), step=0, error=_words(error), advice=BUG))
        return _leave(1)
    ears.obeyed_by(trainer)
    with obeyed(("SIGINT", "SIGTERM"), trainer.stop) as received:
        try:
            end = trainer.run()
        except Exception as error:
            traceback.print_exc()
            end = trainer.fail(_words(error), BUG)
        told = trainer.close()
    status = 1 if isinstance(end, Failed) or end.unsaved or not told else 128 + received[0] if received else 0
    while ears.open:
        trainer.answer_late(ears.listen(timeout=0.25))
    _leave(status)


class CommandQueue:
    """The console's commands, and whether it is still there."""

    def __init__(self, heard: "Queue[Command | None]") -> None:
        self._heard, self._console = heard, multiprocessing.parent_process()
        self._left = self._lost = False
        self._trainer: Trainer | None = None

    def obeyed_by(self, trainer: "Trainer") -> None:
        self._trainer = trainer

    @property
    def open(self) -> bool:
        """Whether somebody may still say something."""
        return not self._left and self._console is not None and self._console.is_alive()

    def listen(self, timeout: float = 0.0) -> list[Command]:
        """What was said since the last call; waits up to `timeout` seconds for the first word.

        When the console that started it is lost, a run whose setting says so is told to stop.
        """
        words: list[Command] = []
        try:
            while True:
                word = self._heard.get(timeout=timeout) if timeout and not words else self._heard.get_nowait()
                if word is None:
                    self._left = True
                else:
                    words.append(word)
        except queue.Empty:
            pass
        if self._trainer is not None and not self.open and not self._lost:
            self._lost = True  # once: others may watch it from now on
            if not self._left and self._trainer.state.config.on_console_loss == "stop":
                words.append(Stop(who="its lost console"))
        return words


def _detach(folder: Path) -> None:
    """Away from the console's screen, keyboard, signals and share of the processor."""
    log = os.open(folder / ENGINE_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w", buffering=1), open(2, "w", buffering=1)  # noqa: SIM115
    if os.name != "nt":
        os.setsid()
        os.nice(NICENESS)
    for name in ("SIGINT", "SIGHUP"):
        if number := getattr(signal, name, None):
            signal.signal(number, signal.SIG_IGN)


def _take_back(folder: Path) -> None:
    """Remove the folder of a run that does not come about, if it holds nothing but our log."""
    with suppress(OSError):
        if [path.name for path in folder.iterdir()] == [ENGINE_LOG]:
            (folder / ENGINE_LOG).unlink()
            folder.rmdir()


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _leave(status: int) -> None:
    """End, giving what is still in the pipe a moment; the journal has it all."""
    time.sleep(0.2)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
