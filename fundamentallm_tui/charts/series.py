"""Numbers for a chart: a growing series, its running mean, and its reduction to what a width can show.

- A `Series` takes no more memory, and costs no more to draw, however long the run is: peaks stay, others may go.
- Pure Python, because importing numpy would take longer than everything else at the console's start.
- Knows nothing of the chart, of Textual, or of where the numbers come from.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import islice
from math import ceil, inf, isfinite, nan
from operator import lt

SMOOTHING = (0.0, 0.9, 0.99, 0.999)  # how much of the mean each step keeps; 0 is not smoothed
MAX_POINTS = 1 << 14  # points that a series keeps: dozens for each column of any chart


class Series:
    """Points by increasing x. A y that is not finite is kept as nan, a gap.

    Of more than `MAX_POINTS` points it keeps the lowest and the highest of each `2 * _every`, and the newest.
    """

    def __init__(self) -> None:
        self._x = array("d")
        self._y = array("d")
        self._every = 1  # how many points each of the first `_even` stands for
        self._even = 0
        self._reduced: tuple[tuple[int, int, int], tuple[list[float], list[float]]] | None = None  # what for, and it

    def __len__(self) -> int:
        return len(self._x)

    @property
    def last(self) -> tuple[float, float] | None:
        """The newest point that is not a gap."""
        return next(((x, y) for x, y in zip(reversed(self._x), reversed(self._y), strict=True) if isfinite(y)), None)

    @property
    def start(self) -> float:
        """The x of the first point; above all others where there is none."""
        return self._x[0] if self._x else inf

    @property
    def end(self) -> float:
        """The x of the newest point, gap or not; below all others where there is none."""
        return self._x[-1] if self._x else -inf

    def append(self, x: float, y: float) -> None:
        """Add a point at the end, as `extend` does."""
        self.extend([x], [y])

    def extend(self, xs: Iterable[float], ys: Iterable[float]) -> None:
        """Add points at the end; there are as many ys as xs.

        Where x does not increase, a ValueError, and nothing is added: call `truncate_after` first if a run went back.
        """
        new_x, new_y = array("d", xs), array("d", ys)
        if not new_x:
            return
        increases = new_x[0] > self.end and all(map(lt, new_x, islice(new_x, 1, None)))
        if len(new_x) != len(new_y) or not increases or not isfinite(new_x[-1]):
            raise ValueError(f"x: {new_x[0]:g} after {self.end:g}; it must increase, or call truncate_after first")
        self._reduced = None
        self._x.extend(new_x)
        self._y.extend(new_y if isfinite(sum(new_y)) else [y if isfinite(y) else nan for y in new_y])
        if len(self._x) > MAX_POINTS:
            self._thin()

    def truncate_after(self, x: float) -> None:
        """Forget every point beyond x: a run was resumed from there, and what followed is superseded."""
        self._reduced = None
        kept = bisect_right(self._x, x)
        del self._x[kept:], self._y[kept:]
        self._even = min(self._even, kept)
        self._every = self._every if kept else 1

    @property
    def points(self) -> tuple[Sequence[float], Sequence[float]]:
        """All that are kept: the xs and the ys."""
        return self._x, self._y

    def at(self, x: float) -> tuple[float, float] | None:
        """The point nearest to x that is kept, gap or not; None where there are no points."""
        after = bisect_left(self._x, x)
        near = [at for at in (after - 1, after) if 0 <= at < len(self._x)]
        return min(((self._x[at], self._y[at]) for at in near), key=lambda point: abs(point[0] - x), default=None)

    def until(self, x: float) -> tuple[float, float] | None:
        """The newest point at x or before it, gap or not; None where there is none."""
        after = bisect_right(self._x, x)
        return (self._x[after - 1], self._y[after - 1]) if after else None

    def reduced(self, count: int, low: float = -inf, high: float = inf) -> tuple[list[float], list[float]]:
        """Return all points from low to high, and one beyond each, to which a line leads.

        Where they are too many, the extremes of each of `count` columns, as `reduce` does.
        """
        start, stop = max(0, bisect_left(self._x, low) - 1), min(bisect_right(self._x, high) + 1, len(self._x))
        if self._reduced is None or self._reduced[0] != (count, start, stop):  # a crosshair that walks changes no line
            self._reduced = (count, start, stop), reduce(self._x, self._y, count, start, stop)
        return self._reduced[1]

    def _thin(self) -> None:
        """Keep as few of the newer points as of the older ones, and if that does not suffice, fewer of all."""
        if self._every > 1:
            self._even = self._squeeze(self._even, 2 * self._every)
        fewer = 1
        while len(self._x) > fewer * MAX_POINTS * 3 // 4:
            fewer *= 2
        if fewer > 1:
            self._every *= fewer
            self._even = self._squeeze(0, 2 * fewer)

    def _squeeze(self, start: int, size: int) -> int:
        """Keep the lowest and the highest of each `size` points from `start`; returns the index where they end."""
        stop = start + (len(self._x) - start - 1) // size * size  # the newest point stays
        kept = _extremes(self._y, size, start, stop)
        for column in (self._x, self._y):
            column[start:stop] = array("d", [column[index] for index in kept])
        return start + len(kept)


class Smoothed(Series):
    """The exponential moving average of the ys that it is given, debiased: it begins at the first y, not at 0.

    Gaps stay gaps, and the mean continues after them. Attributes: `factor`, 0 to 1, of the mean that each step keeps.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self._mean = 0.0
        self._weight = 0.0  # of all ys so far in the mean, which would be 1 without a beginning

    def extend(self, xs: Iterable[float], ys: Iterable[float]) -> None:
        """Add the means at these points."""
        new = array("d", ys)
        mean, keep, rest = self._mean, self.factor, 1 - self.factor
        if self._weight > 1 - 1e-12 and isfinite(sum(new)):  # ten times as fast: a journal may have a million steps
            means = array("d", [mean := mean * keep + y * rest for y in new])
        else:
            means = array("d")
            for y in new:
                if isfinite(y):
                    self._weight = self._weight * keep + rest
                    mean += (y - mean) * rest / self._weight
                means.append(mean if isfinite(y) else nan)
        super().extend(xs, means)
        self._mean = mean

    def truncate_after(self, x: float) -> None:
        super().truncate_after(x)
        self._mean = self.last[1] if self.last else 0.0
        # of a series that was thinned not every point is there, but then all that are missing weigh nothing
        self._weight = 1 - self.factor ** sum(map(isfinite, self._y)) if self._y else 0.0


def reduce(
    xs: Sequence[float], ys: Sequence[float], count: int, start: int = 0, stop: int | None = None
) -> tuple[list[float], list[float]]:
    """Return the xs and ys of a line; where they are more than 2 x `count`, the extremes of so many columns.

    A column is a stretch of equally many points. It gives its lowest and its highest point in the order in which they
    occurred, or one gap (nan) where it has no finite y. A column that begins before the index `start` is whole.
    """
    stop = len(xs) if stop is None else stop
    size = stop - start
    kept: Iterable[int] = range(start, stop)
    if size > 2 * count:
        # A column is 4 to 16 whole blocks of a power of 4, counted from the first point of all: the same
        # points stay together while a run grows, and nothing shimmers. One column less than wanted, because
        # the last is seldom whole.
        width = ceil(size / (count - 1)) if count > 1 else size
        block = 1
        while block * 16 <= width:
            block *= 4
        width = ceil(width / block) * block
        kept = _extremes(ys, width, start // width * width, stop)
    # always the same nan object, so that equal reductions compare as equal
    return [xs[index] for index in kept], [ys[index] if isfinite(ys[index]) else nan for index in kept]


def _extremes(ys: Sequence[float], size: int, start: int, stop: int) -> list[int]:
    """The indices of the lowest and the highest of each `size` ys, in order; of gaps alone the first."""
    kept: list[int] = []
    numbers = list(ys[start:stop])  # of an array, each would become an object again and again
    for first in range(0, len(numbers), size):
        part = numbers[first : first + size]
        finite = part if isfinite(sum(part)) else [y for y in part if isfinite(y)] or part[:1]
        low, high = start + first + part.index(min(finite)), start + first + part.index(max(finite))
        kept += (low, high) if low < high else (high, low) if high < low else (low,)
    return kept
