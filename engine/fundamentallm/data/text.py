"""Finding and reading the text files that a model learns from. Imports no torch."""

import os
import re
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from fundamentallm.config.format import format_count, format_names
from fundamentallm.data.download import find_known_text
from fundamentallm.data.encoding import decode, normalize
from fundamentallm.errors import UserError, system_errors
from fundamentallm.paths import shipped, user_path
from fundamentallm.run.folder import STDIN
from fundamentallm.untrusted import open_regular_file

SUFFIXES = (".txt", ".md")  # of the files that a folder stands for, in lower or upper case
MAX_PROBLEMS = 100  # lines; a folder of pictures that are called .txt would fill the screen
SHOWN_NAMES = 5
NOT_UTF8 = re.compile("[\ud800-\udfff]")  # how Python decodes bytes of arguments and input that are not UTF-8


def normalize_prompt(prompt: str, name: str = "the prompt") -> str:
    """Return a prompt as training text is read; `name` is what an error calls one that is not UTF-8."""
    if wrong := NOT_UTF8.search(prompt):
        place = f"byte 0x{ord(wrong[0]) & 0xFF:02x} after {format_count(wrong.start(), 'character')}"
        raise UserError(f"{name} is not UTF-8 ({place})")
    return normalize(prompt)


@dataclass
class Selection:
    """The files that paths stand for, what folders hold beside them, and which paths lead nowhere."""

    files: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class Texts:
    """What was read: each file is a document of its own. `notices`: what was read, left out and passed over."""

    files: list[str]
    documents: list[str]
    notices: list[str]


def read_bytes(path: str) -> bytes:
    """Read a file, or standard input where the path is "-"; a UserError if that is not possible."""
    if path == STDIN:
        return read_standard_input()
    with system_errors(f"{path}: cannot be read"), open_regular_file(find_data(path)) as file:
        return file.read()


@cache  # a pipe can be read once, and a start reads its text twice
def read_standard_input() -> bytes:
    """Read standard input to its end; a UserError if it is a terminal, or closed."""
    if sys.stdin is None:
        raise UserError("-: standard input is closed")
    if sys.stdin.isatty():
        raise UserError("-: standard input is a terminal; pipe a text into it: cat FILE | fundamentallm train -")
    with system_errors("-: standard input cannot be read"):
        return sys.stdin.buffer.read()


def read_texts(paths: tuple[str, ...], include: tuple[str, ...] = ()) -> list[str]:
    """Read every text that `paths` stand for, as `read_data` does; returns the documents alone."""
    return read_data(paths, include).documents


def read_data(
    paths: tuple[str, ...], include: tuple[str, ...] = (), needs: str = "a few thousand characters of text"
) -> Texts:
    """Read every text that `paths` stand for. Empty files are passed over.

    A UserError has a line for each problem; `needs` is what it asks for if all files are empty.
    """
    if not paths:
        raise UserError("no data: name a text file to learn from")
    chosen = select(paths, include)
    texts, empty, problems = Texts([], [], []), list[str](), chosen.problems
    for path in chosen.files:
        try:
            text = decode(read_bytes(path), path)
        except UserError as error:
            problems.append(str(error))
            continue
        if text.strip():
            texts.files.append(path)
            texts.documents.append(text)
        else:
            empty.append(path)
    if problems:
        more = len(problems) - MAX_PROBLEMS
        rest = [f"and {format_count(more, 'more file')} with problems"] if more > 0 else []
        raise UserError("\n".join([*problems[:MAX_PROBLEMS], *rest]))
    if not texts.files:
        one = "-: standard input is empty" if empty == [STDIN] else f"{empty[0]}: is empty"
        are = one if len(empty) == 1 else f"{', '.join(paths)}: all {len(empty)} files are empty"
        raise UserError(f"{are}; it needs at least {needs}")
    if len(chosen.files) > 1 or chosen.left_out:
        texts.notices = _describe(texts, empty, chosen.left_out)
    return texts


def _describe(texts: Texts, empty: list[str], left_out: list[str]) -> list[str]:
    characters = sum(map(len, texts.documents))
    files, length = format_count(len(texts.files), "file"), format_count(characters, "character")
    notices = [f"read {files} with {length}: {format_names(texts.files, SHOWN_NAMES)}"]
    if empty:
        notices.append(f"passed over, because empty: {format_names(empty, SHOWN_NAMES)}")
    if left_out:
        notices.append(describe_left_out(left_out))
    return notices


def describe_left_out(names: list[str]) -> str:
    """Say which files and folders in a folder are not read, and what would be."""
    stands_for = "the .txt and .md files directly in it, and those that --include names"
    return f"left out: {format_names(names, SHOWN_NAMES)}; a folder stands for {stands_for}"


def select(paths: tuple[str, ...], include: tuple[str, ...] = ()) -> Selection:
    """Replace each folder by the .txt and .md files directly in it, sorted by name; other paths stay as they are.

    `include` has patterns of further files in folders, such as "*.rst". Hidden files are left out in any case.
    """
    chosen = Selection()
    for path in paths:
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
