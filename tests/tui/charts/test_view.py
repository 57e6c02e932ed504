"""What is seen of a run: ranges that keys change, what x counts, and a height that shows what is being learnt."""

import pytest

from fundamentallm_tui.charts.chart import Line
from fundamentallm_tui.charts.series import SMOOTHING
from fundamentallm_tui.charts.view import MIN_SPAN, Ruler, View, fitting_height, with_room

RUN = (0.0, 1000.0)

# Recorded: the loss of every eighth, sixth and fourth step, and validation. The first learns at a good rate, the
# second overfits on 3,000 characters, and the third has too high a rate: its loss rises before it falls.
LEARNING = [
    4.09, 3.28, 3.08, 2.69, 2.47, 2.44, 2.31, 2.23, 2.16, 2.13, 2.2, 2.06, 2.1, 1.9, 1.95, 1.95, 2.03, 1.97, 1.87,
    1.95, 1.85, 1.82, 1.82, 1.82, 1.71, 1.66, 1.72, 1.78, 1.68, 1.66, 1.62, 1.67, 1.7, 1.54, 1.59, 1.7, 1.65, 1.59,
    1.52, 1.52, 1.52, 1.56, 1.51, 1.56, 1.59, 1.54, 1.52, 1.42, 1.54, 1.5, 1.48, 1.55, 1.46, 1.4, 1.41, 1.47, 1.54,
    1.35, 1.43, 1.43, 1.53, 1.55, 1.37, 1.44, 1.4, 1.47,
]  # fmt: skip
LEARNING_VAL = [(88, 2.11), (176, 1.87), (264, 1.75), (352, 1.69), (440, 1.66), (528, 1.64)]
OVERFITTING = [
    3.9, 3.15, 2.91, 2.62, 2.44, 2.27, 2.36, 2.2, 1.99, 1.91, 1.88, 1.9, 1.67, 1.67, 1.6, 1.63, 1.55, 1.4, 1.32,
    1.31, 1.28, 1.2, 1.08, 1.15, 1.11, 1.07, 1.05, 1.0, 0.91, 0.92, 0.87, 0.83, 0.78, 0.77, 0.82, 0.67, 0.69, 0.72,
    0.65, 0.66, 0.6, 0.6, 0.63, 0.56, 0.52, 0.57, 0.52, 0.57, 0.53, 0.49, 0.46, 0.52, 0.48, 0.49, 0.45, 0.46,
]  # fmt: skip
OVERFITTING_VAL = [(42, 2.45), (84, 2.36), (126, 2.71), (168, 3.02), (210, 3.38), (252, 3.58), (294, 3.65), (336, 3.72)]
RISING = [
    4.09, 5.17, 5.4, 7.16, 10.14, 10.71, 9.43, 9.51, 8.46, 7.44, 6.36, 6.67, 5.89, 4.89, 4.06, 3.88, 3.34, 3.6,
    3.32, 3.08, 3.09, 2.83, 2.69, 2.58, 2.58, 2.6, 2.64, 2.54, 2.49, 2.48, 2.48, 2.36, 2.49, 2.42, 2.39, 2.34, 2.37,
    2.4, 2.34, 2.37, 2.29, 2.27, 2.31, 2.26, 2.19, 2.26, 2.28, 2.23, 2.13, 2.17, 2.13, 2.2, 2.11, 2.11, 2.24, 2.29,
    2.11, 2.12,
]  # fmt: skip
RISING_VAL = [(88, 2.58), (176, 2.21)]


def seen(view: View) -> tuple[float, float]:
    return view.window(*RUN)


def test_zooming_keeps_the_newest_step_the_crosshair_or_the_place_of_the_mouse() -> None:
    close = View().zoomed(0.5, *RUN).zoomed(0.5, *RUN)
    assert seen(close) == (750, 1000) and close.end is None
    assert close.window(0, 1200) == (950, 1200), "it follows"
    assert seen(View().zoomed(0.5, *RUN, at=200)) == (100, 600)
    assert seen(View(crosshair=400).zoomed(0.5, *RUN)) == (200, 700)
    stays = View(span=200, end=600)
    assert seen(stays.zoomed(0.5, *RUN)) == (450, 550)
    assert seen(stays.zoomed(2, *RUN)) == (300, 700)
    assert stays.zoomed(20, *RUN) == View(), "all is all"
    assert seen(View(span=5, end=50).zoomed(0.1, *RUN))[1] - seen(View(span=5, end=50).zoomed(0.1, *RUN))[0] == MIN_SPAN


def test_panning_ends_at_the_run_and_follows_again_at_its_newest_step() -> None:
    view = View(span=200).panned(-0.25, *RUN)
    assert seen(view) == (750, 950) and view.window(0, 1200) == (750, 950), "it stays"
    assert seen(view.panned(-9, *RUN)) == (0, 200)
    assert view.panned(9, *RUN) == View(span=200)
    assert View().panned(-0.25, *RUN) == View(), "all is seen already"


def test_staying_keeps_the_range_while_the_run_goes_on() -> None:
    stays = View(span=100).toggled_following(*RUN)
    assert stays.window(0, 2000) == (900, 1000)
    assert stays.toggled_following(0, 2000).window(0, 2000) == (1900, 2000)
    assert View().toggled_following(*RUN).window(0, 2000) == RUN


def test_the_axis_of_a_growing_run_stands_still_for_a_while_and_ends_with_the_run() -> None:
    ends = [with_room(last, 720) for last in range(1, 721)]
    assert ends[18:26] == [19, 20, 22, 22, 24, 24, 26, 26] and ends[699:] == [700, *[720] * 20]
    assert all(last <= end <= 1.13 * last + 1 for last, end in enumerate(ends, 1))
    assert len(set(ends)) < 90, "it is drawn anew at each of these"
    assert with_room(900, 720) == 900, "another run may be longer"


def test_smoothing_goes_from_none_to_much() -> None:
    view, factors = View(smoothing=0.0), []
    for _ in range(5):
        factors.append(view.smoothing)
        view = view.smoothed(1)
    assert factors == [*SMOOTHING, SMOOTHING[-1]]
    assert View(smoothing=0.0).smoothed(-1).smoothing == 0.0
    assert View(smoothing=0.93).smoothed(1).smoothing == 0.99, "one that a settings file has counts as the nearest"


def test_a_ruler_leads_from_steps_to_x_and_back_and_beyond_what_is_known() -> None:
    ruler = Ruler([10, 20, 40], [100, 150, 400])
    places = {0: 0, 5: 50, 10: 100, 15: 125, 30: 275, 40: 400, 80: 800}
    assert {step: ruler.x(step) for step in places} == places
    assert {ruler.step(x): x for x in places.values()} == places
    assert Ruler([], []).x(7) == 7 and Ruler([3], [0]).step(7) == 7, "nothing is known yet"
    assert Ruler([1, 2, 3], [5, 5, 5]).step(5) == 1


def height(train: list[float], every: int, val: list[tuple[int, float]]) -> tuple[float, float]:
    steps = range(1, every * len(train) + 1, every)
    lines = [Line(steps, train), Line([step for step, _ in val], [loss for _, loss in val])]
    found = fitting_height(lines, 0.15 * every * len(train))
    assert found is not None
    return found


def test_the_height_of_recorded_curves_leaves_out_the_first_fall_and_nothing_that_is_learnt() -> None:
    assert height(LEARNING, 8, LEARNING_VAL) == (1.35, 2.2)
    low, high = height(OVERFITTING, 6, OVERFITTING_VAL)
    assert (low, high) == (0.45, 3.9), "validation rises to 3.72; the beginning takes hardly more"
    low, high = height(RISING, 4, RISING_VAL)
    assert low == 2.11 and high >= 7, "a loss that rises first is no fall"


@pytest.mark.parametrize("spike", [3.5, 80.0, float("nan")])
def test_a_lone_spike_does_not_change_the_height_and_a_small_one_is_within(spike: float) -> None:
    spiky = LEARNING[:40] + [spike] + LEARNING[41:]
    assert height(spiky, 8, LEARNING_VAL) == (1.35, pytest.approx(2.2, abs=0.1))
    assert height(LEARNING[:40] + [2.3] + LEARNING[41:], 8, LEARNING_VAL)[1] == 2.3


def test_a_run_that_has_just_begun_is_seen_whole() -> None:
    assert height([4.1, 3.9, 3.8], 1, []) == (3.8, 4.1)
    assert fitting_height([Line([1, 2], [3, 2])], 5) is None and fitting_height([], 0) is None


def test_the_height_fits_the_run_and_others_within_reason_but_not_one_that_diverged() -> None:
    own, near, diverged = Line([1, 2], [1.6, 1.5]), Line([1, 2], [2.2, 2.1]), Line([1, 2], [30.0, 25.0])
    assert fitting_height([own], 0, [near, diverged]) == (1.5, 2.2)
    assert fitting_height([], 0, [diverged, near]) == (2.1, 2.2), "without a run of its own, the lowest"
    assert fitting_height([diverged], 0, [own]) == (25, 30), "of the run that is shown, all"
