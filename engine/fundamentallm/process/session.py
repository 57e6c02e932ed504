"""A run in another process, behind one handle: started by this process, or attached to. No torch.

- Importing this module is fast: multiprocessing and the worker are imported when a worker is started.
- A run never waits for the process that watches it; everything that happens is in its journal.
"""

import os
import queue
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError, system_errors
from fundamentallm.process.prepare import prepared_folder
from fundamentallm.process.system import NO_PROCESS
from fundamentallm.run.commands import Command
from fundamentallm.run.events import Event, Failed, Finished, RunStarted
from fundamentallm.run.folder import ENGINE_LOG, holds_run
from fundamentallm.run.journal import journal_reader, send_command
from fundamentallm.run.locks import ConsoleLock, is_held
from fundamentallm.run.range_test import Point, Suggestion
from fundamentallm.run.spec import RunSpec
from fundamentallm.untrusted import open_regular_file

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

QUEUE_SIZE = 1000  # events that wait in the worker until the console takes them
POLL_INTERVAL = 0.1  # seconds between two looks at a journal
LOG_TAIL_LINES, LOG_TAIL_BYTES = 10, 64 * 1024


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
        """Return the next events, in order and each once; an empty list if none came within `timeout` seconds.

        Returns as soon as there is one, and at once when no process writes the run and everything was read. A list may
        be a part of what there is: a long journal comes in many.
        """

    def log_tail(self) -> list[str]:
        """Return the last lines that the process printed."""
        try:
            with open_regular_file(self.folder / ENGINE_LOG) as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
                return file.read().decode("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
        except OSError:
            return []

    def close(self) -> None:
        """Stop watching. A run that trains continues; the process of an ended one exits."""


class _Worker:
    """A process that this one started: commands go to it over one queue, events come back over another."""

    may_return = False
    _commands: "Queue[Command | None]"
    _events: "Queue[Any]"

    def _start(self, target: Callable[..., None], what: object) -> None:
        """Start `target(what, events, commands)` in a process of its own, and return at once.

        A UserError says that the system refuses.
        """
        import multiprocessing

        spawn = multiprocessing.get_context("spawn")
        with system_errors(NO_PROCESS):
            self._events, self._commands = spawn.Queue(QUEUE_SIZE), spawn.Queue()
            arguments = (what, self._events, self._commands)
            self._process = spawn.Process(target=target, args=arguments, name="fundamentallm worker", daemon=False)
            self._process.start()
        # This process keeps no writing end: else a worker that is killed in the middle of an event would leave the
        # reader waiting for the other half for ever. The queue has no public way to say so.
        self._events._writer.close()  # type: ignore[attr-defined]
        self.pid = self._process.pid or 0

    def send(self, command: Command) -> None:
        with suppress(ValueError):  # after `close`
            self._commands.put(command)

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
        names = {known.value: known.name for known in signal.Signals}
        return f"killed by {names.get(-code, f'signal {-code}')}"

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

    def kill(self) -> None:
        """End the process at once. The last checkpoint stands."""
        self._process.kill()
        self._process.join()

    def _receive(self, timeout: float) -> list[Any]:
        """Everything in the queue; waits up to `timeout` seconds for the first event."""
        received: list[Any] = []
        with suppress(queue.Empty, EOFError, OSError):  # the last two: the worker has ended, perhaps while it wrote
            received.append(self._events.get(timeout=timeout))
            while True:
                received.append(self._events.get_nowait())
        return received


class WorkerRun(_Worker, RunHandle):
    """A run whose worker this process started.

    - Events come over a bounded queue, for which the run never waits. What did not fit is missing there;
      `events` notices the gap in `seq` and fills it from the journal.
    - When the worker is gone, `events` reads what it still wrote from the journal, but not what another process writes
      after it.
    """

    def __init__(self, spec: RunSpec, *, prepared: bool = False) -> None:
        """Start the worker, and return at once; `prepared`: the caller did as `prepared_folder` does."""
        from fundamentallm.process.worker import main

        self._seen = 0
        self._ours = False  # the lines of the journal that come next are the worker's; before and after, another's
        self._ended = False  # the run has; its worker may still answer, with numbers that the journal lacks
        with nullcontext(spec) if prepared else prepared_folder(spec, False, lambda _: None) as spec:
            self.folder = spec.folder
            self._journal = journal_reader(spec.folder)
            for earlier in iter(self._journal.read_some, []):  # of another process
                self._seen = earlier[-1].seq
            self._start(main, spec)
        self._watching = ConsoleLock(spec.folder)

    def send(self, command: Command) -> None:
        self._watching.renew()
        super().send(command)

    def events(self, timeout: float) -> list[Event]:
        """Return what happened since the last call, without gaps; [] at once where the process has ended."""
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
            if isinstance(event, RunStarted):  # now there is a journal
                self._watching.renew()
        return fresh

    def close(self) -> None:
        super().close()
        self._watching.close()

    def _read_journal(self) -> list[Event]:
        """What the worker added to the journal since it was last read, up to the end of the run."""
        written: list[Event] = []
        for event in self._journal.read():
            if isinstance(event, RunStarted):
                self._ours = event.pid == self.pid
            if self._ours:
                written.append(event)
                if isinstance(event, (Finished, Failed)):
                    break
        return written


class _Assistant(_Worker):
    """A process that is no run. It writes no run, and is killed when it is closed."""

    def close(self) -> None:
        self._process.kill()  # it saves nothing; one that has just started would print that its queues are gone
        super().close()


class SamplerRun(_Assistant, RunHandle):
    """A process that writes samples with the model of a checkpoint.

    Its events are `Sampled` and `Answered`, as those of a run, and `Failed` where the checkpoint cannot be used.
    """

    def __init__(self, checkpoint: Path) -> None:
        """Start the process, and return at once; samples can be asked for before the model is loaded."""
        from fundamentallm.process.worker import write_samples

        self.folder = checkpoint.parent
        self._start(write_samples, checkpoint)

    def events(self, timeout: float) -> list[Event]:
        return self._receive(timeout if self.alive else 0.0)

    def log_tail(self) -> list[str]:
        return []  # what the process prints goes nowhere: the log in the folder is the run's


class RateTest(_Assistant):
    """A process that makes a range test, for a learning rate of a new model with these settings."""

    def __init__(self, config: Config) -> None:
        """Start the process, and return at once."""
        from fundamentallm.process.worker import find_rate

        self._start(find_rate, config)

    def read(self) -> list[Point | Suggestion | Failed]:
        """Return what came since the last call: the steps, and at the end what they suggest or why they do not."""
        return self._receive(0.0)


class AttachedRun(RunHandle):
    """A run that another process started: everything since its beginning, then what happens, with every control."""

    may_return = True

    def __init__(self, folder: Path, *, stays: bool = False) -> None:
        """Attach to a run; a UserError if there is none.

        `stays`: this is a console, which keeps watching; a paused run whose last console disconnects ends.
        """
        if not holds_run(folder):
            raise UserError(f"{folder}: holds no run")
        self.folder = folder
        self._journal = journal_reader(folder)
        self._watching = ConsoleLock(folder) if stays else None

    def send(self, command: Command) -> None:
        if self._watching is not None:
            self._watching.renew()
        send_command(self.folder, command)

    def events(self, timeout: float) -> list[Event]:
        deadline = time.monotonic() + timeout
        while not (fresh := self._journal.read_some()) and time.monotonic() < deadline and self.alive:
            time.sleep(min(POLL_INTERVAL, timeout))
        return fresh

    @property
    def alive(self) -> bool:
        return is_held(self.folder)

    @property
    def exit_reason(self) -> str:
        if self.alive:
            return ""
        return "its process is gone" if holds_run(self.folder) else "its folder is gone or has another name"

    def close(self) -> None:
        if self._watching is not None:
            self._watching.close()
