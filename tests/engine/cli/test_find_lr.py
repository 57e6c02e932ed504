"""`fundamentallm find-lr`: a training whose rate rises, and the rate that is suggested from it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.run.range_test import HIGHEST, LOWEST, MARGIN, Point, suggest
from fundamentallm.train.find_rate import range_test
from fundamentallm.train.state import TrainState
from fundamentallm.train.step import TrainStep
from tests.engine.cli.conftest import TEXT, TINY, Run


def curve(losses: list[float]) -> list[Point]:
    rates = [LOWEST * (HIGHEST / LOWEST) ** (i / (len(losses) - 1)) for i in range(len(losses))]
    return [Point(rate, loss, loss) for rate, loss in zip(rates, losses, strict=True)]


def test_the_suggestion_keeps_a_margin_to_the_lowest_loss_but_not_below_the_steepest_fall() -> None:
    flat, steep, slow, rising = (
        [4.0] * 30,
        [4 - 0.1 * i for i in range(10)],
        [3 - 0.01 * i for i in range(40)],
        [3.0, 4.0],
    )
    points = curve(flat + steep + slow + rising)
    found = suggest(points)
    assert found.lowest == points[79].learning_rate
    assert points[30].learning_rate <= found.steepest <= points[40].learning_rate
    assert found.learning_rate == pytest.approx(found.lowest / MARGIN, rel=0.05)
    points = curve(flat + steep + [3.5])  # lowest where it was steepest
    assert suggest(points).learning_rate == pytest.approx(suggest(points).steepest, rel=0.05)
    for losses in ([], [4.0], [4.0, 5.0, 6.0] * 10):
        with pytest.raises(UserError, match="the loss did not fall at any learning rate from 1e-05 on"):
            suggest(curve([*losses, 9.0]) if losses else [])


@pytest.mark.parametrize("flags", [[], ["--optimizer", "adamw"], ["--accumulation-steps", "2", "--mixed-precision"]])
def test_the_command_suggests_a_rate_and_leaves_no_trace(run: Run, flags: list[str]) -> None:
    Path("text.txt").write_text(TEXT)
    words = ["find-lr", "text.txt", *TINY, *flags, "--output-dir", "mine", "--steps", "120"]
    status, out, err = run(*words, "--json")
    assert (status, err) == (0, "") and [path.name for path in Path().iterdir()] == ["text.txt"]
    numbers: dict[str, Any] = json.loads(out)
    points = numbers["points"]
    assert 50 < len(points) <= 120 and points[0]["learning_rate"] == LOWEST
    rates = [point["learning_rate"] for point in points]
    assert [later / earlier for earlier, later in zip(rates, rates[1:], strict=False)] == pytest.approx(
        [(HIGHEST / LOWEST) ** (1 / 119)] * (len(rates) - 1)
    )
    assert min(rates) < numbers["suggestion"] < max(rates) and min(p["loss"] for p in points) < points[0]["loss"] - 0.3
    again = json.loads(run(*words, "--json")[1])
    assert again == numbers  # the same seed, the same test
    lines = run(*words)[1].splitlines()
    assert lines[-1].startswith(f"suggested: --learning-rate {numbers['suggestion']:g}, ") and len(lines) > 12
    assert all(rate in lines[-4] for rate in ("1e-05", "0.0001", "0.001", "0.01", "0.1"))


def test_the_first_step_is_that_of_a_new_run(small: Callable[..., Config], build: Callable[..., TrainState]) -> None:
    first = next(range_test(small(), 50))
    assert first.loss == first.smoothed == pytest.approx(TrainStep(build())(0).loss.item(), abs=1e-6)
