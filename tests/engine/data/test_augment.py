"""Variations of the training text."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Layer, resolve
from fundamentallm.data.corpus import PUNCTUATION, Augmenter
from fundamentallm.data.encoded import encode
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.train.state import TrainState

TEXT = "".join(random.Random(3).choices("abcABC.,;! \n\tx7", k=30_000))  # no X: x has no other case here
ALL = {"casing": 0.2, "punctuation": 0.3, "whitespace": 0.5}
CONCERNED = {"casing": "abcABC", "punctuation": ".,;!", "whitespace": "\n\t"}


def vary(recipe: dict[str, float], text: str = TEXT, seed: int = 0, epoch: int = 0) -> str:
    tokenizer = Tokenizer.fit(text)
    tokens = encode(text, tokenizer)
    varied = Augmenter(recipe, tokenizer, seed, torch.device("cpu"))(tokens, epoch)
    assert varied.dtype == tokens.dtype
    return tokenizer.decode(varied.tolist())


def test_a_varied_text_is_a_function_of_seed_and_epoch_of_the_same_length_and_vocabulary() -> None:
    first = vary(ALL, seed=4, epoch=2)
    assert len(first) == len(TEXT) and first != TEXT and set(first) <= set(TEXT)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    assert vary(ALL, seed=4, epoch=2) == first and torch.equal(torch.get_rng_state(), state)
    varied = {vary({kind: 0.3}, seed=seed, epoch=epoch) for kind in ALL for seed, epoch in ((4, 2), (4, 3), (5, 2))}
    assert len(varied) == 9  # each kind depends on both


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 1.0])
def test_each_kind_changes_its_characters_with_its_probability(kind: str, share: float) -> None:
    pairs = list(zip(TEXT, vary({kind: share}), strict=True))
    assert all(a == b for a, b in pairs if a not in CONCERNED[kind])
    changed = [a != b for a, b in pairs if a in CONCERNED[kind]]
    sigma = (share * (1 - share) / len(changed)) ** 0.5
    assert sum(changed) / len(changed) == pytest.approx(share, abs=4 * sigma + 1e-9)
    for a, b in pairs:
        if a != b:
            assert {"casing": a.swapcase() == b, "punctuation": b in ".,;!", "whitespace": b == " "}[kind]


def test_a_mark_becomes_every_other_one_equally_often() -> None:
    found = [b for a, b in zip(TEXT, vary({"punctuation": 1.0}), strict=True) if a == "."]
    shares = {mark: found.count(mark) / len(found) for mark in set(found)}
    assert shares == pytest.approx(dict.fromkeys(",;!", 1 / 3), abs=0.05)
    assert set(".,;!") <= set(PUNCTUATION)


def test_letters_whose_other_case_is_missing_or_longer_stay_as_they_are() -> None:
    assert vary({"casing": 1.0}, "STs\ufb06\u00df") == "sTS\ufb06\u00df"
    assert vary(dict.fromkeys(ALL, 1.0), "12345abc") == "12345abc"


def test_only_the_training_text_varies_in_whatever_order_batches_are_asked_for(
    build: Callable[..., TrainState],
) -> None:
    recipe = "casing=0.5,whitespace"
    states = [build(augment=augment) for augment in (None, recipe, recipe)]
    plain, varied, again = (state.corpus for state in states)
    assert torch.equal(plain.val, varied.val) and torch.equal(plain.train, varied.train)
    assert states[0].fingerprint == states[1].fingerprint and torch.equal(plain.starts(0), varied.starts(0))
    steps = range(3 * varied.steps_per_epoch)
    batches = [varied.batch(step)[0] for step in steps]
    assert not all(torch.equal(plain.batch(step)[0], batches[step]) for step in steps)
    assert all(torch.equal(again.batch(step)[0], batches[step]) for step in reversed(steps))


def test_the_probability_has_a_default_and_spaces_are_ignored() -> None:
    recipes: dict[Any, dict[str, float]] = {
        "casing, punctuation = 0.2": {"casing": 0.05, "punctuation": 0.2},
        "whitespace=1": {"whitespace": 1.0},
        **dict.fromkeys((None, "", "off", "none", False), {}),  # False: what YAML makes of "off"
    }
    for text, recipe in recipes.items():
        assert resolve(Layer({"augment": text})).augmentations == recipe
