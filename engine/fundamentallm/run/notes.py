"""What a user says about a run: its name, which is that of its folder, a note and tags. No torch.

The note, the tags and the names that the run had before are in one small file of its folder.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fundamentallm.errors import UserError, system_errors
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.folder import NOTES, retire_name, write_atomic
from fundamentallm.run.locks import RunLock
from fundamentallm.untrusted import MAX_NAME_CHARS, UNSAFE, from_values, open_regular_file

MAX_NOTE_CHARS, MAX_TAGS, MAX_TAG_CHARS, MAX_FORMER_NAMES = 1000, 20, 40, 100
MAX_NOTES_BYTES = 1 << 16  # all of these in any alphabet


@dataclass(frozen=True)
class Notes:
    """The file's contents; `former_names` are those of the folder, the oldest first."""

    note: str = ""
    tags: tuple[str, ...] = ()
    former_names: tuple[str, ...] = ()


def read_notes(folder: Path) -> Notes:
    """Read the notes on a run; there are none where the file is missing, or is not one that this program writes."""
    try:
        with open_regular_file(folder / NOTES) as file:
            values = json.loads(file.read(MAX_NOTES_BYTES))
    except (OSError, ValueError, RecursionError):
        return Notes()
    notes = from_values(Notes, values) if isinstance(values, dict) else None
    return _bounded(notes or Notes())


def write_notes(folder: Path, **changes: Any) -> Notes:
    """Change some of the notes on a run; returns all of them."""
    notes = _bounded(replace(read_notes(folder), **changes))
    with system_errors(f"{folder / NOTES}: cannot be written"):
        write_atomic(folder / NOTES, json.dumps(vars(notes), indent=1) + "\n")
    return notes


def parse_tags(text: str) -> tuple[str, ...]:
    """Split what a user typed into tags, at spaces and commas; each once."""
    return tuple(dict.fromkeys(tag[:MAX_TAG_CHARS] for tag in text.replace(",", " ").split()))[:MAX_TAGS]


def _bounded(notes: Notes) -> Notes:
    tags = tuple(tag[:MAX_TAG_CHARS] for tag in notes.tags[:MAX_TAGS])
    return Notes(notes.note[:MAX_NOTE_CHARS], tags, notes.former_names[-MAX_FORMER_NAMES:])


def rename_run(folder: Path, name: str) -> Path:
    """Rename a run's folder, which keeps its former name in its notes; returns the folder's new path.

    A UserError says that a folder cannot have such a name, or has it already, or that a process writes the run.
    """
    target = folder.with_name(name) if _is_name(name) and folder.name else None
    if target is None:
        raise UserError(f"{name[:MAX_NAME_CHARS]!r}: is no name for a run; letters, digits, - _ and . can be in one")
    if os.path.lexists(target):
        raise UserError(f"{target}: there is one already; choose another name")
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link to {folder.resolve()}; rename the run there")
    with system_errors(f"{folder}: cannot be renamed"), RunLock(folder):
        write_notes(folder, former_names=(*read_notes(folder).former_names, folder.name))
        folder.rename(target)
        with suppress(OSError):
            retire_name(folder)
    return target


def _is_name(name: str) -> bool:
    """Whether a folder can have the name, and commands can name it without quotes at its beginning."""
    return 0 < len(name) <= MAX_NAME_CHARS and name[0] not in ".-~ " and "/" not in name and not UNSAFE.search(name)


def renamed_to(folder: Path) -> Path | None:
    """Find the run beside a missing folder that had its name once; None where there is none."""
    if not folder.exists():
        with suppress(OSError):
            for beside in sorted(folder.parent.iterdir()):
                if (beside / JOURNAL).is_file() and folder.name in read_notes(beside).former_names:
                    return beside
    return None


def renamed_hint(folder: Path) -> str:
    """Say as a part of an error about a missing folder that its run has another name now; else nothing."""
    found = renamed_to(folder)
    return f"; that run was renamed to {found}" if found is not None else ""
