"""What the console remembers from one session to the next: the theme."""

from collections.abc import Container
from contextlib import suppress
from pathlib import Path

import yaml
from platformdirs import user_config_path

from fundamentallm.run.folder import write_atomic
from fundamentallm.untrusted import MAX_CONFIG_BYTES, open_regular_file


def preferences_file() -> Path:
    """Return the file of the preferences; there need not be one."""
    return user_config_path("fundamentallm") / "console.yaml"


def load_theme(known: Container[str]) -> tuple[str, str]:
    """Return the name of the theme that was chosen last, and what is wrong with the file; each may be empty.

    Args:
        known: the themes that there are.
    """
    path = preferences_file()
    try:
        with open_regular_file(path) as file:
            theme = yaml.safe_load(file.read(MAX_CONFIG_BYTES).decode())["theme"]
        if theme in known:
            return theme, ""
        why = "there is no such theme"
    except FileNotFoundError:
        return "", ""
    except Exception as error:  # PyYAML raises many kinds; whatever is wrong, the console opens
        why = (error.strerror or "unreadable") if isinstance(error, OSError) else "it is damaged"
    return "", f"{path} is not used: {why}. Choosing a theme (ctrl+p) writes it anew."


def save_theme(name: str) -> None:
    """Remember a theme; where that cannot be written, the next session begins with the usual one."""
    path = preferences_file()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, f"theme: {name}\n")
