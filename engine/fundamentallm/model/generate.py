"""Text from a model, token by token.

- A static cache of keys and values: a token costs one position, not the whole context anew.
- At the end of the context its last half is read again and writing continues, so every token is predicted from at least
  half a context, at positions that training has seen.
- A generator for each sample: sampling leaves no trace in anyone else's randomness, and a sample none in another's.
- Several samples are one batch.
- On a CPU NumPy computes: one token is so little work that most of torch's time is spent between two operations.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.model.dropout import fold_in
from fundamentallm.model.transformer import Transformer

Array: TypeAlias = Any  # of NumPy or of torch, which call what is used here by the same names
Floats: TypeAlias = NDArray[np.float32]
Tokens: TypeAlias = NDArray[np.int64]

TINY = 1e-12  # keeps the norm of an all-zero vector finite
LARGEST_POWER = 60.0  # of e: of sums of such powers float32 holds the product with any value
PIECE = 256  # tokens that are read at once: the logits of attention between them and the context are in memory


class Decoder:
    """The model as it is now, one position at a time, for `rows` texts at once.

    Computes what `Transformer.forward` does, up to rounding and the epsilon of a norm, and is written for speed: a
    handful of operations a layer, no modules, no autograd. An RMSNorm makes a vector of width D the root of D long;
    here vectors are made 1 long, and the root is folded into the weights. A norm divides a vector by one number. So it
    may as well come after a product with a matrix, and of queries and keys, which get a norm of their own, it can be
    left out.

    `xp` is the library that computes, numpy or torch; by default NumPy where the model is on the CPU.
    """

    def __init__(self, model: Transformer, rows: int = 1, xp: Any = None) -> None:
        self._device = model.embedding.weight.device
        self._xp = xp or (np if self._device.type == "cpu" else torch)
        self._dot = np.vecdot if self._xp is np else torch.linalg.vecdot
        attention, (self.length, half) = model.blocks[0].attention, model.freqs.shape
        self._heads, largest, D = attention.heads, attention.scale * 2 * half, model.embedding.weight.shape[1]
        self._may_overflow = largest > LARGEST_POWER  # e to the power of attention's logits
        self._root, self._embedding = D**0.5, self._put(model.embedding.weight.detach())  # (V, D)
        self._unembedding = self._transposed(model.embedding.weight, D**0.5)
        self._blocks = [
            (
                self._transposed(block.attention.qkv.weight), self._transposed(block.attention.out.weight, D**0.5),
                self._transposed(block.feed_forward.up.weight), self._transposed(block.feed_forward.down.weight, D),
            )
            for block in model.blocks
        ]  # fmt: skip
        # Queries and keys are turned, and attention's logits scaled by turning the queries.
        freqs = torch.stack((model.freqs * largest, model.freqs), 1)[:, :, None]  # (length, 2, 1, K / 2)
        self._freqs = self._put(freqs)
        self._cache = self._put(torch.zeros(len(self._blocks), 2, rows, self._heads, self.length, 2 * half))
        self._tokens, self.position = np.zeros((rows, self.length), np.int64), 0

    @property
    def context(self) -> Tokens:
        """The tokens that the next one is predicted from, (B, T)."""
        return self._tokens[:, : self.position]

    def prefill(self, tokens: Tokens) -> Floats:
        """Start anew with `tokens` (B, T), many positions at once; returns the logits (B, V) after them."""
        assert 0 < tokens.shape[1] <= self.length, "nothing, or longer than the context"
        self.position = 0
        for start in range(0, tokens.shape[1], PIECE):
            logits = self._forward(tokens[:, start : start + PIECE])
        return logits

    def decode(self, tokens: Tokens) -> Floats:
        """Read one more token of each text, (B, 1); returns the logits (B, V) after it."""
        if self.position == self.length:
            return self.prefill(np.concatenate((self.context, tokens), 1)[:, -max(1, self.length // 2) :])
        return self._forward(tokens)

    def _forward(self, tokens: Tokens) -> Floats:
        xp, (B, T), start = self._xp, tokens.shape, self.position
        self.position = end = start + T
        self._tokens[:, start:end] = tokens
        freqs = self._freqs[start:end]
        # One token may see all that is cached; of a longer piece, none may see those after it.
        unseen = self._put(np.triu(np.full((T, end), -np.inf, np.float32), start + 1)) if T > 1 else 0.0
        x = self._embedding[self._put(tokens.reshape(-1))]  # (B T, D)
        x = x * (self._norm(x) * self._root)
        for (qkv, out, up, down), (keys, values) in zip(self._blocks, self._cache, strict=True):
            parts = (x @ qkv).reshape(B, T, 3, self._heads, -1)
            qk = parts[:, :, :2]
            turned = ((qk * self._norm(qk)).view(xp.complex64) * freqs).view(xp.float32)
            keys[:, :, start:end] = turned[:, :, 1].swapaxes(1, 2)  # (B, H, T, K)
            values[:, :, start:end] = (parts[:, :, 2] * self._norm(x).reshape(B, T, 1, 1)).swapaxes(1, 2)
            logits = turned[:, :, 0].swapaxes(1, 2) @ keys[:, :, :end].swapaxes(2, 3) + unseen  # (B, H, T, end)
            if self._may_overflow:
                logits = logits - xp.amax(logits, -1, keepdims=True)
            weights = xp.exp(logits)
            y = weights @ values[:, :, :end] / weights.sum(-1, keepdims=True)
            x = x + y.swapaxes(1, 2).reshape(x.shape) @ out
            hidden = (x @ up).clip(0)
            x = x + (hidden * hidden) @ down * self._norm(x) ** 2
        x = x.reshape(B, T, -1)[:, -1]
        return self._get((x @ self._unembedding) * self._norm(x))

    def _norm(self, x: Array) -> Array:
        """Return what makes each vector along the last axis 1 long."""
        return (self._dot(x, x) + TINY)[..., None] ** -0.5

    def _transposed(self, weight: Tensor, scale: float = 1.0) -> Array:
        return self._put(weight.detach().mT.contiguous() * scale)

    def _put(self, x: Tensor | NDArray[Any]) -> Array:
        return np.asarray(x) if self._xp is np else torch.as_tensor(x, device=self._device)

    def _get(self, x: Array) -> Floats:
        found: Floats = x if self._xp is np else x.cpu().numpy()
        return found


def stream(
    model: Transformer, prompt: list[int], options: SamplingOptions, samples: Sequence[int] = (0,)
) -> Iterator[list[tuple[int, float]]]:
    """Yield, `max_tokens` times, the next token of each sample and the probability that the model gave it.

    The same seed and the same numbers give the same tokens. A sample draws the same random numbers whatever others
    there are; but a product of several rows rounds differently from a product of one, by which a token may become
    another one. Of a prompt longer than the context, only its end is read.

    Args:
        prompt: at least one token.
        samples: the numbers of the samples among those of `options.seed`, from 0; they are one batch.
    """
    rngs = [_generator(options.seed, sample) for sample in samples]
    decoder = Decoder(model, len(samples))
    tokens = np.tile(np.array(prompt[-decoder.length :]), (len(samples), 1))
    rows = np.arange(len(samples))[:, None]
    for number in range(options.max_tokens):
        with np.errstate(all="ignore"):  # a model that diverged writes, too
            logits = decoder.decode(tokens) if number else decoder.prefill(tokens)
            adjusted = logits
            if options.repetition_penalty != 1:
                adjusted = penalise(logits, decoder.context, options.repetition_penalty)
            tokens = sample_token(adjusted, options, rngs)  # (B, 1)
            probability = softmax(logits)[rows, tokens]
        yield list(zip(tokens[:, 0].tolist(), probability[:, 0].tolist(), strict=True))


def _generator(seed: int | None, sample: int) -> np.random.Generator:
    """Return the randomness of the sample with this number."""
    chosen = fold_in(seed, sample) if seed is not None and sample else seed
    return np.random.default_rng(None if chosen is None else chosen % 2**64)  # NumPy takes no negative ones


def weigh(logits: Floats, temperature: float = 1.0) -> Floats:
    """Return how likely tokens are, as shares of the likeliest of their row; (B, V) as `logits`."""
    below = logits - logits.max(-1, keepdims=True)  # at most 0: nothing overflows
    weights: Floats = np.exp(below / np.float32(max(temperature, 1e-20)))
    return weights


def softmax(logits: Floats) -> Floats:
    """Return the probabilities of tokens, (B, V) as `logits`."""
    weights = weigh(logits)
    probability: Floats = weights / weights.sum(-1, keepdims=True)
    return probability


def sample_token(logits: Floats, options: SamplingOptions, rngs: Sequence[np.random.Generator]) -> Tokens:
    """Pick one token for each row of `logits` (B, V), with the generator of the row; (B, 1)."""
    if options.temperature == 0:
        likeliest: Tokens = logits.argmax(-1, keepdims=True)
        return likeliest
    weights = weigh(logits, options.temperature)
    if options.min_p > 0:
        weights[weights < min(options.min_p, 1.0)] = 0
    top_k = min(options.top_k, logits.shape[-1])
    if not top_k and options.top_p >= 1:
        return gumbel_max(weights, rngs)
    order = np.argsort(-weights, -1, "stable")
    ordered = np.take_along_axis(weights, order, -1)
    if top_k:
        ordered[:, top_k:] = 0
    if options.top_p < 1:
        # Nucleus sampling (Holtzman et al. 2020): the fewest tokens that reach top_p together. A token is cut when
        # those before it have reached it already; the first is always kept.
        share = ordered / ordered.sum(-1, keepdims=True)
        ordered[:, 1:][(share.cumsum(-1, np.float64) - share >= options.top_p)[:, 1:]] = 0
    return np.take_along_axis(order, gumbel_max(ordered, rngs), -1)


def penalise(logits: Floats, context: Tokens, penalty: float) -> Floats:
    """Return `logits` (B, V) in which the tokens of `context` (B, T) are less likely (Keskar et al. 2019)."""
    used, penalised = np.take_along_axis(logits, context, -1), logits.copy()
    np.put_along_axis(penalised, context, np.where(used > 0, used / penalty, used * penalty), -1)
    return penalised


def gumbel_max(weights: Floats, rngs: Sequence[np.random.Generator]) -> Tokens:
    """Draw one column for each row of `weights` (B, V), as likely as its weight; (B, 1).

    The Gumbel-max trick argmax(log w + Gumbel noise), without its logarithms: exponential waiting times E / w race, and
    the shortest is column i's with probability w_i / sum(w).
    """
    waiting = np.empty_like(weights)
    for row, rng in zip(waiting, rngs, strict=True):
        rng.standard_exponential(dtype=np.float32, out=row)
    first: Tokens = (weights / np.maximum(waiting, 1e-30)).argmax(-1, keepdims=True)
    return first
