"""What to try when a run fails or learns badly, with settings that fit. No torch."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from math import isfinite
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve, to_dict
from fundamentallm.config.estimate import count_memory
from fundamentallm.config.format import format_memory

Changes = dict[str, Any]  # of settings, by name

# What is halved, and what follows from it: a smaller batch, a shorter context, a narrower model.
WAYS = (("batch_size", "accumulation_steps"), ("max_seq_len", "stride"), ("model_dim", "ff_dim"))


def find_changes(kind: str, config: Config) -> list[Changes]:
    """Return the changes of settings, the best first, that help against a verdict."""

    def rate(factor: float) -> Changes:
        return {"learning_rate": min(1.0, float(f"{config.learning_rate * factor:.1g}"))}

    more = round(max(0.1, config.dropout) + 0.1, 2)
    dropout: list[Changes] = [{"dropout": more}] if more <= 0.5 else []  # with more, too little is left to learn with
    changes = {
        "diverged": [rate(0.1)],
        "overfitting": dropout,
        "rate_too_high": [rate(1 / 3)],
        "rate_too_low": [rate(10), rate(3)],
        "flat": [rate(3 if config.learning_rate < 1e-3 else 1 / 3)],
        "underfitting": [rate(3), *([{"dropout": 0.0}] if config.dropout else [])],
        "plateau": [rate(1 / 3)],
        "small_text": dropout,
    }
    return changes.get(kind, [])


def advise(kind: str, config: Config, best_epoch: int = 0) -> str:
    """Return what to try against a verdict, as flags of the command line; empty where nothing helps.

    `best_epoch` is the one with the lowest validation loss.
    """
    ways = [
        SETTINGS[name].as_flag(value) for changes in find_changes(kind, config)[:1] for name, value in changes.items()
    ]
    larger = f"or a larger model (--model-dim {2 * config.model_dim})"
    further = {
        "diverged": f"or clip harder with --gradient-clip {config.gradient_clip / 2 or 1:g}",
        "overfitting": f"--epochs {best_epoch}, or more text",
        "flat": larger,
        "underfitting": larger,
    }
    return ", ".join([*ways, *([further[kind]] if kind in further else [])])


def advise_out_of_memory(config: Config, vocab_size: int, free: float, text: int) -> str:
    """Return what to try when memory runs out: what fits into `free` bytes, and what each would need.

    A new run, as none of this can change on resume: a smaller batch, a shorter context or a narrower model, each halved
    until it fits, or all of them where one alone does not do. `text`: bytes that the text takes, whatever the model.
    """

    def need(config: Config) -> int:
        return count_memory(config, vocab_size) + text

    def fits(config: Config) -> bool:
        return need(config) <= free

    shrunk = [_shrink(config, (way,), fits) for way in WAYS]
    fitting = [smaller for smaller in shrunk if smaller is not None]
    if not fitting and (smaller := _shrink(config, WAYS, fits)) is not None:
        fitting = [smaller]
    needs = f"this run needs about {format_memory(need(config))}"
    needs += f", and {format_memory(free)} are free" if isfinite(free) else ""
    if not fitting:
        return f"a machine with more memory: {needs}; no smaller batch, context or model fits"
    runs = [f"{_flags(config, smaller)} (about {format_memory(need(smaller))})" for smaller in fitting]
    return f"a new run with {' or '.join(runs)}; {needs}"


def _shrink(config: Config, ways: Sequence[tuple[str, str]], fits: Callable[[Config], bool]) -> Config | None:
    """Halve a configuration in these ways, as often as it takes to fit; None where it cannot."""
    while True:
        smaller = config
        for way in ways:
            with suppress(ConfigError):  # it is as small as it can be
                smaller = resolve(Layer(to_dict(smaller) | _halve(smaller, *way)))
        if smaller == config:
            return None
        if fits(smaller):
            return smaller
        config = smaller


def _halve(config: Config, name: str, other: str) -> dict[str, Any]:
    half, before = getattr(config, name) // 2, getattr(config, other)
    if name == "batch_size":  # more of the smaller batches make up a step
        return {name: half, other: -(-config.effective_batch // max(1, half))}
    return {name: half, other: before and max(1, before // 2)}


def _flags(config: Config, smaller: Config) -> str:
    """What makes a configuration the smaller one."""
    changed = [name for name in chain(*WAYS) if getattr(smaller, name) != getattr(config, name)]
    return " ".join(SETTINGS[name].as_flag(getattr(smaller, name)) for name in changed)
