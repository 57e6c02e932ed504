"""Finding and reading the text files that a model learns from. Imports no torch.

- A file that ends in .gz or .zst is read as what is compressed in it. Of a .jsonl file the text is that of its lines,
  with an empty line between them.
- A file is read in pieces.
"""

import gzip
import json
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from fundamentallm.config.format import format_count, format_names
from fundamentallm.data.download import find_known_text
from fundamentallm.data.encoding import GZIP, JSON_LINES, ZSTD, decode, normalize
from fundamentallm.errors import UserError, describe_error, system_errors
from fundamentallm.paths import shipped, user_path
from fundamentallm.run.folder import STDIN
from fundamentallm.untrusted import open_regular_file

SUFFIXES = (".txt", ".md")  # of the files that a folder stands for, in lower or upper case
SHOWN_NAMES = 5
EXPANDS = 8  # times, about, that a compressed text is larger
PIECE_BYTES = 1 << 20  # that are read at once
NOT_UTF8 = re.compile("[\ud800-\udfff]")  # how Python decodes bytes of arguments and input that are not UTF-8


def normalize_prompt(prompt: str, name: str = "the prompt") -> str:
    """Return a prompt as training text is read; `name` is what an error calls one that is not UTF-8."""
    if wrong := NOT_UTF8.search(prompt):
        what = f"byte 0x{ord(wrong[0]) & 0xFF:02x}" if "\udc80" <= wrong[0] <= "\udcff" else "half of a character"
        raise UserError(f"{name} is not UTF-8 ({what} after {format_count(wrong.start(), 'character')})")
    return normalize(prompt)


@dataclass
class Selection:
    """The files that paths stand for, what folders hold beside them, and which paths lead nowhere."""

    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)  # the patterns of --include that no file in a folder fits


def read_bytes(path: str) -> bytes:
    """Read a file, or standard input where the path is "-"; a UserError if that is not possible."""
    return read_standard_input() if path == STDIN else b"".join(_blocks(path, -1))


def has_fields(path: str) -> bool:
    """Whether each line of a file has fields, of which one is its text."""
    return path.lower().removesuffix(GZIP).removesuffix(ZSTD).endswith(JSON_LINES)


def read_pieces(path: str, text_field: str) -> Iterator[str]:
    """Read the text of a file piece by piece; a UserError says what is wrong with it."""
    pieces = decode([read_standard_input()] if path == STDIN else _blocks(path, PIECE_BYTES), path)
    return _texts_of_lines(pieces, path, text_field) if has_fields(path) else pieces


def text_bytes(path: str) -> int:
    """Return how many bytes of text a file has, about: those of a compressed one are not known before it is read."""
    if path == STDIN:
        return len(read_standard_input())
    with system_errors(f"{path}: cannot be read"):
        size = find_data(path).stat().st_size
    return size * (EXPANDS if path.lower().endswith((GZIP, ZSTD)) else 1)


def _blocks(path: str, size: int) -> Iterator[bytes]:
    """Read a file in blocks of so many bytes, or as a whole (-1), and unpack it."""
    try:
        with open_regular_file(find_data(path)) as file:
            opened: Any = file
            if path.lower().endswith(GZIP):
                opened = gzip.GzipFile(fileobj=file)
            elif path.lower().endswith(ZSTD):
                opened = _zstd().open(file)
            while block := opened.read(size):
                yield block
    except (gzip.BadGzipFile, zlib.error, EOFError, _zstd().ZstdError) as error:
        raise UserError(f"{path}: cannot be unpacked: {describe_error(error)}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {describe_error(error)}") from None


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _texts_of_lines(pieces: Iterable[str], path: str, text_field: str) -> Iterator[str]:
    """Yield the texts in lines of JSON, with an empty line between them."""
    written, gathered = "", ""
    for number, line in enumerate(_lines(pieces), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number:,}: cannot be read as JSON: {describe_error(error)[:100]}") from None
        fields = values if isinstance(values, dict) else {}
        text = fields.get(text_field)
        if not isinstance(text, str):
            names = format_names(list(fields), SHOWN_NAMES) or "none"
            why = f'has no text in a field "{text_field}"; its fields: {names}'
            raise UserError(f"{path}, line {number:,}: {why}; --text-field names another")
        if "\0" in text or NOT_UTF8.search(text):
            raise UserError(f"{path}, line {number:,}: its text has a zero character, or half of a character")
        gathered += written + normalize(text)
        written = "\n\n"
        if len(gathered) >= PIECE_BYTES:
            yield gathered
            gathered = ""
    yield gathered


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    begun = ""
    for piece in pieces:
        *lines, begun = (begun + piece).split("\n")
        yield from lines
    yield begun


@cache  # a pipe can be read once, and a start reads its text twice
def read_standard_input() -> bytes:
    """Read standard input to its end; a UserError if it is a terminal, or closed."""
    if sys.stdin is None:
        raise UserError("-: standard input is closed")
    if sys.stdin.isatty():
        raise UserError("-: standard input is a terminal; pipe a text into it: cat FILE | fundamentallm train -")
    with system_errors("-: standard input cannot be read"):
        return sys.stdin.buffer.read()


def describe_left_out(names: list[str]) -> str:
    """Say which files and folders in a folder are not read, and what would be."""
    stands_for = "the .txt and .md files directly in it, and those that --include names"
    return f"left out: {format_names(names, SHOWN_NAMES)}; a folder stands for {stands_for}"


def select(paths: tuple[str, ...], include: tuple[str, ...] = ()) -> Selection:
    """Replace each folder by the .txt and .md files directly in it, and each pattern by what fits it, sorted by name.

    Other paths stay as they are. A pattern takes a file once, also where links give it several names. `include` has
    patterns of further files in folders, such as "*.rst". Hidden files are left out in any case.
    """
    chosen, names = Selection(), list[str]()
    if list(paths).count(STDIN) > 1:
        chosen.problems.append("-: stands for standard input, which can be read once; name it once")
    for path in paths:
        if has_magic(path) and not os.path.lexists(path) and (fitting := glob(str(user_path(path)), recursive=True)):
            by_length = sorted((len(file), file) for file in fitting if not os.path.isdir(file))
            chosen.files += sorted({os.path.realpath(file): file for _, file in reversed(by_length)}.values())
            continue
        try:
            folder = None if path == STDIN else find_data(path)
            with system_errors(f"{path}: cannot be read"):
                inside = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else None
        except UserError as error:
            chosen.problems.append(str(error))
            continue
        if inside is None:
            chosen.files.append(path)
            continue
        before = len(chosen.files)
        names += [entry.name for entry in inside if not os.path.isdir(entry)]
        for entry in inside:
            hidden, is_folder = entry.name.startswith("."), os.path.isdir(entry)
            named = entry.suffix.lower() in SUFFIXES or any(fnmatchcase(entry.name, glob) for glob in include)
            wanted = named and not is_folder
            if wanted and not hidden:
                chosen.files.append(str(entry))
            elif wanted or not hidden:
                chosen.left_out.append(f"{entry}/" if is_folder else str(entry))
        if len(chosen.files) == before:
            chosen.problems.append(f"{path}: holds no .txt or .md file; name its files, or a pattern with --include")
    chosen.unused = [pattern for pattern in include if not any(fnmatchcase(name, pattern) for name in names)]
    return chosen


def select_before_include(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Replace each folder by the files that it stood for in versions without the setting `include`: its *.txt files."""
    files = list[str]()
    for path in paths:
        folder = user_path(path)
        files += sorted(str(file) for file in folder.glob("*.txt") if file.is_file()) if folder.is_dir() else [path]
    return tuple(files)


def find_data(path: str) -> Path:
    """Find a data file or folder; a file `data/...` that is not in the current folder may be a shipped one.

    Where there is none, a UserError names the command that downloads it, if there is one.
    """
    given = user_path(path)
    if given.exists():
        return given
    parts = Path(path).parts
    if parts[:1] == ("data",) and ".." not in parts:
        packaged = shipped("data").joinpath(*parts[1:])
        if packaged.is_file():
            return packaged
    if known := find_known_text(path):
        raise UserError(f"{path}: no such file; fundamentallm data get {known} downloads it")
    raise UserError(f"{path}: no such file (looked in {Path.cwd()})")
