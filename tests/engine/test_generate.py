"""Text, token by token."""

from collections.abc import Callable

import pytest
import torch

from fundamentallm.config import Config
from fundamentallm.errors import UserError
from fundamentallm.generate import Decoder, Sampling, encode_prompt, pick, stream
from fundamentallm.model import Transformer
from fundamentallm.tokenizer import Tokenizer

V = 9


@pytest.fixture
def model() -> Transformer:
    model = Transformer(Config(model_dim=16, num_layers=2, num_heads=2, max_seq_len=16), V)
    dice = torch.Generator().manual_seed(3)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5, generator=dice)
    return model


def tokens_of(model: Transformer, prompt: list[int], n: int, samples: int = 1, **how: float) -> list[list[int]]:
    return [tokens for tokens, _ in stream(model, prompt, n, Sampling(**how), samples)]  # type: ignore[arg-type]


@torch.no_grad()
def naive(model: Transformer, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
    """Greedy, the whole window forward for each token; at the end of the context the last half is read again."""
    window, result, chances = prompt[-16:], [], []
    for _ in range(n):
        logits = model(torch.tensor([window]))[0, -1]
        result.append(int(logits.argmax()))
        chances.append(logits.softmax(-1).max().item())
        window = (window if len(window) < 16 else (window + result[-1:])[-8:-1]) + result[-1:]
    return result, chances


@pytest.mark.parametrize("first", [1, 5, 16])
def test_the_cached_decode_is_the_full_forward(model: Transformer, first: int) -> None:
    text = torch.randint(V, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        full = model(text)
        decoder = Decoder(model, 2)
        torch.testing.assert_close(decoder.read(text[:, :first]), full[:, first - 1], atol=1e-4, rtol=1e-4)
        for t in range(first, 16):
            torch.testing.assert_close(decoder.read(text[:, t : t + 1]), full[:, t], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prompt", [[1], [1, 2, 3], list(range(V)) * 4])
def test_it_goes_on_past_the_context_and_a_long_prompt_counts_with_its_end(
    model: Transformer, prompt: list[int]
) -> None:
    expected, chances = naive(model, prompt, 60)
    found = list(stream(model, prompt, 60, Sampling(temperature=0)))
    assert [tokens[0] for tokens, _ in found] == expected
    assert [chance[0] for _, chance in found] == pytest.approx(chances, abs=1e-4)


def test_only_the_end_of_a_long_prompt_is_read(model: Transformer) -> None:
    end = [n % V for n in range(16)]
    assert tokens_of(model, [8] * 50 + end, 20, seed=1) == tokens_of(model, end, 20, seed=1)


def test_the_same_seed_gives_the_same_text_and_disturbs_nobody(model: Transformer) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    first = tokens_of(model, [1], 40, seed=5, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    torch.manual_seed(2)
    assert tokens_of(model, [1], 40, seed=5, temperature=1.0) == first
    assert tokens_of(model, [1], 40, seed=6, temperature=1.0) != first
    assert tokens_of(model, [1], 40, temperature=1.0) != tokens_of(model, [1], 40, temperature=1.0)  # no seed: new


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 + 5, 10**30])
def test_every_whole_number_is_a_seed(model: Transformer, seed: int) -> None:
    assert tokens_of(model, [1], 5, seed=seed) == tokens_of(model, [1], 5, seed=seed)


def test_several_samples_are_drawn_at_once(model: Transformer) -> None:
    found = tokens_of(model, [1], 30, samples=3, temperature=1.0, seed=2)
    assert all(len(tokens) == 3 for tokens in found) and len(found) == 30
    assert len({tuple(column) for column in zip(*found, strict=True)}) == 3


@pytest.mark.parametrize("n", [0, 1, 2])
def test_as_many_tokens_as_asked(model: Transformer, n: int) -> None:
    assert len(tokens_of(model, [1], n)) == n


PROBABILITY = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])


def support(n: int = 4000, **how: float) -> dict[int, float]:
    """How often each token is picked."""
    dice = torch.Generator().manual_seed(0)
    picked = pick(PROBABILITY.log().expand(n, 5), Sampling(**{"temperature": 1.0, **how}), dice)  # type: ignore[arg-type]
    values, counts = picked.unique(return_counts=True)
    return {int(value): int(count) / n for value, count in zip(values, counts, strict=True)}


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ({}, {0, 1, 2, 3, 4}),
        ({"temperature": 0}, {1}),
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 3, 4}),
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.39}, {1}),
        ({"top_p": 0.6}, {1, 3}),
        ({"top_p": 0.75}, {1, 3, 4}),
        ({"top_p": 0.0}, {1}),
        ({"top_k": 3, "top_p": 0.8}, {1, 3}),  # of 0.85, 0.8 is 0.68: two reach it
        ({"top_k": 3, "top_p": 0.9}, {1, 3, 4}),
        ({"top_k": 2, "top_p": 0.99}, {1, 3}),
        ({"temperature": 1e-3}, {1}),
        ({"temperature": 1e-30}, {1}),
        ({"temperature": 1e-300}, {1}),
    ],
)
def test_top_k_and_top_p_keep_what_they_say_together_too(how: dict[str, float], kept: set[int]) -> None:
    found = support(**how)
    assert set(found) == kept
    if "temperature" not in how:
        total = sum(PROBABILITY[token].item() for token in kept)
        for token in kept:  # in proportion to what the model says
            assert found[token] == pytest.approx(PROBABILITY[token].item() / total, abs=0.035)


def test_temperature_flattens_and_sharpens() -> None:
    assert support(temperature=0.5)[1] > support()[1] > support(temperature=5.0)[1]
    hot = PROBABILITY.pow(0.5) / PROBABILITY.pow(0.5).sum()
    assert support(temperature=2.0)[1] == pytest.approx(hot[1].item(), abs=0.03)


def test_the_probability_is_the_models_own_whatever_the_temperature(model: Transformer) -> None:
    with torch.no_grad():
        expected = model(torch.tensor([[1, 2]]))[0, -1].softmax(-1)
    ((tokens, chances),) = stream(model, [1, 2], 1, Sampling(temperature=0.1, top_k=2, seed=1))
    assert chances[0] == pytest.approx(expected[tokens[0]].item(), abs=1e-4)


def test_unknown_characters_of_a_prompt_are_named() -> None:
    tokenizer = Tokenizer.fit("ab\n")
    with pytest.raises(UserError, match="the prompt has a? ?character that the model has never seen: 'é'"):
        encode_prompt(tokenizer, "aéb")
    assert encode_prompt(tokenizer, "ba") == [2, 1]
    assert encode_prompt(tokenizer, "") == [0]  # a line's end
    assert encode_prompt(Tokenizer.fit("xyz"), "") == [0]


def test_generation_leaves_the_model_as_it_was(model: Transformer, equal: Callable[..., bool]) -> None:
    before = {name: p.clone() for name, p in model.state_dict().items()}
    tokens_of(model, [1], 40)
    assert equal(model.state_dict(), before)
    assert all(p.requires_grad for p in model.parameters())
    model(torch.tensor([[1, 2]])).sum().backward()
