"""The axes of a chart: which values lie where, and round labels that neither touch nor are cut."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, floor, isfinite, log10

TINY = 1e-100  # no training run has a smaller difference, and larger ones keep every calculation here finite
LOG_STEPS = (log10(2), log10(4), 1, 2, 5, 10, 50, 200, 500)  # exponents of ten between two labels of a log axis
FINE_LABEL_ROWS = 2  # at least between two labels of less than a decade
SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 864_000)


@dataclass(frozen=True)
class Axis:
    """From low to high, which are exponents of ten where it is logarithmic."""

    low: float
    high: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where on the axis a value lies: from 0 to 1, beyond that outside."""
        return ((log10(value) if self.log else value) - self.low) / (self.high - self.low)

    def cell(self, value: float, cells: int) -> int:
        """Which of so many cells along the axis a value lies in."""
        return min(floor(self.share(value) * cells), cells - 1)


def y_axis(low: float, high: float, log: bool, rows: int) -> tuple[Axis, dict[int, str]]:
    """Return an axis over these values, and the labels of its rows, counted from the bottom.

    The labels are equally many rows apart, at the middle of their rows: of all distances of rows and round steps, those
    that leave the least room above and below.
    """
    log = log and high > 1.5 * low  # a smaller range looks the same on a linear axis, and has rounder labels
    if log:
        low, high = log10(low), log10(high)
    if high - low <= max(TINY, 1e-9 * max(abs(low), abs(high))):
        margin = 0.1 if log else abs(low) / 2 if abs(low) > TINY else 1.0
        low, high = low - margin, high + margin
    if log and high - low < 1:
        return _fine_log_axis(low, high, rows)
    steps = LOG_STEPS if log else [*_round_steps((high - low) / rows)]
    closest = 4 if rows >= 16 else 2 if rows >= 6 else 1  # at least three labels, and in a high chart no two close ones
    farthest = max(closest, (rows - 1) // 2 if log else min(6, (rows - 1) // 2))
    found = []  # the room that a row stands for, a round step, and the number of the lowest row
    for distance, step in product(range(closest, farthest + 1), steps):
        highest_first = floor(low / step * distance + 0.5)
        for first in range(highest_first - distance + 1, highest_first + 1):  # lower, there may be one label more
            labelled = (first + rows - 1) // distance - (first - 1) // distance
            if first - 0.5 + rows >= high / step * distance - 1e-9 and labelled >= min(3, rows):
                found.append((step / distance, step, first))
    unit, step, first = min(found, key=lambda way: (way[0], way[1], -way[2]))
    axis = Axis((first - 0.5) * unit, (first - 0.5 + rows) * unit, log)
    distance = round(step / unit)
    labels = {}
    for row in range(rows):
        if (first + row) % distance == 0:
            tick = (first + row) // distance * step
            labels[row] = _log_label(10**tick, step) if log else tick_label(float(f"{tick:.15g}"), step)
    return axis, labels


def _fine_log_axis(low: float, high: float, rows: int) -> tuple[Axis, dict[int, str]]:
    """A logarithmic axis of less than a decade: labels as on a linear one, in the rows that their values lie in."""
    margin = (high - low) / (2 * rows)
    axis = Axis(low - margin, high + margin, log=True)
    labels: dict[int, str] = {}
    for distance, step in product((FINE_LABEL_ROWS, 1, 0), _round_steps((10**high - 10**low) / rows)):
        first, last = ceil(10**axis.low / step), floor(10**axis.high / step)
        ticks = [float(f"{n * step:.15g}") for n in range(first, last + 1)]
        places = [axis.cell(tick, rows) for tick in ticks]
        labels = {place: tick_label(tick, step) for place, tick in zip(places, ticks, strict=True)}
        if len(labels) >= min(3, rows) and all(above - below >= distance for below, above in pairwise(places)):
            break
    return axis, labels


def _round_steps(about: float) -> Iterator[float]:
    """1, 2, 2.5 and 5 times the powers of ten, from somewhat below a value upward."""
    tenth = floor(log10(about)) - 1
    return (float(f"{m}e{k}") for k in range(tenth, tenth + 6) for m in (1, 2, 2.5, 5))


def _log_label(value: float, step: float) -> str:
    """A power of ten or two in full, one of the values between in three digits."""
    magnitude = 10.0 ** floor(log10(value) + 1e-9)
    return tick_label(value, value if step >= 1 else magnitude / (100 if step < 0.3 else 1))


def x_axis(low: float, high: float, columns: int, counts: str = "") -> tuple[Axis, list[tuple[float, int, str]]]:
    """Return an axis over these values, and its labels at round values, none overlapping or cut.

    Each label: its value, the column where its text starts, and its text. `counts`: "time" where the values
    are seconds, "rate" where they are the logarithms of rates.
    """
    low = 0.0 if 0 < low <= high / 10 else low
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        margin = max(1.0, abs(low) / 1000)
        low, high = max(0.0, low - margin) if low >= 0 else low - margin, high + margin
    axis = Axis(low, high)
    labels: list[tuple[float, int, str]] = []
    for step in SECONDS if counts == "time" and high - low > 2 else _round_steps((high - low) / columns):
        first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
        whole = float(step).is_integer() or high - low < 2  # there is no half of a step
        if last - first >= max(3, columns // 9) or not whole:
            continue
        labels = []
        for tick in (float(f"{n * step:.15g}") for n in range(first, last + 1)):
            label = tick_label(tick, step)
            if counts == "time":
                label = time_label(tick)
            elif counts == "rate":
                label = f"{10**tick:.2g}"
            column = axis.cell(tick, columns)
            labels.append((tick, max(0, min(column - len(label) // 2, columns - len(label))), label))
        if all(a + len(text) < b for (_, a, text), (_, b, _) in pairwise(labels)):
            break
    return axis, labels


def time_label(seconds: float) -> str:
    """Return a short label for seconds: "40s", "2m30", "12m", "1h05", "3d"."""
    for size, unit, parts in ((86_400, "d", 3600), (3600, "h", 60), (60, "m", 1)):
        if seconds >= size:
            whole, rest = divmod(round(seconds), size)
            return f"{whole}{unit}" + (f"{rest // parts:02}" if rest >= parts else "")
    return f"{seconds:g}s" if seconds else "0"


def tick_label(value: float, step: float) -> str:
    """Return a short label for a tick: `1.5`, `0.001`, `1e-05`, `12k`.

    The distance of the axis's ticks, `step`, sets the unit and the decimals, the same for all of them. On a log axis
    every tick has its own: pass the value itself.
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
