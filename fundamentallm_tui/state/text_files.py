"""What a file has for a model to learn from, read in bounded pieces."""

import os
from codecs import getincrementaldecoder
from collections.abc import Callable
from io import IncrementalNewlineDecoder
from itertools import islice
from pathlib import Path

from fundamentallm.config.format import format_count, format_size
from fundamentallm.data.encoding import name_format, unmark
from fundamentallm.errors import describe_error
from fundamentallm.untrusted import open_regular_file

MAX_ENTRIES = 2000  # of a folder that are listed
PIECE = 1 << 20  # bytes that are read at once
MAX_BYTES = 1 << 28  # of a file; reading more takes longer than anyone looks at its name
SHOWN_CHARACTERS = 2000


def describe_file(path: Path, cancelled: Callable[[], bool]) -> tuple[str, str]:
    """Return in a few words what a file is or how much text it has, and how it begins; reads until `cancelled`."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                many = len(list(islice(entries, MAX_ENTRIES + 1))) > MAX_ENTRIES
            listed = f"; {MAX_ENTRIES:,} of its entries are listed" if many else ""
            return f"a folder: its .txt and .md files are read{listed}", ""
        with open_regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            piece, encoding = unmark(file.read(PIECE))
            if encoding == "utf-8" and (format := name_format(piece, str(path))):
                return format.partition(";")[0], ""
            decoder = IncrementalNewlineDecoder(getincrementaldecoder(encoding)(), translate=True)
            start, count, vocabulary = "", 0, set[str]()
            while piece and not cancelled() and file.tell() <= MAX_BYTES:
                text = decoder.decode(piece)
                if "\0" in text:
                    return "binary: it has zero bytes", ""
                start, count = start or text[:SHOWN_CHARACTERS], count + len(text)
                vocabulary.update(text)
                piece = file.read(PIECE)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return f"not {encoding.upper()} text", ""
    except OSError as error:
        return f"unreadable: {describe_error(error)}", ""
    if not count:
        return "empty", ""
    words = f"{format_count(count, 'character')}, {len(vocabulary)} different"
    return f"huge, {format_size(size)}: more than {words}" if piece else words, start
