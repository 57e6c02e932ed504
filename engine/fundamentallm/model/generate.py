"""Text from a model, token by token.

- A static cache of keys and values: a token costs one position, not the whole context anew.
- At the end of the context its last half is read again and writing continues, so every token is predicted from at least
  half a context, at positions that training has seen.
- A generator for each sample: sampling leaves no trace in anyone else's randomness, and a sample none in another's.
- Several samples are one batch: eight take 1.5 times the time of one (tiny, small), or twice (medium).
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.model.dropout import fold_in
from fundamentallm.model.threads import one_thread
from fundamentallm.model.transformer import Transformer


class Decoder:
    """The model as it is now, one position at a time, for `rows` texts at once.

    Computes what `Transformer.forward` does, up to rounding and the epsilon of a norm, and is written for speed: a
    handful of operations a layer, no modules, no autograd. An RMSNorm makes a vector of width D the root of D long;
    here vectors are made 1 long, and the root is folded into the weights that follow.
    """

    def __init__(self, model: Transformer, rows: int = 1) -> None:
        self._embedding, self._freqs = model.embedding.weight.detach(), model.freqs
        self._heads, (self.length, half) = model.blocks[0].attention.heads, model.freqs.shape
        self._width, root = 2 * half, self._embedding.shape[1] ** 0.5
        self._scale = model.attention_scale * self._width**0.5
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
        shape = (len(self._blocks), rows, self._heads, self.length, self._width)
        self._keys, self._values = self._embedding.new_zeros(shape), self._embedding.new_zeros(shape)
        self._read: list[Tensor] = []  # the tokens in the cache, in pieces (B, T)

    @property
    def context(self) -> Tensor:
        """The tokens that the next one is predicted from, (B, T)."""
        return torch.cat(self._read, 1)

    def prefill(self, tokens: Tensor) -> Tensor:
        """Start anew with `tokens` (B, T), all positions at once; returns the logits (B, V) after them."""
        assert tokens.shape[1] <= self.length, "longer than the context"
        self._read, self.position = [], 0
        return self._forward(tokens)

    def decode(self, tokens: Tensor) -> Tensor:
        """Read one more token of each text, (B, 1); returns the logits (B, V) after it."""
        if self.position == self.length:
            return self.prefill(torch.cat((self.context, tokens), 1)[:, -max(1, self.length // 2) :])
        return self._forward(tokens)

    def _forward(self, tokens: Tensor) -> Tensor:
        (B, T), start = tokens.shape, self.position
        self._read.append(tokens)
        self.position = end = start + T
        freqs = self._freqs[start:end, None, None]  # (T, 1, 1, K / 2)
        x = _unit(F.embedding(tokens.flatten(), self._embedding)) * self._root  # (B * T, D)
        for layer, (qkv, out, up, down) in enumerate(self._blocks):
            keys, values = self._keys[layer], self._values[layer]  # (B, H, length, K)
            parts = (_unit(x) @ qkv).view(B, T, 3, self._heads, self._width)
            turned = torch.view_as_complex(_unit(parts[:, :, :2]).view(B, T, 2, self._heads, -1, 2)) * freqs
            q, k = torch.view_as_real(turned).view(B, T, 2, self._heads, -1).transpose(1, 3).unbind(2)  # (B, H, T, K)
            keys[:, :, start:end] = k
            values[:, :, start:end] = parts[:, :, 2].transpose(1, 2)
            # One token may see all that is cached; only a longer piece needs the causal mask.
            # In the model q and k are root(K) long; here both are 1 long: their products are K times as small.
            y = F.scaled_dot_product_attention(
                q, keys[:, :, :end], values[:, :, :end], is_causal=T > 1, scale=self._scale
            )
            x = torch.addmm(x, y.transpose(1, 2).reshape(x.shape), out)
            x = torch.addmm(x, (_unit(x) @ up).relu_().square_(), down)
        logits: Tensor = _unit(x.view(B, T, -1)[:, -1]) @ self._logits
        return logits


@torch.inference_mode()
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
    device = model.embedding.weight.device
    rngs = [_generator(options.seed, sample, device) for sample in samples]
    decoder = Decoder(model, len(samples))
    logits = decoder.prefill(torch.tensor([prompt[-decoder.length :]], device=device).expand(len(samples), -1))
    for left in range(options.max_tokens, 0, -1):
        with one_thread(device):
            adjusted = logits
            if options.repetition_penalty != 1:
                adjusted = penalise(logits, decoder.context, options.repetition_penalty)
            tokens = sample_token(adjusted, options, rngs)  # (B, 1)
            probability = logits.softmax(-1).gather(1, tokens)
        yield list(zip(tokens[:, 0].tolist(), probability[:, 0].tolist(), strict=True))
        if left == 1:
            return  # nothing follows the last token: do not read it
        with one_thread(device):
            logits = decoder.decode(tokens)


def _generator(seed: int | None, sample: int, device: torch.device) -> torch.Generator:
    """Return the randomness of the sample with this number."""
    rng = torch.Generator(device)
    if seed is None:
        rng.seed()
    else:
        rng.manual_seed((fold_in(seed, sample) if sample else seed) % 2**63)  # torch takes no larger ones
    return rng


def sample_token(logits: Tensor, options: SamplingOptions, rngs: Sequence[torch.Generator]) -> Tensor:
    """Pick one token for each row of `logits` (B, V), with the generator of the row; int64, (B, 1)."""
    if options.temperature == 0:
        return logits.argmax(-1, keepdim=True)
    below = logits - logits.amax(-1, keepdim=True)  # at most 0: nothing overflows, however low the temperature
    probability = (below / max(options.temperature, 1e-30)).softmax(-1)
    top_k = min(options.top_k, logits.shape[-1])
    if options.min_p > 0:
        probability = probability.masked_fill(
            probability < min(options.min_p, 1.0) * probability.amax(-1, keepdim=True), 0
        )
        probability /= probability.sum(-1, keepdim=True)
    if not top_k and options.top_p >= 1:
        return gumbel_max(probability, rngs)
    ordered, order = probability.sort(descending=True, stable=True)
    if top_k:
        ordered[:, top_k:] = 0
        ordered /= ordered.sum(-1, keepdim=True)
    if options.top_p < 1:
        # Nucleus sampling (Holtzman et al. 2020): the fewest tokens that reach top_p together. A token is cut when
        # those before it have reached it already; the first is always kept.
        ordered[ordered.cumsum(-1) - ordered >= options.top_p] = 0
        ordered[:, 0].clamp_(min=1e-12)
    return order.gather(1, gumbel_max(ordered, rngs))


def penalise(logits: Tensor, context: Tensor, penalty: float) -> Tensor:
    """Return `logits` (B, V) in which the tokens of `context` (B, T) are less likely (Keskar et al. 2019)."""
    used = logits.gather(1, context)
    return logits.scatter(1, context, torch.where(used > 0, used / penalty, used * penalty))


def gumbel_max(weights: Tensor, rngs: Sequence[torch.Generator]) -> Tensor:
    """Draw one column for each row of `weights` (B, V), as likely as its weight; int64, (B, 1).

    The Gumbel-max trick argmax(log w + Gumbel noise), without its logarithms: exponential waiting times E / w race, and
    the shortest is column i's with probability w_i / sum(w). It takes a third of `torch.multinomial`'s time.
    """
    exponential = torch.empty_like(weights)
    for row, rng in zip(exponential, rngs, strict=True):
        row.exponential_(generator=rng)
    return (weights / exponential.clamp_min_(1e-30)).argmax(-1, keepdim=True)


def _unit(x: Tensor) -> Tensor:
    """Scale each vector along the last axis to length 1."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.add_(1e-12)
