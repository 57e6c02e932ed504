"""What the console remembers from one session to the next, and the user's own keys: a YAML file each.

The console writes the first and only reads the second.
"""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_config_path

from fundamentallm.errors import describe_error
from fundamentallm.paths import user_folder
from fundamentallm.run.folder import write_atomic
from fundamentallm.untrusted import MAX_CONFIG_BYTES, from_values, open_regular_file

HEADER = "# Written by fllm-tui. Your own keys belong into keys.yaml beside it, such as  pause: f10\n"


@dataclass(frozen=True)
class Preferences:
    """What is remembered."""

    theme: str = ""  # its name; empty: the usual one
    maximized: str = ""  # the pane that was shown alone; empty: none was
    metric: str = ""  # the name of the one that was shown; empty: the first
    smoothing: float = 0.9  # of the training loss, as a `View` has it
    last_data: tuple[str, ...] = ()  # the texts of the last run, where the user had chosen them
    toured: bool = False  # whether the tour was shown


def preferences_file() -> Path:
    """Return the file of the preferences; there need not be one."""
    return user_folder(user_config_path) / "console.yaml"


def is_first_session() -> bool:
    """Return whether nothing was ever remembered."""
    return not os.path.lexists(preferences_file())


def keys_file() -> Path:
    """Return the file with the user's keys by the ids of commands; there need not be one."""
    return preferences_file().with_name("keys.yaml")


def read_mapping(path: Path) -> tuple[dict[Any, Any], str]:
    """Return what a YAML file holds, and what is wrong with it; a missing one holds nothing."""
    try:
        with open_regular_file(path) as file:
            values = yaml.safe_load(file.read(MAX_CONFIG_BYTES).decode()) or {}
    except FileNotFoundError:
        return {}, ""
    except Exception as error:  # PyYAML raises many kinds; whatever is wrong, the console opens
        values, why = None, describe_error(error) if isinstance(error, OSError) else "it is damaged"
    else:
        why = "it is damaged"
    if isinstance(values, dict):
        return values, ""
    return {}, f"{path} is not used: {why}. Until it is corrected or deleted, it stays as it is."


def load() -> tuple[Preferences, str]:
    """Read the preferences, and say what is wrong with the file; a value that is none is left out."""
    values, problem = read_mapping(preferences_file())
    known = {
        name: value
        for name, value in values.items()
        if value is not None and from_values(Preferences, {name: value}) is not None
    }
    return from_values(Preferences, known) or Preferences(), problem


def remember(**changes: Any) -> None:
    """Write these preferences into the file, unless that is damaged.

    Where nothing can be written, the next session begins as this one did.
    """
    before, problem = load()
    after = replace(before, **changes)
    if problem or after == before:
        return
    with suppress(OSError):
        path = Path(os.path.realpath(preferences_file()))  # it may be a link to the user's collection of such files
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, HEADER + yaml.safe_dump({**vars(after), "last_data": [*after.last_data]}, sort_keys=False))


def last_data() -> tuple[str, ...]:
    """Return the texts of the last run, if they are still there; those below the current folder by the short path."""
    paths = load()[0].last_data
    if not all(os.path.exists(path) for path in paths):
        return ()
    here = os.path.join(os.getcwd(), "")
    return tuple(path.removeprefix(here) or path for path in paths)
