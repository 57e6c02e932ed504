"""Finding and reading the text files that a model learns from. Imports no torch."""

import re
from pathlib import Path

from fundamentallm.data.download import find_known_text
from fundamentallm.errors import UserError
from fundamentallm.paths import shipped, user_path
from fundamentallm.untrusted import open_regular_file

NOT_UTF8 = re.compile("[\ud800-\udfff]")  # how Python decodes bytes of arguments and input that are not UTF-8


def normalize(text: str) -> str:
    """Return a text as the model reads it: line ends become newlines, a byte order mark is dropped."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def normalize_prompt(prompt: str, name: str = "the prompt") -> str:
    """Return a prompt as training text is read; `name` is what an error calls it.

    Raises:
        UserError: it is not UTF-8.
    """
    if wrong := NOT_UTF8.search(prompt):
        place = f"byte 0x{ord(wrong[0]) & 0xFF:02x} after {wrong.start():,} characters"
        raise UserError(f"{name} is not UTF-8 ({place})")
    return normalize(prompt)


def read_text(path: str) -> str:
    """Read a UTF-8 file: line ends become newlines, a byte order mark is dropped.

    Raises:
        UserError: it is missing, a folder, unreadable, empty, binary or not UTF-8; the message says where.
    """
    found = find_data(path)
    if found.is_dir():
        raise UserError(f"{path}: is a folder; name a text file")
    try:
        with open_regular_file(found) as file:
            raw = file.read()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if not raw.strip():
        raise UserError(f"{path}: is empty; it needs at least a few thousand characters of text")
    zero = raw.find(b"\0")
    if zero >= 0:
        raise UserError(f"{path}: is not a text file (a zero byte at offset {zero})")
    try:
        return normalize(raw.decode())
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        wrong = f"byte 0x{raw[error.start]:02x} in line {line}, offset {error.start}"
        raise UserError(f"{path}: is not UTF-8 ({wrong}); save it as UTF-8") from None


def read_texts(paths: tuple[str, ...]) -> list[str]:
    """Read every file that `paths` name; each is a document of its own.

    Raises:
        UserError: no file is named, or as in `expand` and `read_text`.
    """
    if not paths:
        raise UserError("no data: name a text file to learn from")
    return [read_text(path) for path in expand(paths)]


def expand(paths: tuple[str, ...]) -> list[str]:
    """Replace each folder by the *.txt files directly in it, sorted by name; other paths stay as they are.

    Raises:
        UserError: a path does not exist, or a folder holds no such file.
    """
    files = []
    for path in paths:
        found = find_data(path)
        if not found.is_dir():
            files.append(path)
            continue
        inside = sorted(str(file) for file in found.glob("*.txt") if file.is_file())
        if not inside:
            raise UserError(f"{path}: holds no *.txt file")
        files += inside
    return files


def find_data(path: str) -> Path:
    """Find a data file or folder; a file `data/...` that is not in the current folder may be a shipped one.

    Raises:
        UserError: it does not exist; the message names the command that downloads it, if there is one.
    """
    given = user_path(path)
    if given.exists():
        return given
    parts = Path(path).parts
    if parts[:1] == ("data",) and ".." not in parts:
        packaged = shipped("data").joinpath(*parts[1:])
        if packaged.is_file():
            return packaged
    known = find_known_text(path)
    if known:
        raise UserError(f"{path}: no such file; fundamentallm data get {known} downloads it")
    raise UserError(f"{path}: no such file (looked in {Path.cwd()})")
