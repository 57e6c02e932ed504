"""Paths as a field has them: typed, or dropped on the terminal, which writes them as a shell would read them."""

import shlex
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from fundamentallm.errors import UserError
from fundamentallm.paths import user_path

FILE_URL = "file://"


def split_paths(text: str) -> list[str]:
    """Return the paths in a text.

    - A text that is the path of a file or folder is that path, whatever its name contains.
    - Text with quotes, with backslashes or with `file://` is read as a shell reads words; commas separate, too.
    - In other text, a comma and a space separate paths; a comma alone does so where that gives existing files.
    """
    text = text.strip()
    if not text or _exists(text):
        return [text] if text else []
    pieces = [piece.strip() for piece in text.split(", ")]
    if any(piece.startswith(("'", '"', FILE_URL)) for piece in pieces) or "\\" in text:
        try:
            return [_without_url(word) for word in _shell_words(text)]
        except ValueError:  # a quote that is not closed yet
            pass
    paths = []
    for piece in pieces:
        smaller = [part.strip() for part in piece.split(",")]
        paths += smaller if len(smaller) > 1 and not _exists(piece) and all(map(_exists, smaller)) else [piece]
    return [path for path in paths if path]


def join_paths(paths: Sequence[str]) -> str:
    """Write paths as `split_paths` reads them back."""
    plain = ", ".join(paths)
    if split_paths(plain) == list(paths):
        return plain
    return ", ".join("'" + path.replace("'", "'\\''") + "'" for path in paths)


def _shell_words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t,", True, ""
    return list(lexer)


def _without_url(word: str) -> str:
    return unquote(urlsplit(word).path) if word.startswith(FILE_URL) else word


def _exists(text: str) -> bool:
    try:
        return user_path(text).exists()
    except (UserError, OSError):
        return False
