"""Lines in braille: two dots across and four down in each cell of a terminal.

- Costs the width of the picture and not its points: each segment fills one stretch of dots in each column.
- Every point within the picture sets its own dot, so that no extreme is lost.
"""

from collections.abc import Iterable, Sequence
from math import floor, isfinite, nan

Point = tuple[float, float]  # dots from the left and from the bottom, the far edges included; a y of nan is a gap
Cells = dict[tuple[int, int], tuple[str, int]]  # row from the bottom, column -> character, which line it belongs to

DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))  # bits by column and row from the bottom
# bits of the dots from one row to another, both included
FILLED = [[[sum(dots[low : high + 1]) for high in range(4)] for low in range(4)] for dots in DOTS]
GAP_BETWEEN_DOTS = 2  # columns of a dotted line from one dot to the next


def braille(lines: Sequence[Sequence[Point]], dotted: Sequence[bool], columns: int, rows: int) -> Cells:
    """Draw lines into so many cells; in each cell only the dots of the last line."""
    cells: Cells = {}
    top = 4 * rows
    for index, points in enumerate(lines):
        bits: dict[int, int] = {}  # by row * columns + column
        for column, start, end in _columns(points, 2 * columns):
            if dotted[index]:
                start = end
                if column % GAP_BETWEEN_DOTS:
                    continue
            if start > end:
                start, end = end, start
            if end < 0 or start > top:
                continue
            low, high = int(start) if start > 0 else 0, int(end) if end < top else top - 1
            low = low if low < high else high
            side, first, last = FILLED[column % 2], low // 4, high // 4
            for row in range(first, last + 1):
                fill = side[low % 4 if row == first else 0][high % 4 if row == last else 3]
                place = row * columns + column // 2
                bits[place] = bits.get(place, 0) | fill
        for place, dots in bits.items():
            cells[divmod(place, columns)] = chr(0x2800 + dots), index
    return cells


def _columns(points: Sequence[Point], width: int) -> Iterable[tuple[int, float, float]]:
    """The columns of dots that a line crosses within the width, each with the heights where it enters and ends."""
    x0, y0 = 0.0, nan
    for x, y in points:
        last = width - 1 if x == width else floor(x)
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
