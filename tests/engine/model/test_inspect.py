"""What is said of a model's work is what its forward pass does."""

import pytest
import torch

from fundamentallm.model.inspect import attention, neighbours, surprise
from fundamentallm.model.transformer import Transformer
from tests.engine.model.test_model import CONFIG, TOKENS, V, awake


@pytest.fixture
def model() -> Transformer:
    return awake()


def test_probabilities_are_those_of_a_forward_pass_over_the_text(model: Transformer) -> None:
    tokens = TOKENS[0]
    p = model(tokens[None, :-1])[0].softmax(-1)
    probability, rank, entropy, likeliest, likely = surprise(model, tokens, 4)
    torch.testing.assert_close(probability, p[torch.arange(11), tokens[1:]], atol=1e-5, rtol=0)
    for i in range(11):
        order = p[i].sort(descending=True)
        assert rank[i] == 1 + order.indices.tolist().index(int(tokens[i + 1]))
        assert likeliest[i].tolist() == order.indices[:4].tolist()
        torch.testing.assert_close(likely[i], order.values[:4], atol=1e-5, rtol=0)
        assert entropy[i] == pytest.approx(-(p[i] * p[i].log()).sum().item(), abs=1e-5)


@pytest.mark.parametrize("length", [2, 12, 13, 14, 19, 40])
def test_of_a_long_text_each_token_is_predicted_once_from_half_a_context_at_least(
    model: Transformer, length: int
) -> None:
    tokens = torch.randint(V, (length,), generator=torch.Generator().manual_seed(length))
    probability, _, _, likeliest, _ = surprise(model, tokens, V + 5)
    assert len(probability) == length - 1 and likeliest.shape == (length - 1, V)
    for i in range(length - 1):  # the token i + 1
        contexts = range(min(i + 1, 6), min(i + 1, 12) + 1)
        possible = [model(tokens[None, i + 1 - n : i + 1])[0, -1].softmax(-1)[tokens[i + 1]].item() for n in contexts]
        assert any(probability[i].item() == pytest.approx(p, abs=1e-5) for p in possible), i


@pytest.mark.parametrize("layer", [0, 1])
def test_the_rows_of_attention_sum_to_one_and_see_nothing_later(model: Transformer, layer: int) -> None:
    weights = attention(model, TOKENS[0], layer)
    assert weights.shape == (CONFIG.num_heads, 12, 12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(CONFIG.num_heads, 12))
    assert not weights.triu(1).any()


@pytest.mark.parametrize("layer", [0, 1])
def test_attention_times_values_is_what_the_layer_computes(model: Transformer, layer: int) -> None:
    block, seen = model.blocks[layer].attention, list[torch.Tensor]()
    hook = block.register_forward_hook(lambda _, inputs, output: seen.extend((inputs[0], output)))
    model(TOKENS)
    hook.remove()
    values = block.qkv(seen[0]).view(12, 3, CONFIG.num_heads, -1)[:, 2].transpose(0, 1)  # (H, T, K)
    mixed = (attention(model, TOKENS[0], layer).clone() @ values).transpose(0, 1).reshape(12, -1)
    torch.testing.assert_close(block.out(mixed), seen[1][0], atol=1e-5, rtol=1e-4)


def test_neighbours_point_the_same_way(model: Transformer) -> None:
    with torch.no_grad():
        model.embedding.weight[7] = 3 * model.embedding.weight[2]
        model.embedding.weight[4] = -model.embedding.weight[2]
    found, cosines = neighbours(model, 2, 20)
    assert found[0] == 7 and found[-1] == 4 and len(found) == V - 1 and 2 not in found
    assert cosines[0].item() == pytest.approx(1, abs=1e-6) and cosines[-1].item() == pytest.approx(-1, abs=1e-6)
    weight = model.embedding.weight
    for token, cosine in zip(found.tolist(), cosines.tolist(), strict=True):
        assert cosine == pytest.approx(torch.cosine_similarity(weight[2], weight[token], dim=0).item(), abs=1e-5)
