"""The transformer: what it may see, how it starts, how large it is."""

from dataclasses import replace
from math import log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import count_parameters, parameter_shapes
from fundamentallm.model.dropout import DropoutMasks
from fundamentallm.model.inspect import attention
from fundamentallm.model.transformer import Transformer

CONFIG = Config(model_dim=16, num_layers=2, num_heads=2, max_seq_len=12)
V = 11
TOKENS = torch.arange(12)[None] % V
AT_ZERO = ("out.weight", "down.weight")


def masks(key: int, p: float) -> DropoutMasks:
    """For one row."""
    return DropoutMasks(key, 2 * CONFIG.num_layers + 1, 0, 1, p, torch.device("cpu"))


def awake() -> Transformer:
    """A model whose output projections are not zero, so that every path carries something."""
    model = Transformer(CONFIG, V)
    rng = torch.Generator().manual_seed(3)
    for name, p in model.named_parameters():
        if name.endswith(AT_ZERO):
            torch.nn.init.normal_(p, std=0.3, generator=rng)
    return model


@pytest.mark.parametrize("dropout", [None, masks(5, 0.3)])
def test_changing_a_token_changes_no_logit_before_it(dropout: DropoutMasks | None) -> None:
    model = awake()
    before = model(TOKENS, dropout)
    for t in range(12):
        other = TOKENS.clone()
        other[0, t] = (other[0, t] + 5) % V
        after = model(other, dropout)
        assert torch.equal(after[0, :t], before[0, :t]), t
        assert not torch.equal(after[0, t], before[0, t])
        if t < 11:
            assert not torch.allclose(after[0, -1], before[0, -1]), t  # and it does reach what comes after


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    model, tokens = awake(), torch.randint(V, (4, 12))
    alone = torch.cat([model(row[None]) for row in tokens])
    torch.testing.assert_close(model(tokens), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("vocabulary", [20, 65, 300])
def test_the_first_loss_is_that_of_guessing(vocabulary: int) -> None:
    model = Transformer(Config(model_dim=64, num_heads=2), vocabulary)
    tokens = torch.randint(vocabulary, (8, 65), generator=torch.Generator().manual_seed(0))
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(log(vocabulary), abs=0.1)


@pytest.mark.parametrize(
    "config",
    [CONFIG, Config(), Config(model_dim=24, num_heads=3, ff_dim=17, num_layers=3), Config(model_dim=2, num_heads=1)],
)
def test_the_model_has_the_shapes_that_are_described_and_counted(config: Config) -> None:
    state = Transformer(config, V).state_dict()  # no buffer is saved
    assert {name: tuple(p.shape) for name, p in state.items()} == parameter_shapes(config, V)
    assert sum(p.numel() for p in state.values()) == count_parameters(config, V)


def test_output_projections_start_at_zero_and_nothing_else_does() -> None:
    for name, p in Transformer(CONFIG, V).named_parameters():
        assert torch.all(p == 0) == name.endswith(AT_ZERO), name
        assert "bias" not in name


def test_heads_of_the_first_block_begin_by_looking_back() -> None:
    T, H = 64, 4
    config = Config(model_dim=64, num_heads=H, max_seq_len=T)
    tokens = torch.randint(50, (T,), generator=torch.Generator().manual_seed(0))
    weights = attention(Transformer(config, 50), tokens, 0)  # (H, T, T)
    back = torch.stack([weights.diagonal(-places, 1, 2).mean(-1) for places in range(T)], 1)  # (H, places)
    assert back.argmax(1).tolist() == [1, 2, 3, 4]
    assert back.amax(1).min() > 0.4
    later = attention(Transformer(config, 50), tokens, 1)
    assert all(later.diagonal(-places, 1, 2).mean() < 0.1 for places in range(1, 6)), "they learn it themselves"


def test_the_output_is_the_embedding() -> None:
    model, tokens = awake(), torch.zeros(1, 3, dtype=torch.long)
    assert [name for name, p in model.named_parameters() if V in p.shape] == ["embedding.weight"]
    logits = model(tokens)
    with torch.no_grad():
        model.embedding.weight[7] *= 2  # a token that is not read: only its logit changes
    after = model(tokens)
    torch.testing.assert_close(after[..., 7], 2 * logits[..., 7])
    others = [n for n in range(V) if n != 7]
    torch.testing.assert_close(after[..., others], logits[..., others])


def test_the_first_weights_are_a_function_of_the_seed() -> None:
    first = Transformer(CONFIG, V).state_dict()
    torch.manual_seed(77)
    again = Transformer(CONFIG, V).state_dict()
    other = Transformer(replace(CONFIG, seed=1), V).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_dropout_acts_only_when_it_is_handed_in() -> None:
    model = awake()
    plain = model(TOKENS)
    assert torch.equal(model(TOKENS, masks(1, 0.0)), plain)
    assert not torch.equal(model(TOKENS, masks(1, 0.2)), plain)
    assert torch.equal(model(TOKENS, masks(1, 0.2)), model(TOKENS, masks(1, 0.2)))
    many = torch.stack([model(TOKENS, masks(n, 0.05)) for n in range(300)]).mean(0)
    assert (many - plain).abs().mean() < 0.2 * plain.std()  # its mean is the model without it


def test_attention_has_32_bits_on_a_processor_when_the_rest_has_16(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = awake(), torch.tensor([[0, 3, 1, 4, 1, 5]])
    seen, real = [], F.scaled_dot_product_attention

    def look(*args: Tensor, **how: bool) -> Tensor:
        y = real(*args, **how)
        seen.extend(tensor.dtype for tensor in (*args, y))
        return y

    monkeypatch.setattr(F, "scaled_dot_product_attention", look)
    expected = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens)
    assert set(seen) == {torch.float32} and logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.1, rtol=0.02)


@pytest.mark.parametrize(("given", "largest"), [(2.0, 2 * 8**0.5), (1.0, 8**0.5)])
def test_the_largest_logit_of_attention_is_that_of_a_query_that_is_like_its_key(
    monkeypatch: pytest.MonkeyPatch, given: float, largest: float
) -> None:
    model, logits, real = Transformer(CONFIG, V, given), list[Tensor](), F.scaled_dot_product_attention
    with torch.no_grad():
        for block in model.blocks:
            queries, keys, _ = block.attention.qkv.weight.chunk(3)
            queries.copy_(keys)

    def look(q: Tensor, k: Tensor, v: Tensor, *, scale: float, is_causal: bool) -> Tensor:
        logits.append(q @ k.mT * scale)
        return real(q, k, v, scale=scale, is_causal=is_causal)

    monkeypatch.setattr(F, "scaled_dot_product_attention", look)
    model(torch.tensor([[0, 3, 1, 4, 1, 5]]))
    for layer in logits:
        assert layer.max().item() == pytest.approx(largest, rel=1e-4)
        torch.testing.assert_close(layer.diagonal(dim1=-2, dim2=-1), torch.full((1, 2, 6), largest), atol=0, rtol=1e-4)
