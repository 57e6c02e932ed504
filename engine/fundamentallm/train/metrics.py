"""Measurements of the steps since the last report: losses, speed, time left. Decides nothing."""

import time
from collections import deque
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

CAPACITY = 256  # steps between two reports, at most
SPEED_WINDOW = 5.0  # seconds over which the speed is averaged


class NotFinite(Exception):
    """The loss or the gradient of a step is infinite or NaN. The weights are as they were before the step."""


class StepResult(NamedTuple):
    """What a step measured. The two tensors are scalars on the device: reading them waits for the GPU."""

    loss: Tensor  # mean over the real tokens of the batch, in nats
    grad_norm: Tensor  # of all gradients together, before clipping
    learning_rate: float
    tokens: int  # real tokens in the batch


class StepMetrics(NamedTuple):
    """The numbers of one step, off the device."""

    step: int  # from 1
    train_loss: float
    learning_rate: float
    grad_norm: float
    tokens: int

    @property
    def is_finite(self) -> bool:
        return isfinite(self.train_loss) and isfinite(self.grad_norm)


class Metrics:
    """Collects the results of steps without waiting for the device, and reads them all at once.

    The clock runs only between `start_clock` and `stop_clock`: not while a run is paused, evaluates or saves. It
    stands still while the machine sleeps, too.
    """

    def __init__(self, device: torch.device) -> None:
        self._values = torch.zeros(CAPACITY, 2, device=device)  # loss and norm of each step that was not read yet
        self._steps: list[tuple[int, float, int]] = []  # number, learning rate and tokens of the same steps
        self._reads: deque[tuple[float, int, int]] = deque()  # seconds, tokens and steps so far, at each read
        self._seconds, self._tokens, self._count = 0.0, 0, 0
        self._recurring = 0.0  # seconds
        self._started: float | None = None

    def start_clock(self) -> None:
        self._started = time.monotonic()

    def stop_clock(self) -> None:
        self._seconds, self._started = self.seconds, None

    @property
    def seconds(self) -> float:
        """Time spent on steps."""
        return self._seconds + (time.monotonic() - self._started if self._started is not None else 0.0)

    def add_recurring(self, seconds: float) -> None:
        """Add time that steps cost beside their own, for evaluations and saves; ignored before the first step."""
        if self._count:
            self._recurring += seconds

    @property
    def unread(self) -> int:
        """How many steps were not read yet."""
        return len(self._steps)

    @property
    def full(self) -> bool:
        return self.unread == CAPACITY

    def add(self, step: int, result: StepResult) -> None:
        """Add the result of a step; `step` is how many steps are done."""
        self._values[len(self._steps)] = torch.stack((result.loss, result.grad_norm))
        self._steps.append((step, result.learning_rate, result.tokens))

    def read(self) -> list[StepMetrics]:
        """Return every step since the last read, oldest first; waits for the device."""
        values = self._values[: len(self._steps)].tolist()
        steps = [
            # nine digits are all that a float32 has, and keep the journal short
            StepMetrics(step, float(f"{loss:.9g}"), learning_rate, float(f"{norm:.9g}"), tokens)
            for (step, learning_rate, tokens), (loss, norm) in zip(self._steps, values, strict=True)
        ]
        self._steps = []
        self._tokens += sum(step.tokens for step in steps)
        self._count += len(steps)
        self._reads.append((self.seconds, self._tokens, self._count))
        while len(self._reads) > 2 and self._reads[1][0] < self.seconds - SPEED_WINDOW:
            self._reads.popleft()
        return steps

    @property
    def tokens_per_second(self) -> float:
        """The speed over the last seconds."""
        return round(self._speed(1), 1)

    @property
    def mean_tokens_per_second(self) -> float:
        """The speed over all steps that were read: one slow moment does not count for the whole run."""
        return self._tokens / self.seconds if self.seconds else 0.0

    def eta(self, steps: int) -> float | None:
        """Seconds that `steps` more steps will take, evaluations and saves included; None before the first report."""
        speed = self._speed(2)
        return round(steps * (1 / speed + self._recurring / self._count), 1) if speed else None

    def _speed(self, column: int) -> float:
        """How fast a column of `_reads` grows, per second."""
        if not self._reads:
            return 0.0
        first = self._reads[0] if len(self._reads) > 1 else (0.0, 0, 0)
        passed = self._reads[-1][0] - first[0]
        return (self._reads[-1][column] - first[column]) / passed if passed > 0 else 0.0
