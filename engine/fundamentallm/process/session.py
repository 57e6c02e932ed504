"""A run in another process, as its watcher sees it: start it, tell it things, hear what happens. No torch.

- Events come over a bounded queue on which the run never waits. What did not fit is missing there; the gap in `seq`
  is noticed and filled from the journal.
- When the process is gone, what it still wrote is read from the journal; not what another one writes after it.
"""

import multiprocessing
import queue
import signal
import threading
import time
from collections import deque
from contextlib import suppress
from multiprocessing.queues import Queue

from fundamentallm.process.attached import Watched
from fundamentallm.process.prepare import prepare_folder
from fundamentallm.process.worker import main
from fundamentallm.run.commands import Command
from fundamentallm.run.events import Event, Failed, Finished, RunStarted
from fundamentallm.run.journal import JournalReader
from fundamentallm.run.locks import Watching
from fundamentallm.run.spec import RunSpec

QUEUE_SIZE = 1000


class WorkerRun(Watched):
    """A worker that this process started."""

    def __init__(self, job: RunSpec, *, prepared: bool = False) -> None:
        """Start the worker; returns at once. `prepared`: the folder is.

        Raises:
            UserError: the job cannot be done; nothing was written.
        """
        if not prepared:
            prepare_folder(job)
        self.folder = job.folder
        spawn = multiprocessing.get_context("spawn")
        self._events: Queue[Event] = spawn.Queue(QUEUE_SIZE)
        self._commands: Queue[Command | None] = spawn.Queue()
        self._journal = JournalReader(job.folder)
        old = self._journal.read()  # what an earlier process said is not news
        self._seen = old[-1].seq if old else 0
        self._ours = False  # it has begun to write the journal; before that another process may
        self._process = spawn.Process(
            target=main, args=(job, self._events, self._commands), name="fundamentallm worker", daemon=False
        )
        self._process.start()
        self._ended = False  # the run has; its process may still answer, with numbers that the journal lacks
        self._arrived: deque[Event] = deque()
        self._news = threading.Event()
        self._watching: Watching | None = None
        threading.Thread(target=self._receive, name="events", daemon=True).start()

    def send(self, command: Command) -> None:
        """Tell the run something; it answers with an `Answered` event."""
        with suppress(ValueError):  # after `leave`
            self._commands.put(command)

    def events(self, timeout: float) -> list[Event]:
        """What happened since the last call, in order and without gaps; waits up to `timeout` seconds for news.

        After the process has ended and everything was read, returns [] at once.
        """
        if self.alive:
            self._news.wait(timeout)
        gone = not self.alive
        if gone:
            time.sleep(0.05)  # what is still in the pipe
        self._news.clear()
        fresh: list[Event] = []
        while self._arrived:
            event = self._arrived.popleft()
            if not self._ended and event.seq > self._seen + 1:
                fresh += self._from_journal(event.seq)
            self._ours |= event.seq > 0
            if event.seq > self._seen or event.seq == 0:  # 0: said before there was a journal
                self._seen = max(self._seen, event.seq)
                self._ended |= isinstance(event, (Finished, Failed))
                fresh.append(event)
        if not self._ended and (gone or not fresh):  # silence: the last that was said may not have fitted the queue
            fresh += self._from_journal(None)
        if fresh and self._watching is None:  # now there is a journal
            self._watching = Watching(self.folder)
        return fresh

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    @property
    def end(self) -> str:
        """How the process ended, in words; empty while it lives."""
        code = self._process.exitcode
        if code is None:
            return ""
        if code < 0:
            try:
                return f"killed by {signal.Signals(-code).name}"
            except ValueError:
                return f"killed by signal {-code}"
        return f"ended with status {code}"

    @property
    def status(self) -> int | None:
        """The exit status of the process; None while it lives."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the process; False if it still lives."""
        self._process.join(timeout)
        return not self.alive

    def leave(self) -> None:
        """Say that nobody listens any more: an ended run's worker goes, a running one runs on."""
        self._commands.put(None)
        self._commands.close()
        self._commands.join_thread()  # or the word would be lost with this process
        if self._watching is not None:
            self._watching.close()

    def kill(self) -> None:
        """End the process at once. The last checkpoint stands."""
        self._process.kill()
        self._process.join()

    def _receive(self) -> None:
        while True:
            try:
                self._arrived.append(self._events.get(timeout=0.5))
                self._news.set()
            except queue.Empty:
                if not self.alive:
                    self._news.set()
                    return
            except (OSError, EOFError, ValueError, TypeError):
                return

    def _from_journal(self, before: int | None) -> list[Event]:
        """Events after the last one seen, up to (not with) number `before`."""
        missed = [event for event in self._journal.read() if event.seq > self._seen]
        if not self._ours:
            pid = self._process.pid
            begun = (n for n, event in enumerate(missed) if isinstance(event, RunStarted) and event.pid == pid)
            missed = missed[next(begun, len(missed)) :]
            self._ours = bool(missed)
        end = next((n for n, event in enumerate(missed, 1) if isinstance(event, (Finished, Failed))), None)
        missed, self._ended = missed[:end], self._ended or end is not None
        if before is not None:
            later = [event for event in missed if event.seq >= before]
            missed = [event for event in missed if event.seq < before]
            self._arrived.extendleft(reversed(later))
        if missed:
            self._seen = missed[-1].seq
        return missed
