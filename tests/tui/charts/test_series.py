"""A series loses nothing but what no column could show; ticks are round and their labels short."""

import random
from bisect import bisect_left
from itertools import pairwise
from math import ceil, cos, inf, isfinite, isnan, nan

import pytest

from fundamentallm_tui.charts.axes import tick_label
from fundamentallm_tui.charts.series import MAX_POINTS, SMOOTHING, Series, Smoothed, reduce


def filled(ys: list[float], first: int = 1) -> Series:
    series = Series()
    series.extend(range(first, first + len(ys)), ys)
    return series


def points(series: Series) -> tuple[list[float], list[float]]:
    """All that it keeps."""
    return series.reduced(MAX_POINTS)


def noise(length: int, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(2, 1) for _ in range(length)]


@pytest.mark.parametrize("length", [40, 41, 63, 64, 65, 1000, 4095, 4096, 10_007])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_no_peak_is_lost_or_moved_by_more_than_a_column(length: int, count: int) -> None:
    ys = noise(length, seed=length)
    xs, reduced = filled(ys, first=0).reduced(count)
    assert (xs, reduced) == reduce(range(length), ys, count)
    kept = [int(x) for x in xs]
    assert [ys[index] for index in kept] == reduced, "every point is one of the series"
    assert kept == sorted(set(kept)), "in the order in which they occurred"
    assert count <= len(kept) <= 2 * count
    assert len(kept) == length or length > 2 * count, "a series that fits comes back point by point"
    width = ceil(1.25 * ceil(length / max(1, count - 1)))
    for index, y in enumerate(ys):
        near = [ys[other] for other in kept if abs(other - index) < width]
        assert min(near) <= y <= max(near)


@pytest.mark.parametrize("batch", [1, 37, 200_000])
def test_a_series_without_end_takes_up_no_more_room_and_loses_no_peak(batch: int) -> None:
    length, series, ys = 5 * MAX_POINTS + 321, Series(), noise(5 * MAX_POINTS + 321)
    ys[5], ys[2 * MAX_POINTS + 1], ys[-3] = 90.0, -70.0, 80.0
    ys[3 * MAX_POINTS : 3 * MAX_POINTS + 999] = [nan] * 999
    for start in range(0, length, batch):
        part = ys[start : start + batch]
        series.extend(range(start, start + len(part)), part)
        assert len(series) <= MAX_POINTS
    assert series.last == (length - 1, ys[-1])
    xs, kept = points(series)
    assert all(a < b for a, b in pairwise(xs))
    assert all(isnan(y) or ys[int(x)] == y for x, y in zip(xs, kept, strict=True))
    assert {90.0, -70.0, 80.0} <= set(kept)
    places = [bisect_left(xs, start) for start in range(0, length - 64, 64)]
    assert min(b - a for a, b in pairwise(places)) >= 1, "no stretch is empty"
    wide = [sum(start <= x < start + MAX_POINTS for x in xs) for start in range(0, 4 * MAX_POINTS, MAX_POINTS)]
    assert max(wide) <= 2.5 * min(wide)
    assert 100 <= len(series.reduced(100)[0]) <= 200
    series.truncate_after(1000)
    assert series.end <= 1000 and series.last is not None and series.last[0] == series.end
    series.extend(range(1001, 1101), ys[:100])
    assert points(series)[1][-100:] == ys[:100]


def test_every_column_has_its_lowest_and_highest_point_and_is_a_gap_only_without_any() -> None:
    ys = noise(64 * 16)
    ys[128:256], ys[300:310] = [nan, inf, -inf, nan] * 32, [nan] * 10
    expected = []
    for start in range(0, len(ys), 64):
        column = [index for index in range(start, start + 64) if isfinite(ys[index])]
        expected += sorted({min(column, key=ys.__getitem__), max(column, key=ys.__getitem__)}) if column else [start]
    series = filled(ys, first=0)
    xs, reduced = series.reduced(17)  # 16 whole columns of 64
    assert xs == expected
    assert [x for x, y in zip(xs, reduced, strict=True) if isnan(y)] == [128, 192]
    assert [y for y in reduced if isfinite(y)] == [ys[index] for index in expected if isfinite(ys[index])]
    assert (xs, reduced) == series.reduced(17), "equal reductions compare as equal though they have gaps"


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 255, 256, 257, 999])
def test_a_truncated_series_is_as_if_what_was_forgotten_had_never_been(kept: int) -> None:
    first, second = noise(1000, seed=1), noise(700, seed=2)
    truncated = filled(first)
    truncated.truncate_after(kept)
    assert len(truncated) == kept
    truncated.extend(range(kept + 1, kept + 701), second)
    straight = filled(first[:kept] + second)
    for count in (1, 7, 30, 100, 2000):
        assert truncated.reduced(count) == straight.reduced(count)
    assert truncated.last == straight.last


def test_last_is_the_newest_point_that_is_not_a_gap() -> None:
    series = Series()
    assert series.last is None
    series.extend([1, 2, 3, 4], [5.0, 4.0, nan, inf])
    assert series.last == (2, 4.0)
    series.truncate_after(1.5)
    assert series.last == (1, 5.0)
    series.truncate_after(-inf)
    assert series.last is None
    assert series.reduced(10) == ([], [])


def test_a_step_that_does_not_increase_is_refused_with_the_way_out() -> None:
    series = filled([1.0, 2.0])
    for x in (2, 1, nan, inf):
        with pytest.raises(ValueError, match="x: .* after 2; it must increase, or call truncate_after"):
            series.append(x, 0.0)
    assert len(series) == 2


@pytest.mark.parametrize("cuts", [(1, 3, 4, 9), (100,), (7, 16, 17, 64, 65)])
@pytest.mark.parametrize("every", [13, 999], ids=["gaps", "finite"])
def test_points_that_come_together_make_the_same_series_as_one_by_one(cuts: tuple[int, ...], every: int) -> None:
    ys = [nan if n % every == 12 else cos(n) for n in range(300)]
    one, many = Series(), Series()
    for n, y in enumerate(ys):
        one.append(n, y)
    for start, stop in pairwise([0, *cuts, 300]):
        many.extend(range(start, stop), ys[start:stop])
    assert one.reduced(20) == many.reduced(20) and one.last == many.last and points(one) == points(many)


def plain_mean(ys: list[float], factor: float) -> list[float]:
    """The debiased exponential moving average by its formula: a weighted mean of all ys so far."""
    means = []
    for end in range(1, len(ys) + 1):
        known = [y for y in ys[:end] if isfinite(y)]
        weights = [factor ** (len(known) - 1 - at) for at in range(len(known))]
        mean = sum(w * y for w, y in zip(weights, known, strict=True)) / sum(weights) if known else nan
        means.append(mean if isfinite(ys[end - 1]) else nan)
    return means


@pytest.mark.parametrize("factor", [factor for factor in SMOOTHING if factor])
@pytest.mark.parametrize("batch", [1, 7, 400])
def test_a_smoothed_series_is_the_debiased_mean_also_after_gaps_and_a_rewind(factor: float, batch: int) -> None:
    ys = noise(400)
    ys[:2], ys[50:60] = [nan, inf], [nan] * 10
    smoothed = Smoothed(factor)
    for start in range(0, 400, batch):
        smoothed.extend(range(start + 1, min(start + batch, 400) + 1), ys[start : start + batch])
    assert points(smoothed)[1] == pytest.approx(plain_mean(ys, factor), nan_ok=True)
    smoothed.truncate_after(200)
    smoothed.extend(range(201, 301), ys[100:200])
    assert points(smoothed)[1] == pytest.approx(plain_mean(ys[:200] + ys[100:200], factor), nan_ok=True)
    smoothed.truncate_after(-inf)
    smoothed.append(1, 5.0)
    assert smoothed.last == (1, 5.0)


@pytest.mark.parametrize("factor", [0.9, 0.999])
def test_the_mean_of_a_long_run_does_not_depend_on_what_the_series_keeps(factor: float) -> None:
    ys, mean, smoothed = noise(5 * MAX_POINTS), 0.0, Smoothed(factor)
    for start in range(0, len(ys), 1000):
        smoothed.extend(range(start, start + len(ys[start : start + 1000])), ys[start : start + 1000])
    for y in ys:
        mean = factor * mean + (1 - factor) * y
    assert smoothed.last == (len(ys) - 1, pytest.approx(mean)) and len(smoothed) <= MAX_POINTS


def test_a_stretch_has_its_points_one_beyond_each_side_and_each_extreme() -> None:
    series = filled(noise(2000))
    assert series.reduced(100, 50.5, 60) == (list(range(50, 62)), points(series)[1][49:61])
    xs, ys = series.reduced(20, 500, 1500)
    assert xs[0] <= 500 and len(xs) <= 40
    inside = points(series)[1][499:1500]
    assert min(inside) in ys and max(inside) in ys
    assert series.at(700.4) == (700, points(series)[1][699]) and series.at(-5) == (1, points(series)[1][0])
    assert series.until(700.9)[0] == 700 and series.until(0.5) is None and series.until(1e9)[0] == series.end
    assert Series().at(3) is Series().until(3) is None


LABELS = {
    (1.5, 0.5): "1.5", (2.0, 0.5): "2.0", (0.0, 0.5): "0.0", (-1.0, 1): "-1", (0.001, 0.001): "0.001",
    (0.001, 0.0005): "0.0010", (0.00025, 0.00025): "0.00025", (1e-5, 1e-5): "1e-05", (2.5e-5, 2.5e-5): "2.5e-05",
    (1e-4, 5e-5): "1e-04", (0.0, 1e-5): "0", (400, 200): "400", (12_000, 2_000): "12k", (2_500, 2_500): "2.5k",
    (0, 2_500): "0", (3e6, 1e6): "3M", (2e9, 1e9): "2G", (1e30, 5e29): "1e+30", (0.2, 0.2): "0.2", (1.25, 1.25): "1.25",
}  # fmt: skip


def test_labels_are_short_and_those_of_one_axis_have_equally_many_decimals() -> None:
    assert {tick: tick_label(*tick) for tick in LABELS} == LABELS
    assert [tick_label(tick / 4, 0.25) for tick in range(5)] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    odd = [0.0, -0.0, 1, 5e-324, 1e308, -1e308, inf, -inf, nan, 1 / 3]
    assert all(1 <= len(tick_label(value, step)) <= 24 for value in odd for step in odd)
