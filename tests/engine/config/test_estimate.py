"""Sizes of a run without training it."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.config.estimate import (
    TextSize,
    choose_stride,
    count_memory,
    count_parameters,
    count_windows,
    estimate_size,
    spans,
    split,
)
from fundamentallm.config.format import format_count
from fundamentallm.data.source import make_source, measure_source
from fundamentallm.errors import UserError
from fundamentallm.train.state import TrainState
from tests.texts import estimate


@given(n=st.integers(1, 10**7), percent=st.sampled_from([5, 10, 15, 20, 25, 30, 50]))
@example(n=90, percent=30)  # as floats, 62
def test_the_first_share_of_the_tokens_trains_rounded_down(n: int, percent: int) -> None:
    assert split(n, percent / 100) == (100 - percent) * n // 100


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
    size = estimate(built.config, [text])
    assert size.parameters == sum(p.numel() for p in built.model.parameters())
    assert (size.train_tokens, size.val_tokens) == (len(built.corpus.train), len(built.corpus.val)) == (2250, 250)
    assert (size.stride, size.windows) == (built.corpus.stride, built.corpus.windows)
    assert size.vocab_size == len(built.tokenizer)
    assert size.total_steps == built.total_steps == size.steps_per_epoch * 2
    assert size.passes == pytest.approx(size.windows * 16 / 2250)


@given(
    lengths=st.lists(st.integers(0, 200), min_size=1, max_size=3),
    share=st.sampled_from([1e-5, 0.01, 0.1, 0.3, 0.9, 0.9999]),
    length=st.integers(2, 300),
    stride=st.none() | st.integers(1, 2),
)
@example(lengths=[200], share=0.9999, length=256, stride=None)  # the usual split alone would not do
@example(lengths=[200], share=1e-5, length=256, stride=None)  # a shorter window alone would not do
@example(lengths=[12], share=1e-5, length=10, stride=None)  # nothing is left to validate on, and the usual split
@example(lengths=[100], share=0.1, length=256, stride=256)
@example(lengths=[5], share=0.1, length=4, stride=None)
def test_the_advice_about_a_text_that_is_too_short_works(
    lengths: list[int], share: float, length: int, stride: int | None
) -> None:
    text = TextSize(tuple(lengths), 5)
    settings = {"data": "t.txt", "val_split": share, "max_seq_len": length, "stride": stride}
    try:
        estimate_size(resolve(Layer(settings)), text)
    except UserError as error:
        problem, _, advice = str(error).partition("; ")
        assert problem.startswith("t.txt: ")
        flags = dict(re.findall(r"--(\S+) ([\d.]+)", advice))
        changed = {name.replace("-", "_"): value for name, value in flags.items()}
        if changed:
            assert estimate_size(resolve(Layer(settings | changed)), text).windows >= 1
            return
        assert problem == f"t.txt: {format_count(sum(lengths), 'character')}, too few to train on"
        for each in (share, 0.1):
            with pytest.raises(UserError, match="too few to train on"):
                estimate_size(Config(("t.txt",), val_split=each, max_seq_len=2), text)


def test_several_documents_are_counted_each_for_itself(
    build: Callable[..., TrainState], text: str, tmp_path: Path
) -> None:
    pieces = [text[:700], text[700:712], text[712:1500], text[1500:]]
    names = [str(tmp_path / f"{number}.txt") for number in range(4)]
    for name, piece in zip(names, pieces, strict=True):
        Path(name).write_text(piece)
    built = build(data=names)
    size = estimate(built.config, pieces)
    assert spans([700, 12, 788, 1000], 2250, 16) == [(0, 700), (712, 1500), (1500, 2250)]
    assert size.windows == built.corpus.windows == sum(count_windows(n, 16, 16) for n in (700, 788, 750)) == 135
    assert size.total_steps == built.total_steps and size.train_tokens == 2250
    of_batch = {n: estimate(replace(built.config, batch_size=n), pieces).memory for n in (134, 135, 136, 100_000)}
    assert of_batch[134] < of_batch[135] == of_batch[136] == of_batch[100_000], "no batch has more than all windows"
    advice = {replace(built, config=replace(built.config, batch_size=n)).advise_out_of_memory() for n in (135, 100_000)}
    assert len(advice) == 1


def test_the_memory_grows_with_everything_that_takes_it() -> None:
    base = Config(model_dim=128, num_layers=4, num_heads=4, batch_size=32, max_seq_len=256)
    need = count_memory(base, 65)
    assert 400 < need / 2**20 < 520  # 450 MiB were measured on a CPU, with either optimizer
    assert count_memory(replace(base, batch_size=64), 65) > 1.9 * need
    assert count_memory(replace(base, accumulation_steps=4), 65) == need + 4 * count_parameters(base, 65)  # gradients
    for changes in ({"num_layers": 8}, {"max_seq_len": 512}, {"model_dim": 256}, {"ff_dim": 1024}):
        assert count_memory(replace(base, **changes), 65) > 1.2 * need


@pytest.mark.parametrize(
    ("text", "width", "held", "loading"),
    [("abcd", 1, 1, 3), ("ab\xe9", 1, 1, 3), ("ab€", 2, 1, 5), ("ab😀", 4, 1, 9),
     ("".join(map(chr, range(0x4E00, 0x4F00 + 1))), 2, 2, 6)],
)  # fmt: skip
def test_the_memory_of_the_text_is_counted_as_it_is_loaded(text: str, width: int, held: int, loading: int) -> None:
    size = measure_source(Config(), make_source("ab", [text, "a"]))
    assert (size.lengths, size.width) == ((len(text), 1), width)
    big = replace(size, lengths=(10**8,))
    config = Config(max_seq_len=256, stride=256)
    size = estimate_size(config, big)
    assert size.text_memory == held * 10**8 + 16 * size.windows and size.loading_memory == loading * 10**8
    assert estimate_size(replace(config, augment="casing"), big).text_memory == size.text_memory + 36 * 9 * 10**7


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_loading_takes_what_the_estimate_says(tmp_path: Path) -> None:
    documents, names = ["the sea " * 500_000] * 2, []
    for n, text in enumerate(documents):
        names.append(str(tmp_path / f"{n}.txt"))
        Path(names[-1]).write_text(text)
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom fundamentallm.config.config import Layer, resolve\n"
        "from fundamentallm.run.spec import RunSpec\nfrom fundamentallm.train.state import build_state\n"
        "def peak(): return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) * 1024\n"
        "config = resolve(Layer({'data': sys.argv[1:], 'device': 'cpu', 'model_dim': 16, 'num_layers': 1}))\n"
        "Path('/proc/self/clear_refs').write_text('5')\nbefore = peak()\n"
        "build_state(RunSpec(config, Path('unused')))\nprint(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, cwd=tmp_path)
    size = estimate(Config(), documents).loading_memory
    assert size == 24_000_000, "3 bytes a character"
    assert 0.5 * size < int(done.stdout) < size + 96 * 2**20, done.stderr  # the rest: blocks in work, and the model
