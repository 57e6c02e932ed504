"""Measure training in tokens per second, against transformers' GPT-2 of the same shape in the same process.

    python tests/benchmarks/throughput.py [tiny|small|medium] [--rounds 10] [--compile] [--mixed-precision]

Each round times a few steps of each model on the same random text, one after the other; the ratio is the median over
the rounds. Ours is the complete step of `fundamentallm` with its default optimizer; theirs is the forward and backward
pass of `GPT2LMHeadModel` with dropout 0.1, clipping, and PyTorch's fused AdamW. `--compile` measures our compiled step,
too, and `--mixed-precision` our step in 16 bits.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from peer import arguments, compare, gpt2

from fundamentallm.config.config import Config, flags_layer, resolve
from fundamentallm.config.estimate import TextSize, estimate_size
from fundamentallm.config.files import load_preset
from fundamentallm.data.corpus import Corpus
from fundamentallm.data.encoded import encode_source
from fundamentallm.data.source import make_source
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.model.transformer import Transformer
from fundamentallm.train.checkpoint import Counters
from fundamentallm.train.device import Precision
from fundamentallm.train.optimizer import Optimizer
from fundamentallm.train.state import TrainState
from fundamentallm.train.step import TrainStep

VOCABULARY = "".join(chr(code) for code in range(33, 98))


def corpus_of(config: Config) -> tuple[Corpus, Tokenizer]:
    rng = torch.Generator().manual_seed(0)
    text = "".join(VOCABULARY[i] for i in torch.randint(len(VOCABULARY), (100_000,), generator=rng).tolist())
    tokenizer = Tokenizer.fit(text)
    encoded = encode_source(make_source(["text"], [text]), tokenizer)
    return Corpus(encoded, tokenizer, config, torch.device("cpu")), tokenizer


class Ours:
    def __init__(self, config: Config, corpus: Corpus, tokenizer: Tokenizer, mixed: bool = False) -> None:
        model, device = Transformer(config, len(tokenizer)), torch.device("cpu")
        precision = Precision(device, mixed)
        optimizer = Optimizer(model, config.optimizer, precision.dtype)
        size = estimate_size(config, TextSize((100_000,), len(tokenizer)))
        state = TrainState(config, Counters(), tokenizer, "", size, corpus, model, optimizer, device, precision)
        self.step = TrainStep(state)

    def __call__(self, step: int) -> None:
        self.step(step)


class GPT2:
    def __init__(self, config: Config, corpus: Corpus, vocab_size: int) -> None:
        self.corpus = corpus
        dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout)
        self.model = gpt2(config, vocab_size, **dropout).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)

    def __call__(self, step: int) -> None:
        inputs, targets = self.corpus.batch(step)
        logits = self.model(inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def main() -> None:
    parser = arguments(__doc__, "tiny", rounds=10)
    parser.add_argument("--steps", type=int, default=3, help="steps of each model per round")
    parser.add_argument("--compile", action="store_true", help="measure our compiled step, too")
    parser.add_argument("--mixed-precision", action="store_true", help="measure our step in 16 bits, too")
    options = parser.parse_args()
    config = resolve(load_preset(options.preset).layer, flags_layer({"mixed_precision": False, "dropout": 0.1}))
    corpus, tokenizer = corpus_of(config)
    takes: dict[str, Callable[[int], None]] = {
        "fundamentallm": Ours(config, corpus, tokenizer),
        "transformers": GPT2(config, corpus, len(tokenizer)),
    }
    if options.compile:
        compiled, started = Ours(config, corpus, tokenizer), time.perf_counter()
        if why := compiled.step.compile(0):
            parser.exit(1, f"cannot compile: {why}\n")
        takes["compiled"] = compiled
        print(f"compiling took {time.perf_counter() - started:.0f} s")
    if options.mixed_precision:
        takes["16 bits"] = Ours(config, corpus, tokenizer, mixed=True)
    steps = options.steps

    def several(take: Callable[[int], None], turn: int) -> None:
        for step in range(turn * steps, (turn + 1) * steps):
            take(step)

    rows = {name: partial(several, take) for name, take in takes.items()}
    compare(rows, options.rounds, config.effective_batch * config.max_seq_len * steps)


if __name__ == "__main__":
    main()
