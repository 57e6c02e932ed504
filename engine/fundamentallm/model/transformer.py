"""The transformer: decoder-only, as the field builds small ones today.

- Rotary positions, RMSNorm before each sublayer and on queries and keys, squared ReLU, no biases, no gains, output
  projections that start at zero, an embedding shared with the output.
- Knows nothing of training: no loss, no device, no randomness of its own (dropout is handed in as `DropoutMasks`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundamentallm.config.config import Config
from fundamentallm.model.dropout import DropoutMasks
from fundamentallm.model.ops import apply_rope, rms_norm, rope_freqs, squared_relu

# Shapes: B batch, T time, D model, H heads, K head width, F feed-forward, V vocabulary


class Attention(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        D = config.model_dim
        self.heads = config.num_heads
        self.qkv = nn.Linear(D, 3 * D, bias=False)
        self.out = nn.Linear(D, D, bias=False)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        B, T, D = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, -1).unbind(2)  # each (B, T, H, K)
        q, k = apply_rope(rms_norm(q), angles), apply_rope(rms_norm(k), angles)
        # dropout stays out of here: with it, torch leaves its flash path and takes 3 to 6 times as long on a CPU
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        projected: Tensor = self.out(y.transpose(1, 2).reshape(B, T, D))
        return projected


class FeedForward(nn.Module):
    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.model_dim, config.ff_width, bias=False)
        self.down = nn.Linear(config.ff_width, config.model_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(squared_relu(self.up(x)))
        return y


class Block(nn.Module):
    """Two sublayers; `Transformer` adds what they say to the residual stream."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)


class Transformer(nn.Module):
    """`forward` maps tokens (B, T) to logits (B, T, V)."""

    rope_freqs: Tensor
    blocks: Sequence[Block]  # a ModuleList

    def __init__(self, config: Config, vocab_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.model_dim)
        self.dropout_layers = 2 * config.num_layers + 1  # places that drop something: the embedding and each sublayer
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))  # type: ignore[assignment]
        width = config.model_dim // config.num_heads
        self.register_buffer("rope_freqs", rope_freqs(config.max_seq_len, width), persistent=False)
        self._initialise(torch.Generator().manual_seed(config.seed))

    def forward(self, tokens: Tensor, masks: DropoutMasks | None = None) -> Tensor:
        turns = self.rope_freqs[: tokens.shape[1]]
        x = rms_norm(self.embedding(tokens))  # (B, T, D)
        if masks is not None and masks.p:
            x = x * masks.mask(0, x) * masks.scale
        for depth, block in enumerate(self.blocks):
            x = add(x, block.attention(rms_norm(x), turns), masks, 2 * depth + 1)
            x = add(x, block.feed_forward(rms_norm(x)), masks, 2 * depth + 2)
        return F.linear(rms_norm(x), self.embedding.weight)

    def _initialise(self, dice: torch.Generator) -> None:
        """Raises KeyError for a parameter that it does not know."""
        for name, p in self.named_parameters():
            kind = name.rsplit(".", 2)[-2]
            std = {"embedding": 0.02, "qkv": p.shape[-1] ** -0.5, "up": p.shape[-1] ** -0.5, "out": 0.0, "down": 0.0}
            nn.init.normal_(p, std=std[kind], generator=dice)


def shapes(config: Config, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Of a model's parameters by name, without making any."""
    D, F = config.model_dim, config.ff_width
    block = {
        "attention.qkv.weight": (3 * D, D),
        "attention.out.weight": (D, D),
        "feed_forward.up.weight": (F, D),
        "feed_forward.down.weight": (D, F),
    }
    blocks = {f"blocks.{n}.{name}": shape for n in range(config.num_layers) for name, shape in block.items()}
    return {"embedding.weight": (vocab_size, D), **blocks}


def add(x: Tensor, y: Tensor, masks: DropoutMasks | None, layer: int) -> Tensor:
    """The residual stream with a sublayer's output, some of it dropped."""
    if masks is None or not masks.p:
        return x + y
    y = y.to(x.dtype)
    return torch.addcmul(x, y, masks.mask(layer, y), value=masks.scale)
