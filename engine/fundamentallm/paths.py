"""Paths: of the files that are installed with the program, and as a user writes them."""

from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from fundamentallm.errors import UserError


def shipped(folder: str) -> Path:
    """Find a folder that is installed with the program ("presets", "data"); in a checkout, the checkout's."""
    installed = Path(str(files("fundamentallm"))) / "shipped" / folder
    return installed if installed.is_dir() else Path(__file__).parents[2] / folder


def user_path(path: str) -> Path:
    """Expand `~` in a path as a user writes it; there need not be such a file.

    Raises:
        UserError: the system cannot look it up.
    """
    try:
        given = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            given.stat()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, an unknown user's home, a zero byte
        raise UserError(f"{path[:100]}: cannot be looked up: {getattr(error, 'strerror', None) or error}") from None
    return given
