"""How well a model predicts a text: each token but the first, exactly once."""

from dataclasses import dataclass, field
from math import exp, inf, log

import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.data.corpus import IGNORED
from fundamentallm.model.transformer import Transformer
from fundamentallm.train.device import Precision

BATCH_TOKENS = 16384  # in one forward pass; fixed, so that the same text always gives the same bits


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


@torch.inference_mode()
def evaluate(model: Transformer, tokens: Tensor, length: int, precision: Precision) -> Evaluation:
    """Predict each of `tokens`, shape (n,), but the first, in consecutive windows of `length`; n is at least 2.

    The shorter last window is included; a window may cross from one document into the next. There is no dropout, and no
    state of training is read or changed.
    """
    predicted = len(tokens) - 1
    if predicted < 1:
        raise ValueError("nothing to predict: a text needs at least two tokens")
    count = -(-predicted // length)
    padding = count * length - predicted
    tokens = tokens.long()
    inputs = F.pad(tokens[:-1], (0, padding)).view(count, length)
    targets = F.pad(tokens[1:], (0, padding), value=IGNORED).view(count, length)
    rows = max(1, BATCH_TOKENS // length)
    by_token = torch.zeros(model.embedding.num_embeddings, 3, dtype=torch.float64)  # float64: millions are summed up
    for start in range(0, count, rows):
        target = targets[start : start + rows].flatten()
        with precision.forward():
            logits = model(inputs[start : start + rows])
        logits = logits.flatten(0, 1).float()
        loss = F.cross_entropy(logits, target, ignore_index=IGNORED, reduction="none")
        guessed = (logits.argmax(-1) == target).float()
        measured = torch.stack((torch.ones_like(loss), loss, guessed), 1).cpu().double()
        real = target.cpu() != IGNORED
        by_token.index_add_(0, target.cpu()[real], measured[real])
    _, total, correct = by_token.sum(0).tolist()
    return Evaluation(total / predicted, correct / predicted, predicted, by_token)
