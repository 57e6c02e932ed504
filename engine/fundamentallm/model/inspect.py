"""What a model does with a text, for those who want to understand it. Changes nothing and draws no random numbers."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.model.ops import apply_rope, rms_norm
from fundamentallm.model.transformer import Transformer


@torch.inference_mode()
def surprise(model: Transformer, tokens: Tensor, k: int) -> tuple[Tensor, ...]:
    """Predict each of `tokens`, int64 (n + 1,), but the first, from at least half a context, where the text has that.

    Returns:
        The probability of each token that came, float (n,); its rank among all, from 1, int64 (n,); the entropy of the
        prediction in nats, float (n,); the k likeliest tokens, int64 (n, k), or as many as there are, and their
        probabilities, float (n, k).
    """
    columns: list[tuple[Tensor, ...]] = []
    for inputs, targets in _windows(tokens, len(model.freqs)):
        p = model(inputs[None])[0, -len(targets) :].float().softmax(-1)  # (m, V)
        own = p.gather(1, targets[:, None])
        top = p.topk(min(k, p.shape[1]))
        entropy = -torch.xlogy(p, p).sum(-1)
        columns.append((own[:, 0], 1 + (p > own).sum(-1), entropy, top.indices, top.values))
    return tuple(torch.cat(column).cpu() for column in zip(*columns, strict=True))


def _windows(tokens: Tensor, length: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs of `length` at most and the targets of their ends: after the first window, of the second half."""
    end = min(length, len(tokens) - 1)
    yield tokens[:end], tokens[1 : end + 1]
    while end < len(tokens) - 1:
        start, end = end, min(end + max(1, length // 2), len(tokens) - 1)
        yield tokens[max(0, end - length) : end], tokens[start + 1 : end + 1]


@torch.inference_mode()
def attention(model: Transformer, tokens: Tensor, layer: int) -> Tensor:
    """Return how much each token attends to itself and to those before it, in each head of a layer: (H, T, T).

    `tokens`: int64 (T,), at most as long as the context. Each row sums to 1; what comes later has 0.
    """
    freqs, T = model.freqs[: len(tokens)], len(tokens)
    x = rms_norm(model.embedding(tokens[None]))
    for block in model.blocks[:layer]:
        x = block(x, freqs, None)
    own = model.blocks[layer].attention
    q, k, _ = own.qkv(rms_norm(x)).view(1, T, 3, own.heads, -1).unbind(2)  # each (1, T, H, K)
    q, k = (apply_rope(rms_norm(each), freqs)[0].transpose(0, 1) for each in (q, k))  # (H, T, K)
    scores = q @ k.mT * own.scale
    later = torch.ones(T, T, dtype=torch.bool, device=tokens.device).triu(1)
    weights: Tensor = scores.masked_fill(later, -torch.inf).softmax(-1)
    return weights.cpu()


@torch.inference_mode()
def neighbours(model: Transformer, token: int, k: int) -> tuple[Tensor, Tensor]:
    """Return the k tokens whose embeddings point most nearly the same way, int64 (k,), and the cosines, float (k,)."""
    directions = F.normalize(model.embedding.weight.float(), dim=-1)
    cosines = directions @ directions[token]
    cosines[token] = -torch.inf
    top = cosines.topk(min(k, len(cosines) - 1))
    return top.indices.cpu(), top.values.cpu()
