"""Sizes of a run without training it."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil, floor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.config.estimate import (
    choose_stride,
    count_memory,
    count_windows,
    estimate,
    estimate_size,
    spans,
    split,
)
from fundamentallm.errors import UserError
from fundamentallm.train.state import TrainState


@given(n=st.integers(1, 10**7), share=st.sampled_from([0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5]))
def test_the_first_share_of_the_tokens_trains_rounded_down(n: int, share: float) -> None:
    assert split(n, share) == floor((1 - share) * n)


def test_windows_of_an_epoch() -> None:
    assert [count_windows(100, 10, stride) for stride in (10, 5, 1)] == [9, 18, 90]
    assert [count_windows(tokens, 10, 10) for tokens in (11, 21, 30, 31)] == [1, 1, 2, 2]
    assert count_windows(12, 10, 1) == 2


def test_the_stride_is_the_largest_that_gives_forty_steps_else_an_eighth() -> None:
    config = Config(max_seq_len=256, batch_size=16)
    chosen = {256 * 16 * 40: 256, 256 * 16 * 39: 128, 128 * 16 * 38: 64, 64 * 16 * 38: 32, 300: 32}
    for tokens, stride in chosen.items():
        assert choose_stride(config, [tokens], tokens) == stride
        steps = {s: ceil(count_windows(tokens, 256, s) / 16) for s in (256, 128, 64, 32)}
        assert all(steps[s] < 40 for s in steps if s > stride) and (steps[stride] >= 40 or stride == 32)
    assert choose_stride(Config(max_seq_len=256, stride=7), [300], 300) == 7
    assert choose_stride(Config(max_seq_len=4), [10], 10) == 1


@pytest.mark.parametrize("changes", [{}, {"ff_dim": 24}, {"num_layers": 2, "accumulation_steps": 3}, {"stride": None}])
def test_the_estimate_is_what_is_built(changes: dict[str, Any], build: Callable[..., TrainState], text: str) -> None:
    built = build(**changes)
    told = estimate(built.config, [text])
    assert told.parameters == sum(p.numel() for p in built.model.parameters())
    assert (told.train_tokens, told.val_tokens) == (len(built.corpus.train), len(built.corpus.val)) == (2250, 250)
    assert (told.stride, told.windows) == (built.corpus.stride, built.corpus.windows)
    assert told.vocab_size == len(built.tokenizer)
    assert told.total_steps == built.total_steps == told.steps_per_epoch * 2
    assert told.passes == pytest.approx(told.windows * 16 / 2250)


@given(n=st.integers(20, 400), length=st.integers(2, 300))
def test_a_text_shorter_than_a_window_names_the_largest_that_fits(n: int, length: int) -> None:
    config = Config(("t.txt",), max_seq_len=length)
    try:
        estimate_size(config, [n], 5)
    except UserError as error:
        words = str(error)
        assert words.startswith("t.txt: ")
        if "--max-seq-len" in words:
            fits = int(words.split("--max-seq-len ")[1].split()[0])
            assert estimate_size(resolve(Layer({"data": "t.txt", "max_seq_len": fits})), [n], 5).windows >= 1
            assert fits == floor(0.9 * n) - 1
    else:
        assert floor(0.9 * n) >= length + 1 and n - floor(0.9 * n) >= 2


def test_several_documents_are_counted_each_for_itself(
    build: Callable[..., TrainState], text: str, tmp_path: Path
) -> None:
    pieces = [text[:700], text[700:712], text[712:1500], text[1500:]]
    names = [str(tmp_path / f"{number}.txt") for number in range(4)]
    for name, piece in zip(names, pieces, strict=True):
        Path(name).write_text(piece)
    built = build(data=names)
    told = estimate(built.config, pieces)
    assert spans([700, 12, 788, 1000], 2250, 16) == [(0, 700), (712, 1500), (1500, 2250)]
    assert told.windows == built.corpus.windows == sum(count_windows(n, 16, 16) for n in (700, 788, 750)) == 135
    assert told.total_steps == built.total_steps and told.train_tokens == 2250


def test_the_memory_grows_with_everything_that_takes_it() -> None:
    base = Config(model_dim=128, num_layers=4, num_heads=4, batch_size=32, max_seq_len=256)
    need = count_memory(base, 65)
    assert 400 < need / 2**20 < 520  # 450 MiB were measured on a CPU, with either optimizer
    assert count_memory(replace(base, batch_size=64), 65) > 1.9 * need
    assert count_memory(replace(base, accumulation_steps=4), 65) == need
    for changes in ({"num_layers": 8}, {"max_seq_len": 512}, {"model_dim": 256}, {"ff_dim": 1024}):
        assert count_memory(replace(base, **changes), 65) > 1.2 * need
