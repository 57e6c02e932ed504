"""Lines in braille: two dots across and four down in each cell of a terminal.

- Costs the width of the picture and not its points: each segment fills one stretch of dots in each column.
- Every point within the picture sets its own dot, so that no extreme is lost.
"""

from collections.abc import Iterable, Sequence
from math import floor, isfinite, nan

Point = tuple[float, float]  # dots from the left and from the bottom; a y of nan is a gap
Cells = dict[tuple[int, int], tuple[str, int]]  # row from the bottom, column -> character, which line it belongs to

DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))  # bits by column and row from the bottom
# bits of the dots from one row to another, both included
FILLED = [[[sum(dots[low : high + 1]) for high in range(4)] for low in range(4)] for dots in DOTS]
GAP_BETWEEN_DOTS = 2  # columns of a dotted line from one dot to the next


def braille(lines: Sequence[Sequence[Point]], dotted: Sequence[bool], columns: int, rows: int) -> Cells:
    """Draw lines into so many cells; in each cell only the dots of the last line."""
    cells: Cells = {}
    for index, points in enumerate(lines):
        bits: dict[tuple[int, int], int] = {}
        for column, start, end in _columns(points, 2 * columns):
            if dotted[index]:
                start = end
                if column % GAP_BETWEEN_DOTS:
                    continue
            low, high = max(0, floor(min(start, end))), floor(min(max(start, end), 4 * rows - 1))
            side, column = FILLED[column % 2], column // 2
            for row in range(low // 4, high // 4 + 1) if low <= high else ():
                fill = side[max(low - 4 * row, 0)][min(high - 4 * row, 3)]
                bits[row, column] = bits.get((row, column), 0) | fill
        for place, dots in bits.items():
            cells[place] = chr(0x2800 + dots), index
    return cells


def _columns(points: Sequence[Point], width: int) -> Iterable[tuple[int, float, float]]:
    """The columns of dots that a line crosses within the width, each with the heights where it enters and ends."""
    x0, y0 = 0.0, nan
    for x, y in points:
        last = floor(x)
        if isfinite(y):
            start = y
            if isfinite(y0):
                slope = (y - y0) / (x - x0) if x > x0 else 0.0
                first = max(floor(x0) + 1, 0)
                start = y0 if first == floor(x0) + 1 else y0 + slope * (first - 0.5 - x0)
                for column in range(first, min(last, width)):
                    end = y0 + slope * (column + 0.5 - x0)
                    yield column, _beyond(start, end), end
                    start = end
                start = y0 if last == floor(x0) else _beyond(start, y)
            if 0 <= last < width:
                yield last, start, y
        x0, y0 = x, y


def _beyond(start: float, end: float) -> float:
    """One dot from `start` toward `end`, or `end` where that is nearer: the column before shows the dot of `start`."""
    return min(start + 1, end) if end > start else max(start - 1, end)
