"""The learning rate of every step, as a pure function of the step: a resumed run needs no state of it."""

from collections.abc import Callable
from math import cos, pi

from fundamentallm.config.config import Config

FLOOR = 0.1  # of the peak, where a schedule ends


def warmup(total: int, wanted: int | None) -> int:
    """Return the steps of warm-up: `wanted`, but at most a tenth of the run; a twentieth of it when None."""
    return total // 20 if wanted is None else min(wanted, total // 10)


def configured_rate(config: Config, total: int, step: int) -> float:
    """Return the learning rate of `step` (0 to total - 1) in a run with these settings.

    It rises in a line and reaches its peak exactly in the last step of the warm-up; all but the constant schedule reach
    the floor exactly in the last step of the run.
    """
    warmup_steps = warmup(total, config.warmup_steps)
    if step < warmup_steps:
        return config.learning_rate * ((step + 1) / warmup_steps)
    done = min(1.0, (step - warmup_steps) / max(1, total - 1 - warmup_steps))
    return config.learning_rate * SHAPES[config.lr_schedule](done)


def _above_floor(share: float) -> float:
    return FLOOR + (1 - FLOOR) * share


# The share of the peak, given the share of the steps after the warm-up that is done.
SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: _above_floor((1 + cos(pi * done)) / 2),  # Loshchilov and Hutter 2017
    "linear": lambda done: _above_floor(1 - done),
    "step": lambda done: FLOOR ** (min(int(4 * done), 3) / 3),  # four equal parts, each 10^(1/3) times lower
    "wsd": lambda done: _above_floor(min(1.0, (1 - done) / 0.2)),  # warm up, stay, decay over the last fifth (Hu 2024)
}
