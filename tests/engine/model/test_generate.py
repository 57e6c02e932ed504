"""Text, token by token."""

from typing import Any

import numpy as np
import pytest
import torch

from fundamentallm.config.config import Config
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.model.generate import Decoder, penalise, sample_token, stream
from fundamentallm.model.transformer import Transformer
from tests.engine.conftest import same_tensors

V = 9


@pytest.fixture
def model() -> Transformer:
    model = Transformer(Config(model_dim=16, num_layers=2, num_heads=2, max_seq_len=16), V)
    rng = torch.Generator().manual_seed(3)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5, generator=rng)
    return model


def tokens_of(model: Transformer, prompt: list[int], n: int, sample: int = 0, **how: Any) -> list[int]:
    return [token for [(token, _)] in stream(model, prompt, SamplingOptions(max_tokens=n, **how), [sample])]


@torch.no_grad()
def naive(model: Transformer, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
    """Greedy, the whole window forward for each token; at the end of the context the last half is read again."""
    window, result, probabilities = prompt[-16:], [], []
    for _ in range(n):
        logits = model(torch.tensor([window]))[0, -1]
        result.append(int(logits.argmax()))
        probabilities.append(logits.softmax(-1).max().item())
        window = (window if len(window) < 16 else (window + result[-1:])[-8:-1]) + result[-1:]
    return result, probabilities


@pytest.mark.parametrize("xp", [np, torch])
@pytest.mark.parametrize(("rows", "first"), [(1, 1), (1, 5), (3, 5), (2, 16)])
def test_the_cached_decode_is_the_full_forward(model: Transformer, rows: int, first: int, xp: Any) -> None:
    text = torch.randint(V, (rows, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        full = model(text).numpy()
    decoder = Decoder(model, rows, xp)
    np.testing.assert_allclose(decoder.prefill(text[:, :first].numpy()), full[:, first - 1], atol=1e-4, rtol=1e-4)
    for t in range(first, 16):
        np.testing.assert_allclose(decoder.decode(text[:, t : t + 1].numpy()), full[:, t], atol=1e-4, rtol=1e-4)
    assert decoder.context.tolist() == text.tolist()


def test_what_a_token_must_not_see_does_not_count_however_large_its_logit(model: Transformer) -> None:
    sharp = Transformer(Config(model_dim=16, num_layers=2, num_heads=2, max_seq_len=16), V, attention_scale=100)
    sharp.load_state_dict(model.state_dict())
    text = torch.arange(16)[None] % V
    with torch.no_grad():
        full = sharp(text).numpy()
    for length in range(1, 17):
        found = Decoder(sharp).prefill(text[:, :length].numpy())
        np.testing.assert_allclose(found, full[:, length - 1], atol=1e-2, rtol=1e-2)


def test_a_model_that_diverged_writes_without_a_warning(model: Transformer, recwarn: pytest.WarningsRecorder) -> None:
    for broken in (float("nan"), float("inf"), 1e30):
        with torch.no_grad():
            model.blocks[0].feed_forward.up.weight.fill_(broken)
        for how in ({}, {"temperature": 0}, {"top_k": 3, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 2.0}):
            assert len(tokens_of(model, [1, 2], 3, seed=1, **how)) == 3
    assert not recwarn.list


@pytest.mark.parametrize("prompt", [[1], [1, 2, 3], list(range(V)) * 4])
def test_text_continues_past_the_context_and_only_a_prompts_end_counts(model: Transformer, prompt: list[int]) -> None:
    expected, probabilities = naive(model, prompt, 60)
    found = [pair for [pair] in stream(model, prompt, SamplingOptions(max_tokens=60, temperature=0))]
    assert [token for token, _ in found] == expected
    assert [probability for _, probability in found] == pytest.approx(probabilities, abs=1e-4)
    assert tokens_of(model, prompt, 20, seed=1) == tokens_of(model, prompt[-16:], 20, seed=1)


def test_the_same_seed_gives_the_same_text_and_disturbs_nothing_else(model: Transformer) -> None:
    before = {name: p.clone() for name, p in model.state_dict().items()}
    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = tokens_of(model, [1], 40, seed=5, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    torch.manual_seed(2)
    assert tokens_of(model, [1], 40, seed=5, temperature=1.0) == first
    assert tokens_of(model, [1], 40, seed=6, temperature=1.0) != first
    assert tokens_of(model, [1], 40, temperature=1.0) != tokens_of(model, [1], 40, temperature=1.0)  # no seed: new
    assert same_tensors(model.state_dict(), before) and all(p.requires_grad for p in model.parameters())
    model(torch.tensor([[1, 2]])).sum().backward()


def test_every_whole_number_is_a_seed(model: Transformer) -> None:
    for seed in (0, -1, 2**63, 2**64 + 5, 10**30):
        assert tokens_of(model, [1], 5, seed=seed) == tokens_of(model, [1], 5, seed=seed)


def test_as_many_tokens_come_as_were_asked_for(model: Transformer) -> None:
    assert [len(tokens_of(model, [1], n)) for n in (0, 1, 2)] == [0, 1, 2]


def test_a_sample_of_a_batch_is_the_one_that_is_computed_alone(model: Transformer) -> None:
    def batch(*numbers: int, seed: int | None = 2) -> list[list[tuple[int, float]]]:
        options = SamplingOptions(max_tokens=40, temperature=1.0, seed=seed)  # past the context of 16
        return [list(column) for column in zip(*stream(model, [1, 2], options, numbers), strict=True)]

    together = batch(4, 0, 3, 1, 2)
    for number, sample in zip((4, 0, 3, 1, 2), together, strict=True):
        [alone] = batch(number)
        assert [token for token, _ in sample] == [token for token, _ in alone]
        assert [p for _, p in sample] == pytest.approx([p for _, p in alone], abs=1e-5)
    assert batch(4, 0, 3, 1, 2) == together and len({tuple(sample) for sample in together}) == 5
    assert batch(1, seed=3)[0] not in together and batch(1, seed=None) != batch(1, seed=None)


PROBABILITY = np.array([0.05, 0.4, 0.1, 0.3, 0.15], np.float32)


def shares(n: int = 4000, **how: Any) -> dict[int, float]:
    """How often each token is sampled."""
    options = SamplingOptions(**{"temperature": 1.0, **how})
    logits = np.tile(np.log(PROBABILITY), (n, 1))
    sampled = sample_token(logits, options, [np.random.default_rng(i) for i in range(n)])
    values, counts = np.unique(sampled, return_counts=True)
    return {int(value): int(count) / n for value, count in zip(values, counts, strict=True)}


ALL = {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ({}, ALL),
        ({"temperature": 0}, {1}),
        ({"temperature": 1e-3}, {1}),
        ({"temperature": 1e-300}, {1}),
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 3, 4}),
        ({"top_k": 99}, ALL),
        ({"top_p": 0.0}, {1}),
        ({"top_p": 0.39}, {1}),
        ({"top_p": 0.6}, {1, 3}),
        ({"top_p": 0.75}, {1, 3, 4}),
        ({"top_k": 3, "top_p": 0.8}, {1, 3}),  # of 0.85, 0.8 is 0.68: two reach it
        ({"top_k": 3, "top_p": 0.9}, {1, 3, 4}),
        ({"top_k": 2, "top_p": 0.99}, {1, 3}),
        ({"min_p": 1.0}, {1}),
        ({"min_p": 0.5}, {1, 3}),
        ({"min_p": 0.01}, ALL),
        ({"min_p": 0.5, "top_k": 1}, {1}),
        ({"min_p": 0.5, "top_p": 0.99}, {1, 3}),
    ],
)
def test_top_k_top_p_and_min_p_keep_the_likeliest_in_proportion(how: dict[str, float], kept: set[int]) -> None:
    found = shares(**how)
    assert set(found) == kept
    if "temperature" not in how:
        total = sum(PROBABILITY[token].item() for token in kept)
        for token in kept:
            assert found[token] == pytest.approx(PROBABILITY[token].item() / total, abs=0.035)


def test_what_is_hardly_possible_is_not_drawn() -> None:
    """Of waiting times in 32 bits one in eight millions is 0; 65 million are drawn here."""
    logits, rng = np.full((100, 8192), -25.0, np.float32), np.random.default_rng(0)
    logits[:, 7] = 0
    drawn = [sample_token(logits, SamplingOptions(temperature=1.0), [rng] * 100) for _ in range(80)]
    assert np.unique(np.concatenate(drawn)).tolist() == [7]


def test_temperature_flattens_and_sharpens() -> None:
    assert shares(temperature=0.5)[1] > shares()[1] > shares(temperature=5.0)[1]
    hot = PROBABILITY**0.5 / (PROBABILITY**0.5).sum()
    assert shares(temperature=2.0)[1] == pytest.approx(hot[1].item(), abs=0.03)


@pytest.mark.parametrize("how", [{"temperature": 0.1, "top_k": 2}, {"temperature": 0, "repetition_penalty": 3.0}])
def test_the_probability_is_the_models_own_however_it_is_sampled(model: Transformer, how: dict[str, Any]) -> None:
    with torch.no_grad():
        expected = model(torch.tensor([[1, 2]]))[0, -1].softmax(-1)
    [[(token, probability)]] = stream(model, [1, 2], SamplingOptions(max_tokens=1, seed=1, **how))
    assert probability == pytest.approx(expected[token].item(), abs=1e-4)


# ---- repetition ----


def test_a_penalty_divides_what_is_likely_and_multiplies_what_is_not() -> None:
    logits = np.array([[2.0, -1.0, 3.0, 0.5], [1.0, 1.0, -4.0, 0.0]], np.float32)
    found = penalise(logits, np.array([[0, 1, 0], [2, 2, 3]]), 2.0)
    assert found.tolist() == [[1.0, -2.0, 3.0, 0.5], [1.0, 1.0, -8.0, 0.0]]
    assert logits[0, 0] == 2.0


def test_a_penalty_breaks_the_loop_of_the_likeliest(model: Transformer) -> None:
    """This model's likeliest token is always the one before it."""
    with torch.no_grad():
        for block in model.blocks:
            block.attention.out.weight.zero_()
            block.feed_forward.down.weight.zero_()
        model.embedding.weight.copy_(torch.eye(16)[:V] + 0.5)

    def greedy(penalty: float) -> list[int]:
        return tokens_of(model, [3], 40, temperature=0, repetition_penalty=penalty)

    assert greedy(1.0) == greedy(0.5) == [3] * 40
    free = greedy(1.5)[: V - 1]
    assert 3 not in free and len(set(free)) == V - 1  # every other one first


def test_only_tokens_in_the_context_are_penalised(model: Transformer) -> None:
    def penalised(prompt: list[int]) -> list[int]:
        return tokens_of(model, prompt, 30, temperature=0, repetition_penalty=2.0)

    end = [1, 2] * 8
    assert penalised([3, 4, 5, 6, 7, *end]) == penalised(end)
    assert tokens_of(model, [1, 2], 30, seed=1, repetition_penalty=1.0) == tokens_of(model, [1, 2], 30, seed=1)
