"""A learning rate for a run, found by a range test (Smith 2015): a short training at an exponentially rising rate.

- Where the rate is too low the loss hardly moves; then it falls, the steeper the better; at last it diverges.
- The model that is trained is thrown away. No run is written.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import inf, isfinite
from pathlib import Path

from fundamentallm.config.config import Config
from fundamentallm.run.range_test import HIGHEST, LOWEST, Point
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.metrics import NotFinite
from fundamentallm.train.state import build_state
from fundamentallm.train.step import TrainStep

SMOOTHING = 0.95  # of the running mean's weight that each step keeps
DIVERGED = 0.5  # nats above the lowest smoothed loss, after which higher rates are not tried


def range_test(config: Config, steps: int) -> Iterator[Point]:
    """Train a new model at rising rates, and yield each step. Ends early where the loss diverges.

    A UserError says that there can be no such run.
    """
    state = build_state(RunSpec(config, Path("a run that is not written")))
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
