"""The learning rate of every step."""

from math import cos, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.config.config import SETTINGS, Config
from fundamentallm.config.schedule import FLOOR, SHAPES, configured_rate, warmup
from fundamentallm.run.commands import Set
from fundamentallm.run.events import Progress
from tests.engine.conftest import EPOCH
from tests.engine.train.conftest import Train


def rate(step: int, total: int, peak: float, schedule: str, wanted: int | None) -> float:
    config = Config(learning_rate=peak, lr_schedule=schedule, warmup_steps=wanted)
    return configured_rate(config, total, step)


@pytest.mark.parametrize(
    ("total", "wanted", "steps"),
    [
        (1000, Config.warmup_steps, 10),
        (50, Config.warmup_steps, 5),
        (1000, None, 50),
        (19, None, 0),
        (1000, 20, 20),
        (1000, 100, 100),
        (1000, 101, 100),
        (9, 5, 0),
        (1000, 0, 0),
    ],
)
def test_warm_up_is_fitted_to_the_run(total: int, wanted: int | None, steps: int) -> None:
    assert warmup(total, wanted) == steps


@given(
    total=st.integers(1, 5000), peak=st.floats(1e-6, 1.0), wanted=st.none() | st.integers(0, 1000),
    schedule=st.sampled_from(sorted(SHAPES)),
)  # fmt: skip
def test_it_rises_to_its_peak_and_falls_to_the_floor(
    total: int, peak: float, wanted: int | None, schedule: str
) -> None:
    warm = warmup(total, wanted)
    rates = [rate(step, total, peak, schedule, wanted) for step in range(total)]
    assert max(rates) == peak == rates[max(0, warm - 1)]
    assert min(rates) > 0
    assert rates[:warm] == sorted(rates[:warm])
    assert rates[warm:] == sorted(rates[warm:], reverse=True)
    if schedule == "constant":
        assert set(rates[warm:]) <= {peak}
    elif total - warm > 1:
        assert rates[-1] == peak * FLOOR


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", {60: 1.0}),
        ("cosine", {0: 0.1, 4: 0.5, 9: 1, 35: 0.1 + 0.45 * (1 + cos(pi / 4)), 60: 0.55}),
        ("linear", {60: 0.55}),
        ("wsd", {9: 1, 50: 1, 90: 1, 91: 0.955, 100: 0.55, 109: 0.145, 110: 0.1}),  # falls in the last fifth, in a line
        # four equal stretches, a cube root of ten lower each
        ("step", {34: 1, 35: 10 ** (-1 / 3), 59: 10 ** (-1 / 3), 60: 10 ** (-2 / 3), 84: 10 ** (-2 / 3), 85: 0.1}),
    ],
)
def test_the_values_in_between(schedule: str, rates: dict[int, float]) -> None:
    """Of a run of 111 steps whose first 10 are warm-up."""
    assert {step: rate(step, 111, 1.0, schedule, 10) for step in rates} == pytest.approx(rates)


@pytest.mark.parametrize("schedule", SHAPES)
def test_a_run_of_one_step_takes_it_at_the_peak(schedule: str) -> None:
    assert rate(0, 1, 0.25, schedule, 50) == 0.25


def test_every_schedule_of_the_table_has_a_shape() -> None:
    assert set(SETTINGS["lr_schedule"].choices) == set(SHAPES)


def test_warm_up_and_schedule_belong_to_the_total_of_now(train: Train) -> None:
    first = train(lr_schedule="linear", warmup_steps=None, script={9: [Set(setting="epochs", value=4)]})
    second = train(resume_from=first.last, epochs=6)
    rates = [value for ran in (first, second) for event in ran.of(Progress) for value in event.learning_rate]
    assert warmup(2 * EPOCH, None) != warmup(4 * EPOCH, None) != warmup(6 * EPOCH, None)
    begin = 0
    for end, epochs in ((9, 2), (4 * EPOCH, 4), (6 * EPOCH, 6)):
        total = epochs * EPOCH
        expected = [rate(n, total, 0.003, "linear", None) for n in range(begin, end)]
        assert rates[begin:end] == expected, epochs
        begin = end
    assert rates[-1] == 0.003 * FLOOR
