"""Writing to a terminal: what is safe to show there, tables, bars, and lines that are redrawn in place."""

import os
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TextIO

from fundamentallm.untrusted import printable

MAX_CELL_CHARS = 500
SEPARATOR = f"\n{'-' * 40}\n"  # between samples


def one_line(text: object) -> str:
    """Make `text` safe as a part of one line: newlines and tabs become spaces."""
    return printable(str(text).replace("\n", " ").replace("\t", " "))


def columns(rows: Iterable[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """Align cells in columns, two spaces apart; the columns in `right` are aligned to the right."""
    from rich.cells import cell_len  # 30 ms; some characters are two columns wide, and some none

    limit = MAX_CELL_CHARS
    cells = [[one_line(cell if len(cell) <= limit else cell[: limit - 1] + "…") for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        parts = []
        for place, (cell, wide) in enumerate(zip(row, widths, strict=True)):
            gap = " " * (wide - cell_len(cell))
            parts.append(gap + cell if place in right else cell + gap)
        lines.append("  ".join(parts).rstrip())
    return lines


def class_table(classes: Mapping[str, Mapping[str, float]]) -> str:
    """Lay out what `by_class` returns."""
    rows = [
        (name, f"{row['tokens']:,}", f"{row['loss']:.4f}", f"{row['accuracy']:.2%}") for name, row in classes.items()
    ]
    return "\n".join(columns([("characters", "tokens", "loss", "accuracy"), *rows], right=(1, 2, 3)))


def bar(done: int, total: int, cells: int, stream: TextIO) -> str:
    """Draw a progress bar with its percentage, in characters that `stream` can show."""
    full, empty = "█░" if is_unicode(stream) else "#-"
    filled = cells * done // total
    return f"[{full * filled}{empty * (cells - filled)}] {100 * done // total}%"


def complain(text: str) -> None:
    """Print to standard error, if anybody still reads it."""
    with suppress(OSError, ValueError):
        print(printable(text), file=sys.stderr, flush=True)


def write_text(text: str) -> None:
    """Write to standard output: at once and printable on a screen, unchanged into a file or pipe."""
    screen = sys.stdout.isatty()
    sys.stdout.write(printable(text) if screen else text)
    if screen:
        sys.stdout.flush()


def is_screen(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def is_unicode(stream: TextIO) -> bool:
    """Whether `stream` can show every character."""
    return "utf" in (stream.encoding or "").lower()


def drop_output() -> None:
    """Discard standard output from now on, including what is still buffered."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fit(parts: Sequence[str], width: int) -> str:
    """Join parts with bars between them; those at the end that do not fit into `width` cells are left out."""
    from rich.cells import cell_len, set_cell_size

    while len(parts) > 1 and cell_len(" | ".join(parts)) > width:
        parts = parts[:-1]
    text = " | ".join(parts)
    return text if cell_len(text) <= width else set_cell_size(text, width)


def width() -> int:
    """How many columns to write into: two less than there are, which leaves room for a "^C"."""
    return max(20, shutil.get_terminal_size().columns - 2)


class Footer:
    """Lines at the foot of a terminal. Each drawing is one write over the old one, so nothing flickers."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lines = stream, list[str]()

    def draw(self, lines: Sequence[str], above: str = "") -> None:
        """Show `lines`, and above them a line that stays and scrolls away with the rest."""
        text = self._back() + (f"{above}\x1b[K\n" if above else "") + "\n".join(f"{line}\x1b[K" for line in lines)
        self._lines = list(lines)
        self._stream.write(text + "\x1b[J")
        self._stream.flush()

    def clear(self) -> None:
        """Remove the lines, and leave the cursor where they began."""
        if self._lines:
            self._stream.write(self._back() + "\x1b[J")
            self._stream.flush()
            self._lines = []

    def _back(self) -> str:
        return "\r" + (f"\x1b[{len(self._lines) - 1}A" if len(self._lines) > 1 else "")
