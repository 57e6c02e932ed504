"""Numbers on their way to a chart: a growing series reduced to what a width can show, and round ticks.

- Drawing a `Series` costs in proportion to the chart's width, however long the run.
- Pure Python on purpose: importing numpy would take longer than all else the console starts with.
- Knows nothing of Textual, of the chart, or of where the numbers come from.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import pairwise
from math import ceil, floor, inf, isfinite, log10, nan

_FAN = 4  # how many points, or blocks of one level, make a block of the next level


class Series:
    """Points in the order of x, and a pyramid that knows where their lowest and highest y lie.

    Level k (from 1) says it for every complete block of 4 ** k points, as indices, or the index of a gap
    where a block has nothing else: a third of the memory of the points. A y that is not finite is kept
    as nan, a gap.
    """

    def __init__(self) -> None:
        self._x = array("d")
        self._y = array("d")
        self._lows: list[array[int]] = []
        self._highs: list[array[int]] = []
        self._last = -1

    def __len__(self) -> int:
        return len(self._x)

    @property
    def last(self) -> tuple[float, float] | None:
        """The newest point that is not a gap."""
        return (self._x[self._last], self._y[self._last]) if self._last >= 0 else None

    @property
    def end(self) -> float:
        """The x of the newest point, gap or not; below all others where there is none."""
        return self._x[-1] if self._x else -inf

    def append(self, x: float, y: float) -> None:
        """Add a point at the end.

        Raises:
            ValueError: x is not above the last one. A run that rewinds calls `truncate_after` first.
        """
        if not isfinite(x) or (self._x and x <= self._x[-1]):
            after = f" after {self._x[-1]:g}" if self._x else ""
            raise ValueError(f"x: {x:g}{after}; it must increase, or call truncate_after first")
        finite = isfinite(y)
        self._x.append(x)
        self._y.append(y if finite else nan)
        count = len(self._x)
        if finite:
            self._last = count - 1
        if count % _FAN == 0:
            self._close_blocks(count)

    def extend(self, xs: Iterable[float], ys: Iterable[float]) -> None:
        """Add points at the end, as many xs as ys.

        Raises:
            ValueError: as `append`; the points before the wrong one are kept.
        """
        new_x, new_y = array("d", xs), array("d", ys)
        start = len(self._x)
        known = [self._x[-1]] if start else []
        rises = all(a < b for a, b in pairwise([*known, *new_x]))
        if len(new_x) != len(new_y) or not rises or not all(map(isfinite, (*new_x, *new_y))):
            for x, y in zip(new_x, new_y, strict=True):
                self.append(x, y)
            return
        self._x.extend(new_x)
        self._y.extend(new_y)
        self._last = len(self._x) - 1
        for count in range((start // _FAN + 1) * _FAN, len(self._x) + 1, _FAN):
            self._close_blocks(count)

    def truncate_after(self, x: float) -> None:
        """Forget every point beyond x: a run was resumed from there, what followed did not happen."""
        kept = bisect_right(self._x, x)
        del self._x[kept:], self._y[kept:]
        for level, (lows, highs) in enumerate(zip(self._lows, self._highs, strict=True), 1):
            blocks = kept // _FAN**level
            del lows[blocks:], highs[blocks:]
        self._last = min(self._last, kept - 1)
        while self._last >= 0 and not isfinite(self._y[self._last]):
            self._last -= 1

    def reduced(
        self, count: int, x_from: float | None = None, x_to: float | None = None
    ) -> tuple[list[float], list[float]]:
        """The points from x_from to x_to; where they are too many, the extremes of each column.

        A column is a stretch of equally many points. It gives its lowest and its highest point in the
        order in which they occurred, or one gap where it has no finite y.

        Args:
            count: columns to fill; at most 2 x count points come back.
            x_from: the first x wanted, None for the beginning.
            x_to: the last x wanted, None for the end.

        Returns:
            The xs and the ys.
        """
        count = max(1, count)
        start = 0 if x_from is None else bisect_left(self._x, x_from)
        stop = len(self._x) if x_to is None else bisect_right(self._x, x_to)
        if stop - start <= 2 * count:
            # one and the same nan, so that equal reductions compare as equal
            return list(self._x[start:stop]), [y if isfinite(y) else nan for y in self._y[start:stop]]
        # A column is 4 to 16 whole blocks of one level, counted from the first point of all. So it is
        # read in a few looks, and the same points stay together while a run grows: nothing shimmers.
        # One column less than wanted, because the range begins and ends within one.
        width = ceil((stop - start) / (count - 1)) if count > 1 else stop
        level = 0
        while _FAN ** (level + 2) <= width:
            level += 1
        block = _FAN**level
        width = ceil(width / block) * block
        xs: list[float] = []
        ys: list[float] = []
        for column in range(start // width, (stop - 1) // width + 1):
            first, end = max(start, column * width), min(stop, (column + 1) * width)
            if end - first == width:
                low, high = self._scan(first // block, end // block, level)
            else:
                low, high = self._extremes(first, end)
            if low < 0:
                xs.append(self._x[first])
                ys.append(nan)
                continue
            for index in sorted({low, high}):
                xs.append(self._x[index])
                ys.append(self._y[index])
        return xs, ys

    def _extremes(self, start: int, stop: int) -> tuple[int, int]:
        """Where the lowest and the highest y lie among the points start to stop; -1 if all are gaps."""
        low = high = -1
        level = 0
        while start < stop:
            # the strays at both ends are read at this level, what fills blocks of the next there
            left = min(stop, -(-start // _FAN) * _FAN)
            right = max(left, stop // _FAN * _FAN)
            low, high = self._scan(start, left, level, low, high)
            low, high = self._scan(right, stop, level, low, high)
            start, stop, level = left // _FAN, right // _FAN, level + 1
        return low, high

    def _scan(self, start: int, stop: int, level: int, low: int = -1, high: int = -1) -> tuple[int, int]:
        """`low` and `high`, or what lies beyond them in the blocks start to stop of a level."""
        y = self._y
        lowest = y[low] if low >= 0 else inf
        highest = y[high] if high >= 0 else -inf
        # a gap needs no test: nan is neither below nor above anything
        for index in self._lows[level - 1][start:stop] if level else range(start, stop):
            if y[index] < lowest:
                low, lowest = index, y[index]
        for index in self._highs[level - 1][start:stop] if level else range(start, stop):
            if y[index] > highest:
                high, highest = index, y[index]
        return low, high

    def _close_blocks(self, points: int) -> None:
        """Add the blocks that the newest point completes, level by level."""
        level, stop = 0, points
        while stop % _FAN == 0:
            if level == len(self._lows):
                self._lows.append(array("q"))
                self._highs.append(array("q"))
            low, high = self._scan(stop - _FAN, stop, level)
            gap = points - 1  # where nothing is finite, the newest point is a gap too
            self._lows[level].append(low if low >= 0 else gap)
            self._highs[level].append(high if high >= 0 else gap)
            stop, level = stop // _FAN, level + 1


def nice_ticks(low: float, high: float, count: int, log: bool = False) -> list[float]:
    """Round values from low to high for the labels of an axis.

    They are multiples of 1, 2, 2.5 or 5 x 10^k; on a log axis powers of ten, with 2 and 5 times them
    where those are few, and like a linear axis where the range spans too little for three of them.

    Args:
        low: the axis's first value.
        high: the axis's last value; equal to low for a constant, which gets ticks around it.
        count: about how many ticks; never less than three where floats lie between low and high.
        log: whether the axis is logarithmic; it is not where low is not above zero.

    Returns:
        Increasing values, all within the axis.
    """
    if not (isfinite(low) and isfinite(high)):
        return []
    if low == high:
        around = abs(low) / 2 or 1.0
        low, high = low - around, high + around
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
        # the small share keeps a tick on a limit that binary fractions put just beyond it
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
    """A short label for a tick: `1.5`, `0.001`, `1e-05`, `12k`.

    Args:
        value: the tick.
        step: the distance of an axis's ticks. It sets the unit and the decimals, the same for all of
            them; on a log axis, where every tick has its own, it is the value itself.
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
