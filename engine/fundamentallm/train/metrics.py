"""What the steps since the last report came to: losses, rates, time left. Decides nothing."""

import time
from collections import deque
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

CAPACITY = 256  # steps between two reports at most
WINDOW = 5.0  # seconds over which the speed is averaged


@dataclass(frozen=True)
class StepMetrics:
    """One entry a step, oldest first."""

    step: tuple[int, ...]
    train_loss: tuple[float, ...]
    learning_rate: tuple[float, ...]
    grad_norm: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def first_broken(self) -> int | None:
        """The number of the first step whose loss or gradient is not finite."""
        pairs = zip(self.step, self.train_loss, self.grad_norm, strict=True)
        return next((step for step, loss, norm in pairs if not (isfinite(loss) and isfinite(norm))), None)

    def before(self, step: int) -> "StepMetrics":
        """The entries of earlier steps."""
        n = self.step.index(step)
        return StepMetrics(
            self.step[:n], self.train_loss[:n], self.learning_rate[:n], self.grad_norm[:n], self.tokens[:n]
        )


class Metrics:
    """Collects steps without waiting for the device, and reads them all at once.

    The steps' own time counts only between `go` and `halt`: not while a run is paused, evaluates or saves, nor (the
    clock stands still then) while the machine sleeps.
    """

    def __init__(self, device: torch.device) -> None:
        self._ring = torch.zeros(CAPACITY, 2, device=device)
        self._steps: list[tuple[int, float, int]] = []  # step, learning rate, tokens
        self._marks: deque[tuple[float, int, int]] = deque()  # seconds, tokens, steps, at each report
        self._seconds, self._tokens, self._count = 0.0, 0, 0
        self._between = 0.0  # seconds
        self._since: float | None = None

    def go(self) -> None:
        self._since = time.monotonic()

    def halt(self) -> None:
        self._seconds, self._since = self.seconds, None

    @property
    def seconds(self) -> float:
        """Time spent stepping."""
        return self._seconds + (time.monotonic() - self._since if self._since is not None else 0.0)

    def add_between(self, seconds: float) -> None:
        """Time that steps call for beside their own: evaluating and saving. Not what came before the first step."""
        self._between += seconds if self._count else 0.0

    @property
    def full(self) -> bool:
        return len(self._steps) == CAPACITY

    @property
    def waiting(self) -> int:
        """Steps that were not read yet."""
        return len(self._steps)

    def add(self, step: int, loss: Tensor, norm: Tensor, learning_rate: float, tokens: int) -> None:
        """`step` counts from 1: how many steps are done."""
        self._ring[len(self._steps)] = torch.stack((loss, norm))
        self._steps.append((step, learning_rate, tokens))

    def read(self) -> StepMetrics:
        """Everything since the last read; waits for the device."""
        values = self._ring[: len(self._steps)].tolist()
        steps, rates, tokens = zip(*self._steps, strict=True) if self._steps else ((), (), ())
        self._steps = []
        self._tokens += sum(tokens)
        self._count += len(steps)
        self._marks.append((self.seconds, self._tokens, self._count))
        while len(self._marks) > 2 and self._marks[1][0] < self.seconds - WINDOW:
            self._marks.popleft()
        digits = [(float(f"{loss:.9g}"), float(f"{norm:.9g}")) for loss, norm in values]  # all that float32 has
        losses, norms = zip(*digits, strict=True) if digits else ((), ())
        return StepMetrics(steps, losses, rates, norms, tokens)

    @property
    def tokens_per_second(self) -> float:
        return round(self._rate(1), 1)

    def eta(self, steps: int) -> float | None:
        """Seconds that `steps` more will take, with what comes between them, or None while that cannot be told."""
        rate = self._rate(2)
        return round(steps * (1 / rate + self._between / self._count), 1) if rate else None

    def _rate(self, column: int) -> float:
        if not self._marks:
            return 0.0
        first = self._marks[0] if len(self._marks) > 1 else (0.0, 0, 0)
        passed = self._marks[-1][0] - first[0]
        return (self._marks[-1][column] - first[column]) / passed if passed > 0 else 0.0
