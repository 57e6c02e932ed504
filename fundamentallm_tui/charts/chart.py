"""Charts as rows of text: plotext holds the cells, this module lays out everything in them.

- Serves the console and `fundamentallm runs plot`; needs rich, but not Textual.
- The only module that imports plotext, and only in `draw`: another renderer would fit there.
- Draws any numbers: a value that cannot be drawn is a gap, and without data there is a line of text.
- Knows nothing of runs: it is given points.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import floor, isfinite, log10, nan
from typing import Any

from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style

from fundamentallm.config.format import format_rate
from fundamentallm_tui.charts.axes import Axis, tick_label, x_axis, y_axis
from fundamentallm_tui.charts.palette import MARKS
from fundamentallm_tui.charts.series import reduce

GUTTER = 7  # columns for the labels of y; only a longer label widens it, so the plot does not jump
LOW_CHART = 9  # with fewer rows than this, the bottom axis shares the plot's last row
ARROW_WIDTH = 7  # columns of an arrow with its value: no other arrow stands in them
MAX_DRAWN = 1e100  # no training run gets there, and smaller values keep every calculation here finite

# How a terminal without Unicode shows a chart.
ASCII = str.maketrans("─│└┤┬▁•★↑↓┊▴▲◆●" + MARKS, "-|+++_**^v:^A!O" + "xV>+#wo&") | {
    code: "." for code in range(0x2800, 0x2900)
}

# A cell's character by its dots: four bits for the left ones from the bottom, then four for the right ones.
DOTS = (0x40, 0x04, 0x02, 0x01, 0x80, 0x20, 0x10, 0x08)
BRAILLE = [chr(0x2800 + sum(dot for n, dot in enumerate(DOTS) if code >> n & 1)) for code in range(256)]

Ink = Callable[..., Style]  # name of a colour, strength (0 to 1) -> style
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart: points by increasing x, which it joins."""

    x: Sequence[float]
    y: Sequence[float]  # nan, infinity or, on a log axis, zero or less is a gap
    colour: str = "foreground"  # the name of one: of the theme in the console, of the terminal in `text_lines`
    strength: float = 1.0  # how much of the colour is left over the background, 0 to 1
    mark: str = ""  # the character that marks the points; of many so many that they stay apart, and the newest
    dotted: bool = False
    label: str = ""  # a text beside the newest point


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
    """What to draw."""

    lines: Sequence[Line] = ()  # later ones lie over earlier ones; marks lie over all
    log: bool = False  # whether y is logarithmic; values of 0 and less are then left out, which the chart says
    x_range: tuple[float, float] | None = None  # what to show; None: all
    y_range: tuple[float, float] | None = None  # likewise; an arrow and its value indicate what lies beyond
    rules: Sequence[Rule] = ()  # later ones over earlier ones
    crosshair: float | None = None  # an x that a vertical line marks
    x_label: str = ""  # what x counts, left of its labels, where it fits; "time": seconds, "rate": log10
    empty: str = "nothing to draw yet"  # what to write while there is nothing to draw


@dataclass(frozen=True)
class Plot:
    """Where everything lies: the curves in `columns` and `rows` of cells, right of the `left` ones that label y."""

    left: int
    columns: int
    rows: int
    x: Axis
    y: Axis
    x_labels: Sequence[tuple[float, int, str]]  # value, column where the text starts, text
    y_labels: dict[int, str]  # by row from the bottom
    curves: list[Points]  # of each line: the points that can be drawn; a y that cannot is nan
    places: list[Points]  # the same as shares of width and height from the lower left, 0 to 1 within the picture
    rules: list[tuple[float, Rule]]  # those in sight, at their share of the width; the crosshair over the others

    def x_at(self, column: int) -> float:
        """The x in the middle of a column of the picture."""
        return self.x.low + (column - self.left + 0.5) / self.columns * (self.x.high - self.x.low)


def lay_out(chart: Chart, width: int, height: int) -> Plot | None:
    """Find a chart's axes, and where everything lies; None where there is nothing to draw or no room for it."""
    curves = _drawable(chart)
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
    x, x_labels = x_axis(*xs, columns, chart.x_label)
    places = [[(x.share(at), y.share(value) if isfinite(value) else nan) for at, value in curve] for curve in curves]
    crosshair = [] if chart.crosshair is None else [Rule(chart.crosshair, strength=0.6)]
    rules = [(share, rule) for rule in (*chart.rules, *crosshair) if 0 <= (share := x.share(rule.x)) <= 1]
    return Plot(left, columns, rows, x, y, x_labels, y_labels, curves, places, rules)


def draw(chart: Chart, width: int, height: int, ink: Ink, paper: Style | None = None) -> list[list[Segment]]:
    """Draw a chart; returns `height` rows of `width` columns, whose neighbouring cells of one style share a segment.

    Empty cells have the style `paper`. It costs in proportion to the points: reduce long lines first.
    """
    import plotext  # here, because it takes 30 ms, which a console that opens without a run can save

    # plotext's matrix holds the cells. Its own lines would cost 30 ms a chart, most of it for the dots of a dense line.
    canvas = type(plotext.main().monitor.matrix)()
    canvas.set_size(width, height)
    canvas.set_matrices()
    plot = lay_out(chart, width, height)
    if plot is not None:
        _draw_axes(canvas, chart, plot, ink)
        _draw_curves(canvas, chart, plot, ink)
    elif _is_empty(chart):
        hidden = chart.log and any(-MAX_DRAWN < y <= 0 for line in chart.lines for y in line.y)
        text = "no value above 0 for a log scale" if hidden else chart.empty
        text = text if len(text) <= width else text[: width - 1] + "…"
        _write(canvas, height // 2, (width - len(text)) // 2, text, ink("foreground", 0.6))
    rows = []
    for markers, styles in zip(canvas.marker, canvas.fullground, strict=True):
        ends = [at for at in range(1, width) if styles[at] is not styles[at - 1]]
        row = [(markers[start:end], styles[start]) for start, end in pairwise([0, *ends, width])]
        rows.append([Segment("".join(text), style if isinstance(style, Style) else paper) for text, style in row])
    return rows


def text_lines(chart: Chart, width: int, height: int, *, colour: bool, ascii: bool) -> list[str]:
    """Draw a chart as so many lines of text without spaces at their ends; returns [] where there is nothing to draw.

    `colour`: write ANSI colours. `ascii`: write letters, dashes and dots only.
    """
    reduced = []
    for line in chart.lines:
        x, y = reduce(line.x, line.y, width)
        reduced.append(replace(line, x=x, y=y))
    chart = replace(chart, lines=reduced)
    if _is_empty(chart):
        return []
    lines = []
    for pieces in draw(chart, width, height, _terminal_style if colour else lambda *_: Style.null()):
        system = ColorSystem.EIGHT_BIT if colour else None
        text = "".join(style.render(text, color_system=system) if style else text for text, style, _ in pieces)
        lines.append((text.translate(ASCII) if ascii else text).rstrip())
    return lines


def _terminal_style(colour: str, strength: float = 1.0) -> Style:
    return Style(color=None if colour == "foreground" else colour, dim=strength < 0.7)


def _is_empty(chart: Chart) -> bool:
    return not any(isfinite(y) for curve in _drawable(chart) for _, y in curve)


def _drawable(chart: Chart) -> list[Points]:
    """The points of each line whose x can be drawn; a y that cannot be drawn becomes nan."""
    lowest = 1 / MAX_DRAWN if chart.log else -MAX_DRAWN
    return [
        [(x, y if lowest < y < MAX_DRAWN else nan) for x, y in zip(line.x, line.y, strict=False) if abs(x) < MAX_DRAWN]
        for line in chart.lines
    ]


def _ends(values: Sequence[float]) -> tuple[float, float] | None:
    return (min(values), max(values)) if values else None


def _write(canvas: Any, row: int, column: int, text: str, style: Style) -> None:
    """Set the cells from here on; text beyond the canvas is left out."""
    canvas.add_horizontal_string(column, row, text, style)


def _draw_axes(canvas: Any, chart: Chart, plot: Plot, ink: Ink) -> None:
    """Write the axes with their labels, and the rules behind the curves."""
    height, left = canvas.rows, plot.left
    shared = height < LOW_CHART
    thin, quiet, faint = (ink("foreground", strength) for strength in (0.3, 0.6, 0.2))
    # a shared axis lies at the foot of its row, where the lowest dots are
    corner, edge, tick = "│▁▁" if shared else "└─┬"
    base = faint if shared else thin
    _write(canvas, height - 2, left - 1, corner + edge * plot.columns, base)
    for row in range(plot.rows):
        label = plot.y_labels.get(plot.rows - 1 - row, "")
        _write(canvas, row, left - 1 - len(label), label, quiet)
        _write(canvas, row, left - 1, "┤" if label else "│", thin)
    for value, start, label in plot.x_labels:
        _write(canvas, height - 1, left + start, label, quiet)
        _write(canvas, height - 2, left + plot.x.cell(value, plot.columns), tick, base)
    if len(chart.x_label) < left:
        _write(canvas, height - 1, left - 1 - len(chart.x_label), chart.x_label, quiet)

    for share, rule in plot.rules:
        column = left + _cell(share, plot.columns)
        if rule.line:
            style = ink(rule.colour, rule.strength)
            canvas.add_vertical_string(column, 0, rule.line * (plot.rows - shared), style)
        if rule.mark:
            _write(canvas, height - 2, column, rule.mark, ink(rule.colour, max(rule.strength, 0.6)))


def _draw_curves(canvas: Any, chart: Chart, plot: Plot, ink: Ink) -> None:
    styles = [ink(line.colour, line.strength) for line in chart.lines]
    for line, points, style in zip(chart.lines, plot.places, styles, strict=True):
        if len(points) > 1:
            dots = _dots(points, 2 * plot.columns, 4 * plot.rows)
            if line.dotted:  # every second dot of a flat stretch, and of a steep one
                even = ((1 << 4 * plot.rows) - 1) // 3
                dots = [run & even if run & (run - 1) else 0 if n % 2 else run for n, run in enumerate(dots)]
            for column, (left, right) in enumerate(zip(dots[::2], dots[1::2], strict=True), plot.left):
                row = plot.rows - 1
                while left or right:
                    if code := left & 15 | (right & 15) << 4:
                        canvas.set_marker(column, row, BRAILLE[code])
                        canvas.set_fullground(column, row, style)
                    row, left, right = row - 1, left >> 4, right >> 4
    for line, points, style in zip(chart.lines, plot.places, styles, strict=True):
        seen = [(x, y) for x, y in points if 0 <= x <= 1 and 0 <= y <= 1]
        # four dots apart, from the newest; a single dot would hardly be seen
        marked = seen[:: min(-4 * len(seen) // (2 * plot.columns - 1), -1)] if line.mark or len(seen) == 1 else []
        at = [(plot.rows - 1 - _cell(y, plot.rows), plot.left + _cell(x, plot.columns)) for x, y in marked]
        for row, column in at:
            _write(canvas, row, column, line.mark or "•", style)
        if line.label and at:
            (row, column), length = at[0], len(line.label)
            beside = [(row, column + 2), (row, column - 1 - length)]
            above = min(column - length // 2, plot.left + plot.columns - length)  # not beyond the right edge
            beside += [(row + by, above) for by in (1, -1, 2, -2)]
            _write_where_free(canvas, plot, line.label, beside, style)
    _draw_outside(canvas, chart, plot, ink)
    if chart.log and any(isfinite(y) and y <= 0 for line in chart.lines for y in line.y):
        text = "0 and less have no place on a log scale"
        right = plot.left + plot.columns - len(text)
        places = [(0, right), (plot.rows - 1, right), (0, plot.left)]
        _write_where_free(canvas, plot, text, places, ink("foreground", 0.6))


def _dots(points: Points, columns: int, rows: int) -> list[int]:
    """Join points, as shares of the picture, by dots: a number for each column, whose lowest bit is its lowest dot."""
    dots, x0, y0 = [0] * columns, 0, -1
    for x, y in clipped(points):
        if not isfinite(y):
            y0 = -1
            continue
        x1, y1 = _cell(x, columns), _cell(y, rows)
        slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
        for at in range(x0, x1) if y0 >= 0 else ():  # from a dot to that in the next column, not included
            start, end = y0 + slope * (at - x0), y0 + slope * (at + 1 - x0)
            dots[at] |= _run(round(start), round(end) - (slope > 1) + (slope < -1) if abs(slope) > 1 else round(start))
        dots[x1] |= _run(y0 if x1 == x0 and y0 >= 0 else y1, y1)
        x0, y0 = x1, y1
    return dots


def _run(start: int, end: int) -> int:
    """The bits from one to another."""
    low, high = min(start, end), max(start, end)
    return (2 << high) - (1 << low)


def clipped(points: Points) -> Points:
    """The stretches of a line within the picture, after a gap each."""
    within: Points = []
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
                within += [last] if within and within[-1] == first else [(0, nan), *dict.fromkeys((first, last))]
        x0, y0 = x1, y1
    return within


def _draw_outside(canvas: Any, chart: Chart, plot: Plot, ink: Ink) -> None:
    """Indicate at the edges what lies beyond them: an arrow, and where there is room the farthest value."""
    for row, arrow, sign in ((0, "↑", 1), (plot.rows - 1, "↓", -1)):
        beyond = sorted(
            (_cell(x, plot.columns), sign * value, line.colour)
            for line, curve, places in zip(chart.lines, plot.curves, plot.places, strict=True)
            for (_, value), (x, y) in zip(curve, places, strict=True)
            if 0 <= x <= 1 and (y > 1 if sign > 0 else y < 0)
        )
        free = 0
        while beyond:
            group = [beyond.pop(0)]
            while beyond and beyond[0][0] <= group[-1][0] + ARROW_WIDTH:  # what stands together has one arrow
                group.append(beyond.pop(0))
            column, size, colour = max(group, key=lambda point: point[1])
            text = arrow + three_digits(sign * size)
            at = min(column, plot.columns - len(text))
            at, text = (at, text) if at >= free else (column, arrow)
            _write(canvas, row, plot.left + at, arrow, ink(colour))
            _write(canvas, row, plot.left + at + 1, text[1:], ink("foreground", 0.6))
            free = max(group[-1][0] + 1, at + len(text) + 1)


def three_digits(value: float) -> str:
    if 1e3 <= value < 1e12:
        return format_rate(value)
    return tick_label(value, 10.0 ** (floor(log10(abs(value) or 1)) - 2))


def _cell(share: float, cells: int) -> int:
    return min(int(share * cells), cells - 1)


def _write_where_free(canvas: Any, plot: Plot, text: str, places: list[tuple[int, int]], style: Style) -> None:
    """Write a text at the first of these places with the fewest cells in use, row and column, where it fits."""

    def cells_in_use(place: tuple[int, int]) -> int:
        row, at = place
        return sum(marker not in " │┊" for marker in canvas.marker[row][at - 1 : at + len(text) + 1])

    last = plot.left + plot.columns - len(text)
    fits = [(row, at) for row, at in places if 0 <= row < plot.rows and plot.left <= at <= last]
    if fits:
        _write(canvas, *min(fits, key=cells_in_use), text, style)
