"""The learning rate of every step."""

from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.config.config import SETTINGS
from fundamentallm.train.schedule import FLOOR, SHAPES, learning_rate, warmup


def test_warm_up_is_fitted_to_the_run() -> None:
    assert warmup(1000, None) == 50 and warmup(19, None) == 0
    assert warmup(1000, 20) == 20 and warmup(1000, 100) == 100
    assert warmup(1000, 101) == 100 and warmup(9, 5) == 0
    assert warmup(1000, 0) == 0


@given(
    total=st.integers(1, 5000), peak=st.floats(1e-6, 1.0), wanted=st.none() | st.integers(0, 1000),
    schedule=st.sampled_from(["constant", "step", "cosine", "linear", "wsd"]),
)  # fmt: skip
def test_it_rises_to_exactly_its_peak_and_falls_to_exactly_its_floor(
    total: int, peak: float, wanted: int | None, schedule: str
) -> None:
    warm = warmup(total, wanted)
    rates = [learning_rate(step, total, peak, schedule, warm) for step in range(total)]
    assert max(rates) == peak == rates[max(0, warm - 1)]
    assert all(rate > 0 for rate in rates)
    assert rates[:warm] == sorted(rates[:warm])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    if schedule == "constant":
        assert set(rates[warm:]) <= {peak}
    elif total - warm > 1:
        assert rates[-1] == peak * FLOOR


def test_the_values_in_between() -> None:
    def at(step: int, schedule: str) -> float:
        return learning_rate(step, 111, 1.0, schedule, 10)

    assert [at(step, "cosine") for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert at(60, "cosine") == pytest.approx(0.1 + 0.9 * (1 + cos(pi / 2)) / 2)
    assert at(35, "cosine") == pytest.approx(0.1 + 0.9 * (1 + cos(pi / 4)) / 2)
    assert at(60, "linear") == pytest.approx(0.1 + 0.9 * 0.5)
    assert at(60, "constant") == 1.0


def test_step_goes_down_in_four_equal_stretches_a_cube_root_of_ten_each() -> None:
    rates = [learning_rate(step, 121, 1.0, "step", 0) for step in range(121)]
    assert [rates[step] for step in (0, 29, 30, 59, 60, 89, 90, 120)] == pytest.approx(
        [1, 1, 10 ** (-1 / 3), 10 ** (-1 / 3), 10 ** (-2 / 3), 10 ** (-2 / 3), 0.1, 0.1]
    )
    assert len(set(rates)) == 4


def test_wsd_is_stable_until_the_last_fifth_and_then_falls_in_a_line() -> None:
    rates = [learning_rate(step, 111, 1.0, "wsd", 10) for step in range(111)]
    assert rates[9:90] == [1.0] * 81 and rates[91] < 1
    assert rates[100] == pytest.approx(0.55) and rates[110] == 0.1
    falls = [a - b for a, b in zip(rates[90:], rates[91:], strict=False)]
    assert falls == pytest.approx([0.045] * 20)


@pytest.mark.parametrize("schedule", SHAPES)
def test_a_run_of_one_step_takes_it_at_the_peak(schedule: str) -> None:
    assert learning_rate(0, 1, 0.25, schedule, warmup(1, 50)) == 0.25


def test_every_schedule_of_the_table_has_a_shape() -> None:
    assert set(SETTINGS["lr_schedule"].choices) == set(SHAPES)
