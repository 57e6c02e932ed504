"""Measure generation in tokens per second at batch size 1, against transformers' GPT-2 with its cache.

OPENBLAS_NUM_THREADS=1 python tests/benchmarks/generation.py [small|tiny|medium] [--rounds 5] [--tokens 200]

The programs set that variable themselves, before NumPy is imported.
"""

import torch
from peer import arguments, compare, gpt2

from fundamentallm.config.config import resolve
from fundamentallm.config.files import load_preset
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.model.generate import stream
from fundamentallm.model.transformer import Transformer

VOCAB_SIZE = 65


def main() -> None:
    parser = arguments(__doc__, "small", rounds=5)
    parser.add_argument("--tokens", type=int, default=200)
    options = parser.parse_args()
    config = resolve(load_preset(options.preset).layer)
    ours = Transformer(config, VOCAB_SIZE)
    theirs = gpt2(config, VOCAB_SIZE, eos_token_id=None, bos_token_id=None).eval()

    def generate_ours(_: int) -> None:
        for _ in stream(ours, [0], SamplingOptions(max_tokens=options.tokens, temperature=0.8, seed=0)):
            pass

    @torch.inference_mode()
    def generate_theirs(_: int) -> None:
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

    compare({"fundamentallm": generate_ours, "transformers": generate_theirs}, options.rounds, options.tokens)


if __name__ == "__main__":
    main()
