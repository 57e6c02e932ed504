"""A run's journal and its inbox: files of JSON lines that one process appends to and others read. No torch.

- The journal is the truth about a run: one event a line, append only, one `os.write` a line.
- A truncated or unknown line never makes reading fail.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Generic, TypeVar

from fundamentallm.errors import describe_error
from fundamentallm.run import commands
from fundamentallm.run.events import JOURNAL, Event, decode, encode
from fundamentallm.run.folder import write_atomic
from fundamentallm.untrusted import MAX_COMMAND_BYTES, MAX_EVENT_BYTES, open_for_writing, open_regular_file

T = TypeVar("T")
BLOCK = 1 << 18  # bytes read at once
BATCH = 40  # items that `read_some` returns at most: 4,000 steps of a fast run, which take 2 MB while they are read
TRIES, PAUSE = 10, 0.1  # how often the last lines of a run are written, and the seconds between


class Journal:
    """The writing end. Stamps each event with its number and time."""

    def __init__(self, folder: Path, events_written: int = 0) -> None:
        """Open the journal of a run, or begin it anew after the `events_written` events that a checkpoint counted."""
        self._path = folder / JOURNAL
        for path in (self._path, folder / commands.COMMANDS):
            unshare(path)
        self._file = open_for_writing(self._path, os.O_APPEND)
        self.events_written = max(events_written, _last_seq(self._file))
        self._waiting: deque[bytes] = deque()  # lines; a full disk may let many of them wait
        self._complete = True
        if _is_truncated(self._file):
            self._waiting.append(b"\n")

    def append(self, event: Event) -> Event:
        """Append an event; returns it with its `seq` and `time`.

        Never fails: what the disk refuses is kept and written before the next event, and `sync` reports the error.
        """
        self.events_written += 1
        stamped = replace(event, seq=self.events_written, time=round(time.time(), 3))
        if self._file >= 0:
            self._waiting.append(encode(stamped).encode() + b"\n")
            with suppress(OSError):
                self._write()
        return stamped

    @property
    def is_deleted(self) -> bool:
        """Whether the file was deleted since it was opened; False where it was moved."""
        return self._file >= 0 and os.fstat(self._file).st_nlink == 0

    def is_in(self, folder: Path) -> bool:
        """Whether the file is still the one in the folder; an OSError says that this cannot be looked up."""
        with suppress(FileNotFoundError, NotADirectoryError):
            return self._file >= 0 and os.path.samestat(os.fstat(self._file), os.stat(folder / JOURNAL))
        return False

    def begin_again(self, events: Iterable[Event]) -> None:
        """Begin a new file with these events, as they are, in place of a deleted one; an OSError if there is one."""
        file = open_for_writing(self._path, os.O_APPEND | os.O_EXCL)
        os.close(self._file)
        self._file, self._waiting = file, deque(encode(event).encode() + b"\n" for event in events)
        self._write()

    def sync(self) -> None:
        """Return when every event so far is on the disk; an OSError if the disk refuses."""
        self._write()
        os.fsync(self._file)

    def settle(self) -> str:
        """Do as `sync`, with several tries: at the end of a run there is no next event to try with.

        Returns why the disk still refuses; empty where it does not.
        """
        try:
            for _ in range(TRIES - 1):
                with suppress(OSError):
                    self._write()
                    break
                time.sleep(PAUSE)
            self.sync()  # fsync is not retried: after a failed one the kernel drops the dirty pages
        except OSError as error:
            return f"{JOURNAL}: {describe_error(error)}"
        return ""

    def close(self) -> bool:
        """Write no more; return whether every event is on the disk. Later events are stamped all the same."""
        if self._file >= 0:
            self._complete = not self.settle()
            os.close(self._file)
            self._file = -1
        return self._complete

    def _write(self) -> None:
        while self._waiting:
            line = self._waiting[0]
            written = os.write(self._file, line)
            if written < len(line):
                self._waiting[0] = line[written:]
            else:
                self._waiting.popleft()


def unshare(path: Path) -> None:
    """Copy a file that another folder has, too, by a hard link (`cp -al`, as some backups are): it stays as it is."""
    if path.is_file() and not path.is_symlink() and path.stat().st_nlink > 1:
        write_atomic(path, path.read_bytes())


class Tail:
    """The lines that others append to a file, each once. Lines of more than `max_bytes` are skipped.

    A file that has become shorter was replaced, and is read from its beginning.
    """

    def __init__(self, path: Path, max_bytes: int, *, from_end: bool = False) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._offset = 0
        self._partial = b""  # read already, up to `_offset`: a line that has no end yet
        self._skipping = False  # inside a line that is too long
        if from_end:
            with suppress(OSError):
                self._offset = path.stat().st_size

    def read(self) -> Iterator[bytes]:
        """Yield new lines without their ends; one that has no end yet waits. An OSError if the file cannot be read."""
        size = os.stat(self._path).st_size
        if size < self._offset:
            self._offset, self._partial, self._skipping = 0, b"", False
        if size == self._offset:
            return
        with open_regular_file(self._path) as file:
            file.seek(self._offset)
            while block := file.read(BLOCK):
                self._offset += len(block)
                first, *lines = block.split(b"\n")
                self._skipping = self._skipping or len(self._partial) + len(first) > self._max_bytes
                self._partial = b"" if self._skipping else self._partial + first
                if lines:
                    if not self._skipping:
                        yield self._partial
                    self._partial, self._skipping = lines.pop(), False
                    yield from lines  # shorter than a block, and so not too long


class Reader(Generic[T]):
    """Reads what others append: what `decode` makes of each line. A file that cannot be read has no lines."""

    def __init__(self, tail: Tail, decode: Callable[[bytes], T | None]) -> None:
        self._tail, self._decode = tail, decode
        self._unread: Iterator[T] = iter(())

    def read(self) -> list[T]:
        """Return what is new since the last call; lines that cannot be decoded are skipped."""
        return [*chain.from_iterable(iter(self.read_some, []))]

    def read_some(self) -> list[T]:
        """Return a part of what `read` returns, empty where nothing is new: a long journal never is in memory whole."""
        items = list(islice(self._unread, BATCH))
        if not items:
            self._unread = self._new()
            items = list(islice(self._unread, BATCH))
        return items

    def _new(self) -> Iterator[T]:
        with suppress(OSError):
            yield from filter(None, map(self._decode, self._tail.read()))


def journal_reader(folder: Path) -> Reader[Event]:
    """Make a reader of a run's events, from the first."""
    return Reader(Tail(folder / JOURNAL, MAX_EVENT_BYTES), decode)


def inbox_reader(folder: Path) -> Reader[commands.Command]:
    """Make a reader of the commands that reach a run through its folder: those that are sent from now on."""
    return Reader(Tail(folder / commands.COMMANDS, MAX_COMMAND_BYTES, from_end=True), commands.decode)


def send_command(folder: Path, command: commands.Command) -> None:
    """Append a command to the inbox of the run in `folder`; an OSError if that cannot be written to."""
    line, path = commands.encode(command).encode() + b"\n", folder / commands.COMMANDS
    file = open_for_writing(path, os.O_APPEND)
    try:
        if _is_truncated(file):
            line = b"\n" + line
        if os.write(file, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(file)


def size_of_journal(folder: Path) -> int:
    """Return the bytes of a run's journal; 0 where there is none."""
    try:
        return (folder / JOURNAL).stat().st_size
    except OSError:
        return 0


def read_journal(folder: Path) -> Iterator[Event]:
    """Yield every event of a run so far."""
    return chain.from_iterable(iter(journal_reader(folder).read_some, []))


def _is_truncated(file: int) -> bool:
    """Whether the last line has no end: its writer was killed. A new line must not become a part of it."""
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"


def _last_seq(file: int) -> int:
    """Find the number of the last complete event, from the end of the file."""
    end, block = os.fstat(file).st_size, 1 << 16
    while end:
        start = max(0, end - block)
        for line in reversed(os.pread(file, end - start, start).split(b"\n")[0 if start == 0 else 1 :]):
            if line and (event := decode(line)) is not None:
                return event.seq
        # the next block is long enough to hold the line that began before `start`
        end, block = min(end, start + MAX_EVENT_BYTES) if start else 0, 2 * MAX_EVENT_BYTES
    return 0
