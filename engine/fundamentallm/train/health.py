"""What the curves of a run mean, and what to try. No torch.

Each judgement is made at an evaluation, from numbers that a person can see, and is said with its evidence.
"""

from dataclasses import dataclass, field
from math import log
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve, to_dict
from fundamentallm.config.estimate import count_memory
from fundamentallm.run.events import Evaluated

RISES = 2  # evaluations in a row, at epochs' ends, that make a trend
FLAT = 0.01  # a rise or fall of less than a hundredth is none


def not_finite(config: Config) -> str:
    """What to try when a loss or gradient is infinite or NaN."""
    return (
        f"--learning-rate {config.learning_rate / 10:g}, or clip harder with --gradient-clip "
        f"{config.gradient_clip / 2 if config.gradient_clip else 1:g}"
    )


def out_of_memory(config: Config, vocab_size: int) -> str:
    """What to try when memory runs out, with what each would need."""
    ways: list[dict[str, Any]] = [
        {"batch_size": config.batch_size // 2, "accumulation_steps": 2 * config.accumulation_steps},
        {"max_seq_len": config.max_seq_len // 2, "stride": config.stride and -(-config.stride // 2)},
        {"model_dim": config.model_dim // 2},
    ]
    needs = []
    for changes in ways:
        try:
            less = resolve(Layer(to_dict(config) | changes))
        except ConfigError:  # it is as small as it can be
            continue
        flags = (f"{SETTINGS[name].flag} {value}" for name, value in changes.items() if value is not None)
        needs.append(f"{' '.join(flags)} ({_size(less, vocab_size)})")
    need = f"this run needs {_size(config, vocab_size)}"
    return f"{need}; less: {', '.join(needs)}" if needs else f"a machine with more memory: {need}"


def _size(config: Config, vocab_size: int) -> str:
    need = count_memory(config, vocab_size)
    return f"about {need / 2**30:.2g} GiB" if need >= 2**30 else f"about {need / 2**20:.0f} MiB"


@dataclass
class Health:
    """Watches the evaluations of one run; each complaint is made once until things get better."""

    config: Config
    vocab_size: int
    _epochs: list[Evaluated] = field(default_factory=list)
    _complained: set[str] = field(default_factory=set)

    def judge(self, event: Evaluated) -> list[str]:
        """What a person should be told after this evaluation."""
        if not event.epoch_ended:
            return []
        self._epochs.append(event)
        return [
            words
            for kind, words in (("overfitting", self._overfitting()), ("flat", self._flat()))
            if self._is_new(kind, words)
        ]

    def _is_new(self, kind: str, words: str) -> bool:
        if not words:
            self._complained.discard(kind)
            return False
        new = kind not in self._complained
        self._complained.add(kind)
        return new

    def _overfitting(self) -> str:
        best = min(self._epochs, key=lambda e: e.val_loss)
        since = [e for e in self._epochs if e.step > best.step]
        rising = len(since) >= RISES and all(e.val_loss > best.val_loss * (1 + FLAT) for e in since)
        if not rising or since[-1].train_loss >= best.train_loss:
            return ""
        dropout = round(max(0.1, self.config.dropout) + 0.1, 2)
        more = f"--dropout {dropout:g}, " if dropout <= 0.5 else ""  # beyond, little is left to learn with
        return (
            f"overfitting: since epoch {best.epoch} the validation loss rose from {best.val_loss:.3f} to "
            f"{since[-1].val_loss:.3f} while the training loss fell to {since[-1].train_loss:.3f}; best.pt keeps epoch "
            f"{best.epoch}; try {more}--epochs {best.epoch}, or more text"
        )

    def _flat(self) -> str:
        if len(self._epochs) < 2:
            return ""
        before, now = self._epochs[-2:]
        guessing = log(self.vocab_size)
        if now.train_loss < 0.75 * guessing or before.train_loss - now.train_loss > FLAT * before.train_loss:
            return ""
        rate = self.config.learning_rate
        advice = f"--learning-rate {rate * 3:.1g}" if rate < 1e-3 else f"--learning-rate {rate / 3:.1g}"
        return (
            f"the loss is not falling: {before.train_loss:.3f}, then {now.train_loss:.3f} (blind guessing is "
            f"{guessing:.3f}); try {advice}, or a larger model (--model-dim {self.config.model_dim * 2})"
        )
