"""What the console remembers from one session to the next, in a YAML file that the user may write in as well."""

import os
import re
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_config_path

from fundamentallm.config.config import unknown
from fundamentallm.run.folder import write_atomic
from fundamentallm.untrusted import MAX_CONFIG_BYTES, from_values, open_regular_file

HEADER = "# fllm-tui writes theme, layout, smoothing and last_data. keys is yours, such as  keys: {pause: f9}\n"
EXPECTED = {
    "theme": "the name of a theme", "layout": "what the console writes", "smoothing": "a number from 0 to 1",
    "last_data": "a list of paths", "keys": "commands with their keys, such as {pause: f9}",
}  # fmt: skip


@dataclass(frozen=True)
class Preferences:
    """What is remembered.

    Attributes:
        theme: its name; empty: the usual one.
        layout: "maximized": the pane that was shown alone, "metric": the metric that was shown.
        smoothing: of the training loss, as a `View` has it.
        last_data: the texts of the last run, where the user had chosen them.
        keys: by a command's id the key that the user wants for it.
    """

    theme: str = ""
    layout: dict[str, Any] = field(default_factory=dict)
    smoothing: float = 0.9
    last_data: tuple[str, ...] = ()
    keys: dict[str, Any] = field(default_factory=dict)


def preferences_file() -> Path:
    """Return the file of the preferences; there need not be one."""
    return user_config_path("fundamentallm") / "console.yaml"


def load() -> tuple[Preferences, list[str]]:
    """Read the preferences, and say what is wrong with the file, a line each; what is wrong is left out."""
    path = preferences_file()
    try:
        values = _values(_read())
    except Exception as error:  # PyYAML raises many kinds; whatever is wrong, the console opens
        why = (error.strerror or "unreadable") if isinstance(error, OSError) else "it is damaged"
        return Preferences(), [f"{path} is not used: {why}. Until it is corrected or deleted, nothing is remembered."]
    names = [field.name for field in fields(Preferences)]
    known: dict[str, Any] = {}
    problems = []
    for name, value in values.items():
        if name not in names:
            problems.append(f"{path}: {name}: {unknown('preference', str(name), names)}")
        elif from_values(Preferences, {name: value}) is None or value is None:
            problems.append(f"{path}: {name} is not used: it must be {EXPECTED[name]}.")
        else:
            known[name] = value
    return from_values(Preferences, known) or Preferences(), problems


def remember(**changes: Any) -> None:
    """Write these preferences into the file; everything else in it stays as it is, comments included.

    A damaged file is left alone. Where nothing can be written, the next session begins as this one did.
    """
    with suppress(OSError, ValueError, yaml.YAMLError, RecursionError):
        text = _read()
        before = _values(text)
        changes = {name: list(value) if isinstance(value, tuple) else value for name, value in changes.items()}
        changes = {name: value for name, value in changes.items() if before.get(name, _default(name)) != value}
        if not changes:
            return
        text = text or HEADER
        for name, value in changes.items():
            line = f"{name}: {yaml.safe_dump(value, default_flow_style=True, width=1_000_000).splitlines()[0]}\n"
            found = re.search(rf"(?m)^{name}:.*\n?(?:[ \t-].*\n?)*", text)
            start, end = found.span() if found else (len(text), len(text))
            text = f"{text[:start].rstrip()}\n{line}{text[end:]}".lstrip()
        wanted = {**before, **changes}
        if not _means(text, wanted):  # it was written in a way that cannot be changed line by line
            text = yaml.safe_dump(wanted, sort_keys=False)
        path = Path(os.path.realpath(preferences_file()))  # it may be a link to the user's collection of such files
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)


def last_data() -> tuple[str, ...]:
    """Return the texts of the last run, if they are still there; those below the current folder by the short path."""
    paths = load()[0].last_data
    if not all(os.path.exists(path) for path in paths):
        return ()
    here = os.path.join(os.getcwd(), "")
    return tuple(path.removeprefix(here) or path for path in paths)


def _read() -> str:
    """The file's text; empty where there is no file."""
    try:
        with open_regular_file(preferences_file()) as file:
            return file.read(MAX_CONFIG_BYTES).decode()
    except FileNotFoundError:
        return ""


def _values(text: str) -> dict[str, Any]:
    values = yaml.safe_load(text) if text.strip() else {}
    if values is not None and not isinstance(values, dict):
        raise ValueError("no mapping")
    return values or {}


def _means(text: str, values: dict[str, Any]) -> bool:
    try:
        return _values(text) == values
    except yaml.YAMLError:
        return False


def _default(name: str) -> Any:
    value = getattr(Preferences(), name)
    return list(value) if isinstance(value, tuple) else value
