"""Numbers for a chart: a growing series, its reduction to what a width can show, and round ticks.

- A `Series` takes no more memory, and costs no more to draw, however long the run is: peaks stay, others may go.
- Pure Python, because importing numpy would take longer than everything else at the console's start.
- Knows nothing of the chart, of Textual, or of where the numbers come from.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import islice, pairwise
from math import ceil, floor, inf, isfinite, log10, nan
from operator import lt

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

        Raises:
            ValueError: x does not increase; nothing was added. Call `truncate_after` first if a run went back.
        """
        new_x, new_y = array("d", xs), array("d", ys)
        if not new_x:
            return
        increases = new_x[0] > self.end and all(map(lt, new_x, islice(new_x, 1, None)))
        if len(new_x) != len(new_y) or not increases or not isfinite(new_x[-1]):
            raise ValueError(f"x: {new_x[0]:g} after {self.end:g}; it must increase, or call truncate_after first")
        self._x.extend(new_x)
        self._y.extend(new_y if isfinite(sum(new_y)) else [y if isfinite(y) else nan for y in new_y])
        if len(self._x) > MAX_POINTS:
            self._thin()

    def truncate_after(self, x: float) -> None:
        """Forget every point beyond x: a run was resumed from there, and what followed is superseded."""
        kept = bisect_right(self._x, x)
        del self._x[kept:], self._y[kept:]
        self._even = min(self._even, kept)
        self._every = self._every if kept else 1

    def at(self, x: float) -> tuple[float, float] | None:
        """The point nearest to x that is kept, gap or not; None where there are no points."""
        after = bisect_left(self._x, x)
        near = [at for at in (after - 1, after) if 0 <= at < len(self._x)]
        return min(((self._x[at], self._y[at]) for at in near), key=lambda point: abs(point[0] - x), default=None)

    def reduced(self, count: int, low: float = -inf, high: float = inf) -> tuple[list[float], list[float]]:
        """Return all points from low to high, and one beyond each, to which a line leads.

        Where they are too many, the extremes of each of `count` columns, as `reduce` does.
        """
        start, stop = max(0, bisect_left(self._x, low) - 1), bisect_right(self._x, high) + 1
        return reduce(self._x, self._y, count, start, min(stop, len(self._x)))

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
        kept = [index for first in range(start, stop, size) for index in _extremes(self._y, first, first + size)]
        for column in (self._x, self._y):
            column[start:stop] = array("d", [column[index] for index in kept])
        return start + len(kept)


def reduce(
    xs: Sequence[float], ys: Sequence[float], count: int, start: int = 0, stop: int | None = None
) -> tuple[list[float], list[float]]:
    """Return all points of a line; where they are too many, the extremes of each column.

    A column is a stretch of equally many points. It gives its lowest and its highest point in the
    order in which they occurred, or one gap (nan) where it has no finite y.

    Args:
        count: columns to fill; at most 2 x count points come back.
        start, stop: indices between which points are wanted; a column that begins before is whole.

    Returns:
        The xs and the ys.
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
        first = start // width * width
        kept = [index for at in range(first, stop, width) for index in _extremes(ys, at, min(stop, at + width))]
    # always the same nan object, so that equal reductions compare as equal
    return [xs[index] for index in kept], [ys[index] if isfinite(ys[index]) else nan for index in kept]


def _extremes(ys: Sequence[float], start: int, stop: int) -> list[int]:
    """The indices of the lowest and the highest y of a stretch, in order; the first, if all are gaps."""
    part = ys[start:stop]
    finite = part if isfinite(sum(part)) else [y for y in part if isfinite(y)]
    if not finite:
        return [start]
    return sorted({start + part.index(min(finite)), start + part.index(max(finite))})


def nice_ticks(low: float, high: float, count: int, log: bool = False) -> list[float]:
    """Return round values from low to high for the labels of an axis.

    They are multiples of 1, 2, 2.5 or 5 x 10^k. On a log axis they are powers of ten, with 2 and 5 times
    them where those are few; a range too small for three of these is labelled like a linear axis.

    Args:
        low, high: the ends of the axis; equal for a constant, which gets ticks around it.
        count: about how many ticks; never fewer than three where floats lie between low and high.
        log: whether the axis is logarithmic; only with low above zero.

    Returns:
        Increasing values, all within the axis.
    """
    if not (isfinite(low) and isfinite(high)):
        return []
    if low == high:
        margin = abs(low) / 2 or 1.0
        low, high = low - margin, high + margin
    choices = _log_choices(low, high) if log and 0 < low < high else []
    choices = [ticks for ticks in choices if len(ticks) >= 3] or _linear_choices(low, high)
    if not choices:  # too close for round values between them, or infinitely far apart
        return sorted({low, low / 2 + high / 2, high})
    return min(choices, key=lambda ticks: (abs(len(ticks) - count), len(ticks)))


def _linear_choices(low: float, high: float) -> list[list[float]]:
    """Ticks at every round step that puts three to some twenty of them between low and high."""
    span = high - low
    if not max(1e-300, 1e-9 * max(abs(low), abs(high))) < span < inf:
        return []
    tenth = floor(log10(span)) - 1
    choices = []
    for step in (float(f"{m}e{k}") for k in range(tenth, tenth + 2) for m in (1, 2, 2.5, 5)):
        # 1e-9 keeps a tick on a limit that binary fractions put just beyond it
        multiples = range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)
        ticks = [float(f"{multiple * step:.15g}") for multiple in multiples]
        if len(ticks) >= 3 and all(a < b for a, b in pairwise(ticks)):
            choices.append(ticks)
    return choices


def _log_choices(low: float, high: float) -> list[list[float]]:
    """Ticks at every decade, at every second, fifth ... decade, and at 1, 2 and 5 times each."""
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    every = [[f"1e{k}" for k in decades if k % skip == 0] for skip in (1, 2, 5, 10, 20, 50, 100)]
    fine = [f"{m}e{k}" for k in decades for m in (1, 2, 5)]
    low, high = low * (1 - 1e-9), high * (1 + 1e-9)  # powers of ten are not exact
    return [[tick for tick in map(float, ticks) if low <= tick <= high] for ticks in (fine, *every)]


def tick_label(value: float, step: float) -> str:
    """Return a short label for a tick: `1.5`, `0.001`, `1e-05`, `12k`.

    Args:
        value: the tick.
        step: the distance of the axis's ticks. It sets the unit and the decimals, the same for all of
            them; on a log axis every tick has its own: pass the value itself.
    """
    if not (value and isfinite(value) and isfinite(step)):
        return f"{value:.{_decimals(abs(step))}f}" if 1e-4 <= abs(step) < 1e3 else f"{value:g}"
    step = abs(step) or abs(value)
    if max(step, abs(value)) >= 1e15 or (abs(value) < 0.01 and step < 1e-4):
        digits = floor(log10(abs(value))) - floor(log10(step)) + 1  # enough for a step of 2.5
        mantissa, exponent = f"{value:.{min(max(digits, 0), 15)}e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if step >= size:
            return f"{value / size:.{_decimals(step / size)}f}{unit}"
    return f"{value:.{_decimals(step)}f}"


def _decimals(step: float) -> int:
    """How many decimals write a step exactly, or three digits of one that is not round."""
    if not step or not isfinite(step):
        return 0
    for decimals in range(limit := min(15, max(0, 2 - floor(log10(step))))):
        if abs(round(step, decimals) - step) < 1e-9 * step:
            return decimals
    return limit
