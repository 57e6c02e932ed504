"""Which tokens each step sees."""

from collections.abc import Callable
from hashlib import sha256
from itertools import accumulate, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import split
from fundamentallm.data.corpus import IGNORED, Corpus
from fundamentallm.data.encoded import encode_source
from fundamentallm.data.source import make_source
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.train.state import TrainState

SEEDS = st.integers(0, 2**31 - 1)


def corpus_of(sizes: list[int], length: int, stride: int, **changes: Any) -> Corpus:
    """Make documents of these sizes whose characters all differ: token i is at position i of the corpus."""
    text = "".join(map(chr, range(0x3400, 0x3400 + sum(sizes))))
    documents = [text[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]
    config = Config(("t",), max_seq_len=length, stride=stride, **{"batch_size": 3, **changes})
    tokenizer = Tokenizer.fit(text)
    encoded = encode_source(make_source(map(str, sizes), documents), tokenizer)
    return Corpus(encoded, tokenizer, config, torch.device("cpu"))


def one_text(n: int, length: int, stride: int, **changes: Any) -> Corpus:
    """Make one document with `n` training tokens."""
    corpus = corpus_of([n + 1], length, stride, val_split=1e-9, **changes)
    assert len(corpus.train) == n
    return corpus


def windows_seen(corpus: Corpus, epoch: int, batch: int, accumulation: int, length: int) -> list[int]:
    """Return where an epoch's windows start; check that each is `length` consecutive tokens with the next as target."""
    seen = []
    for place in range(corpus.steps_per_epoch):
        step, real = epoch * corpus.steps_per_epoch + place, 0
        for part in range(accumulation):
            inputs, targets = corpus.batch(step, part)
            assert inputs.shape == targets.shape == (batch, length)
            counted = (targets != IGNORED).all(1)
            assert torch.equal(counted, (targets != IGNORED).any(1))  # a row is all real or all masked
            real += int(counted.sum())
            for row, target in zip(inputs[counted].tolist(), targets[counted].tolist(), strict=True):
                assert row == list(range(row[0], row[0] + length)) and target == [token + 1 for token in row]
                seen.append(row[0])
        assert real == corpus.real_rows(step) > 0
        assert real == batch * accumulation or place == corpus.steps_per_epoch - 1
    return sorted(seen)


@given(
    sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4), length=st.integers(2, 40), stride=st.integers(1, 40),
    batch=st.integers(1, 9), accumulation=st.integers(1, 3), seed=SEEDS, epoch=st.integers(0, 1000),
)  # fmt: skip
@example(sizes=[100], length=8, stride=8, batch=3, accumulation=1, seed=2**31 - 1, epoch=10**6)
def test_an_epoch_is_every_window_of_each_document_once_at_one_phase_inside_the_training_part(
    sizes: list[int], length: int, stride: int, batch: int, accumulation: int, seed: int, epoch: int
) -> None:
    stride, n = min(stride, length), split(sum(sizes), 0.1)
    parts = [(end - size, min(end, n)) for size, end in zip(sizes, accumulate(sizes), strict=True)]
    counts = {
        (start, end): max(1, (end - start - length - stride) // stride + 1)
        for start, end in parts
        if end - start > length
    }
    if not counts:
        return
    corpus = corpus_of(sizes, length, stride, batch_size=batch, accumulation_steps=accumulation, seed=seed)
    starts = sorted(corpus.starts(epoch).tolist())
    assert len(corpus.train) == n and corpus.windows == len(starts) == sum(counts.values())
    assert corpus.steps_per_epoch == ceil(len(starts) / (batch * accumulation))
    assert windows_seen(corpus, epoch, batch, accumulation, length) == starts
    for (start, end), count in counts.items():
        inside = [first for first in starts if start <= first and first + length < end]  # the last target is inside
        assert len(inside) == count and inside[0] < start + stride
        assert all(b - a == stride for a, b in pairwise(inside))


def test_phase_and_order_differ_from_epoch_to_epoch_and_from_seed_to_seed() -> None:
    corpus = one_text(2000, 16, 16)
    orders = [corpus.starts(epoch) for epoch in range(40)]
    phases = [int(order.min()) for order in orders]
    assert set(phases) <= set(range(16)) and len(set(phases)) >= 12
    assert len({tuple((order - order.min()).tolist()) for order in orders}) == 40
    assert not torch.equal(one_text(2000, 16, 16, seed=1).starts(0), orders[0])


def test_the_windows_of_one_document_are_those_of_the_first_version() -> None:
    """Runs of older versions resume to the same bits only if these numbers stay the same."""
    corpus = one_text(500, 8, 4, seed=5)
    assert corpus.starts(0)[:6].tolist() == [62, 450, 118, 470, 238, 246]
    assert corpus.starts(7)[:6].tolist() == [7, 411, 143, 19, 371, 43]


def test_documents_follow_in_order_and_the_tail_of_them_all_is_held_out(
    build: Callable[..., TrainState], text: str
) -> None:
    corpus = corpus_of([30, 50, 20], 8, 8)
    assert corpus.train.tolist() == list(range(90)) and corpus.val.tolist() == list(range(90, 100))
    built = build(val_split=0.3)
    tokens = built.tokenizer.encode(text)
    assert built.corpus.train.tolist() == tokens[:1750] and built.corpus.val.tolist() == tokens[1750:]


def test_the_fingerprint_is_of_the_text_and_where_its_documents_end(
    build: Callable[..., TrainState], text: str
) -> None:
    assert build().fingerprint == sha256(text.encode()).hexdigest()
    others = (["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"])
    assert len({make_source("ab", documents).facts.fingerprint for documents in others}) == 4


def test_texts_that_are_left_out_are_reported(build: Callable[..., TrainState], tmp_path: Path, text: str) -> None:
    def reports(*sizes: int) -> list[str]:
        names = [str(tmp_path / f"part{number}.txt") for number in range(len(sizes))]
        for name, size in zip(names, sizes, strict=True):
            Path(name).write_text(text[:size])
        return [words for words in build(data=names).origin.notices if "left out" in words]

    words = "of the 4 training texts {} left out: shorter than a window of 16 + 1 characters"
    assert reports(16, 900, 10, 900) == ["2 " + words.format("are")]
    assert reports(17, 900, 10, 900) == ["1 " + words.format("is")]
    assert reports(900, 900) == reports(1000) == []
    assert reports(1000, 10, 10) == []  # those characters are held out anyway
