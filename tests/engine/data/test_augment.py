"""Variations of the training text."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Config, ConfigError, Layer, resolve
from fundamentallm.data.corpus import PUNCTUATION, Augmenter, encode
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.run import commands
from fundamentallm.run.events import Evaluated
from fundamentallm.train.state import TrainState

CPU = torch.device("cpu")
TEXT = "".join(random.Random(3).choices("abcABC.,;! \n\tx7", k=30_000))  # no X: x has no other case here
ALL = {"casing": 0.2, "punctuation": 0.3, "whitespace": 0.5}


def vary(recipe: dict[str, float], text: str = TEXT, seed: int = 0, epoch: int = 0) -> str:
    tokenizer = Tokenizer.fit(text)
    tokens = Augmenter(recipe, tokenizer, seed, CPU)(encode(text, tokenizer), epoch)
    assert tokens.dtype == encode(text, tokenizer).dtype
    return "".join(tokenizer.vocabulary[token] for token in tokens.tolist())


def test_a_varied_text_has_the_length_and_the_vocabulary_of_the_original() -> None:
    varied = vary(ALL)
    assert len(varied) == len(TEXT) and varied != TEXT and set(varied) <= set(TEXT)


def test_it_is_a_function_of_seed_and_epoch_and_differs_between_them() -> None:
    state = torch.get_rng_state()
    first = vary(ALL, seed=4, epoch=2)
    torch.manual_seed(9)
    assert vary(ALL, seed=4, epoch=2) == first
    assert len({first, vary(ALL, seed=4, epoch=3), vary(ALL, seed=5, epoch=2)}) == 3
    torch.manual_seed(9)
    assert not torch.equal(state, torch.get_rng_state())


def concerned(kind: str, character: str) -> bool:
    return {"casing": character in "abcABC", "punctuation": character in ".,;!", "whitespace": character in "\n\t"}[
        kind
    ]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.4, 1.0])
def test_each_kind_changes_what_it_concerns_as_often_as_it_says(kind: str, share: float) -> None:
    pairs = list(zip(TEXT, vary({kind: share}), strict=True))
    assert all(a == b for a, b in pairs if not concerned(kind, a))
    hit = [a != b for a, b in pairs if concerned(kind, a)]
    sigma = (share * (1 - share) / len(hit)) ** 0.5
    assert sum(hit) / len(hit) == pytest.approx(share, abs=4 * sigma + 1e-9)
    for a, b in pairs:
        if a != b:
            assert {"casing": a.swapcase() == b, "punctuation": b in ".,;!", "whitespace": b == " "}[kind]


def test_a_mark_becomes_every_other_one_alike() -> None:
    found = [b for a, b in zip(TEXT, vary({"punctuation": 1.0}), strict=True) if a == "."]
    assert {mark: found.count(mark) / len(found) for mark in set(found)} == pytest.approx(
        dict.fromkeys(",;!", 1 / 3), abs=0.05
    )
    assert set(".,;!") <= set(PUNCTUATION)


def test_letters_whose_other_case_is_missing_or_longer_stay_as_they_are() -> None:
    assert vary({"casing": 1.0}, "STs\ufb06\u00df") == "STS\ufb06\u00df".replace("STS", "sTS")
    assert vary(dict.fromkeys(ALL, 1.0), "12345") == "12345"


def test_only_the_training_text_varies(build: Callable[..., TrainState]) -> None:
    plain, varied = build(), build(augment="casing=0.5,whitespace")
    assert torch.equal(plain.corpus.val, varied.corpus.val) and torch.equal(plain.corpus.train, varied.corpus.train)
    assert plain.corpus.fingerprint == varied.corpus.fingerprint
    assert torch.equal(plain.corpus.starts(0), varied.corpus.starts(0))
    kept = [torch.equal(plain.corpus.batch(n)[0], varied.corpus.batch(n)[0]) for n in range(18)]
    assert not all(kept)


def test_without_capitals_casing_changes_nothing_and_training_is_the_same(
    train: Callable[..., Any], small: Callable[..., Config], equal: Callable[..., bool]
) -> None:
    plain, varied = (
        train(small(), "plain"),
        train(small(augment="casing=1"), "varied"),
    )  # the text has small letters only
    assert varied.losses == plain.losses and equal(varied.weights, plain.weights)


@pytest.mark.parametrize("at", [7, 18, 25])
def test_a_run_that_varies_its_text_resumes_to_the_same_bits(
    train: Callable[..., Any], small: Callable[..., Config], equal: Callable[..., bool], at: int
) -> None:
    config = small(augment="punctuation=0.5,whitespace=0.5")
    plain = train(config, "plain")
    assert plain.losses != train(small(), "unvaried").losses
    first = train(config, script={at: [commands.Stop()]})
    second = train(config, resume_from=first.folder / "last.pt")
    assert {**first.losses, **second.losses} == plain.losses and equal(second.weights, plain.weights)
    assert [e.val_loss for e in second.of(Evaluated)][-1] == plain.result.val_loss


def test_the_probability_has_a_default_and_blanks_do_not_matter() -> None:
    def chosen(text: str | None) -> dict[str, float]:
        return resolve(Layer({"augment": text})).augmentations

    assert chosen("casing, punctuation = 0.2") == {"casing": 0.05, "punctuation": 0.2}
    assert chosen("whitespace=1") == {"whitespace": 1.0}
    assert chosen(None) == chosen("") == chosen("off") == chosen("none") == {}
    assert resolve(Layer({"augment": False})).augment is None  # what YAML makes of "off"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("casings", "augment: casings: no such variation; did you mean casing?"),
        ("casing,puctuation=0.1", "augment: puctuation=0.1: no such variation; did you mean punctuation?"),
        ("zz", "augment: zz: no such variation; there are casing, punctuation, whitespace"),
        ("casing=1.5", "augment: casing=1.5: the probability must be from 0 to 1, as in casing=0.05"),
        ("casing=-0.1", "augment: casing=-0.1: the probability must be from 0 to 1, as in casing=0.05"),
        ("whitespace=often", "augment: whitespace=often: the probability must be from 0 to 1, as in whitespace=0.05"),
        ("casing=nan", "augment: casing=nan: the probability must be from 0 to 1, as in casing=0.05"),
    ],
)
def test_a_wrong_name_or_probability_is_refused_with_what_would_do(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(Layer({"augment": text}))
    assert str(caught.value) == words
