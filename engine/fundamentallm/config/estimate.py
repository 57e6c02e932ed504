"""The size of a run, computed without torch and without training.

The rules of an epoch are here, so that the console's form and the corpus always agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from math import prod

from fundamentallm.config.config import BYTES, CHAR, Config
from fundamentallm.config.format import format_count, format_value
from fundamentallm.errors import UserError

USUAL_SPLIT: float = Config().val_split
SHORTEST = 2  # tokens of a window
VARYING_BYTES = 36  # a training character, measured: the random numbers of two kinds of augmentation, and two epochs
LOADING_MEMORY = 100 * 2**20  # bytes, measured, while a text is encoded that is too long to be kept in memory
PROGRAM_MEMORY = 230 * 2**20  # bytes of Python and PyTorch on a CPU, measured with the tiny preset


def token_noun(config: Config) -> str:
    """Return what a token of the text is called."""
    return {CHAR: "character", BYTES: "byte"}.get(config.tokenizer, "token")


def split(tokens: int, val_split: float) -> int:
    """Count the tokens for training, from the start of the text; the rest is for validation."""
    return int((1 - Fraction(str(val_split))) * tokens)  # as floats, 70 % of 90 tokens would be 62


def count_windows(tokens: int, length: int, stride: int) -> int:
    """Count the windows of `length` + 1 tokens in an epoch: the same number for every offset, at least one."""
    return max(1, (tokens - length - stride) // stride + 1)


def choose_stride(config: Config, lengths: Sequence[int], tokens: int) -> int:
    """Choose `config.stride`, or the largest of T, T/2, T/4, T/8 with at least 40 steps an epoch, else T/8.

    `lengths` are those of the documents, whose first `tokens` tokens are for training.
    """
    if config.stride is not None:
        return config.stride
    length = config.max_seq_len
    for stride in (length, length // 2, length // 4):
        if stride and -(-count_all_windows(lengths, tokens, length, stride) // config.effective_batch) >= 40:
            return stride
    return max(1, length // 8)


def count_steps(epochs: int, max_steps: int | None, steps_per_epoch: int) -> int:
    """Count the optimizer steps of a run, which ends at the smaller of `epochs` and `max_steps`."""
    steps = epochs * steps_per_epoch
    return steps if max_steps is None else min(steps, max_steps)


def parameter_shapes(config: Config, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the model's parameters by name: the one description of its size.

    The number of parameters, the memory, the optimizer's state and the check of a checkpoint are computed from it, and
    a `Transformer` asserts that it has these parameters. The output layer has none: it shares the embedding's.
    """
    D, ff = config.model_dim, config.ff_width
    block = {
        "attention.qkv.weight": (3 * D, D),
        "attention.out.weight": (D, D),
        "feed_forward.up.weight": (ff, D),
        "feed_forward.down.weight": (D, ff),
    }
    blocks = {f"blocks.{n}.{name}": shape for n in range(config.num_layers) for name, shape in block.items()}
    return {"embedding.weight": (vocab_size, D), **blocks}


def count_parameters(config: Config, vocab_size: int) -> int:
    """Count the trainable numbers of the model."""
    return sum(map(prod, parameter_shapes(config, vocab_size).values()))


def count_memory(config: Config, vocab_size: int) -> int:
    """Estimate the bytes of weights, gradients, optimizer and activations; the program itself is not included."""
    layer = 19 * config.model_dim + 2 * config.ff_width  # values per token that the backward pass needs
    token = 4 * (config.num_layers * layer + 4 * config.model_dim + 3 * vocab_size)
    # Two threads of a CPU have gradients each, beside those of the micro-batches before; counted wherever it trains.
    gradients = 4 * count_parameters(config, vocab_size) * (2 if config.accumulation_steps > 1 else 1)
    return count_state_memory(config, vocab_size) + gradients + config.batch_size * config.max_seq_len * token


def count_state_memory(config: Config, vocab_size: int) -> int:
    """Count the bytes of weights, gradients and optimizer, which no smaller batch reduces."""
    return 4 * count_parameters(config, vocab_size) * (3 if config.optimizer == "muon" else 4)


def spans(lengths: Sequence[int], tokens: int, length: int) -> list[tuple[int, int]]:
    """Find the start and end of each document within the first `tokens` of a corpus.

    Documents that are too short for a window are left out. No window crosses from one document into the next.
    """
    ends = list(accumulate(lengths))
    pairs = ((end - size, min(end, tokens)) for size, end in zip(lengths, ends, strict=True))
    return [(start, end) for start, end in pairs if end - start > length]


def count_all_windows(lengths: Sequence[int], tokens: int, length: int, stride: int) -> int:
    """Sum `count_windows` over the documents of a corpus."""
    return sum(count_windows(end - start, length, stride) for start, end in spans(lengths, tokens, length))


@dataclass(frozen=True)
class Estimate:
    """The size of a run; memory in bytes."""

    parameters: int
    vocab_size: int
    train_tokens: int
    val_tokens: int
    stride: int
    windows: int
    steps_per_epoch: int
    total_steps: int
    passes: float  # how often an epoch reads each training token
    memory: int  # weights, gradients, optimizer and activations
    text_memory: int  # the tokens, the order of the windows and what augmentation needs
    loading_memory: int  # the text at most, while it is read and made into tokens

    def fit_batch(self, config: Config) -> Config:
        """Return `config` with a batch of no more windows than there are."""
        return _fit_batch(config, self.windows)


@dataclass(frozen=True)
class TextSize:
    """What the size of a run depends on: the length of each document, in tokens, and how many different ones there are.

    `width`: bytes that Python takes for a character of the widest document: 1, 2 or 4. `mapped`: the tokens stay in a
    file, and the text is read in pieces.
    """

    lengths: tuple[int, ...]
    vocab_size: int
    width: int = 1
    mapped: bool = False


def character_width(vocabulary: str) -> int:
    """Return how many bytes Python takes for each character of a text that has all of these."""
    last = ord(max(vocabulary, default=" "))
    return 1 if last < 2**8 else 2 if last < 2**16 else 4


def estimate_size(config: Config, text: TextSize) -> Estimate:
    """Estimate the size of a run; a UserError if the text is too short to train on or to validate on."""
    lengths, vocab_size = text.lengths, text.vocab_size
    tokens = sum(lengths)
    train = split(tokens, config.val_split)
    held_out = tokens - train
    if _longest(lengths, config.val_split) < config.max_seq_len + 1 or held_out < 2:
        raise UserError(_too_short(config, lengths))
    stride = choose_stride(config, lengths, train)
    windows = count_all_windows(lengths, train, config.max_seq_len, stride)
    steps = -(-windows // config.effective_batch)
    passes = windows * config.max_seq_len / train
    token = 1 if vocab_size <= 2**8 else 2 if vocab_size <= 2**15 else 4
    varying = VARYING_BYTES * train if config.augmentations else 0
    kept = 0 if text.mapped and not varying else tokens * token
    return Estimate(
        parameters=count_parameters(config, vocab_size),
        vocab_size=vocab_size,
        train_tokens=train,
        val_tokens=held_out,
        stride=stride,
        windows=windows,
        steps_per_epoch=steps,
        total_steps=count_steps(config.epochs, config.max_steps, steps),
        passes=passes,
        memory=count_memory(_fit_batch(config, windows), vocab_size),
        text_memory=kept + 16 * windows + varying,  # the order of two epochs, 8 bytes a window
        loading_memory=LOADING_MEMORY if text.mapped else tokens * (2 * text.width + token),
    )


def _fit_batch(config: Config, windows: int) -> Config:
    return replace(config, batch_size=min(config.batch_size, windows))


def _longest(lengths: Sequence[int], val_split: float) -> int:
    """Return how many training tokens the document with the most of them has."""
    train = split(sum(lengths), val_split)
    return max(min(size, train - end + size) for size, end in zip(lengths, accumulate(lengths), strict=True))


def _too_short(config: Config, lengths: Sequence[int]) -> str:
    """Say what of a text is too short, and which settings would do: a shorter window, the usual split, or both."""
    name, noun = ", ".join(config.data) or "the text", token_noun(config)
    tokens, length = sum(lengths), config.max_seq_len
    train, usual = (_longest(lengths, share) for share in (config.val_split, USUAL_SPLIT))
    held_out, usual_held_out = (tokens - split(tokens, share) for share in (config.val_split, USUAL_SPLIT))
    usual_flag = f"--val-split {USUAL_SPLIT:g}"
    if usual > length and usual_held_out >= 2:
        advice = f"{usual_flag} fits"
    elif train >= SHORTEST + 1 and held_out >= 2:
        advice = f"{_window_flags(config, train - 1)} is the largest that fits"
    elif usual >= SHORTEST + 1 and usual_held_out >= 2:
        advice = f"{usual_flag} {_window_flags(config, usual - 1)} fits"
    else:
        return f"{name}: {format_count(tokens, noun)}, too few to train on"
    longest = "" if len(lengths) == 1 else f" of the longest of its {len(lengths)} texts"
    given = f"--val-split {format_value(config.val_split)} of {format_count(tokens, noun)}"
    left = f"leaves {max(0, train):,}{longest} to train on and {held_out:,} to validate on"
    return f"{name}: {given} {left}, and a run needs {length + 1:,} and 2; {advice}"


def _window_flags(config: Config, length: int) -> str:
    stride = f" --stride {length}" if config.stride is not None and config.stride > length else ""
    return f"--max-seq-len {length}{stride}"
