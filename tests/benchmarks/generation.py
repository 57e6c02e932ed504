"""Measure generation in tokens per second at batch size 1, against transformers' GPT-2 with its cache.

python tests/benchmarks/generation.py [small|tiny|medium] [--rounds 5] [--tokens 200]
"""

import argparse
import time
from statistics import median

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from fundamentallm.config.config import resolve
from fundamentallm.config.files import load_preset
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.model.generate import stream
from fundamentallm.model.transformer import Transformer

VOCAB_SIZE = 65


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=200)
    options = parser.parse_args()
    config = resolve(load_preset(options.preset).layer)
    ours = Transformer(config, VOCAB_SIZE)
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB_SIZE,
            n_positions=config.max_seq_len,
            n_embd=config.model_dim,
            n_layer=config.num_layers,
            n_head=config.num_heads,
            eos_token_id=None,
            bos_token_id=None,
        )
    ).eval()

    def generate_ours() -> None:
        for _ in stream(ours, [0], SamplingOptions(max_tokens=options.tokens, temperature=0.8, seed=0)):
            pass

    @torch.inference_mode()
    def generate_theirs() -> None:
        start = torch.zeros(1, 1, dtype=torch.long)
        theirs.generate(
            start,
            attention_mask=torch.ones_like(start),
            max_new_tokens=options.tokens,
            do_sample=True,
            temperature=0.8,
            use_cache=True,
            pad_token_id=0,
        )

    rows = {"fundamentallm": generate_ours, "transformers": generate_theirs}
    speeds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(-1, options.rounds):
        for name, generate in rows.items():
            started = time.perf_counter()
            generate()
            if turn >= 0:
                speeds[name].append(options.tokens / (time.perf_counter() - started))
    ratios = [a / b for a, b in zip(*speeds.values(), strict=True)]
    for name, values in speeds.items():
        print(f"{name:14} {median(values):7,.0f} tokens/s")
    print(f"ratio          {median(ratios):7.2f} (from {min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)")


if __name__ == "__main__":
    main()
