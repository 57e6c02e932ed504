"""What the curves of a run mean, and what to try. No torch.

Each judgement is made at an evaluation, from numbers that a person can see, and is said with its evidence.
"""

from dataclasses import dataclass, field, replace
from math import log

from fundamentallm.config import Config
from fundamentallm.estimate import count_memory
from fundamentallm.events import Evaluated

RISES = 2  # evaluations in a row, at epochs' ends, that make a trend
FLAT = 0.01  # a fall of less than a hundredth in an epoch is none


def not_finite(config: Config) -> str:
    """What to try when a loss or gradient is infinite or NaN."""
    return (
        f"--learning-rate {config.learning_rate / 10:g}, or clip harder with --gradient-clip "
        f"{config.gradient_clip / 2 if config.gradient_clip else 1:g}"
    )


def out_of_memory(config: Config, vocab_size: int) -> str:
    """What to try when memory runs out, with what each would need."""
    half = max(1, config.batch_size // 2)
    ways = {
        f"--batch-size {half} --accumulation-steps {2 * config.accumulation_steps}": replace(config, batch_size=half),
        f"--max-seq-len {config.max_seq_len // 2}": replace(config, max_seq_len=config.max_seq_len // 2),
        f"--model-dim {config.model_dim // 2}": replace(config, model_dim=config.model_dim // 2, ff_dim=None),
    }
    needs = [f"{flags} (about {count_memory(less, vocab_size) / 2**30:.2g} GiB)" for flags, less in ways.items()]
    return f"this run needs about {count_memory(config, vocab_size) / 2**30:.2g} GiB; less: {', '.join(needs)}"


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
        rising = len(since) >= RISES and all(e.val_loss > best.val_loss for e in since)
        if not rising or since[-1].train_loss >= best.train_loss:
            return ""
        dropout = min(0.5, round(max(0.1, self.config.dropout) + 0.1, 2))
        return (
            f"overfitting: since epoch {best.epoch} the validation loss rose from {best.val_loss:.3f} to "
            f"{since[-1].val_loss:.3f} while the training loss fell to {since[-1].train_loss:.3f}; best.pt keeps epoch "
            f"{best.epoch}; try --dropout {dropout:g}, --epochs {best.epoch}, or more text"
        )

    def _flat(self) -> str:
        if len(self._epochs) < 2:
            return ""
        before, now = self._epochs[-2:]
        guessing = log(self.vocab_size)
        if now.train_loss < 0.75 * guessing or before.train_loss - now.train_loss > FLAT * before.train_loss:
            return ""
        rate = self.config.learning_rate
        advice = f"--learning-rate {rate * 3:g}" if rate < 1e-3 else f"--learning-rate {rate / 3:g}"
        return (
            f"the loss is not falling: {before.train_loss:.3f}, then {now.train_loss:.3f} (blind guessing is "
            f"{guessing:.3f}); try {advice}, or a larger model (--model-dim {self.config.model_dim * 2})"
        )
