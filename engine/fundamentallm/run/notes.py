"""What a user says about a run and does with it: its name, which is its folder's, a note, tags, its end. No torch.

The note, the tags and the names that the run had before are in one small file of its folder.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any

from fundamentallm.errors import UserError, system_errors
from fundamentallm.paths import NOT_ON_A_LINE
from fundamentallm.run.events import JOURNAL, decode
from fundamentallm.run.folder import NOTES, OWN, holds_run, named, retire_name, write_atomic
from fundamentallm.run.locks import RunLock
from fundamentallm.untrusted import MAX_EVENT_BYTES, MAX_NAME_CHARS, from_values, open_regular_file

MAX_NOTE_CHARS, MAX_TAGS, MAX_TAG_CHARS, MAX_FORMER_NAMES = 1000, 20, 40, 100
MAX_NOTES_BYTES = 1 << 18  # all of these in any alphabet
MAX_NAME_BYTES = 255  # of a file, in most file systems


@dataclass(frozen=True)
class Notes:
    """The file's contents; `former_names` are those of the folder, the oldest first."""

    note: str = ""
    tags: tuple[str, ...] = ()
    former_names: tuple[str, ...] = ()


def read_notes(folder: Path) -> Notes:
    """Read the notes on a run; there are none where the file is missing, or another program's."""
    return _read(folder) or Notes()


def write_notes(folder: Path, **changes: Any) -> Notes:
    """Change some of the notes on a run; returns all of them. A UserError says that they cannot be, or are too long."""
    notes, path = _read(folder), folder / NOTES
    if notes is None and os.path.lexists(path):
        raise UserError(f"{path}: was not written by this program and is in the way; give it another name")
    wanted = replace(notes or Notes(), **changes)
    notes = _bounded(wanted)
    if len(wanted.note) > MAX_NOTE_CHARS:
        raise UserError(f"a note of {len(wanted.note):,} characters; {MAX_NOTE_CHARS:,} are the most")
    if tuple(wanted.tags) != notes.tags:
        raise UserError(f"a run has {MAX_TAGS} tags at most, each of {MAX_TAG_CHARS} characters at most")
    with system_errors(f"{path}: cannot be written"):
        write_atomic(path, json.dumps(vars(notes), indent=1) + "\n")
    return notes


def _read(folder: Path) -> Notes | None:
    """The notes on a run; None where there is no file, or one that this program cannot have written."""
    try:
        with open_regular_file(folder / NOTES) as file:
            values = json.loads(file.read(MAX_NOTES_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(values, dict) and values.keys() == vars(Notes()).keys()
    notes = from_values(Notes, values) if ours else None
    return None if notes is None else _bounded(notes)


def parse_tags(text: str) -> tuple[str, ...]:
    """Split what a user typed into tags, at spaces and commas; each once."""
    return tuple(dict.fromkeys(text.replace(",", " ").split()))


def _bounded(notes: Notes) -> Notes:
    tags = tuple(tag[:MAX_TAG_CHARS] for tag in notes.tags[:MAX_TAGS])
    return Notes(notes.note[:MAX_NOTE_CHARS], tags, notes.former_names[-MAX_FORMER_NAMES:])


def rename_run(folder: Path, name: str) -> Path:
    """Rename a run's folder, which keeps its former name in its notes; returns the folder's new path.

    A UserError says that a folder cannot have such a name, or has it already, or that a process writes the run.
    """
    folder = named(folder)
    if not _is_name(name):
        can = f"it has 1 to {MAX_NAME_CHARS} characters without /, none of . - ~ or a space first, and no space last"
        raise UserError(f"{name[:MAX_NAME_CHARS]!r}: is no name for a run; {can}")
    target = folder.with_name(name)
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
    if not name or name != name.strip() or name[0] in ".-~" or "/" in name or NOT_ON_A_LINE.search(name):
        return False
    return len(name) <= MAX_NAME_CHARS and len(os.fsencode(name)) <= MAX_NAME_BYTES


def delete_run(folder: Path) -> list[str]:
    """Delete the files that a run writes, and its folder if nothing else is in it.

    Returns the names of what else is there, such as reports and traces, which stays. A UserError says that a process is
    writing the run, or that the system refuses.
    """
    if not holds_run(folder):
        raise UserError(f"{folder}: holds no run")
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link to {folder.resolve()}; remove the link by hand, or delete the run there")
    notes = () if _read(folder) is None else (NOTES,)
    with system_errors(f"{folder}: could not be deleted"):
        with RunLock(folder):
            for path in chain.from_iterable(map(folder.glob, (*notes, *OWN))):
                path.unlink(missing_ok=True)
        left = sorted(path.name for path in folder.iterdir())
    with suppress(OSError):  # in another user's folder of runs, the empty folder stays, and its name can be given again
        retire_name(folder)
        if not left and folder.resolve() != Path.cwd():
            folder.rmdir()
    return left


def keep_former_name(folder: Path, name: str) -> None:
    """Keep the name that a run's folder had before, if that can be kept."""
    with suppress(UserError):
        write_notes(folder, former_names=(*read_notes(folder).former_names, name))


def renamed_to(folder: Path, before: float = inf) -> Path | None:
    """Find the run beside a missing folder that had its name once; None where there is none.

    `before`: the run began before this time; one that began later in the folder has only the same name.
    """
    with suppress(OSError, ValueError):  # a journal of someone else's may name what is no path
        if not os.path.lexists(folder) or began(folder) > before:
            for beside in sorted(folder.parent.iterdir()):
                if holds_run(beside) and folder.name in read_notes(beside).former_names and began(beside) <= before:
                    return beside
    return None


def began(folder: Path) -> float:
    """When the run in a folder began, by its journal; 0 where there is none."""
    with suppress(OSError, ValueError), open_regular_file(folder / JOURNAL) as file:
        first = decode(file.readline(MAX_EVENT_BYTES))
        return first.time if first is not None else 0.0
    return 0.0


def renamed_hint(folder: Path) -> str:
    """Say as a part of an error about a missing folder that its run has another name now; else nothing."""
    found = renamed_to(folder)
    return f"; that run was renamed to {found}" if found is not None else ""
