"""The size of a run, computed without torch and without training.

The rules of an epoch are here, so that the console's form and the corpus always agree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from math import prod

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError


def split(tokens: int, val_split: float) -> int:
    """Count the tokens for training, from the start of the text; the rest is for validation."""
    return int((1 - Fraction(str(val_split))) * tokens)  # as floats, 70 % of 90 tokens would be 62


def count_windows(tokens: int, length: int, stride: int) -> int:
    """Count the windows of `length` + 1 tokens in an epoch: the same number for every offset, at least one."""
    return max(1, (tokens - length - stride) // stride + 1)


def choose_stride(config: Config, lengths: Sequence[int], tokens: int) -> int:
    """Choose `config.stride`, or the largest of T, T/2, T/4, T/8 with at least 40 steps an epoch, else T/8.

    Args:
        lengths: of the documents; their first `tokens` tokens are for training.
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
    state = 4 * count_parameters(config, vocab_size) * (3 if config.optimizer == "muon" else 4)
    layer = 19 * config.model_dim + 2 * config.ff_width  # values per token that the backward pass needs
    token = 4 * (config.num_layers * layer + 4 * config.model_dim + 3 * vocab_size)
    return state + config.batch_size * config.max_seq_len * token


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
    """The size of a run. `passes`: how often an epoch reads each training token; `memory`: estimated bytes."""

    parameters: int
    vocab_size: int
    train_tokens: int
    val_tokens: int
    stride: int
    windows: int
    steps_per_epoch: int
    total_steps: int
    passes: float
    memory: int


def estimate(config: Config, documents: Sequence[str]) -> Estimate:
    """Estimate the size of a run that trains on `documents`.

    Raises:
        UserError: the text is too short for one window, or leaves nothing to validate on.
    """
    return estimate_size(config, [len(text) for text in documents], len(set().union(*documents)))


def estimate_size(config: Config, lengths: Sequence[int], vocab_size: int) -> Estimate:
    """Estimate from the lengths of the documents and the size of their vocabulary."""
    characters = sum(lengths)
    train = split(characters, config.val_split)
    held_out = characters - train
    longest = max((min(size, train - end + size) for size, end in zip(lengths, accumulate(lengths), strict=True)))
    if longest < config.max_seq_len + 1 or held_out < 2:
        raise UserError(_too_short(config, len(lengths), characters, longest, held_out))
    stride = choose_stride(config, lengths, train)
    windows = count_all_windows(lengths, train, config.max_seq_len, stride)
    steps = -(-windows // config.effective_batch)
    passes = windows * config.max_seq_len / train
    memory = count_memory(config, vocab_size)
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
        memory=memory,
    )


def _too_short(config: Config, documents: int, tokens: int, train: int, held_out: int) -> str:
    name = ", ".join(config.data) or "the text"
    are = " are" if documents == 1 else ","
    its = "its" if documents == 1 else f"the longest of its {documents} texts has"
    if train < config.max_seq_len + 1:
        if train < 3:
            return f"{name}: {tokens} characters are too few to train on"
        return (
            f"{name}: {its} {train} training characters{are} fewer than one window of {config.max_seq_len} + 1; "
            f"--max-seq-len {train - 1} is the largest that fits"
        )
    return (
        f"{name}: --val-split {config.val_split:g} of {tokens} characters leaves {held_out} to validate on; it needs 2"
    )
