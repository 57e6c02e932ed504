"""What a chart may rely on: nothing of a series is lost but what no column could show; ticks are round."""

import math
import random
from bisect import bisect_left
from itertools import pairwise
from math import ceil, inf, isfinite, isnan, nan

import pytest

from fundamentallm_tui.charts.series import MAX_POINTS, Series, nice_ticks, tick_label


def filled(ys: list[float], first: int = 1) -> Series:
    series = Series()
    series.extend(range(first, first + len(ys)), ys)
    return series


def noise(length: int, seed: int = 0) -> list[float]:
    generator = random.Random(seed)
    return [generator.gauss(2, 1) for _ in range(length)]


def test_a_series_that_fits_comes_back_point_by_point() -> None:
    ys = noise(40)
    assert filled(ys).reduced(20) == (list(range(1, 41)), ys)


@pytest.mark.parametrize("length", [41, 63, 64, 65, 1000, 4095, 4096, 10_007])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_no_peak_is_lost_or_moved_by_more_than_a_column(length: int, count: int) -> None:
    ys = noise(length, seed=length)
    xs, reduced = filled(ys, first=0).reduced(count)
    kept = [int(x) for x in xs]
    assert [ys[index] for index in kept] == reduced, "every point is one of the series"
    assert kept == sorted(set(kept)), "in the order in which they occurred"
    assert count <= len(kept) <= 2 * count
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
    xs, kept = (list(values) for values in (series._x, series._y))
    assert all(a < b for a, b in pairwise(xs)) and all(
        isnan(y) or ys[int(x)] == y for x, y in zip(xs, kept, strict=True)
    )
    assert {90.0, -70.0, 80.0} <= set(kept)
    places = [bisect_left(xs, start) for start in range(0, length - 64, 64)]
    assert min(b - a for a, b in pairwise(places)) >= 1, "no stretch is empty"
    wide = [sum(start <= x < start + MAX_POINTS for x in xs) for start in range(0, 4 * MAX_POINTS, MAX_POINTS)]
    assert max(wide) <= 2.5 * min(wide)
    reduced, _ = series.reduced(100)
    assert 100 <= len(reduced) <= 200
    series.truncate_after(1000)
    assert series._x[-1] <= 1000 and series.last is not None and series.last[0] == series._x[-1]
    series.extend(range(1001, 1101), ys[:100])
    assert list(series._y[-100:]) == ys[:100]


def test_every_column_has_its_lowest_and_highest_point() -> None:
    ys = noise(64 * 16)
    xs, reduced = filled(ys, first=0).reduced(17)  # 16 whole columns of 64
    expected = set()
    for start in range(0, len(ys), 64):
        column = range(start, start + 64)
        expected |= {min(column, key=ys.__getitem__), max(column, key=ys.__getitem__)}
    assert xs == sorted(expected)
    assert reduced == [ys[index] for index in sorted(expected)]


def test_a_column_of_nothing_but_gaps_is_a_gap_and_any_other_is_not() -> None:
    ys = noise(64 * 16)
    ys[128:256] = [nan, inf, -inf, nan] * 32
    ys[300:310] = [nan] * 10
    xs, reduced = filled(ys, first=0).reduced(17)
    assert [x for x, y in zip(xs, reduced, strict=True) if isnan(y)] == [128.0, 192.0]
    finite = [y for y in ys if isfinite(y)]
    assert min(y for y in reduced if isfinite(y)) == min(finite)
    assert max(y for y in reduced if isfinite(y)) == max(finite)


def test_equal_reductions_compare_as_equal_though_they_have_gaps() -> None:
    for length in (30, 3000):
        series = filled([nan, *noise(length), nan, inf])
        assert series.reduced(20) == series.reduced(20)


@pytest.mark.parametrize("kept", [0, 1, 3, 4, 255, 256, 257, 999])
def test_a_rewound_series_is_as_if_what_was_forgotten_had_never_been(kept: int) -> None:
    first, second = noise(1000, seed=1), noise(700, seed=2)
    rewound = filled(first)
    rewound.truncate_after(kept)
    assert len(rewound) == kept
    rewound.extend(range(kept + 1, kept + 701), second)
    straight = filled(first[:kept] + second)
    for count in (1, 7, 30, 100, 2000):
        assert rewound.reduced(count) == straight.reduced(count)
    assert rewound.last == straight.last


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


@pytest.mark.parametrize(
    ("low", "high", "count", "ticks"),
    [
        (0, 1, 3, [0, 0.5, 1]),
        (0, 10, 6, [0, 2, 4, 6, 8, 10]),
        (1.3, 4.7, 3, [2, 3, 4]),
        (0, 0.0003, 4, [0, 0.0001, 0.0002, 0.0003]),
        (-1, 1, 5, [-1, -0.5, 0, 0.5, 1]),
        (1, 440, 4, [100, 200, 300, 400]),
        (2, 2, 3, [1, 2, 3]),
        (0, 0, 3, [-1, 0, 1]),
        (0, 100, 5, [0, 25, 50, 75, 100]),
    ],
)
def test_ticks_are_round(low: float, high: float, count: int, ticks: list[float]) -> None:
    assert nice_ticks(low, high, count) == ticks


@pytest.mark.parametrize(
    ("low", "high", "count", "ticks"),
    [
        (1e-5, 1e-3, 3, [1e-5, 1e-4, 1e-3]),
        (1, 1e6, 4, [1, 100, 1e4, 1e6]),
        (1, 10, 4, [1, 2, 5, 10]),
        (0.4, 60, 7, [0.5, 1, 2, 5, 10, 20, 50]),
        (1.1, 1.9, 4, [1.2, 1.4, 1.6, 1.8]),
        (0, 4, 3, [0, 2, 4]),
    ],
)
def test_ticks_of_a_log_axis_are_decades_then_1_2_5_then_linear(
    low: float, high: float, count: int, ticks: list[float]
) -> None:
    assert nice_ticks(low, high, count, log=True) == ticks


def test_at_least_three_increasing_ticks_lie_within_any_axis() -> None:
    generator = random.Random(7)
    for _ in range(4_000):
        low = generator.uniform(-1, 1) * 10 ** generator.uniform(-300, 300)
        high = low + abs(low) * 10 ** generator.uniform(-13, 3)
        log = generator.random() < 0.5
        ticks = nice_ticks(low, high, generator.randint(2, 9), log)
        assert len(ticks) >= 3
        assert ticks == sorted(set(ticks))
        slack = 1e-8 * max(high - low, abs(high) if log else 0)
        assert low - slack <= ticks[0] and ticks[-1] <= high + slack


def test_axes_without_an_extent_that_floats_can_hold_still_get_ticks() -> None:
    assert nice_ticks(-1e308, 1e308, 5) == [-1e308, 0, 1e308]
    assert nice_ticks(0, 5e-324, 5) == [0, 5e-324]
    assert nice_ticks(nan, 1, 5) == nice_ticks(0, inf, 5) == []


@pytest.mark.parametrize(
    ("value", "step", "label"),
    [
        (1.5, 0.5, "1.5"),
        (2.0, 0.5, "2.0"),
        (0.0, 0.5, "0.0"),
        (-1.0, 1, "-1"),
        (0.001, 0.001, "0.001"),
        (0.001, 0.0005, "0.0010"),
        (0.00025, 0.00025, "0.00025"),
        (1e-5, 1e-5, "1e-05"),
        (2.5e-5, 2.5e-5, "2.5e-05"),
        (1e-4, 5e-5, "1e-04"),
        (0.0, 1e-5, "0"),
        (400, 200, "400"),
        (12_000, 2_000, "12k"),
        (2_500, 2_500, "2.5k"),
        (0, 2_500, "0"),
        (3e6, 1e6, "3M"),
        (2e9, 1e9, "2G"),
        (1e30, 5e29, "1e+30"),
        (0.2, 0.2, "0.2"),
        (1.25, 1.25, "1.25"),
    ],
)
def test_labels_are_short(value: float, step: float, label: str) -> None:
    assert tick_label(value, step) == label


def test_labels_of_one_axis_have_equally_many_decimals() -> None:
    labels = [tick_label(tick, 0.25) for tick in nice_ticks(0, 1, 5)]
    assert labels == ["0.00", "0.25", "0.50", "0.75", "1.00"]


def test_a_label_of_any_number_is_a_text() -> None:
    odd = [0.0, -0.0, 1, 5e-324, 1e308, -1e308, inf, -inf, nan, 1 / 3]
    assert all(1 <= len(tick_label(value, step)) <= 24 for value in odd for step in odd)


@pytest.mark.parametrize("cuts", [(1, 3, 4, 9), (100,), (7, 16, 17, 64, 65)])
def test_points_that_come_together_make_the_same_series_as_one_by_one(cuts: tuple[int, ...]) -> None:
    ys = [math.sin(n) if n % 13 else math.nan for n in range(300)]
    one, many = Series(), Series()
    for n, y in enumerate(ys):
        one.append(n, y)
    for start, stop in pairwise([0, *cuts, 300]):
        many.extend(range(start, stop), ys[start:stop])
    finite, at_once = Series(), Series()
    for n in range(300):
        finite.append(n, math.cos(n))
    at_once.extend(range(300), map(math.cos, range(300)))
    for left, right in ((one, many), (finite, at_once)):
        assert repr(left.reduced(20)) == repr(right.reduced(20)) and left.last == right.last
        assert list(left._x) == list(right._x)
