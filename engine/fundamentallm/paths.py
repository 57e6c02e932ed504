"""Paths: of the files that are installed with the program, as a user writes them, and in suggested commands."""

import re
import shlex
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from fundamentallm.errors import UserError, describe_error
from fundamentallm.untrusted import UNSAFE

NOT_ON_A_LINE = re.compile(f"[\n\t]|{UNSAFE.pattern}")  # characters that would break a line, or steer a terminal


def shipped(folder: str) -> Path:
    """Find a folder that is installed with the program ("presets", "data"); in a checkout, the checkout's."""
    installed = Path(str(files("fundamentallm"))) / "shipped" / folder
    return installed if installed.is_dir() else Path(__file__).parents[2] / folder


def user_path(path: str) -> Path:
    """Expand `~` in a path as a user writes it. There need not be such a file; a UserError if no file can be there."""
    if not path:  # to Python, the current folder
        raise UserError("'': is no path; . is the current folder")
    try:
        given = Path(path).expanduser() if path.startswith("~") else Path(path)  # "./~x" is a file called "~x"
        given.absolute()  # the current folder may be gone
        with suppress(FileNotFoundError, NotADirectoryError):
            given.stat()
    except (OSError, RuntimeError, ValueError) as error:  # too long a name, an unknown user's home, a zero byte
        raise UserError(f"{path[:100]}: cannot be looked up: {describe_error(error)}") from None
    return given


def user_folder(find: Callable[[str], Path]) -> Path:
    """Return the folder of this program that `find`, of platformdirs, knows; one that is not there without a home."""
    try:
        return find("fundamentallm")
    except RuntimeError:  # there is neither HOME nor such a user, as in some containers
        return Path("/nonexistent/fundamentallm")


def is_near(path: str, folder: Path) -> bool:
    """Whether a path is inside `folder` or the current folder, links resolved."""
    try:
        target = user_path(path).resolve()
    except UserError:
        return False
    return any(target.is_relative_to(near.resolve()) for near in (folder, Path()))


def quoted(text: str) -> str:
    """Write `text` as one word of a shell command, printable and on one line, for every suggested command.

    Newlines and characters that could steer a terminal become escapes of `printf`, which every shell has.
    """
    if not NOT_ON_A_LINE.search(text):
        return shlex.quote(text)
    body = text.rstrip("\n")
    word = f"\"$(printf '{_NOT_PLAIN.sub(_escape, body)}')\"" if NOT_ON_A_LINE.search(body) else shlex.quote(body)
    ends = "\n" * (len(text) - len(body))  # which $(...) would drop
    return f"{word}'{ends}'" if ends else word


def quoted_path(path: str | Path) -> str:
    """Write a path as one word of a shell command, for a file name that looks like something else with "./" in front.

    An option begins with "-", a home folder with "~", for zsh a program with "="; settings know "auto" and "none".
    """
    text = str(path)
    special = text.startswith(("-", "~", "=")) or text.strip().lower() in ("auto", "none")
    return quoted(f"./{text}" if special else text)


def resume_command(folder: Path) -> str:
    """Return the command that resumes the run in a folder from whatever is there."""
    return f"fundamentallm train --resume auto --output-dir {quoted_path(folder)}"


_NOT_PLAIN = re.compile(f"^-|[^\\w /.,:=+@-]|{UNSAFE.pattern}")  # in the format of printf


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character == "\n":
        return "\\n"
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "replace"  # a byte of a name that is not UTF-8
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", errors))
