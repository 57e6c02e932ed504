"""A learning rate for a run, found by a range test (Smith 2015): a short training at an exponentially rising rate.

- Where the rate is too low the loss hardly moves; then it falls, the steeper the better; at last it diverges.
- The model that is trained is thrown away. Nothing is written.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite

from fundamentallm.errors import UserError
from fundamentallm.train.state import TrainState
from fundamentallm.train.step import NotFinite, TrainStep

LOWEST, HIGHEST = 1e-5, 0.3  # rates
SMOOTHING = 0.95  # of the running mean's weight that each step keeps
SLOPE = 8  # steps over which a fall is measured
MARGIN = 4.0  # between the rate with the lowest loss, from which on it diverges, and the one to take
DIVERGED = 0.5  # nats above the lowest smoothed loss, after which higher rates are not tried


@dataclass(frozen=True)
class Point:
    """A step of the test: its learning rate, its loss and the smoothed loss (nats)."""

    learning_rate: float
    loss: float
    smoothed: float


def range_test(state: TrainState, steps: int) -> Iterator[Point]:
    """Train the model of `state` at rising rates, and yield each step. Ends early where the loss diverges.

    The state cannot be used for anything else afterwards.
    """
    state.config = replace(state.config, lr_schedule="constant", warmup_steps=0, max_steps=None, epochs=10**6)
    take_step, mean, weight, lowest = TrainStep(state), 0.0, 0.0, inf
    for step in range(steps):
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / max(1, steps - 1))
        state.change("learning_rate", rate)
        try:
            loss = take_step(step).loss.item()
        except NotFinite:
            return
        if not isfinite(loss):  # on a GPU the step does not raise
            return
        mean, weight = SMOOTHING * mean + (1 - SMOOTHING) * loss, SMOOTHING * weight + (1 - SMOOTHING)
        lowest = min(lowest, mean / weight)
        yield Point(rate, loss, mean / weight)
        if mean / weight > lowest + DIVERGED:
            return


@dataclass(frozen=True)
class Suggestion:
    """Learning rates: where the loss fell most steeply, where it was lowest, and the one to take."""

    steepest: float
    lowest: float
    learning_rate: float


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
