"""How well a model predicts a text: each token but the first, exactly once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import exp, inf, log, nan

import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.data.corpus import IGNORED
from fundamentallm.model.transformer import Transformer
from fundamentallm.train.device import Precision

BATCH_TOKENS = 16384  # in one forward pass; fixed, so that the same text always gives the same bits
RELEASE = 64  # forward passes after which the memory of a mapped text is given back
CLASSES: dict[str, Callable[[str], bool]] = {  # the first that holds
    "parts of characters": lambda text: not text,
    "lower case": str.islower,
    "upper case": str.isupper,
    "other letters": lambda text: text.strip().isalpha(),
    "digits": lambda text: text.strip().isdigit(),
    "spaces": lambda text: not text.strip(" "),
    "line ends": lambda text: not text.strip("\n"),
    "punctuation, other": lambda text: True,
}


@dataclass(frozen=True)
class Evaluation:
    """`loss` is in nats a token; `accuracy` is the share of tokens that were the model's first guess.

    `by_token` has, for each token of the vocabulary, how often it came, the sum of its losses, and how often it was
    guessed: float64, (V, 3).
    """

    loss: float
    accuracy: float
    tokens: int
    by_token: Tensor = field(compare=False, repr=False)

    @property
    def bits(self) -> float:
        """The loss in bits a token."""
        return self.loss / log(2)

    @property
    def perplexity(self) -> float:
        """Among how many equally likely tokens the model is as uncertain; infinite where a float cannot hold it."""
        return exp(self.loss) if self.loss < 700 else inf

    def bits_per(self, sizes: Sequence[int]) -> float:
        """The loss in bits for each byte or character of what was predicted; each token has so many of `sizes`."""
        counted = float(self.by_token[:, 0] @ torch.tensor(sizes, dtype=torch.float64))
        return self.bits * self.tokens / counted if counted else nan


def evaluate(
    model: Transformer, tokens: Tensor, length: int, precision: Precision, release: Callable[[], None] = lambda: None
) -> Evaluation:
    """Predict each of `tokens`, shape (n,), but the first, in consecutive windows of `length`; n is at least 2.

    The shorter last window is included; a window may cross from one document into the next. There is no dropout, and no
    state of training is read or changed. `release`: see `predictions`.
    """
    return tally(predictions(model, tokens, length, precision, release), model.embedding.num_embeddings)


def tally(pieces: Iterable[tuple[Tensor, Tensor, Tensor]], vocab_size: int) -> Evaluation:
    """Sum up the pieces of `predictions`."""
    by_token = torch.zeros(vocab_size, 3, dtype=torch.float64)  # float64: millions are summed up
    for targets, losses, guessed in pieces:
        by_token.index_add_(0, targets, torch.stack((torch.ones_like(losses), losses, guessed), 1))
    predicted, total, correct = by_token.sum(0).tolist()
    return Evaluation(total / predicted, correct / predicted, int(predicted), by_token)


@torch.inference_mode()
def predictions(
    model: Transformer, tokens: Tensor, length: int, precision: Precision, release: Callable[[], None] = lambda: None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the targets, their losses (nats) and whether each was guessed, for one piece of the text after the other.

    The text is read as `evaluate` says. Targets are int64 (m,); losses and guesses (0 or 1) are float64 (m,); all are
    on the CPU, and the pieces together have n - 1 entries, in the order of the text. `release` is called now and then;
    it may give back the memory of what was read of `tokens`.
    """
    predicted = len(tokens) - 1
    assert predicted > 0, "nothing to predict"
    count = -(-predicted // length)
    padding = count * length - predicted
    rows, device = max(1, BATCH_TOKENS // length), model.embedding.weight.device
    for start in range(0, count, rows):
        piece = tokens[start * length : (start + rows) * length + 1].to(device).long()
        missing = padding if start + rows >= count else 0  # in the last window
        target = F.pad(piece[1:], (0, missing), value=IGNORED)
        with precision.forward():
            logits = model(F.pad(piece[:-1], (0, missing)).view(-1, length))
        logits = logits.flatten(0, 1).float()
        loss = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")
        real = (target != IGNORED).cpu()
        guessed = (logits.argmax(-1) == target).cpu()[real]
        yield target.cpu()[real], loss.cpu().double()[real], guessed.double()
        if start // rows % RELEASE == RELEASE - 1:
            release()


def by_class(texts: Sequence[str], counts: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    """Sum up `tokens`, mean `loss` (nats) and `accuracy` for each class of tokens that the text has.

    `texts` are those of the tokens, empty for a part of a character; `counts` is the table of an `Evaluation`,
    `by_token`.
    """
    sums = {name: [0.0, 0.0, 0.0] for name in CLASSES}
    for text, row in zip(texts, counts, strict=True):
        name = next(name for name, holds in CLASSES.items() if holds(text))
        sums[name] = [a + b for a, b in zip(sums[name], row, strict=True)]
    return {
        name: {"tokens": int(n), "loss": loss / n, "accuracy": hits / n} for name, (n, loss, hits) in sums.items() if n
    }
