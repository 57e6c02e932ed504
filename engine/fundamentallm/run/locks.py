"""Who writes a run and who watches it, found by operating-system locks.

One process writes a run. A lock is free again the moment its process is gone, however it ended.
"""

import errno
import fcntl
import json
import os
import socket
import threading
import time
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from fundamentallm.errors import UserError, describe_error, system_errors
from fundamentallm.run.events import JOURNAL
from fundamentallm.untrusted import open_for_writing, open_regular_file

LOCK = "lock"  # the file of a run
PATIENCE = 0.3  # seconds to try for; `is_held` takes the lock for a moment, and a start must not be refused for that
TAKEN = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK)  # error codes of a lock that another one holds


class RunLock:
    """The right to write a run, held until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock; a UserError names the process that holds it, or says why there can be none."""
        path = folder / LOCK
        with system_errors(f"{path}: cannot be opened"):
            self._file = open_for_writing(path, 0)
        try:
            _lock(self._file, fcntl.LOCK_EX)
        except OSError as error:
            os.close(self._file)
            if error.errno not in TAKEN:
                raise UserError(f"{path}: cannot be locked: {describe_error(error)}") from None
            raise UserError(f"{folder}: is being written by {holder(folder) or 'another process'}") from None
        if not is_at(self._file, path):
            os.close(self._file)
            raise UserError(f"{folder}: was moved or deleted during start-up; run the command again")
        owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        with suppress(OSError):  # on a full disk the file stays empty of text, but its size says that it is held
            os.ftruncate(self._file, 0)
            os.ftruncate(self._file, len(owner))
            os.write(self._file, owner)

    def is_in(self, folder: Path) -> bool:
        """Whether the lock's file is still in the folder: otherwise another process could take the run."""
        return self._file >= 0 and is_at(self._file, folder / LOCK)

    def release(self) -> None:
        if self._file >= 0:
            with suppress(OSError):
                os.ftruncate(self._file, 0)
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> "RunLock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _lock(file: int, kind: int) -> None:
    """Lock an open file, as soon as those have let go that hold it for a moment to see whether it is taken."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(file, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in TAKEN or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`: its last holder may have moved or deleted the folder."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False


def is_held(folder: Path) -> bool:
    """Whether a process of this machine writes the run. Does not get in the way of one that is about to.

    A lock file without text is not touched: its owner may be just taking it.
    """
    try:
        if not (folder / LOCK).stat().st_size:
            return False
        file = open_regular_file(folder / LOCK)
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in TAKEN
    return False


def holder(folder: Path) -> str:
    """Read who holds the lock: "process 4711 on gpu-3"; empty where its file does not say."""
    with suppress(OSError):
        return _owner(_read(folder / LOCK))
    return ""


def is_foreign_lock(path: Path) -> bool:
    """Whether a file holds what `RunLock` does not write: it names an owner, or is zeros where the disk was full."""
    with suppress(OSError):
        raw = _read(path)
        return bool(raw.strip(b"\0")) and not _owner(raw)
    return False


def _read(path: Path) -> bytes:
    with open_regular_file(path) as file:
        return file.read(1000)


def _owner(raw: bytes) -> str:
    try:
        owner = json.loads(raw)
        return f"process {int(owner['pid'])} on {str(owner['host'])[:100]}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


class ConsoleLock:
    """Shows that a console watches a run, until `close` or the end of the process: a shared lock on the journal."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._file: BufferedReader | None = None
        self._changing, self._closed = threading.Lock(), False  # one thread reads the run, another sends commands
        self.renew()

    def renew(self) -> None:
        """Watch the run that is in the folder now: its journal may have been moved, or made again."""
        with self._changing:
            before, self._file = self._file, None
            with suppress(OSError):
                if not self._closed:
                    self._file = open_regular_file(self._path)
                    _lock(self._file.fileno(), fcntl.LOCK_SH)
            if before is not None:
                before.close()

    def close(self) -> None:
        self._closed = True
        self.renew()


def is_watched(folder: Path) -> bool:
    """Whether a console holds the `ConsoleLock` of a run; True also where that cannot be found out."""
    try:
        file = open_for_writing(folder / JOURNAL, 0, make=False)
    except OSError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False
