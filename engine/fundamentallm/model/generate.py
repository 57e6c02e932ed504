"""Text from a model, token by token.

- A static cache of keys and values; at the end of the context the last half of it is read again and writing goes on,
  so every token is predicted from at least half a context, at positions that training has seen.
- A generator of its own: sampling leaves no trace in anybody else's randomness.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.model.transformer import Transformer


@dataclass(frozen=True)
class Sampling:
    """How a token is picked.

    `temperature` 0 takes the likeliest; `top_k` 0 and `top_p` 1 cut nothing off. A `repetition_penalty` above 1 makes
    what stands in the context less likely (Keskar et al. 2019), below 1 more.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float = 1.0


class Decoder:
    """The model as it is now, one position at a time.

    Made for speed: a handful of operations a layer, no modules, no autograd. Vectors are normalised to length 1; that
    RMSNorm makes them longer by the root of their width is folded into the weights that follow.
    """

    def __init__(self, model: Transformer, samples: int) -> None:
        self._embedding, self._angles = model.embedding.weight.detach(), model.rope_freqs
        self._heads, (self.length, half) = model.blocks[0].attention.heads, model.rope_freqs.shape
        self._width, root = 2 * half, self._embedding.shape[1] ** 0.5
        self._blocks = [
            (
                block.attention.qkv.weight.mT.contiguous() * root,
                block.attention.out.weight.mT.contiguous(),
                block.feed_forward.up.weight.mT.contiguous() * root,
                block.feed_forward.down.weight.mT.contiguous(),
            )
            for block in model.blocks
        ]
        self._root, self._logits = root, self._embedding.mT.contiguous() * root
        self.position = 0
        shape = (len(self._blocks), samples, self._heads, self.length, self._width)
        self._keys, self._values = self._embedding.new_zeros(shape), self._embedding.new_zeros(shape)

    def read(self, tokens: Tensor) -> Tensor:
        """Logits (B, V) after `tokens` (B, T): a first piece of text of any length, later one token each."""
        (B, T), start = tokens.shape, self.position
        assert start == 0 or T == 1
        assert start + T <= self.length, "the context is full"
        turns = self._angles[start : start + T, None, None]  # (T, 1, 1, K / 2)
        x = _unit(F.embedding(tokens.flatten(), self._embedding)) * self._root  # (B T, D)
        for layer, (qkv, out, up, down) in enumerate(self._blocks):
            keys, values = self._keys[layer], self._values[layer]
            parts = (_unit(x) @ qkv).view(B, T, 3, self._heads, self._width)
            both = torch.view_as_complex(_unit(parts[:, :, :2]).view(B, T, 2, self._heads, -1, 2)) * turns
            q, k = torch.view_as_real(both).view(B, T, 2, self._heads, -1).transpose(1, 3).unbind(2)  # (B, H, T, K)
            keys[:, :, start : start + T] = k
            values[:, :, start : start + T] = parts[:, :, 2].transpose(1, 2)
            y = F.scaled_dot_product_attention(
                q, keys[:, :, : start + T], values[:, :, : start + T], is_causal=T > 1, scale=self._width**0.5
            )
            x = torch.addmm(x, y.transpose(1, 2).reshape(x.shape), out)
            x = torch.addmm(x, (_unit(x) @ up).relu_().square_(), down)
        self.position = start + T
        logits: Tensor = _unit(x.view(B, T, -1)[:, -1]) @ self._logits
        return logits


@torch.inference_mode()
def stream(
    model: Transformer, prompt: list[int], max_tokens: int, sampling: Sampling, samples: int = 1
) -> Iterator[tuple[list[int], list[float]]]:
    """Yield, `max_tokens` times, the next token of each sample and the probability that the model gave it.

    The same seed gives the same tokens. A prompt longer than the context counts with its end.
    """
    device = model.embedding.weight.device
    dice = torch.Generator(device)
    if sampling.seed is None:
        dice.seed()
    else:
        dice.manual_seed(sampling.seed % 2**63)  # any whole number will do
    decoder = Decoder(model, samples)
    text = [torch.tensor([prompt[-decoder.length :]] * samples, device=device)]  # (B, T) and then (B, 1) each
    logits = decoder.read(text[0])
    for left in range(max_tokens, 0, -1):
        with one_thread(device):
            wanted = logits
            if sampling.repetition_penalty != 1:
                wanted = penalise(logits, torch.cat(text, 1)[:, -decoder.length :], sampling.repetition_penalty)
            tokens = pick(wanted, sampling, dice)  # (B, 1)
            probability = logits.softmax(-1).gather(1, tokens)
        yield tokens[:, 0].tolist(), probability[:, 0].tolist()
        if left == 1:
            return
        text.append(tokens)
        if decoder.position == decoder.length:
            text = [torch.cat(text, 1)[:, -max(1, decoder.length // 2) :]]
            decoder.position = 0
        with one_thread(device):
            logits = decoder.read(text[-1])


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """One token is too little work to share: on a busy CPU a second thread makes it five times slower."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pick(logits: Tensor, sampling: Sampling, dice: torch.Generator) -> Tensor:
    """One token for each row of `logits` (B, V); shape (B, 1)."""
    if sampling.temperature == 0:
        return logits.argmax(-1, keepdim=True)
    below = logits - logits.amax(-1, keepdim=True)  # nothing overflows, however cold
    probability = (below / max(sampling.temperature, 1e-30)).softmax(-1)
    kept = min(sampling.top_k, logits.shape[-1])
    if not kept and sampling.top_p >= 1:
        return race(probability, dice)
    ordered, order = probability.sort(descending=True, stable=True)
    if kept:
        ordered[:, kept:] = 0
        ordered /= ordered.sum(-1, keepdim=True)
    if sampling.top_p < 1:  # the fewest tokens that reach top_p together: cut what comes after it was reached
        ordered[ordered.cumsum(-1) - ordered >= sampling.top_p] = 0
        ordered[:, 0].clamp_(min=1e-12)
    return order.gather(1, race(ordered, dice))


def penalise(logits: Tensor, text: Tensor, penalty: float) -> Tensor:
    """`logits` (B, V) in which the tokens of `text` (B, T) are less likely."""
    used = logits.gather(1, text)
    return logits.scatter(1, text, torch.where(used > 0, used / penalty, used * penalty))


def race(weights: Tensor, dice: torch.Generator) -> Tensor:
    """One column for each row of `weights` (B, V), as likely as its weight; a third of `torch.multinomial`'s time."""
    waits = torch.empty_like(weights).exponential_(generator=dice).clamp_min_(1e-30)
    return (weights / waits).argmax(-1, keepdim=True)


def _unit(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.add_(1e-12)
