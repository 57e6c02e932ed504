"""What the user chose to see of a chart, as a value that keys and mouse replace.

Ranges are in steps whatever x counts, so that every chart and every run can follow them.
"""

from dataclasses import dataclass, replace

SMOOTHING = (0.0, 0.6, 0.9, 0.97, 0.99, 0.999)  # how much of the mean each step keeps; 0 is not smoothed
X_AXES = ("step", "epoch", "tokens", "time")
MIN_SPAN = 4.0  # steps


@dataclass(frozen=True)
class View:
    """One look at the curves.

    Attributes:
        span: how many steps are shown; None: all.
        end: the last step that is shown; None follows the newest.
        x_by: what x counts, one of X_AXES.
        log: whether y is logarithmic.
        fit: whether the height leaves out the first steep fall and lone spikes.
        smoothing: one of SMOOTHING.
        crosshair: the step that is read off; None: none is.
    """

    span: float | None = None
    end: float | None = None
    x_by: str = "step"
    log: bool = False
    fit: bool = True
    smoothing: float = 0.9
    crosshair: float | None = None

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

    def by_next_axis(self) -> "View":
        """Let x count the next of X_AXES."""
        return replace(self, x_by=X_AXES[(X_AXES.index(self.x_by) + 1) % len(X_AXES)])

    def _ending(self, end: float, span: float, first: float, last: float) -> "View":
        """Show so many steps up to this one, and no step that the run does not have."""
        end = max(end, first + span)
        if end >= last:
            return replace(self, span=span if span < last - first else None, end=None)
        return replace(self, span=span, end=end)
