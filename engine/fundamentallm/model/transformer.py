"""The transformer: decoder-only, as the field builds small ones today.

- Positions are rotary (Su et al. 2021): queries and keys are turned, nothing is added to the embedding.
- RMSNorm stands before each sublayer (pre-norm, Xiong et al. 2020), and on queries and keys, so that no logit of the
  attention can explode (Henry et al. 2020). There are no gains and no biases.
- The feed-forward layer's activation is the squared ReLU (So et al. 2021).
- The embedding is shared with the output (Press and Wolf 2017).
- Knows nothing of training: no loss, no device, no randomness of its own. Dropout is handed in as `DropoutMasks`.
"""

from collections.abc import Sequence
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import parameter_shapes
from fundamentallm.model.dropout import DropoutMasks
from fundamentallm.model.ops import apply_rope, rms_norm, rope_freqs, squared_relu

# Logits of attention are so many times what the usual scale, 1 / root(K), makes of them. As queries and keys are
# normalised, they would not exceed root(K) by it: 5.7 for heads 32 wide, too even (tests/benchmarks/RESULTS.md).
ATTENTION_SCALE = 2.0

# Shapes: B batch, T time, D model, H heads, K head width (D / H), V vocabulary


class Attention(nn.Module):
    """Causal self-attention: a token takes from the values of those before it, by how its query fits their keys."""

    def __init__(self, config: Config, scale: float) -> None:
        super().__init__()
        D = config.model_dim
        self.heads = config.num_heads
        self.scale = scale * (D / self.heads) ** -0.5
        self.qkv = nn.Linear(D, 3 * D, bias=False)  # one large product is faster than three
        self.out = nn.Linear(D, D, bias=False)

    def forward(self, x: Tensor, freqs: Tensor) -> Tensor:
        B, T, D = x.shape
        qkv = self.qkv(x)
        if x.device.type == "cpu":  # also under autocast: in 16 bits, torch's backward pass takes twice as long there
            qkv = qkv.float()
        q, k, v = qkv.view(B, T, 3, self.heads, -1).unbind(2)  # each (B, T, H, K)
        q, k = apply_rope(rms_norm(q), freqs), apply_rope(rms_norm(k), freqs)
        # Dropout stays out of here: with it, torch leaves its flash path and takes 3 to 6 times as long on a CPU.
        with torch.autocast("cpu", enabled=False):
            y = F.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, scale=self.scale
            )
        projected: Tensor = self.out(y.transpose(1, 2).reshape(B, T, D))  # (B, H, T, K) -> (B, T, H K)
        return projected


class FeedForward(nn.Module):
    """Two layers that work on each token for itself; two thirds of a block's weights, at the width of 4 D."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = nn.Linear(config.model_dim, config.ff_width, bias=False)
        self.down = nn.Linear(config.ff_width, config.model_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.down(squared_relu(self.up(x)))
        return y


class Block(nn.Module):
    """Attention, then feed-forward; each reads the normalised residual stream and adds to it."""

    def __init__(self, config: Config, depth: int, attention_scale: float) -> None:
        super().__init__()
        self.attention = Attention(config, attention_scale)
        self.feed_forward = FeedForward(config)
        self.dropout_sites = 2 * depth + 1, 2 * depth + 2  # 0 is the embedding's

    def forward(self, x: Tensor, freqs: Tensor, masks: DropoutMasks | None) -> Tensor:
        first, second = self.dropout_sites
        x = add(x, self.attention(rms_norm(x), freqs), masks, first)
        return add(x, self.feed_forward(rms_norm(x)), masks, second)


class Transformer(nn.Module):
    """`forward` maps tokens (B, T) to the logits of what comes next (B, T, V).

    `attention_scale`: of its logits; 1 is the usual one, with which models of earlier versions were trained.
    """

    freqs: Tensor
    blocks: Sequence[Block]  # a ModuleList

    def __init__(self, config: Config, vocab_size: int, attention_scale: float = ATTENTION_SCALE) -> None:
        super().__init__()
        self.attention_scale = attention_scale
        self.embedding = nn.Embedding(vocab_size, config.model_dim)
        blocks = (Block(config, depth, attention_scale) for depth in range(config.num_layers))
        self.blocks = nn.ModuleList(blocks)  # type: ignore[assignment]
        self.num_dropout_sites = 2 * config.num_layers + 1  # the embedding and each sublayer
        # Not persistent: it is computed from the configuration, so a checkpoint need not hold it.
        freqs = rope_freqs(config.max_seq_len, config.model_dim // config.num_heads)
        self.register_buffer("freqs", freqs, persistent=False)
        found = {name: tuple(p.shape) for name, p in self.named_parameters()}
        assert found == parameter_shapes(config, vocab_size), "what a checkpoint is checked against is another model"
        self._initialise(torch.Generator().manual_seed(config.seed))

    def forward(self, tokens: Tensor, masks: DropoutMasks | None = None) -> Tensor:
        if masks is not None and not masks.p:
            masks = None  # nothing to drop: the masks would only cost time
        freqs = self.freqs[: tokens.shape[1]]
        x = rms_norm(self.embedding(tokens))  # (B, T, D)
        if masks is not None:
            x = x * masks.mask(0, x) * masks.scale
        for block in self.blocks:
            x = block(x, freqs, masks)
        return F.linear(rms_norm(x), self.embedding.weight)  # (B, T, V)

    def _initialise(self, rng: torch.Generator) -> None:
        """Draw the first weights from normal distributions, a function of the seed alone.

        Layers that read from the residual stream keep the variance of what they read: std 1 / sqrt(width). Layers that
        write to it start at zero, so that every block begins as the identity and gradients reach all depths alike. The
        embedding is small, as it is the output too: the first loss is then that of guessing, log(V). What `_look_back`
        sets is not drawn.

        Raises:
            KeyError: a parameter has no rule here.
        """
        for name, p in self.named_parameters():
            kind = name.rsplit(".", 2)[-2]
            std = {"embedding": 0.02, "qkv": p.shape[-1] ** -0.5, "up": p.shape[-1] ** -0.5, "out": 0.0, "down": 0.0}
            nn.init.normal_(p, std=std[kind], generator=rng)
        self._look_back(std["embedding"])

    @torch.no_grad()
    def _look_back(self, std: float) -> None:
        """Let head h of the first block begin by looking at the token h + 1 places back.

        Such heads are among the first things that a model learns, and later ones build on them (Olsson et al. 2022). To
        begin with them saves tiny a fifth of 600 steps (tests/benchmarks/RESULTS.md). `std` is that of the embedding.

        All embeddings share their first number. From it a head's queries get a part that is the same for each token,
        and its keys the same part turned ahead by h + 1 positions: once both are turned by their own positions, they
        agree where the key stands h + 1 places before the query. Only pairs of channels that turn once or more within
        the context take part: slower ones hardly tell one place from the next.
        """
        D, H = self.embedding.weight.shape[1], self.blocks[0].attention.heads
        K = D // H
        self.embedding.weight[:, 0] = std * D**0.5 / 3  # a third as long as the others together, a tenth of the squares
        turns = rope_freqs(H + 1, K)  # (H + 1, K / 2)
        fast = turns[1].angle() >= min(0.9, 2 * pi / self.freqs.shape[0])  # 0.9: in each context the first, which is 1
        query = fast / fast.sum().sqrt() * 6 * (K / D) ** 0.5  # twice as long as what the other numbers add to a query
        queries, keys, _ = self.blocks[0].attention.qkv.weight.view(3, H, K, D)[..., 0]
        queries.copy_(torch.view_as_real(query + 0j).flatten())
        keys.copy_(torch.view_as_real(query * turns[1:]).flatten(1))


def add(x: Tensor, y: Tensor, masks: DropoutMasks | None, site: int) -> Tensor:
    """Add a sublayer's output `y` to the residual stream `x`, both (B, T, D), with dropout on `y`.

    Mask, scale and sum are one kernel: 2.5 ms at (32, 256, 128) on two cores, where `F.dropout` and a sum take 10.
    """
    if masks is None:
        return x + y
    y = y.to(x.dtype)  # under autocast the sublayer's output is 16-bit; the residual stream stays float32
    return torch.addcmul(x, y, masks.mask(site, y), value=masks.scale)
