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
from collections.abc import Sequence
from difflib import unified_diff
from itertools import chain, groupby
from pathlib import Path
from string import ascii_letters
from typing import Any

from rich.cells import cell_len
from rich.segment import Segment

from fundamentallm_tui.background import THREAD
from tests.conftest import PATIENCE
from tests.tui.colours import faint_texts

HEAD, BODY = "colours: ink on paper in", "cells by row"
ATTRIBUTES = ("bold", "italic", "underline", "strike", "reverse")
ENDLESS = "_loader"  # the worker of Textual's directory tree
MAX_DIFFERENCES = 60  # lines


async def take(seen: Any, name: str, themes: tuple[str, ...]) -> str:
    """Take a picture of a console in two of its themes; in each of them, every text can be read."""
    rows, colours = [], []
    for theme in sorted(seen.app.available_themes, key=lambda theme: theme in themes):
        seen.app.theme = theme
        strips = await still(seen)
        assert not (faint := [*faint_texts(seen)]), f"{name}, {theme}: {faint}"
        if theme not in themes:
            continue
        rows.append(tuple("".join(segment.text for segment in strip).rstrip() for strip in strips))
        colours.append([[colour for segment in strip for colour in _colours(segment)] for strip in strips])
    assert len(set(rows)) == 1, f"{name}: the text depends on the theme: {[*unified_diff(*rows[:2], lineterm='')]}"
    joined = [["; ".join(cell) for cell in zip(*row, strict=True)] for row in zip(*colours, strict=True)]
    return encode(name, themes, rows[0], [_without_unseen(rows[0][n], row) for n, row in enumerate(joined)])


def encode(name: str, themes: Sequence[str], rows: Sequence[str], colours: Sequence[Sequence[str]]) -> str:
    """Write the rows of a screen, and by row the colours of each cell; equal rows of colours share a line."""
    names: dict[str, str] = {}
    for colour in chain.from_iterable(colours):
        n = len(names)
        names.setdefault(colour, ("" if n < 52 else ascii_letters[n // 52 - 1]) + ascii_letters[n % 52])
    lines = [" ".join(f"{names[colour]}{len(list(run))}" for colour, run in groupby(row)) for row in colours]
    cells, first = [], 1
    for line, equal in groupby(lines):
        last = first + len(list(equal)) - 1
        cells.append(f"{first}-{last} {line}" if last > first else f"{first} {line}")
        first = last + 1
    palette = [f"{name} {colour}" for colour, name in names.items()]
    return "\n".join([name, *rows, f"{HEAD} {'; in '.join(themes)}", *palette, BODY, *cells, ""])


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


def check(name: str, picture: str, path: Path, *, update: bool) -> None:
    """Compare a picture with the committed one, or with `update` replace that."""
    if update:
        path.parent.mkdir(exist_ok=True)
        path.write_text(picture, encoding="utf-8")
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [*unified_diff(old.splitlines(), picture.splitlines(), path.name, "now", lineterm="", n=0)]
    if lines:
        more = [f"… and {len(lines) - MAX_DIFFERENCES} more"] if len(lines) > MAX_DIFFERENCES else []
        renew = "If that is what you want: pytest --update-snapshots tests/tui/test_snapshots.py, and look at it."
        raise AssertionError("\n".join([f"{name} has changed:", *lines[:MAX_DIFFERENCES], *more, renew]))
