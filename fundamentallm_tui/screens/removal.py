"""Deleting a run: the files that a run writes, and its folder if nothing else is in it."""

from pathlib import Path

from fundamentallm.errors import UserError
from fundamentallm.run.folder import COMMANDS, CONFIG, ENGINE_LOG, JOURNAL, LOCK, TOKENIZER
from fundamentallm.run.locks import RunLock

WRITTEN = (CONFIG, COMMANDS, ENGINE_LOG, TOKENIZER, JOURNAL, LOCK)  # the lock last: nobody starts here meanwhile


def remove_run(folder: Path) -> list[str]:
    """Delete a run for good.

    Returns:
        The names of what is still there, because no run has written it.

    Raises:
        UserError: a process is writing the run, or the system refuses.
    """
    if not (folder / JOURNAL).is_file():
        raise UserError(f"{folder}: holds no run")
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link to {folder.resolve()}; remove the link by hand, or delete the run there")
    try:
        with RunLock(folder):
            for path in (*folder.glob("*.pt"), *folder.glob(".*.*.tmp"), *(folder / name for name in WRITTEN)):
                path.unlink(missing_ok=True)
        left = sorted(path.name for path in folder.iterdir())
        if not left and folder.resolve() != Path.cwd():
            folder.rmdir()
    except OSError as error:
        raise UserError(f"{folder}: could not be deleted: {error.strerror or error}") from None
    return left
