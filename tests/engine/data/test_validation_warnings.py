"""What is wrong with a held-out text, in numbers, before a run spends hours on it."""

import random
from pathlib import Path

import pytest

from fundamentallm.config.config import Config
from tests.texts import warnings_of

WORDS = ["".join(random.Random(n).choices("abcdefghijklmnop", k=2 + n % 8)) for n in range(5000)]


@pytest.fixture(autouse=True)
def few_held_out() -> None:
    """Elsewhere texts may be tiny without a word; here they may not."""


def text(characters: int, seed: int = 0) -> str:
    """Words in an order that does not repeat."""
    return " ".join(random.Random(seed).choices(WORDS, k=characters // 4))[:characters]


@pytest.mark.parametrize("documents", [[text(40_000)], [text(30_000), text(9_000, 1), text(50, 2)]])
def test_a_text_that_measures_something_needs_no_word(documents: list[str]) -> None:
    assert warnings_of(documents, Config(max_seq_len=64)) == []


@pytest.mark.parametrize(
    ("documents", "share"),
    [
        ([text(40_000)] * 2, 100),  # the same file twice
        ([text(36_000) + text(4_000)], 100),  # the end is the beginning
        ([text(100) + text(36_000, 1), text(2_000), text(2_000, 2)], 0),  # what repeats is short
        ([text(36_000), text(1_000), text(3_000, 2)], 25),
    ],
)
def test_text_that_repeats_the_training_text_is_counted(documents: list[str], share: int) -> None:
    found = warnings_of(documents, Config(max_seq_len=64))
    if not share:
        assert found == []
        return
    percent, words = found[0].split("% of the held-out text ")
    assert len(found) == 1 and abs(int(percent) - share) <= 2
    assert words == (
        "stands in the training text, too: there the validation loss measures what was learnt by heart; remove what "
        "the text has twice"
    )


def test_characters_that_only_the_held_out_text_has_are_named() -> None:
    documents = [text(36_000), text(3_900) + "Ж" * 50 + "\xa0" * 40 + "é" * 10]
    assert warnings_of(documents, Config(max_seq_len=64))[-1:] == [
        "the held-out text has 3 characters that the training text lacks (Ж, U+00A0, é), 2.50% of it: the model cannot "
        "learn them; mix the texts, or name them in another order"
    ]
    assert warnings_of([text(36_000, 1), text(3_997) + "Жжж"], Config(max_seq_len=64)) == []  # 0.08 %
    many = "".join(map(chr, range(0x4E00, 0x4E00 + 200)))
    found = warnings_of([text(36_000, 1), text(3_800) + many], Config(max_seq_len=64))[-1]
    assert "has 200 characters that the training text lacks (" in found and " and 192 more), 5.00% of it" in found


def test_a_tail_that_is_too_short_is_said() -> None:
    assert warnings_of([text(19_000)], Config(max_seq_len=64)) == [
        "only 1,900 characters are held out (--val-split 0.1 of 19,000): the validation loss will be uncertain; "
        "hold out more, or use a longer text"
    ]
    assert "only 4 characters" in warnings_of([text(40_000)], Config(max_seq_len=64, val_split=0.0001))[0]
    assert "only 2,500 characters" in warnings_of([text(25_000)], Config(max_seq_len=2500))[0]  # one window
    assert warnings_of([text(25_000)], Config(max_seq_len=2499)) == []


def test_the_shipped_text_needs_no_word() -> None:
    sample = Path(__file__).parents[3] / "data/samples/sample_data.txt"
    assert warnings_of([sample.read_text(encoding="utf-8")], Config()) == []
