"""Measure learning: validation loss and seconds until it is reached, against transformers' GPT-2 of the same shape.

    python tests/benchmarks/learning.py TEXT [--preset small] [--steps 600] [--batch-size 16] [--context 128]
        [--dropout 0.1] [--seeds 3] [--no-peer]

Ours trains with its defaults; theirs with PyTorch's fused AdamW as nanoGPT sets it (betas 0.9 and 0.99, weight decay
0.1, gradients clipped to 1, a tenth of warm-up, then a cosine to a tenth), at 1e-3 and 3e-3. Both read the same batches
and are evaluated on the same last tenth every 20 steps, which the clock leaves out. Prints the losses after the last
step, and how many times sooner ours reached the peer's.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import cos, pi
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from peer import gpt2
from torch import Tensor

from fundamentallm.config.config import Config, flags_layer, resolve
from fundamentallm.config.files import load_preset
from fundamentallm.data.corpus import Corpus
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.state import build_state
from fundamentallm.train.step import TrainStep

EVERY = 20  # steps
Curve = list[tuple[float, float]]  # seconds and validation loss


def follow(take: Callable[[int], object], logits: Callable[[Tensor], Tensor], corpus: Corpus, config: Config) -> Curve:
    """Take all steps; return seconds and validation losses."""
    seconds, curve = 0.0, []
    for step in range(config.max_steps or 0):
        began = time.perf_counter()
        take(step)
        seconds += time.perf_counter() - began
        if (step + 1) % EVERY == 0:
            curve.append((seconds, validate(logits, corpus.val, config.max_seq_len)))
    return curve


@torch.no_grad()
def validate(logits: Callable[[Tensor], Tensor], tokens: Tensor, length: int) -> float:
    """The mean loss over whole windows of the validation text, in nats."""
    count = (len(tokens) - 1) // length
    inputs, targets = (tokens[i : i + count * length].view(count, length).long() for i in (0, 1))
    return F.cross_entropy(logits(inputs).float().flatten(0, 1), targets.flatten()).item()


def ours(config: Config) -> Curve:
    with TemporaryDirectory() as folder:
        state = build_state(RunSpec(config, Path(folder, "run")))
        return follow(TrainStep(state), state.model, state.corpus, config)


def theirs(config: Config, rate: float) -> Curve:
    with TemporaryDirectory() as folder:
        state = build_state(RunSpec(config, Path(folder, "run")))
    torch.manual_seed(config.seed)
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
    model = gpt2(config, len(state.tokenizer), **dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.1, fused=True)
    total = config.max_steps or 0
    warmup = total // 10

    def take(step: int) -> None:
        done = (step - warmup) / (total - warmup)
        share = (step + 1) / warmup if step < warmup else 0.1 + 0.9 * (1 + cos(pi * done)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate * share
        inputs, targets = state.corpus.batch(step)
        loss = F.cross_entropy(model.train()(inputs).logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return follow(take, lambda tokens: model.eval()(tokens).logits, state.corpus, config)


def until(curve: Curve, loss: float) -> float:
    """The seconds in which a loss was reached, on the line between two evaluations; infinite if it was not."""
    before = (0.0, curve[0][1])
    for now in curve:
        if now[1] <= loss:
            share = (before[1] - loss) / (before[1] - now[1]) if before[1] > now[1] else 1.0
            return before[0] + share * (now[0] - before[0])
        before = now
    return float("inf")


def rows(config: Config, seeds: int, peer: bool) -> Iterator[str]:
    configs = [replace(config, seed=seed) for seed in range(seeds)]
    own = []
    for one in configs:
        own.append(ours(one))
        least = min(loss for _, loss in own[-1])
        yield f"ours, seed {one.seed}: {own[-1][-1][1]:.4f} after {own[-1][-1][0]:.0f} s, at least {least:.4f}"
    for rate in (1e-3, 3e-3) if peer else ():
        ratios = []
        for one, curve in zip(configs, own, strict=True):
            other = theirs(one, rate)
            ratios.append(other[-1][0] / until(curve, other[-1][1]))
            yield f"theirs at {rate:g}, seed {one.seed}: {other[-1][1]:.4f} after {other[-1][0]:.0f} s"
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        yield f"ours reaches that {median(ratios):.1f} times sooner ({spread})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--no-peer", action="store_true")
    for name, value in {"steps": 600, "batch-size": 16, "context": 128, "seeds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--dropout", type=float, default=0.1)
    options = parser.parse_args()
    flags = {
        "data": [options.text], "batch_size": options.batch_size, "max_seq_len": options.context, "epochs": 1000,
        "stride": options.context, "max_steps": options.steps, "dropout": options.dropout,
    }  # fmt: skip
    layer = flags_layer(flags)
    for row in rows(resolve(load_preset(options.preset).layer, layer), options.seeds, not options.no_peer):
        print(row, flush=True)


if __name__ == "__main__":
    main()
