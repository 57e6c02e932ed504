"""Writing to a terminal: what is safe to show there, and lines that are drawn over in place."""

import os
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import TextIO

from fundamentallm.untrusted import UNSAFE

LONGEST = 500  # characters of a cell


def plain(text: str) -> str:
    """`text` from outside, in which only newlines and tabs still move the cursor of a person's terminal."""
    return UNSAFE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """`text` as a part of one line: newlines and tabs are shown as spaces."""
    return plain(text.replace("\n", " ").replace("\t", " "))


def quoted(text: object) -> str:
    """`text` as one word of a command that a person copies into a shell."""
    return shlex.quote(plain(str(text)))


def columns(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Lines whose columns stand below one another, two spaces apart; those in `right` are set to the right."""
    from rich.cells import cell_len  # 30 ms; some characters are two columns wide, and some none

    cells = [[one_line(cell if len(cell) <= LONGEST else cell[: LONGEST - 1] + "…") for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        parts = []
        for place, (cell, wide) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (wide - cell_len(cell))
            parts.append(gap + cell if place in right else cell + gap)
        lines.append("  ".join(parts).rstrip())
    return lines


def complain(text: str) -> None:
    """Say something on standard error, if anybody still listens there."""
    with suppress(OSError, ValueError):
        print(plain(text), file=sys.stderr, flush=True)


def is_screen(stream: TextIO) -> bool:
    """Whether a person looks at `stream` on a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def drop_output() -> None:
    """Send standard output nowhere from now on, what is still buffered included."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fit(parts: Sequence[str], width: int) -> str:
    """The parts with bars between them; those at the end that do not fit are left out."""
    while len(parts) > 1 and len(" | ".join(parts)) > width:
        parts = parts[:-1]
    return " | ".join(parts)[:width]


def width() -> int:
    """Columns to write into; the two that are spared leave room for a "^C"."""
    return max(20, shutil.get_terminal_size().columns - 2)


class Foot:
    """Lines at the foot of a terminal. Each drawing is one write over the old one, so that nothing flickers."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lines = stream, list[str]()

    def draw(self, lines: Sequence[str], above: str = "") -> None:
        """Show `lines`, and `above` them, for good, a line that scrolls away with the rest."""
        text = self._back() + (f"{above}\x1b[K\n" if above else "") + "\n".join(f"{line}\x1b[K" for line in lines)
        self._lines = list(lines)
        self._stream.write(text + "\x1b[J")
        self._stream.flush()

    def clear(self) -> None:
        """Leave the cursor where the lines began."""
        if self._lines:
            self._stream.write(self._back() + "\x1b[J")
            self._stream.flush()
            self._lines = []

    def leave(self) -> None:
        """Draw below from now on: something else was written behind the lines."""
        self._lines = []

    def _back(self) -> str:
        return "\r" + (f"\x1b[{len(self._lines) - 1}A" if len(self._lines) > 1 else "")
