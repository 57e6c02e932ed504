"""Measure the peak memory of training, against transformers' GPT-2 of the same shape, each in processes of its own.

    python tests/benchmarks/memory.py [tiny|small|medium] [--rounds 3] [--steps 5] [--mixed-precision]

The peak is the largest resident memory of a process that takes a few steps, as `throughput.py` takes them, and also
what of it exceeds the memory that the process held before it made the model.
"""

import resource
import subprocess
import sys
from statistics import median

import torch
from peer import arguments
from throughput import GPT2, Ours, corpus_of

from fundamentallm.config.config import flags_layer, resolve
from fundamentallm.config.files import load_preset
from fundamentallm.train.device import memory_in_use


def measure(name: str, preset: str, steps: int, mixed: bool) -> tuple[int, int]:
    """Train in this process; return its peak in bytes, and how much that is above what it held before."""
    config = resolve(load_preset(preset).layer, flags_layer({"mixed_precision": mixed, "dropout": 0.1}))
    corpus, tokenizer = corpus_of(config)
    before = memory_in_use(torch.device("cpu"))
    take = Ours(config, corpus, tokenizer, mixed) if name == "ours" else GPT2(config, corpus, len(tokenizer))
    for step in range(steps):
        take(step)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return peak, peak - before


def main() -> None:
    parser = arguments(__doc__, "small", rounds=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--mixed-precision", action="store_true")
    parser.add_argument("--only", choices=["ours", "theirs"], help="measure one in this process")
    options = parser.parse_args()
    if options.only:
        print(*measure(options.only, options.preset, options.steps, options.mixed_precision))
        return
    peaks: dict[str, list[tuple[int, int]]] = {"ours": [], "theirs": []}
    for _ in range(options.rounds):
        for name, found in peaks.items():
            command = [sys.executable, *sys.argv, "--only", name]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            found.append((int(said[-2]), int(said[-1])))
    for name, found in peaks.items():
        peak, added = (median(column) / 2**20 for column in zip(*found, strict=True))
        print(f"{name:7} {peak:7,.0f} MiB, {added:7,.0f} MiB of it by training")
    for i, what in enumerate(("whole process", "training alone")):
        ratios = [a[i] / b[i] for a, b in zip(*peaks.values(), strict=True)]
        print(f"{what}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
