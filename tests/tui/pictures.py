"""Pictures of a screen as text files: the rows as they are seen, then the colours of their cells in two themes.

training-80x24
...24 rows of text...
colours: ink on paper in calm; in paper
a d4dae3 on 12161c; 0f1217 on fdfcf9
b 7aa7e0 on 12161c bold; 225aa0 on fdfcf9 bold
cells by row
1 b12 a68
2-3 a80
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from string import ascii_letters
from typing import Any

from rich.cells import cell_len
from rich.segment import Segment

from fundamentallm_tui.background import THREAD
from tests.conftest import PATIENCE

HEAD, BODY = "colours: ink on paper in", "cells by row"
ATTRIBUTES = ("bold", "italic", "underline", "strike", "reverse")
ENDLESS = "_loader"  # the worker of Textual's directory tree
MAX_DIFFERENCES = 60  # lines


@dataclass(frozen=True)
class Picture:
    """A screen: its `rows` of text, without the spaces at their ends, and by row the colours of each cell."""

    name: str
    themes: tuple[str, ...]
    rows: tuple[str, ...]
    colours: tuple[tuple[str, ...], ...]

    def encode(self) -> str:
        names: dict[str, str] = {}
        for colour in (colour for row in self.colours for colour in row):
            n = len(names)
            names.setdefault(colour, ("" if n < 52 else ascii_letters[n // 52 - 1]) + ascii_letters[n % 52])
        lines = [" ".join(f"{names[colour]}{len(list(run))}" for colour, run in groupby(row)) for row in self.colours]
        cells, first = [], 1
        for line, equal in groupby(lines):
            last = first + len(list(equal)) - 1
            cells.append(f"{first}-{last} {line}" if last > first else f"{first} {line}")
            first = last + 1
        palette = [f"{name} {colour}" for colour, name in names.items()]
        return "\n".join([self.name, *self.rows, f"{HEAD} {'; in '.join(self.themes)}", *palette, BODY, *cells, ""])


def decode(text: str) -> Picture:
    """Read what `encode` wrote."""
    name, *lines = text.splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith(HEAD))
    body = lines.index(BODY, head)
    palette = dict(line.split(" ", 1) for line in lines[head + 1 : body])
    colours: list[tuple[str, ...]] = []
    for line in lines[body + 1 :]:
        numbers, *runs = line.split()
        first, _, last = numbers.partition("-")
        row = [palette[run.rstrip("0123456789")] for run in runs for _ in range(int(run.lstrip(ascii_letters)))]
        colours += [tuple(row)] * (int(last or first) - int(first) + 1)
    themes = tuple(lines[head].removeprefix(HEAD).strip().split("; in "))
    return Picture(name, themes, tuple(lines[:head]), tuple(colours))


async def take(seen: Any, name: str, themes: tuple[str, ...]) -> Picture:
    """Take a picture of a console in each of these themes."""
    rows, colours = [], []
    for theme in themes:
        seen.app.theme = theme
        strips = await still(seen)
        rows.append(tuple("".join(segment.text for segment in strip).rstrip() for strip in strips))
        colours.append([[colour for segment in strip for colour in _colours(segment)] for strip in strips])
    assert len(set(rows)) == 1, f"{name}: the text depends on the theme: {differing_rows(rows[0], rows[-1])}"
    joined = [["; ".join(cell) for cell in zip(*row, strict=True)] for row in zip(*colours, strict=True)]
    return Picture(name, themes, rows[0], tuple(_without_unseen(rows[0][n], row) for n, row in enumerate(joined)))


async def still(seen: Any) -> list[list[Segment]]:
    """Wait until the screen no longer changes; return its rows."""
    before: list[list[Segment]] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        await seen.pilot.pause(0.03)
        if any(worker.is_running and worker.name != ENDLESS for worker in seen.app.workers) or any(
            thread.name == THREAD for thread in threading.enumerate()
        ):
            continue
        now = [list(strip) for strip in seen.app.screen._compositor.render_strips()]
        if now == before:
            return now
        before = now
    raise AssertionError(f"the screen does not come to rest:\n{seen.screen}")


def _colours(segment: Segment) -> list[str]:
    """The colours of a segment, once for each of its cells."""
    style = segment.style
    assert style is not None and style.bgcolor is not None, segment
    ink, paper = (bytes(c.get_truecolor()).hex() if c else "default" for c in (style.color, style.bgcolor))
    words = [ink, "on", paper, *(name for name in ATTRIBUTES if getattr(style, name))]
    return [" ".join(words)] * cell_len(segment.text)


def _without_unseen(text: str, colours: list[str]) -> tuple[str, ...]:
    """Give spaces the ink of what stands before them, where only the paper is seen: fewer runs, and no false alarms."""
    cells = [character for character in text for _ in range(cell_len(character))]
    for n in range(1, len(colours)):
        space = n >= len(cells) or cells[n] == " "
        if space and _paper(colours[n]) == _paper(colours[n - 1]):
            colours[n] = colours[n - 1]
    return tuple(colours)


def _paper(colours: str) -> list[list[str]]:
    return [[word for word in colour.split()[2:] if word not in ("bold", "italic")] for colour in colours.split("; ")]


def differences(old: Picture, new: Picture) -> str:
    """Say in which rows two pictures differ: the rows, or where only their colours do, which text has which."""
    lines = list(differing_rows(old.rows, new.rows))
    for n, (was, now) in enumerate(zip(old.colours, new.colours, strict=False), 1):
        if n > len(old.rows) or n > len(new.rows) or old.rows[n - 1] != new.rows[n - 1] or was == now:
            continue
        text = "".join(c + " " * (cell_len(c) - 1) for c in new.rows[n - 1]).ljust(len(now))
        column = 0
        for pair, cells in groupby(zip_longest(was, now)):
            end = column + len(list(cells))
            if pair[0] != pair[1]:
                lines.append(f"{n:3}   columns {column + 1}-{end}, {text[column:end]!r}: {pair[0]} is now {pair[1]}")
            column = end
    more = [f"… and {len(lines) - MAX_DIFFERENCES} more"] if len(lines) > MAX_DIFFERENCES else []
    return "\n".join([*lines[:MAX_DIFFERENCES], *more])


def differing_rows(old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[str]:
    for n, (was, now) in enumerate(zip_longest(old, new, fillvalue=""), 1):
        if was != now:
            yield from (f"{n:3} - {was}", f"{n:3} + {now}")


def check(picture: Picture, path: Path, *, update: bool) -> None:
    """Compare a picture with the committed one, or with `update` replace that."""
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(picture.encode(), encoding="utf-8")
    old = decode(path.read_text(encoding="utf-8")) if path.exists() else Picture(picture.name, (), (), ())
    if old != picture:
        raise AssertionError(
            f"{picture.name} is not as in {path.name} (-: as committed, +: as it is):\n{differences(old, picture)}\n"
            "If that is what you want: pytest --update-snapshots tests/tui/test_snapshots.py, and look at the result."
        )
