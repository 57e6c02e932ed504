"""A chart as files: a picture that every browser shows, its numbers, and text. Of runs it knows the legend."""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import chain, count, groupby
from math import inf, isfinite
from pathlib import Path

from fundamentallm_tui.charts.chart import Chart, Line, Plot, Points, clipped, lay_out, text_lines, three_digits
from fundamentallm_tui.charts.runs import Entry, aligned
from fundamentallm_tui.format import truncate

WIDTH, LEFT, TOP = 960, 64, 52  # pixels of the picture, and of what lies left of the plot and above it
ACROSS, DOWN = 872, 400  # pixels of the plot
POINTS = 2 * ACROSS  # to which a longer line should be reduced
CELLS = (124, 34)  # columns and rows of a terminal whose chart has as many labels
ROW = 22  # pixels from one row of the legend to the next
CHARACTER = 7.3  # pixels that a character of the legend takes at most
MARK_DISTANCE = 9.0  # pixels between two marks of a line at least

# The console's theme colours as they are on white paper, each with a contrast of at least 4.5.
INKS = {
    "foreground": "#3a424d", "text-accent": "#a85a00", "text-primary": "#2f6bb3", "text-warning": "#946200",
    "text-success": "#2f7d32", "text-error": "#b3261e",
}  # fmt: skip
SHAPES = {  # of marks, around 0,0
    "●": "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0Z", "■": "M-3,-3H3V3H-3Z", "▼": "M0,4L4,-3H-4Z",
    "►": "M4,0L-3,4V-4Z", "✚": "M-1.3,-4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4V-1.3H-1.3Z",
    "◆": "M0,-4.5L4,0L0,4.5L-4,0Z", "★": "M0,-6L1.6,-2H6L2.5,.6L3.8,5L0,2.4L-3.8,5L-2.5,.6L-6,-2H-1.6Z",
}  # fmt: skip
SOLID = dict(zip("○□▽◇", "●■▼◆", strict=True))  # the shape of each mark that is not filled

NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def export(
    path: Path,
    title: str,
    chart: Chart,
    entries: Sequence[Entry],
    size: tuple[int, int],
    numbers: Iterable[tuple[str, str, float, float, float]],
) -> list[Path]:
    """Write `path`.svg, .csv and .txt, or path-2 and so on: no file is overwritten.

    Args:
        chart: with lines for a picture; `to_svg` says how long they may be.
        size: the columns and rows of the chart on the screen.
        numbers: each point of each curve: the run, the curve, the step, what x counts there, the value.

    Raises:
        OSError: one of them cannot be written.
    """
    lines = [title, "", *text_lines(chart, *size, colour=False, ascii=False), ""]
    lines += [f"{entry.style.mark or '─'}  {text}" for entry, text in zip(entries, aligned(entries), strict=True)]
    files = {
        ".svg": to_svg(chart, title, entries),
        ".csv": _table(chart.x_label, numbers),
        ".txt": "\n".join(lines) + "\n",
    }
    for number in count(1):
        stem = path.name if number == 1 else f"{path.name}-{number}"
        paths = [path.with_name(f"{stem}{suffix}") for suffix in files]
        if not any(map(os.path.lexists, paths)):
            break
    for file_path, text in zip(paths, files.values(), strict=True):
        with file_path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    return paths


def _table(x_label: str, numbers: Iterable[tuple[str, str, float, float, float]]) -> str:
    """A row for each point; x has a column of its own unless it is the step."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    x_label = {"time": "seconds", "step": ""}.get(x_label, x_label)
    writer.writerow(["run", "curve", "step", *([x_label] if x_label else []), "value"])
    for run, curve, step, x, value in numbers:
        writer.writerow([run, curve, f"{step:.15g}", *([f"{x:.15g}"] if x_label else []), value])
    return buffer.getvalue()


def to_svg(chart: Chart, title: str, entries: Sequence[Entry] = ()) -> str:
    """Return a picture of a chart with a title above and a legend below it; reduce longer lines to `POINTS` first.

    A chart without anything to draw becomes an empty picture that says so.
    """
    plot = lay_out(chart, *CELLS)
    height = TOP + DOWN + 60 + ROW * len(entries)
    drawn = list(_plot(chart, plot)) if plot else [_text(WIDTH / 2, TOP + DOWN / 2, chart.empty, "middle")]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{INKS["foreground"]}">',
        f"<title>{_escape(title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<g font-size="15" font-weight="600">{_text(LEFT, 30, truncate(title, 100))}</g>',
        *drawn,
        *_legend(entries),
        "</svg>\n",
    ])  # fmt: skip


def _plot(chart: Chart, plot: Plot) -> Iterator[str]:
    yield '<g stroke="#e3e6ea" class="grid">'
    for row in plot.y_labels:
        yield f'<path d="M{LEFT},{_y((row + 0.5) / plot.rows):.1f}h{ACROSS}"/>'
    yield "</g>"
    for share, rule in plot.rules:
        x, ink = _x(share), _ink(rule.colour)
        if rule.line:
            yield f'<path d="M{x:.1f},{TOP}v{DOWN}" stroke="{ink}" stroke-opacity="{rule.strength:g}"/>'
        if rule.mark:
            yield _text(x, TOP + DOWN - 3, rule.mark, "middle", ink)
    yield f'<path d="M{LEFT},{TOP}v{DOWN}h{ACROSS}" fill="none" stroke="#8a929c" class="axes"/>'
    for row, label in plot.y_labels.items():
        yield _text(LEFT - 8, _y((row + 0.5) / plot.rows) + 4, label, "end")
    for value, _, label in plot.x_labels:
        yield f'<path d="M{_x(plot.x.share(value)):.1f},{TOP + DOWN}v5" stroke="#8a929c"/>'
        yield _text(_x(plot.x.share(value)), TOP + DOWN + 20, label, "middle")
    yield _text(LEFT + ACROSS, TOP + DOWN + 38, chart.x_label, "end")
    for line, points in zip(chart.lines, plot.places, strict=True):
        yield from _line(line, points)
    yield from _outside(plot)


def _outside(plot: Plot) -> Iterator[str]:
    """The farthest value above and below what is shown, at its place."""
    every = zip(chain(*plot.curves), chain(*plot.places), strict=True)
    seen = [(value, x, y) for (_, value), (x, y) in every if isfinite(y) and 0 <= x <= 1]
    for arrow, top, (value, x, y) in (("↑", 1, max(seen)), ("↓", 0, min(seen))) if seen else ():
        if y > 1 if top else y < 0:
            left = min(_x(x) + 6, LEFT + ACROSS - 50)
            yield _text(left, _y(top) + (4 if top else -6), f"{arrow} {three_digits(value)}")


def _line(line: Line, points: Points) -> Iterator[str]:
    """The stretches within the picture, and over them the marks, or a point where a stretch has no other."""
    ink = _ink(line.colour)
    groups = groupby(clipped(points), lambda point: isfinite(point[1]))
    stretches = [list(stretch) for known, stretch in groups if known]
    for stretch in stretches:
        if len(stretch) > 1:
            dashes = ' stroke-dasharray="2 4"' if line.dotted else ""
            path = "L".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in stretch)
            yield (
                f'<path d="M{path}" fill="none" stroke="{ink}" stroke-opacity="{line.strength:g}" stroke-width="1.5" '
                f'stroke-linejoin="round"{dashes}/>'
            )
    single = {stretch[0] for stretch in stretches if len(stretch) == 1}
    marked = [(x, y) for x, y in points if 0 <= x <= 1 and 0 <= y <= 1 and (line.mark or (x, y) in single)]
    last = inf
    for x, y in reversed(marked):  # from the newest, as on the screen
        if last - _x(x) >= MARK_DISTANCE:
            yield _mark(line.mark or "●", _x(x), _y(y), ink)
            last = _x(x)
    if line.label and marked:
        yield _text(_x(marked[-1][0]), _y(marked[-1][1]) - 9, line.label, "middle", ink)


def _legend(entries: Sequence[Entry]) -> Iterator[str]:
    for row, (entry, text) in enumerate(zip(entries, aligned(entries), strict=True)):
        y, ink = TOP + DOWN + 60 + ROW * row, _ink(entry.style.colour)
        yield f'<path d="M{LEFT},{y - 4}h24" stroke="{ink}" stroke-width="1.5"/>'
        if entry.style.mark:
            yield _mark(entry.style.mark, LEFT + 12, y - 4, ink)
        text = truncate(text, int((WIDTH - LEFT - 34) / CHARACTER))
        colour = INKS["text-warning"] if entry.note else ""
        yield f'<g font-family="monospace" xml:space="preserve">{_text(LEFT + 34, y, text, colour=colour)}</g>'


def _mark(mark: str, x: float, y: float, ink: str) -> str:
    shape, fill = SHAPES.get(SOLID.get(mark, mark), SHAPES["●"]), "#ffffff" if mark in SOLID else ink
    return f'<path d="{shape}" transform="translate({x:.1f},{y:.1f})" fill="{fill}" stroke="{ink}" class="mark"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", colour: str = "") -> str:
    fill = f' fill="{colour}"' if colour else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{fill}>{_escape(text)}</text>'


def _escape(text: str) -> str:
    return escape(NOT_XML.sub("\ufffd", text), quote=False)


def _ink(colour: str) -> str:
    return INKS.get(colour, colour if colour.startswith("#") else INKS["foreground"])


def _x(share: float) -> float:
    return LEFT + share * ACROSS


def _y(share: float) -> float:
    return TOP + (1 - share) * DOWN
