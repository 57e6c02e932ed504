"""What is measured against transformers: its GPT-2 of the shape of a configuration, in rounds of both."""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from transformers import GPT2Config, GPT2LMHeadModel

from fundamentallm.config.config import Config


def gpt2(config: Config, vocab_size: int, **changes: Any) -> GPT2LMHeadModel:
    shape = {"n_positions": config.max_seq_len, "n_embd": config.model_dim, "n_layer": config.num_layers}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, n_head=config.num_heads, **shape, **changes))


def arguments(doc: str | None, preset: str, rounds: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", default=preset)
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser


def compare(rows: dict[str, Callable[[int], None]], rounds: int, tokens: int) -> None:
    """Time each row's call, which makes `tokens` tokens, in turns; print tokens per second and the ratios."""
    speeds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(rounds + 1):
        for name, take in rows.items():
            started = time.perf_counter()
            take(turn)
            if turn:  # the first is a warm-up
                speeds[name].append(tokens / (time.perf_counter() - started))
    for name, values in speeds.items():
        ratios = [a / b for a, b in zip(values, speeds["transformers"], strict=True)]
        spread = f"from {min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds"
        print(f"{name:14} {median(values):9,.0f} tokens/s {median(ratios):6.2f} x transformers ({spread})")
