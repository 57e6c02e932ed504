"""A run's folder: its files, which folder a run may use, moving a run aside, and writing a file atomically."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError, describe_error
from fundamentallm.paths import quoted_path, user_path
from fundamentallm.run.commands import COMMANDS
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.locks import LOCK, RunLock, is_foreign_lock
from fundamentallm.untrusted import MAX_CONFIG_BYTES, open_for_writing, open_regular_file

CONFIG, ENGINE_LOG, TOKENIZER = "config.yaml", "engine.log", "tokenizer.json"
NOTES, REPORT = "notes.json", "report.md"
LAST, BEST, FINAL = "last.pt", "best.pt", "final_model.pt"
STDIN, INPUT = "-", "input.txt"  # as a path of data: standard input; and the file of the run's folder that keeps it
# Patterns of what a run replaces; of what a kill leaves of such a file; and of all that it writes, but for its notes.
REPLACED = (LAST, BEST, FINAL, "checkpoint_epoch_[0-9]*.pt", "checkpoint_step_[0-9]*.pt", CONFIG, TOKENIZER)
TEMPORARY = tuple(f".{name}.[0-9]*.tmp" for name in (*REPLACED, INPUT, NOTES))
OWN = (*REPLACED, *TEMPORARY, COMMANDS, ENGINE_LOG, JOURNAL, LOCK)  # the lock last: until it is gone, no run starts
RUNS = Path("runs")  # where runs get their folders, if the user names none
DELETED = ".deleted"  # in there: the names of the runs that were deleted or renamed, one a line


def holds_run(folder: Path) -> bool:
    """Whether a run was started in a folder; False also where that cannot be looked up."""
    return os.path.isfile(folder / JOURNAL)


def check_readable(folder: Path) -> None:
    """Raise a UserError if this user may not look into a folder, which then seems to hold nothing."""
    try:
        os.stat(folder / JOURNAL)
    except PermissionError as error:
        raise UserError(f"{folder}: cannot be read: {describe_error(error)}") from None
    except OSError:
        return


def named(folder: Path) -> Path:
    """Return the path of a folder that ends in its name, which "." and ".." do not. A link keeps the name it has."""
    return folder.resolve() if folder.name in ("", "..") else folder


def choose_folder(config: Config, label: str = "") -> Path:
    """Choose a run's folder: `config.output_dir`, or the first free `runs/<label or data>-<n>`.

    A UserError says that there can be no such path.
    """
    if config.output_dir is not None:
        return user_path(config.output_dir)
    name = label or (Path(*stored_input(config.data, Path())[:1]).stem or "run")
    return user_path(str(free_name(RUNS / name, "-")))


def find_checkpoint(path: str, name: str) -> Path:
    """Find a checkpoint: the file itself, or a run's folder, which stands for its file `name`."""
    given = user_path(path)
    check_readable(given)
    return given / name if given.is_dir() else given


def stored_input(paths: Iterable[str], folder: Path) -> tuple[str, ...]:
    """Return `paths` with the file that keeps standard input in a run's folder in place of "-"."""
    return tuple(str(folder / INPUT) if path == STDIN else path for path in paths)


def check_folder(folder: Path, *, may_hold_run: bool) -> None:
    """Refuse a folder that is a file, cannot be written to, or holds a run and must not (`may_hold_run`)."""
    option = f"--output-dir {folder}"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{option}: is a file; name a folder")
    check_readable(folder)
    for path in (folder / name for name in (JOURNAL, CONFIG, TOKENIZER, ENGINE_LOG, LOCK, COMMANDS, "wandb")):
        if path.is_symlink() or (path.exists() and not path.is_file() and path.name != "wandb"):
            why = "is a link or not a regular file, and a run writes only into files of its own"
            raise UserError(f"{path}: {why}; move it away")
    if not may_hold_run and holds_run(folder):
        others = "name another folder, or move the old run aside with --overwrite"
        raise UserError(f"{option}: holds a run already; resume it with --resume auto, {others}")
    foreign = [path for pattern in REPLACED if not may_hold_run for path in folder.glob(pattern)]
    if not holds_run(folder) and is_foreign_lock(folder / LOCK):
        foreign.append(folder / LOCK)
    if foreign:
        why = f"holds a {foreign[0].name} that belongs to no run and would be overwritten"
        raise UserError(f"{option}: {why}; name another folder")
    check_writable(folder, option)


def check_writable(folder: Path, option: str) -> None:
    """Refuse a folder, which `option` names, that cannot be written into, or is not there and cannot be made."""
    nearest = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{option}: {nearest} cannot be written to")


def move_aside(folder: Path) -> Path | None:
    """Rename a folder that holds a run to `<folder>.old-<n>`; returns None where there was no run."""
    if not holds_run(folder):
        return None
    if (path := named(folder)) != folder:  # afterwards such a path would still mean the old run
        why = f"cannot be moved aside under this name; write --output-dir {quoted_path(path)}"
        raise UserError(f"--output-dir {folder}: {why}")
    with RunLock(folder):
        return folder.rename(free_name(folder))


def free_name(path: Path, ending: str = ".old-", first: int = 1) -> Path:
    """Return the first of <path>.old-1, <path>.old-2, ... that does not exist.

    The name of a run that was deleted or renamed is not given again: notes and logs elsewhere may still mean that run.
    """
    path = named(path)
    deleted = _deleted_names(path.parent)
    numbered = (path.with_name(f"{path.name}{ending}{n}") for n in count(first))
    return next(free for free in numbered if not os.path.lexists(free) and free.name not in deleted)


def retire_name(folder: Path) -> None:
    """Keep the name of a run of a folder `runs`, whose names the program chooses, so that no other run gets it."""
    where = folder.absolute()
    if where.parent.name == RUNS.name and "\n" not in where.name:
        with open(open_for_writing(where.parent / DELETED, os.O_APPEND), "ab") as file:
            file.write(os.fsencode(f"{where.name}\n"))


def _deleted_names(runs: Path) -> set[str]:
    try:
        with open_regular_file(runs / DELETED) as file:
            return set(file.read(MAX_CONFIG_BYTES).decode("utf-8", "surrogateescape").splitlines())
    except OSError:
        return set()


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a file so that at any moment either the old one or the complete new one is there.

    Text is encoded as UTF-8, its newlines as they are. After an OSError the old one stands.
    """
    temporary = temporary_path(path)
    try:
        with synced_file(temporary) as file:
            file.write(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Name a file beside `path` that is to be renamed to it; `TEMPORARY` matches those that a kill left behind."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


@contextmanager
def synced_file(path: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing; when the block ends without an error, its bytes are on the disk."""
    with open(open_for_writing(path, os.O_TRUNC), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the renames in `folder` durable."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
