"""A live chart in braille: plotext sets the dots, this file lays out everything around them.

- The only file that imports plotext, and `_dots` is all that it asks of it: another renderer fits there.
- Whatever the numbers are, it draws: what cannot be drawn is a gap, and no data is a line of text.
- Knows nothing of runs: it is given titles, points and markers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import ceil, floor, isfinite, log10, nan

from rich.segment import Segment
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from fundamentallm_tui.charts.series import nice_ticks, tick_label

GUTTER = 7  # columns for the labels of y; only a longer label widens it, so the plot does not jump
SMALL = 9  # with fewer rows than this under the title, the bottom axis shares the plot's last row
BEYOND = 1e100  # no training run gets there, and what is nearer keeps every calculation here finite

_Grid = list[list[Segment]]  # cells to write on, from the top
_Points = list[tuple[float, float]]
_Ink = Callable[..., Style]  # name of a theme colour, strength -> style


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        x, y: the points, by increasing x. A y of nan, infinity or, on a log axis, zero or less is a gap.
        colour: the name of a theme colour: "foreground", "primary", "accent" ...
        strength: how much of the colour is left over the background, 0 to 1.
        points: mark the points, or of many so many that the marks stay apart, the newest always.
    """

    x: Sequence[float]
    y: Sequence[float]
    colour: str = "foreground"
    strength: float = 1.0
    points: bool = False


@dataclass(frozen=True)
class Chart:
    """What a `ChartView` shows.

    Attributes:
        title: a text, or pieces of it, each with the name of a theme colour: a legend.
        lines: later ones lie over earlier ones; marked points lie over all.
        markers: where faint vertical lines stand: the ends of epochs.
        log: whether y is logarithmic.
        x_label: what x counts, left of its labels, where it fits.
        empty: what to say while there is nothing to draw.
    """

    title: str | Sequence[tuple[str, str]] = ""
    lines: Sequence[Line] = ()
    markers: Sequence[float] = ()
    log: bool = False
    x_label: str = ""
    empty: str = "nothing to draw yet"


class ChartView(Widget):
    """Shows a `Chart`; give it the next one with `show`."""

    DEFAULT_CSS = "ChartView { width: 1fr; height: 1fr; }"
    ALLOW_SELECT = False

    def __init__(self, chart: Chart | None = None, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._chart = chart or Chart()
        self._drawn: list[Strip] = []
        self._drawn_for: tuple[Size, Color] | None = None

    @property
    def columns(self) -> int:
        """How many columns to reduce a series to before it is shown here: two dots fit in a cell."""
        return 2 * max(1, self.size.width - GUTTER - 1)

    def show(self, chart: Chart) -> None:
        """Show this chart from now on; one that equals the last costs nothing."""
        if chart != self._chart:
            self._chart = chart
            self._redraw()

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._redraw)

    def _redraw(self, _theme: object = None) -> None:
        self._drawn_for = None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        # asked only for what is on the screen, so a chart on a hidden tab is never drawn
        background = self.background_colors[1]
        if self._drawn_for != (self.size, background):
            self._drawn_for = self.size, background
            self._drawn = _draw(self._chart, self.size, partial(_style, self.app.theme_variables, background))
        strip = self._drawn[y] if y < len(self._drawn) else Strip([])
        # without a base style under the cells, light themes would show dark boxes
        return strip.adjust_cell_length(self.size.width).apply_style(self.rich_style)


def _style(theme: Mapping[str, str], background: Color, name: str, strength: float = 1.0) -> Style:
    """The style of a theme colour, so much of it over the background."""
    try:
        colour = Color.parse(theme.get(name, name))
    except ColorParseError:  # a text colour such as "auto 60%", or no colour at all
        colour = Color.parse(theme["foreground"])
    if colour.ansi is not None:  # the terminal's own colours do not mix
        return Style(color=colour.rich_color, dim=strength < 0.7)
    return Style(color=background.blend(colour, strength).rich_color)


def _write(grid: _Grid, row: int, column: int, text: str, style: Style) -> None:
    """Set the cells from here on; what does not fit is lost."""
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


def _draw(chart: Chart, size: Size, ink: _Ink) -> list[Strip]:
    pieces = [(chart.title, "foreground")] if isinstance(chart.title, str) else chart.title
    title = [Segment(text.replace("\n", " "), ink(colour)) for text, colour in pieces if text]
    head = [_fitted(Strip(title), size.width)] if title else []
    grid = [[Segment(" ")] * size.width for _ in range(size.height - len(head))]
    least = 1 / BEYOND if chart.log else -BEYOND
    curves = [
        [(x, y if least < y < BEYOND else nan) for x, y in zip(line.x, line.y, strict=False) if abs(x) < BEYOND]
        for line in chart.lines
    ]
    known = [y for curve in curves for _, y in curve if isfinite(y)]
    if known and size.width >= 16 and len(grid) >= 2:  # or there is no room but for the title
        _plot(grid, chart, curves, known, ink)
    body = [Strip(cells).simplify() for cells in grid]
    if body and not known:
        words = _fitted(Strip([Segment(chart.empty, ink("foreground", 0.5))]), size.width)
        body[len(body) // 2] = words.text_align(size.width, "center")
    return [*head, *body]


def _fitted(strip: Strip, width: int) -> Strip:
    """A text of at most this width; an ellipsis stands for what does not fit."""
    if strip.cell_length <= width:
        return strip
    kept = list(strip.crop(0, width - 1))
    return Strip([*kept, Segment("…", kept[-1].style if kept else None)])


def _plot(grid: _Grid, chart: Chart, curves: list[_Points], known: list[float], ink: _Ink) -> None:
    """Write axes, markers and curves; `known` are the ys that are not gaps, at least one."""
    height = len(grid)
    shared = height < SMALL
    rows, bottom = (height - 1, height - 2) if shared else (height - 2, height - 2)
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
    marked = sorted({_column(x_axis.share(x), columns) for x in chart.markers if x_axis.low < x <= x_axis.high})
    for column in marked[:: 1 + 6 * len(marked) // columns]:  # one in six columns at most
        for row in range(bottom):
            _write(grid, row, left + column, "┊", faint)

    styles = [ink(line.colour, line.strength) for line in chart.lines]
    places = [[(x_axis.share(x), y_axis.share(y)) for x, y in curve] for curve in curves]
    for row, column, dots, index in _dots(places, columns, rows):
        _write(grid, row, left + column, dots, styles[index])
    for line, points, style in zip(chart.lines, places, styles, strict=True):
        seen = [(x, y) for x, y in points if isfinite(y)]
        if len(seen) == 1 or (line.points and seen):  # a single dot would hardly be seen
            for x, y in seen[:: -4 * len(seen) // (2 * columns - 1)]:  # four dots apart, from the newest
                _write(grid, _row(y, rows), left + _column(x, columns), "•", style)


def _column(share: float, columns: int) -> int:
    """Where plotext sets the dot of a share of the width: one of two in a cell."""
    return floor(0.5 + (2 * columns - 1) * share + 1e-9) // 2


def _row(share: float, rows: int) -> int:
    """Where plotext sets the dot of a share of the height: one of four in a cell; from the top."""
    return rows - 1 - floor(0.5 + (4 * rows - 1) * share + 1e-9) // 4


def _y_axis(low: float, high: float, log: bool, rows: int) -> tuple[_Axis, dict[int, str]]:
    """An axis over these values, and the labels of its rows.

    It begins and ends at a fifth of its labels' step, so that it seldom changes while a run goes on.
    """
    log = log and high > 1.5 * low  # what is closer looks the same on a linear axis, and has rounder labels
    if log:
        low, high = log10(low), log10(high)
    elif high - low <= max(1 / BEYOND, 1e-9 * max(abs(low), abs(high))):
        around = abs(low) / 2 if abs(low) > 1 / BEYOND else 1.0
        low, high = low - around, high + around
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
    ticks = [axis.low + share * (axis.high - axis.low) for share in (0.0, 0.5, 1.0)]
    words = [tick_label(10**tick, 10.0 ** (floor(tick) - 1)) if log else tick_label(tick, unit) for tick in ticks]
    return axis, {_row(share, rows): word for share, word in zip((0.0, 0.5, 1.0), words, strict=True)}


def _x_axis(low: float, high: float, columns: int) -> tuple[_Axis, list[tuple[int, int, str]]]:
    """An axis over these values, and its labels, none overlapping or cut: tick, start, text."""
    low = 0.0 if 0 < low <= high / 10 else low
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        around = max(1.0, abs(low) / 1000)
        low, high = max(0.0, low - around) if low >= 0 else low - around, high + around
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


def _dots(lines: list[_Points], columns: int, rows: int) -> Iterator[tuple[int, int, str, int]]:
    """Join the points of lines, given as shares of width and height, in braille.

    Yields:
        Row from the top, column, character, and the line that it shows: in each cell the last one.
    """
    import plotext  # here, because it takes 60 ms, which a console that opens without a run can save

    figure = type(plotext.main())()  # of its own: plotext's functions all share one
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
