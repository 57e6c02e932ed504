"""How well a model predicts a text: each token but the first, exactly once."""

from dataclasses import dataclass
from math import exp, inf

import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.corpus import IGNORED
from fundamentallm.device import Precision
from fundamentallm.model import Transformer

BATCH_TOKENS = 16384  # computed at once; fixed, so that the same text always gives the same bits


@dataclass(frozen=True)
class Evaluation:
    """`loss` is in nats a token; `accuracy` is the share of tokens that were the model's first guess."""

    loss: float
    accuracy: float
    tokens: int

    @property
    def perplexity(self) -> float:
        return exp(self.loss) if self.loss < 700 else inf


@torch.inference_mode()
def evaluate(model: Transformer, tokens: Tensor, length: int, precision: Precision) -> Evaluation:
    """Read `tokens`, shape (n,), in consecutive windows of `length`, the shorter last one included.

    Raises:
        ValueError: fewer than two tokens.
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
    loss = torch.zeros((), dtype=torch.float64 if tokens.device.type != "mps" else torch.float32, device=tokens.device)
    correct = torch.zeros((), dtype=torch.int64, device=tokens.device)
    for start in range(0, count, rows):
        wanted = targets[start : start + rows].flatten()
        with precision.forward():
            logits = model(inputs[start : start + rows])
        logits = logits.flatten(0, 1).float()
        loss += F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="none").to(loss.dtype).sum()
        correct += (logits.argmax(-1) == wanted).sum()
    return Evaluation(loss.item() / predicted, correct.item() / predicted, predicted)
