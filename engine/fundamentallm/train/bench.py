"""What this machine does: matrix products, attention, and training steps of each preset. For `bench` and `doctor`."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count, cycle
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F

from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.config.files import load_preset
from fundamentallm.data.corpus import Corpus
from fundamentallm.run.spec import RunSpec
from fundamentallm.run.speed import flops_per_token
from fundamentallm.train.device import Precision
from fundamentallm.train.state import TrainState, build_state
from fundamentallm.train.step import TrainStep

# Windows of a step that is timed in place of a whole one: small seems to take 1.3 times as long then, and 1.8 with 4.
FEW_WINDOWS = 8
WIDTH = 2048  # of the product that is the limit
CHARACTERS, VOCABULARY = 100_000, 65  # of the random text


@dataclass(frozen=True)
class Speed:
    """One measurement: `flops` a second, as a share of the limit, which is the float32 product."""

    name: str
    flops: float
    share: float
    tokens_per_second: float | None = None
    windows: int | None = None  # of a measured step: fewer than the preset's, where a whole one would take too long


def measure(device: torch.device, presets: list[str], seconds: float) -> Iterator[Speed]:
    """Measure products, attention and presets, each for about `seconds`; the first is the limit for all.

    Products and presets are measured in 32 bits, and in 16 where the device has them.
    """
    half = Precision(device, True).dtype
    limit = 0.0
    for dtype in dict.fromkeys((torch.float32, half)):
        a, b = torch.randn(2, WIDTH, WIDTH, device=device).to(dtype)
        flops = 2 * WIDTH**3 / _time(lambda a=a, b=b: a @ b, device, seconds)  # type: ignore[misc]
        limit = limit or flops
        yield Speed(f"product {WIDTH} {_name(dtype)}", flops, flops / limit)
    B, H, T, K = 16, 4, 256, 32
    q, k, v = (torch.randn(B, H, T, K, device=device, requires_grad=True) for _ in range(3))
    taken = _time(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward(), device, seconds)  # type: ignore[no-untyped-call]
    flops = 3 * 2 * B * H * T * T * K / taken  # two products, of which causality needs half; twice that back
    yield Speed(f"attention {H} x {K}, {T} tokens", flops, flops / limit)
    for name in presets:
        for mixed in dict.fromkeys((False, half != torch.float32)):
            yield _measure_preset(name, mixed, device, seconds, limit)


def _measure_preset(name: str, mixed: bool, device: torch.device, seconds: float, limit: float) -> Speed:
    config = resolve(load_preset(name).layer, Layer({"device": str(device), "mixed_precision": mixed}))
    with random_state(config) as state:
        take, windows = few_windows(state)
        if state.fits and seconds_per_step(state) < seconds / 4:
            step, numbers, windows = TrainStep(state), count(), config.effective_batch
            take = lambda: step(next(numbers))  # noqa: E731
        tokens = windows * config.max_seq_len / _time(take, device, seconds)
    flops = tokens * flops_per_token(config, state.size.parameters)
    return Speed(f"{name} {_name(state.precision.dtype)}", flops, flops / limit, tokens, windows)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextmanager
def random_state(config: Config) -> Iterator[TrainState]:
    """Build the state of a new run on random text with these settings; nothing is written that stays."""
    rng = random.Random(0)
    with TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        text.write_text("".join(chr(33 + rng.randrange(VOCABULARY)) for _ in range(CHARACTERS)))
        yield build_state(RunSpec(replace(config, data=(str(text),)), Path(folder, "run")))


def seconds_per_step(state: TrainState) -> float:
    """Estimate the time of a step from a few small ones, which change the optimizer's state but no weight."""
    step, windows = few_windows(state)
    return _time(step, state.device, 0.0) * state.config.effective_batch / windows


def few_windows(state: TrainState) -> tuple[Callable[[], object], int]:
    """Make a step of a few windows that moves no weight, and return it with their number."""
    windows = min(FEW_WINDOWS, state.config.batch_size)
    config = replace(state.config, batch_size=windows, accumulation_steps=1, learning_rate=0.0)
    corpus = Corpus(state.corpus.encoded, state.tokenizer, config, state.device)
    step = TrainStep(replace(state, config=config, corpus=corpus))
    numbers = cycle(range(corpus.steps_per_epoch))
    return lambda: step(next(numbers)), windows


def _time(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return the median time of one call, in seconds: of three at least, after one that warms up."""

    def once() -> float:
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    once()
    end, times = time.perf_counter() + seconds, list[float]()
    while len(times) < 3 or time.perf_counter() < end:
        times.append(once())
    return median(times)
