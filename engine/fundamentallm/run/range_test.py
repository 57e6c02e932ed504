"""What a range test measured, and the learning rate that it suggests. No torch: a console reads it, too."""

from collections.abc import Sequence
from dataclasses import dataclass

from fundamentallm.errors import UserError

STEPS = 200  # of a test, if the user names no other number
LOWEST, HIGHEST = 1e-5, 0.3  # rates
SLOPE = 8  # steps over which a fall is measured
MARGIN = 4.0  # between the rate with the lowest loss, from which on it diverges, and the one to take


@dataclass(frozen=True)
class Point:
    """A step of the test: its learning rate, its loss and the smoothed loss (nats)."""

    learning_rate: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class Suggestion:
    """Learning rates: where the loss fell most steeply, where it was lowest, and the one to take."""

    steepest: float
    lowest: float
    learning_rate: float

    @property
    def margin(self) -> float:
        """How many times the rate to take is below that of the lowest loss."""
        return self.lowest / self.learning_rate


def suggest(points: Sequence[Point]) -> Suggestion:
    """Choose a learning rate: `MARGIN` times below that of the lowest loss, but not below that of the steepest fall.

    A UserError says that the loss diverged before it could fall.
    """
    lowest = min(range(len(points)), key=lambda i: points[i].smoothed, default=0)
    if lowest < SLOPE:
        raise UserError(
            f"the loss did not fall at any learning rate from {LOWEST:g} on; look at the text and the model"
        )
    falls = [points[i].smoothed - points[i + SLOPE].smoothed for i in range(lowest - SLOPE + 1)]
    steepest = points[falls.index(max(falls)) + SLOPE // 2].learning_rate
    bottom = points[lowest].learning_rate
    rate = max(steepest, bottom / MARGIN)
    return Suggestion(steepest, bottom, float(f"{rate:.2g}"))
