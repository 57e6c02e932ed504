"""Attention as a map of cells: a row for each token, and a column for each that it can look back at."""

from collections.abc import Callable, Sequence
from math import sqrt

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.events import Click
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from fundamentallm.run.events import Attended
from fundamentallm_tui.format import fit
from fundamentallm_tui.panes.tokens import glyph_alone
from fundamentallm_tui.theme import Styles

GUTTER, TOP = 3, 1  # columns with the tokens of the rows, and the line with those of the columns
LARGEST = 8  # columns of a cell
FAINTEST = 0.08  # the colour of a weight of 0, so that what a token can see is told from what it cannot
SHADES = 50
MAX_TOKENS = 96  # no run answers more


def weights(event: Attended, head: int) -> list[list[float]]:
    """Return by token how much it attends to each token up to itself, in a head from 1, or 0: the mean of all heads.

    What is missing in an answer, or no share of 1, counts as 0.
    """
    rows = [[0.0] * (i + 1) for i in range(min(len(event.tokens), MAX_TOKENS))]
    heads = event.heads[head - 1 : head] if head else event.heads
    for found in heads:
        for row, given in zip(rows, found, strict=False):
            for j, weight in enumerate(given[: len(row)]):
                row[j] += weight / len(heads) if 0 <= weight <= 1 else 0.0
    return rows


class HeatMap(Widget, can_focus=True):
    """Shows weights with a cursor on one of them; of more tokens than fit, the last ones."""

    DEFAULT_CSS = "HeatMap { width: auto; height: 1fr; }"
    ALLOW_SELECT = False

    def __init__(self, moved: Callable[[], None], *, beside: int, id: str) -> None:
        """`moved` is called after a click has moved the cursor; `beside`: columns that are left free at the right."""
        super().__init__(id=id)
        self._moved = moved
        self.tokens: Sequence[str] = ()
        self.rows: list[list[float]] = []
        self.cursor = 0, 0  # row and column, as tokens
        self._beside = beside
        self._styles = Styles(self)

    def show(self, tokens: Sequence[str], rows: list[list[float]]) -> None:
        """Show these; of another text, the cursor is where the last token attends to most."""
        if tuple(tokens) != tuple(self.tokens) and rows:
            self.cursor = len(rows) - 1, max(range(len(rows)), key=rows[-1].__getitem__)
        self.tokens, self.rows = tokens[: len(rows)], rows
        self.move(0, 0)
        self.refresh(layout=True)

    def move(self, rows: int, columns: int) -> None:
        """Move the cursor, among the tokens that are seen."""
        if self.rows:
            first, last = len(self.rows) - self.shown, len(self.rows) - 1
            row = min(max(self.cursor[0] + rows, first), last)
            self.cursor = row, min(max(self.cursor[1] + columns, first), row)
            self.refresh()

    # Where what is

    def get_content_width(self, container: Size, viewport: Size) -> int:
        count, size = self._cells(container)
        return GUTTER + count * size

    def _cells(self, room: Size) -> tuple[int, int]:
        """Return how many tokens fit, and the columns of each, which is half as many lines high."""
        half_lines = min(room.width - self._beside - GUTTER, 2 * (room.height - TOP))
        size = min(LARGEST, half_lines // max(1, len(self.rows)) // 2 * 2)
        return max(0, min(len(self.rows), half_lines // max(1, size))), max(1, size)

    @property
    def shown(self) -> int:
        """How many tokens are seen."""
        return self._layout[0] or len(self.rows)

    @property
    def _layout(self) -> tuple[int, int]:
        return self._cells(self.parent.size if isinstance(self.parent, Widget) else self.size)

    def on_resize(self) -> None:
        self.move(0, 0)

    def on_click(self, event: Click) -> None:
        count, size = self._layout
        first = len(self.rows) - count
        row, column = 2 * (event.y - TOP) // size, (event.x - GUTTER) // size
        if 0 <= column <= row < count:
            self.cursor = first + row, first + column
            self.refresh()
            self._moved()

    # What is drawn

    def render_line(self, y: int) -> Strip:
        count, size = self._layout
        first, width = len(self.rows) - count, GUTTER + count * size
        if y == 0:
            names = [self._label(first + column, size, self.cursor[1]) for column in range(count)]
            segments = [Segment(" " * GUTTER, self.rich_style), *names]
        else:
            upper, lower = ((first + half // size) for half in (2 * (y - TOP), 2 * (y - TOP) + 1))
            if upper >= len(self.rows):
                return Strip.blank(width, self.rich_style)
            starts = [row for row, half in ((upper, 2 * (y - TOP)), (lower, 2 * (y - TOP) + 1)) if half % size == 0]
            room = GUTTER - 1 if len(starts) == 1 else 1
            names = [self._label(row, room, self.cursor[0]) for row in starts if row < len(self.rows)]
            segments = [*names, Segment(" " * (GUTTER - room * len(names)), self.rich_style)]
            for column in range(first, first + count):
                style = Style(color=self._colour(upper, column), bgcolor=self._colour(lower, column))
                segments.append(Segment("▀" * size, style))
        return Strip(segments, width)

    def _label(self, token: int, width: int, marked: int) -> Segment:
        """The sign of a token on an axis; one that has no room there is a dot."""
        name = glyph_alone(self.tokens[token])
        style = self._styles("text-accent") + Style(bold=True) if token == marked else self._styles("foreground", 0.6)
        return Segment(fit(name if 0 < cell_len(name) <= width else "·", width), self.rich_style + style)

    def _colour(self, row: int, column: int) -> Color | None:
        """The colour of a weight, which grows with its square root: most are small."""
        if (row, column) == self.cursor:
            return self._styles("text-accent").color
        if row >= len(self.rows) or column > row:
            return self._styles("primary", 0.0).color
        shade = round(sqrt(self.rows[row][column]) * SHADES) / SHADES
        return self._styles("primary", FAINTEST + (1 - FAINTEST) * shade).color
