"""How long a run takes is computed from its size and from what this machine was measured to do."""

import os
from pathlib import Path

import pytest

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import TextSize, estimate_size
from fundamentallm.config.format import format_estimate
from fundamentallm.run.speed import CORE_FLOPS, estimate_seconds, flops_per_token, remember_speed

CONFIG = Config(model_dim=64, num_layers=2, num_heads=2, max_seq_len=100, batch_size=10, epochs=3, stride=100)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "fundamentallm" / "speed.json"


def test_a_token_takes_six_operations_a_parameter_and_those_of_attention() -> None:
    assert flops_per_token(CONFIG, 1_000_000) == 6_000_000 + 6 * 2 * 64 * 100


def test_the_time_follows_from_the_measured_speed_of_the_nearest_size(cache: Path) -> None:
    size = estimate_size(CONFIG, TextSize((100_000,), 60, 0))
    tokens = size.total_steps * 10 * 100
    flops = flops_per_token(CONFIG, size.parameters) * tokens
    assert estimate_seconds(CONFIG, size) == pytest.approx(flops / (CORE_FLOPS * (os.cpu_count() or 1)))
    remember_speed(CONFIG, size.parameters, 1000.0)
    remember_speed(CONFIG, 100 * size.parameters, 7.0)
    assert estimate_seconds(CONFIG, size) == pytest.approx(tokens / 1000)
    remember_speed(CONFIG, size.parameters, 500.0)
    assert estimate_seconds(CONFIG, size) == pytest.approx(tokens / 500), "the last measurement holds"
    remember_speed(CONFIG, size.parameters, 5.0)
    assert estimate_seconds(CONFIG, size) == pytest.approx(tokens / 250), "a busy machine says little"


@pytest.mark.parametrize("content", [
    "", "[]", '{"auto": 3}', '{"auto": {"x": 1}}', '{"auto": {"5": -1}}', "[" * 9999,
    f'{{"auto": {{"5": 1{"0" * 400}}}}}', f'{{"auto": {{"5": 1{"0" * 5000}}}}}',
])  # fmt: skip
def test_a_damaged_cache_is_as_none(cache: Path, content: str) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    size = estimate_size(CONFIG, TextSize((100_000,), 60, 0))
    assert estimate_seconds(CONFIG, size) > 0
    remember_speed(CONFIG, size.parameters, 1000.0)
    assert estimate_seconds(CONFIG, size) == pytest.approx(size.total_steps)


@pytest.mark.parametrize(("entry", "words"), [
    (f'"1{"0" * 400}": 1e12', "less than a minute"), ('"5": 5e-324', "more than a year"),
])  # fmt: skip
def test_absurd_measurements_give_a_time_all_the_same(cache: Path, entry: str, words: str) -> None:
    cache.parent.mkdir()
    cache.write_text(f'{{"auto": {{{entry}}}}}')
    assert format_estimate(estimate_seconds(CONFIG, estimate_size(CONFIG, TextSize((100_000,), 60, 0)))) == words
