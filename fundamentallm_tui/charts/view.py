"""What the user chose to see of a chart, as a value that keys and mouse replace; and what follows from it.

Ranges are in steps whatever x counts, so that every chart can follow them. A `Ruler` turns steps into x.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, isfinite

from fundamentallm_tui.charts.chart import Line
from fundamentallm_tui.charts.series import SMOOTHING

X_AXES = ("step", "epoch", "tokens", "time")
MIN_SPAN = 4.0  # steps


@dataclass(frozen=True)
class View:
    """One look at the curves."""

    span: float | None = None  # how many steps are shown; None: all
    end: float | None = None  # the last step that is shown; None follows the newest
    x_by: str = "step"  # what x counts, one of X_AXES
    log: bool = False  # whether y is logarithmic
    fit: bool = True  # whether the height leaves out the first steep fall and lone spikes
    smoothing: float = 0.9  # one of SMOOTHING
    crosshair: float | None = None  # the step that is read off; None: none is

    def window(self, first: float, last: float) -> tuple[float, float]:
        """Return the first and the last step that are shown, of a run that has these."""
        end = last if self.end is None else self.end
        return (first if self.span is None else end - self.span, end)

    def zoomed(self, factor: float, first: float, last: float, at: float | None = None) -> "View":
        """Show `factor` times as many steps; `at` keeps its place, else the crosshair, the newest, or the middle."""
        low, high = self.window(first, last)
        if at is None and self.crosshair is not None and low <= self.crosshair <= high:
            at = self.crosshair
        if at is None:
            at = high if self.end is None else (low + high) / 2
        span = max(MIN_SPAN, (high - low) * factor)
        if span >= last - first:
            return replace(self, span=None, end=None)
        share = (at - low) / (high - low) if high > low else 1.0
        return self._ending(at + (1 - share) * span, span, first, last)

    def panned(self, share: float, first: float, last: float) -> "View":
        """Show what lies to the right, or with a negative share of the width to the left."""
        low, high = self.window(first, last)
        return self._ending(high + share * (high - low), high - low, first, last)

    def toggled_following(self, first: float, last: float) -> "View":
        """Stay where it is, or follow the newest step."""
        if self.end is not None:
            return replace(self, end=None)
        low, high = self.window(first, last)
        return replace(self, span=high - low, end=high)

    def smoothed(self, by: int) -> "View":
        """Smooth more (1) or less (-1)."""
        nearest = min(range(len(SMOOTHING)), key=lambda at: abs(SMOOTHING[at] - self.smoothing))
        return replace(self, smoothing=SMOOTHING[min(max(nearest + by, 0), len(SMOOTHING) - 1)])

    def _ending(self, end: float, span: float, first: float, last: float) -> "View":
        """Show so many steps up to this one, and no step that the run does not have."""
        end = max(end, first + span)
        if end >= last:
            return replace(self, span=span if span < last - first else None, end=None)
        return replace(self, span=span, end=end)


def with_room(last: float, total: float) -> float:
    """Round the last step up by a tenth, to `total` at most: the curve grows into axes that stand still."""
    unit: int = next(n * 10**k for k in range(20) for n in (1, 2, 5) if n * 10**k >= last / 20)
    return min(ceil(last / unit) * unit, max(last, total))


class Ruler:
    """Turns steps of a run into what x counts, and back: straight lines from 0 at step 0 through known pairs."""

    def __init__(self, steps: Sequence[float], xs: Sequence[float]) -> None:
        """Both are above 0 and increase; without them, x is the step."""
        self._steps, self._xs = (steps, xs) if steps and steps[-1] > 0 and xs[-1] > 0 else ((1.0,), (1.0,))

    def x(self, step: float) -> float:
        return _between(self._steps, self._xs, step)

    def step(self, x: float) -> float:
        return _between(self._xs, self._steps, x)


def _between(known: Sequence[float], values: Sequence[float], at: float) -> float:
    """The value at a place between known ones; beyond the last as it changes on the whole."""
    after = bisect_left(known, at)
    if after == len(known):
        return at * values[-1] / known[-1]
    left, low = (known[after - 1], values[after - 1]) if after else (0.0, 0.0)
    return low + (values[after] - low) * (at - left) / ((known[after] - left) or 1.0)


SETTLED = 0.15  # of the steps so far, after which the first steep fall is over
OUTLIERS = 0.02  # of the points, above and as many below, that may lie beyond the height
ROOM = 0.25  # of the height: what lies no farther beyond is shown, too
REACH, REACH_OF_VALUE = 2.0, 0.5  # of the height, and of the highest value: how much farther other runs may lie


def fitting_height(lines: Sequence[Line], settled: float, others: Sequence[Line] = ()) -> tuple[float, float] | None:
    """Return the lowest and the highest y to show of a run and of others over it, which must not squash it.

    Without points of the run itself, the lowest of the others stands for it. None where there are none at all.
    """
    heights = [height for line in others if (height := _settled_height([line], settled))]
    own = _settled_height(lines, settled) or min(heights, key=lambda height: height[1], default=None)
    if own is None:
        return None
    reach = max(REACH * (own[1] - own[0]), REACH_OF_VALUE * own[1])
    low = min(low for low, _ in (own, *heights) if low >= own[0] - reach)
    return low, max(high for _, high in (own, *heights) if high <= own[1] + reach)


def _settled_height(lines: Sequence[Line], settled: float) -> tuple[float, float] | None:
    """Return the lowest and the highest y to show so that the first steep fall and lone spikes lie beyond.

    The height is that of the points from x = `settled`, without the two in a hundred of each line that are farthest
    out; None where there are no such points. What would need little more room than that is within.
    """
    points = [[*zip(line.x, line.y, strict=True)] for line in lines]
    falling = [y for line in points for x, y in line if x < settled and isfinite(y)]
    settled_ys = [sorted(y for x, y in line if x >= settled and isfinite(y)) for line in points]
    settled_ys = [ys for ys in settled_ys if ys]
    if not settled_ys:
        return None
    low = min(ys[int(OUTLIERS * (len(ys) - 1))] for ys in settled_ys)
    high = max(ys[ceil((1 - OUTLIERS) * (len(ys) - 1))] for ys in settled_ys)
    room = ROOM * (high - low)
    lowest, highest = min(ys[0] for ys in settled_ys), max(ys[-1] for ys in settled_ys)
    low, high = lowest if lowest >= low - room else low, highest if highest <= high + room else high
    for y in (min(falling, default=low), max(falling, default=high)):
        if low - room <= y <= high + room:
            low, high = min(low, y), max(high, y)
    return low, high
