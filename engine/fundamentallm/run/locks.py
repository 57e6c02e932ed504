"""Who writes a run and who watches it.

One process writes a run: an operating-system lock says so, and is free again the moment that process is gone.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fundamentallm.errors import UserError
from fundamentallm.run.events import JOURNAL
from fundamentallm.untrusted import NO_LINK, open_regular_file

LOCK = "lock"  # the file of a run
LOOKING = 0.3  # seconds; `is_held` takes the lock for a moment, and a start must not be refused for that
TAKEN = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK)  # what a lock says that somebody else holds


class RunLock:
    """The right to write a run, held until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            UserError: another process holds it; names its pid and host.
        """
        path = folder / LOCK
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | NO_LINK, 0o644)
        except OSError as error:
            raise UserError(f"{path}: cannot be opened: {error.strerror}") from None
        try:
            _patiently(lambda: _lock(self._file))
        except OSError as error:
            os.close(self._file)
            if error.errno not in TAKEN:
                raise UserError(f"{path}: cannot be locked: {error.strerror}") from None
            raise UserError(f"{folder}: is being written by {holder(folder) or 'another process'}") from None
        if not _is_at(self._file, path):
            os.close(self._file)
            raise UserError(f"{folder}: was moved or removed meanwhile; say the same again")
        words = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        with suppress(OSError):  # a full disk: the lock holds without words, but its length says that it is one
            os.ftruncate(self._file, 0)
            os.ftruncate(self._file, len(words))
            os.write(self._file, words)

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


def _patiently(lock: Callable[[], None]) -> None:
    """Take a lock that others hold for a moment when they look whether it is taken."""
    deadline = time.monotonic() + LOOKING
    while True:
        try:
            return lock()
        except OSError as error:
            if error.errno not in TAKEN or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one of that name; whoever held its lock may have removed or moved it."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False


def _lock_shared(file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _lock(file: int) -> None:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(folder: Path) -> bool:
    """Whether a process of this machine writes the run, without getting in the way of one that is about to.

    A lock that nobody wrote into is not touched: its owner may be just taking it.
    """
    try:
        if not (folder / LOCK).stat().st_size:
            return False
        file = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in TAKEN
    finally:
        os.close(file)
    return False


def holder(folder: Path) -> str:
    """Who wrote into the lock, in words: "process 4711 on gpu-3"; empty when nobody did."""
    try:
        with open_regular_file(folder / LOCK) as file:
            owner = json.loads(file.read(1000))
        return f"process {int(owner['pid'])} on {str(owner['host'])[:100]}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""


class Watching:
    """Says that a console looks at a run, until `close` or the end of the process: a shared lock on the journal."""

    def __init__(self, folder: Path) -> None:
        self._file = -1
        with suppress(OSError):
            self._file = os.open(folder / JOURNAL, os.O_RDONLY)
            _patiently(lambda: _lock_shared(self._file))

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Consoles:
    """Whether a paused run has lost its last console. One that a shell paused has none to lose, whoever looks at it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL
        self._expected = False

    def expect(self, here: bool) -> None:
        """A pause begins; `here`: a console asked for it and stays."""
        self._expected = here or self._watched()

    def lost(self) -> bool:
        """Whether there was a console when the pause began, and there is none now."""
        return self._expected and not self._watched()

    def _watched(self) -> bool:
        """True also where it cannot be told."""
        try:
            file = os.open(self._path, os.O_RDWR)
        except OSError:
            return True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(file)
        return False
