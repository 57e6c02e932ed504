"""Drawing costs no more than it may, and the first minute of a run is not late."""

from collections.abc import Callable
from typing import Any

import pytest

from fundamentallm_tui import throttle
from fundamentallm_tui.throttle import HURRY_SECONDS, RedrawThrottle


class FakeClock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class FakeWidget:
    """A widget on the screen, whose timers never fire."""

    is_mounted = True
    ancestors_with_self = ()

    def __init__(self) -> None:
        self.waits: list[float] = []

    def set_timer(self, delay: float, callback: Callable[[], Any]) -> None:
        self.waits.append(delay)


def test_the_first_minute_is_drawn_every_second_whatever_it_costs_and_later_minutes_pay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, widget, drawings = FakeClock(), FakeWidget(), []
    monkeypatch.setattr(throttle, "time", clock)
    monkeypatch.setattr(RedrawThrottle, "last_input", -1e9)

    def draw() -> float:
        drawings.append(clock.now)
        return 0.1

    throttled = RedrawThrottle(widget, draw, min_interval=0.5, cpu_share=0.003)  # type: ignore[arg-type]
    throttled.hurry()
    for second in range(3):
        throttled.request()
        assert len(drawings) == second + 1
        throttled.request()
        assert widget.waits.pop() == 1.0
        clock.now += 1.0
    clock.now += HURRY_SECONDS
    throttled.request()
    throttled.request()
    assert widget.waits == [pytest.approx(0.1 / 0.003)]
    throttled.hurry()
    throttled.request()
    assert len(drawings) == 5, "what an earlier run's drawings cost does not delay the next run's"


def test_while_the_user_is_at_the_keyboard_drawing_may_cost_eight_times_as_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, widget = FakeClock(), FakeWidget()
    monkeypatch.setattr(throttle, "time", clock)
    throttled = RedrawThrottle(widget, lambda: 0.1, min_interval=0.5, cpu_share=0.01)  # type: ignore[arg-type]
    for last_input, wait in ((clock.now - 9.0, 10.0 / 8), (clock.now - 11.0, 10.0)):
        monkeypatch.setattr(RedrawThrottle, "last_input", last_input)
        throttled.request(now=True)
        throttled.request()
        assert widget.waits.pop() == pytest.approx(wait)


async def test_a_start_hurries_the_charts(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hurried: list[RedrawThrottle] = []
    monkeypatch.setattr(RedrawThrottle, "hurry", lambda throttled: hurried.append(throttled))
    async with workshop.console() as seen:
        await seen.started()
        assert hurried == [seen.main.loss.throttle, seen.main.rate.throttle]
