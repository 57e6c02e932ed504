"""A run in another process, behind one handle: started by this process, or attached to. No torch.

- Importing this module is fast: multiprocessing and the worker are imported when a worker is started.
- A run never waits for the process that watches it; everything that happens is in its journal.
"""

import os
import signal
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fundamentallm.errors import UserError
from fundamentallm.process.prepare import prepare_folder
from fundamentallm.run.commands import Command
from fundamentallm.run.events import JOURNAL, Event, Failed, Finished, RunStarted
from fundamentallm.run.folder import ENGINE_LOG
from fundamentallm.run.journal import JournalReader, send_command
from fundamentallm.run.locks import ConsoleLock, is_held
from fundamentallm.run.spec import RunSpec
from fundamentallm.untrusted import open_regular_file

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

QUEUE_SIZE = 1000  # events that wait in the worker until the console takes them
LOG_TAIL_BYTES = 64 * 1024


class RunHandle(Protocol):
    """What a watcher needs of a run. `may_return`: another process may resume the run after its own has ended."""

    folder: Path
    may_return: bool

    @property
    def alive(self) -> bool:
        """Whether a process writes the run."""

    @property
    def exit_reason(self) -> str:
        """How the process ended, in words; empty while it lives."""

    def send(self, command: Command) -> None:
        """Send a command to the run, which answers with an `Answered` event."""

    def events(self, timeout: float) -> list[Event]:
        """Return what happened since the last call, in order; waits up to `timeout` seconds for the first event."""

    def log_tail(self, lines: int = 10) -> list[str]:
        """Return the last lines that the process printed."""
        try:
            with open_regular_file(self.folder / ENGINE_LOG) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except OSError:
            return []

    def close(self) -> None:
        """Stop watching. A running run goes on; the process of an ended one exits."""


class WorkerRun(RunHandle):
    """A run whose worker this process started.

    - Events come over a pipe from a bounded queue, for which the run never waits. What did not fit is missing there;
      `events` notices the gap in `seq` and fills it from the journal.
    - When the worker is gone, `events` reads what it still wrote from the journal, but not what another process writes
      after it.
    """

    may_return = False

    def __init__(self, job: RunSpec, *, prepared: bool = False) -> None:
        """Start the worker, and return at once.

        Args:
            prepared: the folder was prepared by the caller.

        Raises:
            UserError: the job cannot be done; nothing was written.
        """
        import multiprocessing

        from fundamentallm.process.worker import main

        if not prepared:
            prepare_folder(job)
        self.folder = job.folder
        self._journal = JournalReader(job.folder)
        earlier = self._journal.read()  # of an earlier process, and not news
        self._seen = earlier[-1].seq if earlier else 0
        self._ours = False  # the lines of the journal that come next are the worker's; before and after, another's
        self._ended = False  # the run has; its worker may still answer, with numbers that the journal lacks
        self._watching: ConsoleLock | None = None

        spawn = multiprocessing.get_context("spawn")
        self._events, theirs = spawn.Pipe(duplex=False)
        self._commands: Queue[Command | None] = spawn.Queue()
        self._process = spawn.Process(
            target=main, args=(job, theirs, QUEUE_SIZE, self._commands), name="fundamentallm worker", daemon=False
        )
        self._process.start()
        theirs.close()  # or the pipe would have no end when the worker has one
        self.pid = self._process.pid or 0

    def send(self, command: Command) -> None:
        with suppress(ValueError):  # after `close`
            self._commands.put(command)

    def events(self, timeout: float) -> list[Event]:
        """Return what happened since the last call, in order and without gaps.

        Waits up to `timeout` seconds for the first event. After the process has ended and everything was read, returns
        [] at once.
        """
        gone = not self.alive
        received = self._receive(0.0 if gone else timeout)
        missing = any(after > before + 1 for before, after in pairwise([self._seen, *(e.seq for e in received)]))
        if not self._ended and (gone or missing or not received):  # the last events may not have fitted the queue
            both = {event.seq: event for event in [*self._read_journal(), *received]}
            received = [both[seq] for seq in sorted(both)]
        fresh = [event for event in received if event.seq > self._seen or event.seq == 0]  # 0: no journal yet
        for event in fresh:
            self._seen = max(self._seen, event.seq)
            self._ended |= isinstance(event, (Finished, Failed))
        if fresh and self._watching is None:  # now there is a journal
            self._watching = ConsoleLock(self.folder)
        return fresh

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def exit_reason(self) -> str:
        code = self._process.exitcode
        if code is None:
            return ""
        if code >= 0:
            return f"ended with status {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"

    @property
    def status(self) -> int | None:
        """The exit status of the process; None while it lives."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for the end of the process; return whether it has ended."""
        self._process.join(timeout)
        return not self.alive

    def close(self) -> None:
        self._commands.put(None)
        self._commands.close()
        self._commands.join_thread()  # or what was put would be lost if this process ends now
        if self._watching is not None:
            self._watching.close()

    def kill(self) -> None:
        """End the process at once. The last checkpoint stands."""
        self._process.kill()
        self._process.join()

    def _receive(self, timeout: float) -> list[Event]:
        """Everything in the pipe; waits up to `timeout` seconds for the first event."""
        received: list[Event] = []
        with suppress(EOFError, OSError):  # the worker has ended, perhaps while it wrote
            while self._events.poll(0.0 if received else timeout):
                received.append(self._events.recv())
        return received

    def _read_journal(self) -> list[Event]:
        """What the worker added to the journal since it was last read, up to the end of the run."""
        written: list[Event] = []
        for event in self._journal.read():
            if isinstance(event, RunStarted):
                self._ours = event.pid == self.pid
            if self._ours and event.seq > self._seen:
                written.append(event)
                if isinstance(event, (Finished, Failed)):
                    break
        return written


class AttachedRun(RunHandle):
    """A run that another process started: everything since its beginning, then what happens, with every control."""

    may_return = True

    def __init__(self, folder: Path, *, stays: bool = False) -> None:
        """Attach to a run.

        Args:
            stays: this is a console, which keeps watching; a paused run whose last console disconnects ends.

        Raises:
            UserError: there is no run.
        """
        if not (folder / JOURNAL).is_file():
            raise UserError(f"{folder}: holds no run")
        self.folder = folder
        self._journal = JournalReader(folder)
        self._watching = ConsoleLock(folder) if stays else None

    def send(self, command: Command) -> None:
        if self._watching is not None:  # watch the run that is in the folder now; an older one may have been moved
            before, self._watching = self._watching, ConsoleLock(self.folder)
            before.close()
        send_command(self.folder, command)

    def events(self, timeout: float) -> list[Event]:
        deadline = time.monotonic() + timeout
        while not (fresh := self._journal.read()) and time.monotonic() < deadline and self.alive:
            time.sleep(min(0.05, timeout))
        return fresh

    @property
    def alive(self) -> bool:
        return is_held(self.folder)

    @property
    def exit_reason(self) -> str:
        if self.alive:
            return ""
        return "its process is gone" if (self.folder / JOURNAL).exists() else "its folder is gone or has another name"

    def close(self) -> None:
        if self._watching is not None:
            self._watching.close()
