"""A run's directory: its layout, and who writes it and looks at it. No torch.

One process writes a run: an operating-system lock says so, and is free again the moment that process is gone.
"""

import errno
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fundamentallm.config import Config
from fundamentallm.errors import UserError
from fundamentallm.resources import named, open_file

if os.name == "nt":
    import msvcrt
else:
    import fcntl

JOURNAL, CONFIG, ENGINE_LOG, LOCK, TOKENIZER = "journal.jsonl", "config.yaml", "engine.log", "lock", "tokenizer.json"
COMMANDS = "commands.jsonl"
LOOKING = 0.3  # seconds; `is_held` takes the lock for a moment, and a start must not be refused for that
LAST, BEST, FINAL = "last.pt", "best.pt", "final_model.pt"
# How a file of a run is opened to be written: whoever the folder came from, not through a link to somewhere else.
OURS = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
TAKEN = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK)  # what a lock says that somebody else holds


def choose_folder(config: Config, label: str = "") -> Path:
    """`config.output_dir`, or the first free `runs/<label or data>-<n>`.

    Raises:
        UserError: `config.output_dir`, or what would name the folder, is no path that there can be.
    """
    if config.output_dir is not None:
        return named(config.output_dir)
    name = label or (Path(config.data[0]).stem if config.data else "run")
    named(str(Path("runs", name)))
    n = 1
    while Path("runs", f"{name}-{n}").exists():
        n += 1
    return Path("runs", f"{name}-{n}")


def check_folder(folder: Path, *, may_hold_run: bool) -> None:
    """Refuse a folder that a run must not be written into.

    Raises:
        UserError: it is a file, cannot be written to, or holds a run and `may_hold_run` is False.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output-dir {folder}: is a file; name a folder")
    for path in (folder / name for name in (JOURNAL, CONFIG, TOKENIZER, ENGINE_LOG, LOCK, COMMANDS, "wandb")):
        if path.is_symlink() or (path.exists() and not path.is_file() and path.name != "wandb"):
            raise UserError(
                f"{path}: is a link, or no ordinary file; a run writes into its own files only, move it away"
            )
    if not may_hold_run and (folder / JOURNAL).exists():
        raise UserError(
            f"--output-dir {folder}: holds a run already; go on with --resume auto, "
            "name another folder, or move the old run aside with --overwrite"
        )
    others = [name for name in (CONFIG, TOKENIZER, LAST, BEST, FINAL) if (folder / name).exists()]
    if not may_hold_run and others:
        raise UserError(f"--output-dir {folder}: holds a {others[0]} that is no run's, and would lose it; name another")
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise UserError(f"--output-dir {folder}: {nearest} cannot be written to")


def check_log_dir(config: Config, folder: Path) -> None:
    """Refuse a place that TensorBoard's files cannot be written into.

    Raises:
        UserError: `config.log_dir` is a file, or cannot be written to.
    """
    target = named(config.log_dir).absolute() / folder.resolve().name
    nearest = next(parent for parent in (target, *target.parents) if os.path.lexists(parent))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"--log-dir {config.log_dir}: {nearest} cannot be written to")


def move_aside(folder: Path) -> Path | None:
    """Rename a folder that holds a run to `<folder>.old-<n>`; None where there was none.

    Raises:
        UserError: another process is writing that run.
    """
    if not (folder / JOURNAL).exists():
        return None
    with RunLock(folder):
        n = 1
        while (aside := folder.with_name(f"{folder.name}.old-{n}")).exists():
            n += 1
        folder.rename(aside)
    return aside


class RunLock:
    """The right to write a run, held until `release` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            UserError: another process holds it; names its pid and host.
        """
        path = folder / LOCK
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | OURS, 0o644)
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
    if os.name != "nt":
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _lock(file: int) -> None:
    if os.name == "nt":
        os.lseek(file, 1 << 20, os.SEEK_SET)  # far behind the text, which others may want to read
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        os.lseek(file, 0, os.SEEK_SET)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(folder: Path) -> bool:
    """Whether a process of this machine writes the run, without getting in the way of one that is about to.

    A lock that nobody wrote into is not touched: its owner may be just taking it.
    """
    try:
        if not (folder / LOCK).stat().st_size:
            return False
        file = os.open(folder / LOCK, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    except OSError:
        return False
    try:
        if os.name == "nt":
            _lock(file)
        else:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in TAKEN
    finally:
        os.close(file)
    return False


def holder(folder: Path) -> str:
    """Who wrote into the lock, in words: "process 4711 on gpu-3"; empty when nobody did."""
    try:
        with open_file(folder / LOCK) as file:
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
        if os.name == "nt":  # has no shared locks
            return True
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


def write_whole(path: Path, text: str) -> None:
    """Write a file so that at any moment the old one or the new one is there.

    Raises:
        OSError: it could not be written; the old one stands.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable, where the system can."""
    if os.name != "nt":
        file = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
