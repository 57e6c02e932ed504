"""What a configuration will amount to, computed without torch and without training.

The rules of an epoch live here, so that the console's form and the corpus can never disagree.
"""

from dataclasses import dataclass
from fractions import Fraction

from fundamentallm.config import Config
from fundamentallm.errors import UserError


def split(tokens: int, val_split: float) -> int:
    """How many tokens, from the start, are for training; the rest is for validation."""
    return int((1 - Fraction(str(val_split))) * tokens)  # floats would lose a token here and there


def count_windows(tokens: int, length: int, stride: int) -> int:
    """Windows of `length` tokens (and one more to predict) in an epoch, whatever its phase; at least one."""
    return max(1, (tokens - length - stride) // stride + 1)


def choose_stride(config: Config, tokens: int) -> int:
    """`config.stride`, or the largest of T, T/2, T/4, T/8 that gives at least 40 steps an epoch, else T/8."""
    if config.stride is not None:
        return config.stride
    length = config.max_seq_len
    for stride in (length, length // 2, length // 4):
        if stride and -(-count_windows(tokens, length, stride) // config.effective_batch) >= 40:
            return stride
    return max(1, length // 8)


def count_parameters(config: Config, vocab_size: int) -> int:
    """Trainable numbers of the model; the embedding is shared with the output."""
    block = 4 * config.model_dim**2 + 2 * config.model_dim * config.ff_width
    return vocab_size * config.model_dim + config.num_layers * block


@dataclass(frozen=True)
class Estimate:
    """The size of a run. `passes` is how often an epoch reads each training token."""

    parameters: int
    vocab_size: int
    train_tokens: int
    val_tokens: int
    stride: int
    windows: int
    steps_per_epoch: int
    total_steps: int
    passes: float


def estimate(config: Config, text: str) -> Estimate:
    """The size of the run that would train on `text`.

    Raises:
        UserError: the text is too short for one window, or leaves nothing to validate on.
    """
    return estimate_size(config, len(text), len(set(text)))


def estimate_size(config: Config, characters: int, vocab_size: int) -> Estimate:
    """`estimate` for a text of which only these numbers are known."""
    train = split(characters, config.val_split)
    held_out = characters - train
    if train < config.max_seq_len + 1 or held_out < 2:
        raise UserError(_too_short(config, characters, train, held_out))
    stride = choose_stride(config, train)
    windows = count_windows(train, config.max_seq_len, stride)
    steps = -(-windows // config.effective_batch)
    passes = windows * config.max_seq_len / train
    return Estimate(
        parameters=count_parameters(config, vocab_size),
        vocab_size=vocab_size,
        train_tokens=train,
        val_tokens=held_out,
        stride=stride,
        windows=windows,
        steps_per_epoch=steps,
        total_steps=steps * config.epochs,
        passes=passes,
    )


def _too_short(config: Config, tokens: int, train: int, held_out: int) -> str:
    name = ", ".join(config.data) or "the text"
    if train < config.max_seq_len + 1:
        if train < 3:
            return f"{name}: {tokens} characters are too few to train on"
        return (
            f"{name}: its {train} training characters are fewer than one window of {config.max_seq_len} + 1; "
            f"--max-seq-len {train - 1} is the largest that fits"
        )
    return (
        f"{name}: --val-split {config.val_split:g} of {tokens} characters leaves {held_out} to validate on; it needs 2"
    )
