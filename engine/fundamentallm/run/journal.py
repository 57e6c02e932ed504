"""A run's journal and its inbox: lines of JSON that one process appends and others read. No torch.

- The journal is the truth: one object a line, append only, one `os.write` a line.
- Reading never fails on a torn or foreign line.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fundamentallm.run.commands import COMMANDS, Command
from fundamentallm.run.commands import decode as decode_command
from fundamentallm.run.commands import encode as encode_command
from fundamentallm.run.events import JOURNAL, Event, decode, encode
from fundamentallm.untrusted import MAX_COMMAND_BYTES, MAX_EVENT_BYTES, NO_LINK, open_regular_file

BLOCK = 1 << 18  # bytes read at once
TRIES, PAUSE = 10, 0.1  # how often the end of a journal is tried, and seconds between


class Journal:
    """The writing end. Stamps each event with its number and time."""

    def __init__(self, folder: Path, said: int = 0) -> None:
        """
        Args:
            said: how many events there were at least, as the run's checkpoints know; its journal may have been removed.
        """
        path = folder / JOURNAL
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK, 0o644)
        self._seq = max(said, _last_seq(self._file))
        self._waiting: deque[bytes] = deque()  # lines; a full disk may let many of them wait
        self._whole = True
        size = os.fstat(self._file).st_size
        if size and _read_at(self._file, size - 1, 1) != b"\n":
            self._waiting.append(b"\n")  # ends the line that a killed process left torn

    def say(self, event: Event) -> Event:
        """Append `event`; returns it with its `seq` and `time`.

        Never fails: what the disk did not take is kept and tried again with the next event, and `sync` complains.
        """
        self._seq += 1
        stamped = replace(event, seq=self._seq, time=round(time.time(), 3))
        if self._file >= 0:
            self._waiting.append(encode(stamped).encode() + b"\n")
            with suppress(OSError):
                self._write()
        return stamped

    @property
    def said(self) -> int:
        """How many events the journal has."""
        return self._seq

    def sync(self) -> None:
        """Everything said so far is on the disk when this returns.

        Raises:
            OSError: it is not.
        """
        self._write()
        os.fsync(self._file)

    def settle(self) -> str:
        """As `sync`, at the end of a run, where no next event will try again: with patience.

        Returns:
            Why the disk refuses still; empty where it does not.
        """
        try:
            for _ in range(TRIES - 1):
                with suppress(OSError):
                    self._write()
                    break
                time.sleep(PAUSE)
            self.sync()  # not tried again: what the system could not write out once, it forgets
        except OSError as error:
            return f"{JOURNAL}: {error.strerror}"
        return ""

    def close(self) -> bool:
        """Write no more. Events are stamped as before, for those who listen otherwise.

        Returns:
            Whether all that was said is on the disk.
        """
        if self._file >= 0:
            self._whole = not self.settle()
            os.close(self._file)
            self._file = -1
        return self._whole

    def _write(self) -> None:
        while self._waiting:
            line = self._waiting[0]
            written = os.write(self._file, line)
            if written < len(line):
                self._waiting[0] = line[written:]
            else:
                self._waiting.popleft()


class Tail:
    """The lines that are added to a file by others, each once. Those longer than `longest` bytes are passed over.

    A file that has become shorter is another one, and read from its beginning.
    """

    def __init__(self, path: Path, longest: int, *, from_end: bool = False) -> None:
        self._path, self._longest = path, longest
        self._place = 0
        self._torn = b""  # read already, up to `_place`: a line whose end is not there yet
        self._skips = False  # in a line that is too long
        if from_end:
            with suppress(OSError):
                self._place = path.stat().st_size

    def read(self) -> Iterator[bytes]:
        """Whole new lines without their ends; one that is not whole yet waits for the next call.

        Raises:
            OSError: the file cannot be read.
        """
        size = os.stat(self._path).st_size
        if size < self._place:
            self._place, self._torn, self._skips = 0, b"", False
        if size == self._place:
            return
        with open_regular_file(self._path) as file:
            file.seek(self._place)
            while block := file.read(BLOCK):
                self._place += len(block)
                first, *lines = block.split(b"\n")
                self._skips = self._skips or len(self._torn) + len(first) > self._longest
                self._torn = b"" if self._skips else self._torn + first
                if lines:
                    if not self._skips:
                        yield self._torn
                    self._torn, self._skips = lines.pop(), False
                    yield from lines  # which are shorter than a block, and so not too long


class JournalReader:
    """The reading end: `read` returns what was added since the last call."""

    def __init__(self, folder: Path) -> None:
        self._tail = Tail(folder / JOURNAL, MAX_EVENT_BYTES)

    def read(self) -> list[Event]:
        """Whole new lines as events; a line without its end waits for the next call."""
        events: list[Event] = []
        with suppress(OSError):
            events.extend(event for line in self._tail.read() if (event := decode(line)) is not None)
        return events


class Inbox:
    """Commands that reach a run through its directory: from an attached console or a shell.

    What was there before the run began is not for it.
    """

    def __init__(self, folder: Path) -> None:
        self._tail = Tail(folder / COMMANDS, MAX_COMMAND_BYTES, from_end=True)

    def read(self) -> list[Command]:
        """What was added since the last call; lines that are no commands are skipped."""
        heard: list[Command] = []
        with suppress(OSError):
            heard.extend(command for line in self._tail.read() if (command := decode_command(line)) is not None)
        return heard


def tell(folder: Path, command: Command) -> None:
    """Put a command into the inbox of the run in `folder`.

    Raises:
        OSError: the folder cannot be written to.
    """
    line = encode_command(command).encode() + b"\n"
    file = os.open(folder / COMMANDS, os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK, 0o644)
    try:
        size = os.fstat(file).st_size
        if size and _read_at(file, size - 1, 1) != b"\n":
            line = b"\n" + line  # ends the line that somebody else left torn
        if os.write(file, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / COMMANDS))
    finally:
        os.close(file)


def size_of_journal(folder: Path) -> int:
    """The bytes of a run's journal; 0 where there is none."""
    try:
        return (folder / JOURNAL).stat().st_size
    except OSError:
        return 0


def read_journal(folder: Path) -> Iterator[Event]:
    """Every event of a run, from the first."""
    yield from JournalReader(folder).read()


def _read_at(file: int, offset: int, count: int) -> bytes:
    os.lseek(file, offset, os.SEEK_SET)  # appends do not care where the file stands
    return os.read(file, count)


def _last_seq(file: int) -> int:
    """The number of the last whole event, found from the end."""
    end, block = os.fstat(file).st_size, 1 << 16
    while end:
        start = max(0, end - block)
        for line in reversed(_read_at(file, start, end - start).split(b"\n")[0 if start == 0 else 1 :]):
            if line and (event := decode(line)) is not None:
                return event.seq
        # the line that began before `start` is whole in the next block
        end, block = min(end, start + MAX_EVENT_BYTES) if start else 0, 2 * MAX_EVENT_BYTES
    return 0
