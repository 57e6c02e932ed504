"""A run's directory: the names of its files, which folder a run may use, and writing a file whole."""

import os
from contextlib import suppress
from pathlib import Path

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.paths import named

JOURNAL, CONFIG, ENGINE_LOG, LOCK, TOKENIZER = "journal.jsonl", "config.yaml", "engine.log", "lock", "tokenizer.json"
COMMANDS = "commands.jsonl"
LAST, BEST, FINAL = "last.pt", "best.pt", "final_model.pt"
# How a file of a run is opened to be written: whoever the folder came from, not through a link to somewhere else.
OURS = os.O_NOFOLLOW | os.O_NONBLOCK


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
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
