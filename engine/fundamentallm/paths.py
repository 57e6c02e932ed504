"""Where files that travel with the program are found, and how files from anywhere are opened."""

import errno
import os
import stat
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

from fundamentallm.errors import UserError


def shipped(folder: str) -> Path:
    """The installed folder ("presets", "data"), else the checkout's."""
    installed = Path(str(files("fundamentallm"))) / "shipped" / folder
    return installed if installed.is_dir() else Path(__file__).parents[2] / folder


def named(path: str) -> Path:
    """A path as a person writes it, `~` and all, whether there is something or not.

    Raises:
        UserError: the system cannot even look it up.
    """
    try:
        given = Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            given.stat()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, a home that nobody has, a zero byte
        raise UserError(f"{path[:100]}: cannot be looked up: {getattr(error, 'strerror', None) or error}") from None
    return given


def open_file(path: Path) -> BinaryIO:
    """An ordinary file, for reading bytes: a pipe might keep us waiting for ever, and a device never end.

    Raises:
        OSError: it is none, or cannot be read.
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is no ordinary file", str(path))
    return path.open("rb")
