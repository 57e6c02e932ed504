"""How large a text is, read once for each state of its files."""

import os
from dataclasses import dataclass

from fundamentallm.data.text import expand, find_data, read_texts


@dataclass(frozen=True)
class Measured:
    lengths: tuple[int, ...]  # in characters, of each document
    vocab_size: int


_known: dict[tuple[object, ...], Measured] = {}


def measure(paths: tuple[str, ...]) -> Measured:
    """
    Raises:
        UserError: a file cannot be learned from.
    """
    key = tuple(
        (path, status.st_mtime_ns, status.st_size) for path in expand(paths) for status in [os.stat(find_data(path))]
    )
    if key not in _known:
        documents = read_texts(paths)
        _known.clear()
        _known[key] = Measured(tuple(map(len, documents)), len(set().union(*documents)))
    return _known[key]
