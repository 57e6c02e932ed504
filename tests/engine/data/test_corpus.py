"""Which tokens each step sees."""

from collections.abc import Callable
from hashlib import sha256
from itertools import accumulate
from math import ceil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import split
from fundamentallm.data.corpus import IGNORED, Corpus, fingerprint
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.model.dropout import fold_in
from fundamentallm.train.state import TrainState

CPU = torch.device("cpu")


def make(n: int, length: int, stride: int | None, batch: int = 3, accumulation: int = 1, seed: int = 0) -> Corpus:
    """A corpus of `n` training tokens, all different, so that a token tells its place."""
    text = "".join(map(chr, range(0x3400, 0x3400 + n)))
    config = Config(
        ("t",), max_seq_len=length, stride=stride, batch_size=batch, accumulation_steps=accumulation, seed=seed,
        val_split=1e-9,
    )  # fmt: skip
    corpus = Corpus([text + "a"], Tokenizer.fit(text + "a"), config, CPU)
    assert len(corpus.train) == n
    return corpus


@given(
    n=st.integers(4, 400), length=st.integers(2, 40), stride=st.integers(1, 40), batch=st.integers(1, 9),
    accumulation=st.integers(1, 3), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 1000),
)  # fmt: skip
def test_an_epoch_is_every_window_once_at_one_phase_inside_the_training_part(
    n: int, length: int, stride: int, batch: int, accumulation: int, seed: int, epoch: int
) -> None:
    length = min(length, n - 1)
    stride = min(stride, length)
    corpus = make(n, length, stride, batch, accumulation, seed)
    windows = max(1, (n - length - stride) // stride + 1)
    starts = sorted(corpus.starts(epoch).tolist())
    assert corpus.windows == windows == len(starts)
    assert 0 <= starts[0] < stride
    assert all(b - a == stride for a, b in zip(starts, starts[1:], strict=False))
    assert starts[-1] + length <= n - 1  # the last target too is a training token
    assert corpus.steps_per_epoch == ceil(windows / (batch * accumulation))
    seen = []
    for place in range(corpus.steps_per_epoch):
        step, real = epoch * corpus.steps_per_epoch + place, 0
        for part in range(accumulation):
            inputs, targets = corpus.batch(step, part)
            assert inputs.shape == targets.shape == (batch, length)
            counted = (targets != IGNORED).all(1)
            assert torch.equal(counted, (targets != IGNORED).any(1))  # a row is real or masked as a whole
            real += int(counted.sum())
            first = int(corpus.train[0])
            for row, target in zip(inputs[counted], targets[counted], strict=True):
                assert torch.equal(row[1:], target[:-1]) and int(target[-1]) == int(row[-1]) + 1
                assert row.tolist() == list(range(int(row[0]), int(row[0]) + length))
                seen.append(int(row[0]) - first)
        assert real == corpus.real_rows(step) > 0
        assert real == batch * accumulation or place == corpus.steps_per_epoch - 1
    assert sorted(seen) == starts


def test_phase_and_order_differ_from_epoch_to_epoch_and_from_seed_to_seed() -> None:
    corpus = make(2000, 16, 16)
    orders = [corpus.starts(epoch) for epoch in range(40)]
    phases = [int(order.min()) for order in orders]
    assert set(phases) <= set(range(16)) and len(set(phases)) >= 12
    assert len({tuple((order - order.min()).tolist()) for order in orders}) == 40
    assert not torch.equal(make(2000, 16, 16, seed=1).starts(0), orders[0])


def test_a_batch_is_a_function_of_seed_and_step_whatever_was_asked_before() -> None:
    one, other = make(500, 8, 4, seed=5), make(500, 8, 4, seed=5)
    steps = range(3 * one.steps_per_epoch)
    forward = {step: one.batch(step) for step in steps}
    for step in reversed(steps):
        again = other.batch(step)
        assert torch.equal(again[0], forward[step][0]) and torch.equal(again[1], forward[step][1])
    torch.manual_seed(99)
    assert torch.equal(one.batch(0)[0], forward[0][0])


def test_the_parts_of_a_batch_are_the_whole_batch() -> None:
    whole, parts = make(500, 8, 8, batch=6), make(500, 8, 8, batch=2, accumulation=3)
    for step in range(whole.steps_per_epoch):
        rows = torch.cat([parts.batch(step, part)[1] for part in range(3)])
        assert torch.equal(whole.batch(step)[1], rows)


def test_the_tail_is_held_out(build: Callable[..., TrainState], text: str) -> None:
    built = build(val_split=0.3)
    tokens = built.tokenizer.encode(text)
    assert built.corpus.train.tolist() == tokens[:1750]
    assert built.corpus.val.tolist() == tokens[1750:]


def test_the_fingerprint_is_of_the_text(build: Callable[..., TrainState], text: str) -> None:
    import hashlib

    assert build().corpus.fingerprint == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_every_seed_works(seed: int) -> None:
    assert len(make(100, 8, 8, seed=seed).starts(10**6)) == 11


def several(sizes: list[int], n: int, length: int, stride: int, batch: int = 3, seed: int = 0) -> Corpus:
    """Documents of these sizes, every character different; about the last tenth of them all is held out."""
    text = "".join(map(chr, range(0x3400, 0x3400 + sum(sizes))))
    ends = list(accumulate(sizes))
    documents = [text[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    config = Config(("t",), max_seq_len=length, stride=stride, batch_size=batch, seed=seed)
    corpus = Corpus(documents, Tokenizer.fit(text), config, CPU)
    assert len(corpus.train) == n
    return corpus


@given(
    sizes=st.lists(st.integers(1, 90), min_size=1, max_size=6), length=st.integers(2, 20), stride=st.integers(1, 20),
    seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 50),
)  # fmt: skip
def test_no_window_of_an_epoch_crosses_from_one_document_into_the_next(
    sizes: list[int], length: int, stride: int, seed: int, epoch: int
) -> None:
    stride, n = min(stride, length), split(sum(sizes), 0.1)
    ends = list(accumulate(sizes))
    parts = [(end - size, min(end, n)) for size, end in zip(sizes, ends, strict=True)]
    long_enough = [(start, end) for start, end in parts if end - start >= length + 1]
    if not long_enough:
        return
    corpus = several(sizes, n, length, stride, seed=seed)
    expected = {span: max(1, (span[1] - span[0] - length - stride) // stride + 1) for span in long_enough}
    seen: dict[tuple[int, int], list[int]] = {span: [] for span in long_enough}
    for place in range(corpus.steps_per_epoch):
        inputs, targets = corpus.batch(epoch * corpus.steps_per_epoch + place)
        for row, target in zip(inputs, targets, strict=True):
            if int(target[0]) == IGNORED:
                continue
            first, last = int(row[0]), int(target[-1])
            assert row.tolist() == list(range(first, first + length)) and last == first + length
            home = [(start, end) for start, end in parts if start <= first and last < end]
            assert len(home) == 1, "a window crosses a border"
            seen[home[0]].append(first)
    assert {span: len(starts) for span, starts in seen.items()} == expected
    assert corpus.windows == sum(expected.values())
    for starts in seen.values():  # each document has a phase of its own
        assert all(b - a == stride for a, b in zip(sorted(starts), sorted(starts)[1:], strict=False))


def test_the_windows_of_one_document_are_those_of_the_first_version() -> None:
    """A run that an older version saved goes on to the same bits only while these stay."""
    corpus = make(500, 8, 4, seed=5)
    for epoch in (0, 1, 7):
        dice = torch.Generator().manual_seed(fold_in(5, epoch) & 0x7FFFFFFF)
        phase = int(torch.randint(4, (), generator=dice))
        order = torch.randperm(corpus.windows, generator=dice)
        assert torch.equal(corpus.starts(epoch), phase + order * 4)
    assert corpus.starts(0)[:6].tolist() == [62, 450, 118, 470, 238, 246]


def test_documents_follow_one_another_in_order_and_the_tail_of_them_all_is_held_out() -> None:
    corpus = several([30, 50, 20], 90, 8, 8)
    assert corpus.train.tolist() == list(range(90)) and corpus.val.tolist() == list(range(90, 100))


def test_the_fingerprint_tells_where_one_document_ends() -> None:
    assert len({fingerprint(documents) for documents in (["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"])}) == 4
    assert fingerprint(["abc"]) == sha256(b"abc").hexdigest()


def test_texts_that_are_left_out_are_said(build: Callable[..., TrainState], tmp_path: Path, text: str) -> None:
    def said(*sizes: int) -> list[str]:
        for path in tmp_path.glob("part*"):
            path.unlink()
        for number, size in enumerate(sizes):
            (tmp_path / f"part{number}.txt").write_text(text[:size])
        names = [str(path) for path in sorted(tmp_path.glob("part*"))]
        return [words for words in build(data=names).notices if "left out" in words]

    words = "of the {} training texts {} left out: shorter than a window of 16 + 1 characters"
    assert said(16, 900, 10, 900) == ["2 " + words.format(4, "are")]
    assert said(17, 900, 10, 900) == ["1 " + words.format(4, "is")]
    assert said(900, 900) == said(1000) == []
    assert said(1000, 10, 10) == []  # which are held out anyway
