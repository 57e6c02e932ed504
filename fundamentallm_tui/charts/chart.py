"""Charts as rows of text: plotext sets the braille dots, this module lays out everything around them.

- Serves the console and `fundamentallm runs plot`; needs rich, but not Textual.
- The only module that imports plotext, and only in `_braille`: another renderer would fit there.
- Draws any numbers: a value that cannot be drawn is a gap, and without data there is a line of text.
- Knows nothing of runs: it is given points.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import floor, isfinite, log10, nan

from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style

from fundamentallm.config.format import format_rate
from fundamentallm_tui.charts.axes import Axis, tick_label, x_axis, y_axis
from fundamentallm_tui.charts.palette import MARKS
from fundamentallm_tui.charts.series import reduce

GUTTER = 7  # columns for the labels of y; only a longer label widens it, so the plot does not jump
LOW_CHART = 9  # with fewer rows than this, the bottom axis shares the plot's last row
MAX_DRAWN = 1e100  # no training run gets there, and smaller values keep every calculation here finite

# How a terminal without Unicode shows a chart.
ASCII = str.maketrans("─│└┤┬▁•★↑↓┊▴" + MARKS, "-|+++_**^v:^" + "ox+*#%@&") | {
    code: "." for code in range(0x2800, 0x2900)
}

LEFT_DOTS = 0x2847  # the left one of the two columns of dots in a cell, which is all that a dotted line has

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
        dotted: whether the joining is dotted.
        label: a text beside the newest point.
    """

    x: Sequence[float]
    y: Sequence[float]
    colour: str = "foreground"
    strength: float = 1.0
    mark: str = ""
    joined: bool = True
    dotted: bool = False
    label: str = ""


@dataclass(frozen=True)
class Rule:
    """A vertical `line` behind the curves, and a `mark` on the bottom axis; either may be empty."""

    x: float
    colour: str = "foreground"
    strength: float = 0.15
    mark: str = ""
    line: str = "│"


@dataclass(frozen=True)
class Chart:
    """What to draw.

    Attributes:
        lines: later ones lie over earlier ones; marks lie over all.
        log: whether y is logarithmic; values of 0 and less are then left out, which the chart says.
        x_range, y_range: what to show; None: all. What lies above or below is indicated by an arrow and its value.
        rules: later ones over earlier ones.
        crosshair: an x that a vertical line marks.
        x_label: what x counts, left of its labels, where it fits; "time": seconds.
        empty: what to write while there is nothing to draw.
    """

    lines: Sequence[Line] = ()
    log: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    rules: Sequence[Rule] = ()
    crosshair: float | None = None
    x_label: str = ""
    empty: str = "nothing to draw yet"


@dataclass(frozen=True)
class Plot:
    """Where a chart's curves lie: `columns` and `rows` of cells, right of the `left` ones that label y."""

    left: int
    columns: int
    rows: int
    x: Axis
    y: Axis
    x_labels: Sequence[tuple[float, int, str]]  # value, column where the text starts, text
    y_labels: dict[int, str]  # by row from the bottom

    def x_at(self, column: int) -> float:
        """The x in the middle of a column of the picture."""
        return self.x.value((column - self.left + 0.5) / self.columns)


def lay_out(chart: Chart, width: int, height: int, curves: list[_Points] | None = None) -> Plot | None:
    """Find the axes for these points of the chart's lines; None where there is nothing to draw or no room for it."""
    curves = _drawable(chart) if curves is None else curves
    xs = chart.x_range or _ends([x for curve in curves for x, _ in curve])
    within = [y for curve in curves for x, y in curve if isfinite(y) and (not xs or xs[0] <= x <= xs[1])]
    ys = _ends(within or [y for curve in curves for _, y in curve if isfinite(y)])
    if ys and chart.y_range and not (chart.log and chart.y_range[0] <= 0):
        ys = chart.y_range
    if xs is None or ys is None or width < 16 or height < 2:
        return None
    rows = height - 1 if height < LOW_CHART else height - 2
    y, y_labels = y_axis(*ys, chart.log, rows)
    left = 1 + max(GUTTER, *map(len, y_labels.values()))
    columns = max(1, width - left)
    x, x_labels = x_axis(*xs, columns, chart.x_label == "time")
    return Plot(left, columns, rows, x, y, x_labels, y_labels)


def draw(chart: Chart, width: int, height: int, ink: Ink) -> list[list[Segment]]:
    """Draw a chart in cells; returns `height` rows of `width` columns.

    It costs in proportion to the points, so reduce long lines first (`Series.reduced`).
    """
    grid = [[Segment(" ")] * width for _ in range(height)]
    curves = _drawable(chart)
    plot = lay_out(chart, width, height, curves)
    if plot is not None:
        _draw_axes(grid, chart, plot, ink)
        _draw_curves(grid, chart, plot, curves, ink)
    elif not any(isfinite(y) for curve in curves for _, y in curve):
        hidden = chart.log and any(-MAX_DRAWN < y <= 0 for line in chart.lines for y in line.y)
        text = "no value above 0 for a log scale" if hidden else chart.empty
        text = text if len(text) <= width else text[: width - 1] + "…"
        _write(grid, height // 2, (width - len(text)) // 2, text, ink("foreground", 0.6))
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
        x, y = reduce(line.x, line.y, width)
        reduced.append(replace(line, x=x, y=y))
    chart = replace(chart, lines=reduced)
    if not any(isfinite(y) for curve in _drawable(chart) for _, y in curve):
        return []
    lines = []
    for row in draw(chart, width, height, _terminal_style if colour else _no_style):
        pieces = Segment.simplify(row)
        system = ColorSystem.EIGHT_BIT if colour else None
        text = "".join(style.render(text, color_system=system) if style else text for text, style, _ in pieces)
        lines.append((text.translate(ASCII) if ascii else text).rstrip())
    return lines


def _no_style(_colour: str, _strength: float = 1.0) -> Style:
    return Style.null()


def _terminal_style(colour: str, strength: float = 1.0) -> Style:
    return Style(color=None if colour == "foreground" else colour, dim=strength < 0.7)


def _drawable(chart: Chart) -> list[_Points]:
    """The points of each line whose x can be drawn; a y that cannot be drawn becomes nan."""
    lowest = 1 / MAX_DRAWN if chart.log else -MAX_DRAWN
    return [
        [(x, y if lowest < y < MAX_DRAWN else nan) for x, y in zip(line.x, line.y, strict=False) if abs(x) < MAX_DRAWN]
        for line in chart.lines
    ]


def _ends(values: Sequence[float]) -> tuple[float, float] | None:
    return (min(values), max(values)) if values else None


def _write(grid: _Grid, row: int, column: int, text: str, style: Style) -> None:
    """Set the cells from here on; text beyond the grid is left out."""
    for at, character in enumerate(text, column):
        if 0 <= row < len(grid) and 0 <= at < len(grid[row]):
            grid[row][at] = Segment(character, style)


def _draw_axes(grid: _Grid, chart: Chart, plot: Plot, ink: Ink) -> None:
    """Write the axes with their labels, and the rules behind the curves."""
    height, left = len(grid), plot.left
    shared = height < LOW_CHART
    thin, quiet, faint = (ink("foreground", strength) for strength in (0.3, 0.6, 0.2))
    # a shared axis lies at the foot of its row, where the lowest dots are
    corner, edge, tick = "│▁▁" if shared else "└─┬"
    base = faint if shared else thin
    _write(grid, height - 2, left - 1, corner + edge * plot.columns, base)
    for row in range(plot.rows):
        label = plot.y_labels.get(plot.rows - 1 - row, "")
        _write(grid, row, left - 1 - len(label), label, quiet)
        _write(grid, row, left - 1, "┤" if label else "│", thin)
    for value, start, label in plot.x_labels:
        _write(grid, height - 1, left + start, label, quiet)
        _write(grid, height - 2, left + plot.x.cell(value, plot.columns), tick, base)
    if len(chart.x_label) < left:
        _write(grid, height - 1, left - 1 - len(chart.x_label), chart.x_label, quiet)

    shown = list(chart.rules)
    if chart.crosshair is not None:
        shown.append(Rule(chart.crosshair, strength=0.6))
    for rule in shown:
        column = left + plot.x.cell(rule.x, plot.columns)
        if 0 <= plot.x.share(rule.x) <= 1:
            for row in range(plot.rows - shared) if rule.line else ():
                _write(grid, row, column, rule.line, ink(rule.colour, rule.strength))
            if rule.mark:
                _write(grid, height - 2, column, rule.mark, ink(rule.colour, max(rule.strength, 0.6)))


def _draw_curves(grid: _Grid, chart: Chart, plot: Plot, curves: list[_Points], ink: Ink) -> None:
    styles = [ink(line.colour, line.strength) for line in chart.lines]
    places = [[(plot.x.share(x), plot.y.share(y) if isfinite(y) else nan) for x, y in curve] for curve in curves]
    joined = [points if line.joined else [] for line, points in zip(chart.lines, places, strict=True)]
    for row, column, dots, index in _braille(joined, plot.columns, plot.rows):
        bits = ord(dots) & LEFT_DOTS if chart.lines[index].dotted else ord(dots)
        if bits > 0x2800:
            grid[row][plot.left + column] = Segment(chr(bits), styles[index])
    for line, points, style in zip(chart.lines, places, styles, strict=True):
        seen = [(x, y) for x, y in points if 0 <= x <= 1 and 0 <= y <= 1]
        # four dots apart, from the newest; a single dot would hardly be seen
        marked = seen[:: min(-4 * len(seen) // (2 * plot.columns - 1), -1)] if line.mark or len(seen) == 1 else []
        at = [(plot.rows - 1 - _cell(y, plot.rows), plot.left + _cell(x, plot.columns)) for x, y in marked]
        for row, column in at:
            _write(grid, row, column, line.mark or "•", style)
        if line.label and at:
            (row, column), length = at[0], len(line.label)
            beside = [(row, column + 2), (row, column - 1 - length)]
            beside += [(row + by, column - length // 2) for by in (1, -1, 2, -2)]
            _write_where_free(grid, plot, line.label, beside, style)
    _draw_outside(grid, chart, plot, curves, places, ink)
    if chart.log and any(isfinite(y) and y <= 0 for line in chart.lines for y in line.y):
        text = "0 and less have no place on a log scale"
        right = plot.left + plot.columns - len(text)
        _write_where_free(
            grid, plot, text, [(0, right), (plot.rows - 1, right), (0, plot.left)], ink("foreground", 0.6)
        )


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
    figure.xlim(0, 2 * columns - 1)
    figure.ylim(0, 4 * rows - 1)
    for index, points in enumerate(lines):
        dots = [(_cell(x, 2 * columns), _cell(y, 4 * rows) if isfinite(y) else nan) for x, y in _clipped(points)]
        # the colour is only a number that comes back with the cell
        figure.plot([x for x, _ in dots], [y for _, y in dots], marker="braille", color=index)
    figure.build()
    cells = figure.monitor.matrix
    for row in range(rows):
        for column, dots in enumerate(cells.marker[rows - 1 - row]):
            if dots != " ":
                yield row, column, dots, cells.fullground[rows - 1 - row][column]


def _clipped(points: _Points) -> _Points:
    """The stretches of a line within the picture, after a gap each: plotext would count every dot on a way outside."""
    clipped: _Points = []
    x0 = y0 = nan
    for x1, y1 in points:
        if isfinite(y1):
            x0, y0 = (x0, y0) if isfinite(y0) else (x1, y1)
            enter, leave = 0.0, 1.0  # shares of the way from the point before
            for start, end in (x0, x1), (y0, y1):
                low, high = min(start, end), max(start, end)
                if high < 0 or low > 1:
                    leave = -1.0
                elif low < 0 or high > 1:
                    edges = sorted((edge - start) / (end - start) for edge in (0, 1))
                    enter, leave = max(enter, edges[0]), min(leave, edges[1])
            if enter <= leave:
                first = x0 + enter * (x1 - x0), y0 + enter * (y1 - y0)
                last = x1 - (1 - leave) * (x1 - x0), y1 - (1 - leave) * (y1 - y0)  # exactly at a point within
                clipped += [last] if clipped and clipped[-1] == first else [(0, nan), first, last]
        x0, y0 = x1, y1
    return clipped


def _draw_outside(
    grid: _Grid, chart: Chart, plot: Plot, curves: list[_Points], places: list[_Points], ink: Ink
) -> None:
    """Indicate at the edges what lies beyond them: an arrow, and where there is room the farthest value."""
    for row, arrow, sign in ((0, "↑", 1), (plot.rows - 1, "↓", -1)):
        farthest: dict[int, tuple[float, Line]] = {}  # by column: the farthest value beyond the edge
        for line, points, values in zip(chart.lines, places, curves, strict=True):
            for (x, share), (_, y) in zip(points, values, strict=True):
                if 0 <= x <= 1 and (share > 1 if sign > 0 else share < 0):
                    column = _cell(x, plot.columns)
                    farthest[column] = max(farthest.get(column, (sign * y, line)), (sign * y, line), key=lambda f: f[0])
        free = 0
        for column in sorted(farthest):
            if column < free:
                continue
            size, last = farthest[column][0], column
            while last + 1 in farthest or last + 2 in farthest:  # what stands together has one arrow
                last += 1 if last + 1 in farthest else 2
                if farthest[last][0] > size:
                    size, column = farthest[last][0], last
            text = arrow + _three_digits(sign * size)
            at = min(column, plot.columns - len(text))
            at, text = (at, text) if at >= free else (column, arrow)
            line = farthest[column][1]
            _write(grid, row, plot.left + at, arrow, ink(line.colour))
            _write(grid, row, plot.left + at + 1, text[1:], ink("foreground", 0.6))
            free = max(last + 1, at + len(text) + 1)


def _three_digits(value: float) -> str:
    if 1e3 <= value < 1e12:
        return format_rate(value)
    return tick_label(value, 10.0 ** (floor(log10(abs(value) or 1)) - 2))


def _cell(share: float, cells: int) -> int:
    return min(int(share * cells), cells - 1)


def _write_where_free(grid: _Grid, plot: Plot, text: str, places: list[tuple[int, int]], style: Style) -> None:
    """Write a text at the first of these places with the fewest cells in use, row and column, where it fits."""
    fits = [
        (row, at) for row, at in places
        if 0 <= row < plot.rows and plot.left <= at and at + len(text) <= plot.left + plot.columns
    ]  # fmt: skip
    if fits:
        row, at = min(
            fits, key=lambda f: sum(cell.text not in " │┊" for cell in grid[f[0]][f[1] - 1 : f[1] + len(text) + 1])
        )
        _write(grid, row, at, text, style)
