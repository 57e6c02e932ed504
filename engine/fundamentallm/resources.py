"""Where files that travel with the program are found, and how files from anywhere are opened."""

import errno
import os
import stat
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

from fundamentallm.errors import UserError
from fundamentallm.fetch import missing_data_hint


def shipped(folder: str) -> Path:
    """The installed folder ("presets", "data"), else the checkout's."""
    installed = Path(str(files("fundamentallm"))) / folder
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


def find_data(path: str) -> Path:
    """A data file as a person names it; `data/...` that is not in the current folder may be a shipped one.

    Raises:
        UserError: there is no such file; names the command that fetches it, if one does.
    """
    given = named(path)
    if given.exists():
        return given
    parts = Path(path).parts
    if parts[:1] == ("data",) and ".." not in parts and (packaged := shipped("data").joinpath(*parts[1:])).is_file():
        return packaged
    hint = missing_data_hint(path)
    raise UserError(f"{path}: no such file" + (f"; {hint} fetches it" if hint else f" (looked in {Path.cwd()})"))
