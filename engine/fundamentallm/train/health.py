"""What the curves of a run mean, and what to try. No torch.

- A verdict is a pure function of what the journal tells and of the settings as they are now, so a resumed run says
  the same at the same epochs as an uninterrupted one.
- Each rule looks at the evaluations at epochs' ends, and gives its evidence: numbers that the user can see.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from math import isfinite, log
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve, to_dict
from fundamentallm.config.estimate import count_memory
from fundamentallm.config.format import format_memory
from fundamentallm.run.events import Evaluated
from fundamentallm.run.history import RunHistory

FLAT = 0.01  # a relative change below this counts as none
NEAR_GUESSING = 0.75  # of the loss of blind guessing: above this, little was learnt
FAR_ABOVE_GUESSING = 1.5  # times the loss of blind guessing


def new_verdicts(history: RunHistory, config: Config, vocab_size: int) -> list[str]:
    """Return what the user should be told after the epoch that just ended: at most one sentence.

    A verdict is announced when it holds now and did not hold at the epoch before.
    """
    epochs = [evaluation for evaluation in history.evaluations if evaluation.epoch_ended]
    verdict = judge(epochs, vocab_size)
    if verdict is None or verdict is judge(epochs[:-1], vocab_size):
        return []
    return [verdict(history, epochs, config, vocab_size)]


Verdict = Callable[[RunHistory, Sequence[Evaluated], Config, int], str]


def judge(epochs: Sequence[Evaluated], vocab_size: int) -> Verdict | None:
    """Choose the function that describes what is wrong; None where nothing is.

    The first rule that holds excludes the others: each later one would advise the opposite.
    """
    if not epochs:
        return None
    if vocab_size == 1:
        return _describe_nothing_to_learn
    if has_diverged(epochs[-1], vocab_size):
        return _describe_divergence
    if is_overfitting(epochs):
        return _describe_overfitting
    return _describe_flat if is_flat(epochs, vocab_size) else None


def has_diverged(last: Evaluated, vocab_size: int) -> bool:
    """Whether the model predicts far worse than blind guessing, whose loss is log(vocab_size).

    A validation loss alone may get there by overfitting; then the training loss is low.
    """
    limit, learnt = FAR_ABOVE_GUESSING * log(vocab_size), NEAR_GUESSING * log(vocab_size)
    return last.train_loss > limit or (last.val_loss > limit and last.train_loss >= learnt)


def is_overfitting(epochs: Sequence[Evaluated]) -> bool:
    """Whether the validation loss has risen since its best epoch while the training loss fell.

    It counts that both of the last two epochs are worse than the best, and the last by one percent.
    """
    best, recent = _best(epochs), epochs[-2:]
    worse = len(epochs) > 2 and all(epoch.val_loss > best.val_loss for epoch in recent)
    rose = recent[-1].val_loss >= best.val_loss * (1 + FLAT)
    return worse and rose and recent[-1].train_loss < best.train_loss


def is_flat(epochs: Sequence[Evaluated], vocab_size: int) -> bool:
    """Whether the training loss does not fall although it is still near that of blind guessing, log(vocab_size)."""
    if len(epochs) < 2:
        return False
    before, now = epochs[-2].train_loss, epochs[-1].train_loss
    return now >= NEAR_GUESSING * log(vocab_size) and before - now <= FLAT * before


def advise_not_finite(config: Config) -> str:
    """Return what to try when a loss or gradient is infinite or NaN."""
    clip = config.gradient_clip / 2 if config.gradient_clip else 1
    return f"--learning-rate {config.learning_rate / 10:g}, or clip harder with --gradient-clip {clip:g}"


def advise_out_of_memory(config: Config, vocab_size: int, free: float, text: int = 0) -> str:
    """Return what to try when memory runs out: what fits into `free` bytes, and what each would need.

    A new run, as none of this can change on resume: a smaller batch, a shorter context or a narrower model, each halved
    until it fits, or all of them where one alone does not do.

    Args:
        text: bytes that the text takes, whatever the model.
    """

    def need(config: Config) -> int:
        return count_memory(config, vocab_size) + text

    def fits(config: Config) -> bool:
        return need(config) <= free

    ways = (_halve_batch, _halve_context, _halve_model)
    shrunk = [_shrink(config, (way,), fits) for way in ways]
    fitting = [smaller for smaller in shrunk if smaller is not None]
    if not fitting and (smaller := _shrink(config, ways, fits)) is not None:
        fitting = [smaller]
    needs = f"this run needs about {format_memory(need(config))}"
    needs += f", and {format_memory(free)} are free" if isfinite(free) else ""
    if not fitting:
        return f"a machine with more memory: {needs}; no smaller batch, context or model fits"
    runs = [f"{_flags(config, smaller)} (about {format_memory(need(smaller))})" for smaller in fitting]
    return f"a new run with {' or '.join(runs)}; {needs}"


def _shrink(
    config: Config, ways: Sequence[Callable[[Config], dict[str, Any]]], fits: Callable[[Config], bool]
) -> Config | None:
    """Halve a configuration in these ways, as often as it takes to fit; None where it cannot."""
    while True:
        smaller = config
        for way in ways:
            with suppress(ConfigError):  # it is as small as it can be
                smaller = resolve(Layer(to_dict(smaller) | way(smaller)))
        if smaller == config:
            return None
        if fits(smaller):
            return smaller
        config = smaller


def _halve_batch(config: Config) -> dict[str, Any]:
    rows = config.batch_size // 2  # more of them make up a step
    return {"batch_size": rows, "accumulation_steps": -(-config.effective_batch // max(1, rows))}


def _halve_context(config: Config) -> dict[str, Any]:
    return {"max_seq_len": config.max_seq_len // 2, "stride": config.stride and max(1, config.stride // 2)}


def _halve_model(config: Config) -> dict[str, Any]:
    return {"model_dim": config.model_dim // 2, "ff_dim": config.ff_dim and max(1, config.ff_dim // 2)}


def _flags(config: Config, smaller: Config) -> str:
    """What makes a configuration the smaller one."""
    order = ("batch_size", "accumulation_steps", "max_seq_len", "stride", "model_dim", "ff_dim")
    changed = [name for name in order if getattr(smaller, name) != getattr(config, name)]
    return " ".join(f"{SETTINGS[name].flag} {getattr(smaller, name)}" for name in changed)


def _best(epochs: Sequence[Evaluated]) -> Evaluated:
    return min(epochs, key=lambda epoch: epoch.val_loss)


def _describe_nothing_to_learn(*_: object) -> str:
    return "nothing to learn: the text is one character, again and again, so every guess is right; train on other text"


def _describe_divergence(_: RunHistory, epochs: Sequence[Evaluated], config: Config, vocab_size: int) -> str:
    last = epochs[-1]
    name, loss = max(("training", last.train_loss), ("validation", last.val_loss), key=lambda pair: pair[1])
    return (
        f"diverged: the {name} loss is {loss:.3f}, far above that of blind guessing, {log(vocab_size):.3f}; "
        f"try {advise_not_finite(config)}"
    )


def _describe_overfitting(history: RunHistory, epochs: Sequence[Evaluated], config: Config, _: int) -> str:
    best, last = _best(epochs), epochs[-1]
    dropout = round(max(0.1, config.dropout) + 0.1, 2)
    more = f"--dropout {dropout:g}, " if dropout <= 0.5 else ""  # with more, too little is left to learn with
    kept = history.best
    keeps = (
        "" if kept is None else f"best.pt keeps {f'epoch {kept.epoch}' if kept.epoch_ended else f'step {kept.step}'}; "
    )
    return (
        f"overfitting: since epoch {best.epoch} the validation loss rose from {best.val_loss:.3f} to "
        f"{last.val_loss:.3f} while the training loss fell to {last.train_loss:.3f}; {keeps}"
        f"try {more}--epochs {best.epoch}, or more text"
    )


def _describe_flat(_: RunHistory, epochs: Sequence[Evaluated], config: Config, vocab_size: int) -> str:
    before, now = epochs[-2:]
    rate = config.learning_rate
    new_rate = rate * 3 if rate < 1e-3 else rate / 3
    return (
        f"the loss is not falling: {before.train_loss:.3f}, then {now.train_loss:.3f} (blind guessing is "
        f"{log(vocab_size):.3f}); try --learning-rate {new_rate:.1g}, or a larger model "
        f"(--model-dim {config.model_dim * 2})"
    )
