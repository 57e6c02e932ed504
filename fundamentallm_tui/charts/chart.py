"""Charts as rows of text: plotext sets the braille dots, this module lays out everything around them.

- Serves the console and `fundamentallm runs plot`; needs rich, but not Textual.
- The only module that imports plotext, and only in `_braille`: another renderer would fit there.
- Draws any numbers: a value that cannot be drawn is a gap, and without data there is a line of text.
- Knows nothing of runs: it is given points.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, floor, isfinite, log10, nan

from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style

from fundamentallm_tui.charts.series import nice_ticks, reduce, tick_label

GUTTER = 7  # columns for the labels of y; only a longer label widens it, so the plot does not jump
LOW_CHART = 9  # with fewer rows than this, the bottom axis shares the plot's last row
MAX_DRAWN = 1e100  # no training run gets there, and smaller values keep every calculation here finite

# The colour and the mark of each run where a chart shows several, and how a terminal without Unicode shows them.
COLOURS = ("cyan", "dark_orange", "green", "magenta", "bright_blue", "red", "white", "yellow")
MARKS = "●■▲◆○□△◇"
ASCII = str.maketrans("─│└┤┬▁•" + MARKS, "-|+++_*" + "ox+*#%@&") | {code: "." for code in range(0x2800, 0x2900)}

Ink = Callable[..., Style]  # name of a colour, strength (0 to 1) -> style
_Grid = list[list[Segment]]  # one cell each, from the top
_Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        x, y: the points, by increasing x. A y of nan, infinity or, on a log axis, zero or less is a gap.
        colour: the name of a colour: of the theme in the console, of the terminal in `text_lines`.
        strength: how much of the colour is left over the background, 0 to 1.
        mark: the character that marks the points; of many points so many that the marks stay apart, and the newest.
        joined: whether braille joins the points.
    """

    x: Sequence[float]
    y: Sequence[float]
    colour: str = "foreground"
    strength: float = 1.0
    mark: str = ""
    joined: bool = True


@dataclass(frozen=True)
class Chart:
    """What to draw.

    Attributes:
        lines: later ones lie over earlier ones; marks lie over all.
        log: whether y is logarithmic.
        x_label: what x counts, left of its labels, where it fits.
        empty: what to write while there is nothing to draw.
    """

    lines: Sequence[Line] = ()
    log: bool = False
    x_label: str = ""
    empty: str = "nothing to draw yet"


def draw(chart: Chart, width: int, height: int, ink: Ink) -> list[list[Segment]]:
    """Draw a chart in cells; returns `height` rows of `width` columns.

    plotext costs 150 ms at 10,000 points, so reduce long lines first (`Series.reduced`).
    """
    grid = [[Segment(" ")] * width for _ in range(height)]
    curves = _drawable(chart)
    known = [y for curve in curves for _, y in curve if isfinite(y)]
    if not known:
        text = chart.empty if len(chart.empty) <= width else chart.empty[: width - 1] + "…"
        _write(grid, height // 2, (width - len(text)) // 2, text, ink("foreground", 0.5))
    elif width >= 16 and height >= 2:
        _plot(grid, chart, curves, known, ink)
    return grid


def text_lines(chart: Chart, width: int, height: int, *, colour: bool, ascii: bool) -> list[str]:
    """Draw a chart as lines of text without spaces at their ends; returns [] where there is nothing to draw.

    Args:
        width, height: in columns and lines.
        colour: write ANSI colours.
        ascii: write letters, dashes and dots only.
    """
    reduced = []
    for line in chart.lines:
        x, y = reduce(line.x, line.y, 2 * width)
        reduced.append(replace(line, x=x, y=y))
    chart = replace(chart, lines=reduced)
    if not any(isfinite(y) for curve in _drawable(chart) for _, y in curve):
        return []
    lines = []
    for row in draw(chart, width, height, _terminal_style):
        pieces = Segment.simplify(row)
        system = ColorSystem.EIGHT_BIT if colour else None
        text = "".join(style.render(text, color_system=system) if style else text for text, style, _ in pieces)
        lines.append((text.translate(ASCII) if ascii else text).rstrip())
    return lines


def _terminal_style(colour: str, strength: float = 1.0) -> Style:
    return Style(color=None if colour == "foreground" else colour, dim=strength < 0.7)


def _drawable(chart: Chart) -> list[_Points]:
    """The points of each line whose x can be drawn; a y that cannot be drawn becomes nan."""
    lowest = 1 / MAX_DRAWN if chart.log else -MAX_DRAWN
    return [
        [(x, y if lowest < y < MAX_DRAWN else nan) for x, y in zip(line.x, line.y, strict=False) if abs(x) < MAX_DRAWN]
        for line in chart.lines
    ]


def _write(grid: _Grid, row: int, column: int, text: str, style: Style) -> None:
    """Set the cells from here on; text beyond the grid is left out."""
    for at, character in enumerate(text, column):
        if 0 <= row < len(grid) and 0 <= at < len(grid[row]):
            grid[row][at] = Segment(character, style)


@dataclass(frozen=True)
class _Axis:
    """From low to high, which are exponents of ten where it is logarithmic."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where on the axis a value lies, from 0 to 1."""
        return ((log10(value) if self.log else value) - self.low) / (self.high - self.low)


def _plot(grid: _Grid, chart: Chart, curves: list[_Points], known: list[float], ink: Ink) -> None:
    """Write axes and curves; `known` are the ys that are not gaps, at least one."""
    height = len(grid)
    shared = height < LOW_CHART
    bottom = height - 2
    rows = height - 1 if shared else height - 2
    y_axis, y_labels = _y_axis(min(known), max(known), chart.log, rows)
    left = 1 + max(GUTTER, *map(len, y_labels.values()))
    columns = max(1, len(grid[0]) - left)
    xs = [x for curve in curves for x, _ in curve]
    x_axis, x_labels = _x_axis(min(xs), max(xs), columns)

    thin, quiet, faint = (ink("foreground", strength) for strength in (0.3, 0.6, 0.2))
    # a shared axis lies at the foot of its row, where the lowest dots are
    corner, edge, tick = "│▁▁" if shared else "└─┬"
    base = faint if shared else thin
    _write(grid, bottom, left - 1, corner + edge * columns, base)
    for row in range(rows):
        _write(grid, row, left - 1, "│", thin)
    for row, label in y_labels.items():
        _write(grid, row, left - 1 - len(label), label, quiet)
        _write(grid, row, left - 1, "┤", thin)
    for column, start, label in x_labels:
        _write(grid, height - 1, left + start, label, quiet)
        _write(grid, bottom, left + column, tick, base)
    if len(chart.x_label) < left:
        _write(grid, height - 1, left - 1 - len(chart.x_label), chart.x_label, ink("foreground", 0.4))

    styles = [ink(line.colour, line.strength) for line in chart.lines]
    places = [[(x_axis.share(x), y_axis.share(y)) for x, y in curve] for curve in curves]
    joined = [points if line.joined else [] for line, points in zip(chart.lines, places, strict=True)]
    for row, column, dots, index in _braille(joined, columns, rows):
        _write(grid, row, left + column, dots, styles[index])
    for line, points, style in zip(chart.lines, places, styles, strict=True):
        seen = [(x, y) for x, y in points if isfinite(y)]
        if seen and (line.mark or len(seen) == 1):  # a single dot would hardly be seen
            for x, y in seen[:: -4 * len(seen) // (2 * columns - 1)]:  # four dots apart, from the newest
                _write(grid, _row(y, rows), left + _column(x, columns), line.mark or "•", style)


def _column(share: float, columns: int) -> int:
    """Where plotext sets the dot of a share of the width: one of two in a cell."""
    return floor(0.5 + (2 * columns - 1) * share + 1e-9) // 2


def _row(share: float, rows: int) -> int:
    """Where plotext sets the dot of a share of the height: one of four in a cell; from the top."""
    return rows - 1 - floor(0.5 + (4 * rows - 1) * share + 1e-9) // 4


def _y_axis(low: float, high: float, log: bool, rows: int) -> tuple[_Axis, dict[int, str]]:
    """An axis over these values, and the labels of its rows.

    It begins and ends at a fifth of its labels' step, so that it seldom changes while a run continues.
    """
    log = log and high > 1.5 * low  # a smaller range looks the same on a linear axis, and has rounder labels
    if log:
        low, high = log10(low), log10(high)
    elif high - low <= max(1 / MAX_DRAWN, 1e-9 * max(abs(low), abs(high))):
        margin = abs(low) / 2 if abs(low) > 1 / MAX_DRAWN else 1.0
        low, high = low - margin, high + margin
    most = max(3, min(7, rows // 3))
    ticks = nice_ticks(low, high, most)
    unit = (ticks[1] - ticks[0]) / 5
    first, last = floor(low / unit + 1e-9), ceil(high / unit - 1e-9)
    axis = _Axis(first * unit, last * unit, log)
    ends = (10**axis.low, 10**axis.high) if log else (axis.low, axis.high)
    for count in range(most, 2, -1):
        ticks = nice_ticks(*ends, count, log)
        step = 0.0 if log else ticks[1] - ticks[0]
        labels = {_row(axis.share(tick), rows): tick_label(tick, step or tick) for tick in ticks}
        if len(labels) == len(ticks) or (log and count == 3 and len(labels) >= 3):
            return axis, labels
    # too few rows for round values: the ends and the middle, in as few digits as tell them apart
    axis = _Axis(axis.low, axis.high + (last - first) % 2 * unit, log)
    labels = {}
    for share in (0.0, 0.5, 1.0):
        tick = axis.low + share * (axis.high - axis.low)
        labels[_row(share, rows)] = tick_label(10**tick, 10.0 ** (floor(tick) - 1)) if log else tick_label(tick, unit)
    return axis, labels


def _x_axis(low: float, high: float, columns: int) -> tuple[_Axis, list[tuple[int, int, str]]]:
    """An axis over these values, and its labels, none overlapping or cut: tick, start, text."""
    low = 0.0 if 0 < low <= high / 10 else low
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = max(1.0, abs(low) / 1000)
        low, high = max(0.0, low - margin) if low >= 0 else low - margin, high + margin
    axis = _Axis(low, high)
    ticks = nice_ticks(low, high, max(3, columns // 9))
    whole = [tick for tick in ticks if tick.is_integer()]  # there is no half of a step
    ticks = whole if len(whole) > 1 else ticks
    step = ticks[1] - ticks[0]
    for skip in range(1, len(ticks) + 1):
        labels = []
        for tick in ticks[::skip]:
            label, column = tick_label(tick, step), _column(axis.share(tick), columns)
            start = max(0, min(column - len(label) // 2, columns - len(label)))
            labels.append((column, start, label))
        if all(a + len(text) < b for (_, a, text), (_, b, _) in pairwise(labels)):
            break
    return axis, labels


def _braille(lines: list[_Points], columns: int, rows: int) -> Iterator[tuple[int, int, str, int]]:
    """Join the points of lines, given as shares of width and height, in braille.

    Yields:
        Row from the top, column, character, and the index of the line: in each cell the last one.
    """
    import plotext  # here, because it takes 60 ms, which a console that opens without a run can save

    figure = type(plotext.main())()  # a figure of its own: plotext's functions all share one
    figure._limit_size(False, False)  # or the terminal's size would cut it
    figure.plot_size(columns, rows)
    figure.frame(False)
    figure.xfrequency(0)
    figure.yfrequency(0)
    figure.xlim(0, 1)
    figure.ylim(0, 1)
    for index, points in enumerate(lines):
        # the colour is only a number that comes back with the cell
        figure.plot([x for x, _ in points], [y for _, y in points], marker="braille", color=index)
    figure.build()
    cells = figure.monitor.matrix
    for row in range(rows):
        for column, dots in enumerate(cells.marker[rows - 1 - row]):
            if dots != " ":
                yield row, column, dots, cells.fullground[rows - 1 - row][column]
