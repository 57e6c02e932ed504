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
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.model.dropout import fold_in
from fundamentallm.model.transformer import Transformer

Array: TypeAlias = Any  # of NumPy or of torch, which call what is used here by the same names
Floats: TypeAlias = NDArray[np.float32]
Tokens: TypeAlias = NDArray[np.int64]

TINY = 1e-12  # keeps the norm of an all-zero vector finite
LARGEST_POWER = 60.0  # the largest logit of attention whose exponential is taken as it is: float32 ends at e^88


class Decoder:
    """The model as it is now, one position at a time, for `rows` texts at once.

    Computes what `Transformer.forward` does, up to rounding and the epsilon of a norm, and is written for speed: a
    handful of operations a layer, no modules, no autograd. An RMSNorm makes a vector of width D the root of D long;
    here vectors are made 1 long, and the root is folded into the weights. A norm divides a vector by one number. So it
    may as well come after a product with a matrix, and of queries and keys, which get a norm of their own, it can be
    left out.

    `xp` is the library that computes a single token, numpy or torch; by default NumPy where the model is on the CPU. A
    longer piece is worth torch's threads. Both work in the same memory.
    """

    def __init__(self, model: Transformer, rows: int = 1, xp: Any = None) -> None:
        weight, attention, (self.length, half) = model.embedding.weight, model.blocks[0].attention, model.freqs.shape
        self._device, self._heads, D = weight.device, attention.heads, weight.shape[1]
        largest = attention.scale * 2 * half  # logit of attention
        self._root, self._may_overflow = D**0.5, largest > LARGEST_POWER
        # Queries and keys are turned, and attention's logits scaled by turning the queries.
        freqs = torch.stack((model.freqs * largest, model.freqs), 1)[:, :, None]  # (length, 2, 1, K / 2)
        blocks = [
            (
                _transposed(block.attention.qkv.weight), _transposed(block.attention.out.weight, self._root),
                _transposed(block.feed_forward.up.weight), _transposed(block.feed_forward.down.weight, D),
            )
            for block in model.blocks
        ]  # fmt: skip
        cache = torch.zeros(len(blocks), 2, rows, self._heads, self.length, 2 * half, device=self._device)
        self._many = torch, freqs, weight.detach(), blocks, _transposed(weight, self._root), cache
        self._one: tuple[Any, ...] = self._many
        if (xp or (np if self._device.type == "cpu" else torch)) is np:
            arrays = [tuple(map(np.asarray, block)) for block in blocks]
            unembedding = np.asarray(self._many[4])
            self._one = np, np.asarray(freqs), np.asarray(weight.detach()), arrays, unembedding, np.asarray(cache)
        self._tokens, self.position = np.zeros((rows, self.length), np.int64), 0

    @property
    def context(self) -> Tokens:
        """The tokens that the next one is predicted from, (B, T)."""
        return self._tokens[:, : self.position]

    def prefill(self, tokens: Tokens) -> Floats:
        """Start anew with `tokens` (B, T), many positions at once; returns the logits (B, V) after them."""
        assert 0 < tokens.shape[1] <= self.length, "nothing, or longer than the context"
        self.position = 0
        return self._forward(tokens)

    def decode(self, tokens: Tokens) -> Floats:
        """Read one more token of each text, (B, 1); returns the logits (B, V) after it."""
        if self.position == self.length:
            return self.prefill(np.concatenate((self.context, tokens), 1)[:, -max(1, self.length // 2) :])
        return self._forward(tokens)

    def _forward(self, tokens: Tokens) -> Floats:
        (B, T), start = tokens.shape, self.position
        xp, freqs, embedding, blocks, unembedding, cache = self._one if T == 1 else self._many
        self.position = end = start + T
        self._tokens[:, start:end] = tokens
        freqs, read = freqs[start:end], tokens.reshape(-1)
        x = embedding[read if xp is np else torch.as_tensor(read, device=self._device)]  # (B T, D)
        x = x * (_norm(xp, x) * self._root)
        for (qkv, out, up, down), (keys, values) in zip(blocks, cache, strict=True):
            parts = (x @ qkv).reshape(B, T, 3, self._heads, -1)
            qk = parts[:, :, :2]
            turned = ((qk * _norm(xp, qk)).view(xp.complex64) * freqs).view(xp.float32)
            keys[:, :, start:end] = turned[:, :, 1].swapaxes(1, 2)  # (B, H, T, K)
            values[:, :, start:end] = (parts[:, :, 2] * _norm(xp, x).reshape(B, T, 1, 1)).swapaxes(1, 2)
            q, k, v = turned[:, :, 0].swapaxes(1, 2), keys[:, :, :end], values[:, :, :end]
            if T > 1:  # from the first position on: none may see those after it
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
            else:
                logits = q @ k.swapaxes(2, 3)  # (B, H, 1, end)
                weights = xp.exp(logits - xp.amax(logits, -1, keepdims=True) if self._may_overflow else logits)
                y = weights @ v / weights.sum(-1, keepdims=True)
            x = x + y.swapaxes(1, 2).reshape(x.shape) @ out
            hidden = (x @ up).clip(0)
            x = x + (hidden * hidden) @ down * _norm(xp, x) ** 2
        x = x.reshape(B, T, -1)[:, -1]
        found = (x @ unembedding) * _norm(xp, x)
        result: Floats = found if xp is np else found.cpu().numpy()
        return result


def _norm(xp: Any, x: Array) -> Array:
    """Return what makes each vector along the last axis 1 long."""
    dot = np.vecdot if xp is np else torch.linalg.vecdot
    return (dot(x, x) + TINY)[..., None] ** -0.5


def _transposed(weight: Tensor, scale: float = 1.0) -> Tensor:
    return weight.detach().mT.contiguous() * scale


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
    waiting = np.empty(weights.shape)  # of 53 bits: of those of 23, one in eight millions is 0, and beats every weight
    for row, rng in zip(waiting, rngs, strict=True):
        rng.standard_exponential(out=row)
    first: Tokens = (weights / waiting).argmax(-1, keepdims=True)
    return first
