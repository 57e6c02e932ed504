"""Drawing costs no more than it may, and the first minute of a run is not late."""

from types import SimpleNamespace
from typing import Any

import pytest

from fundamentallm_tui import throttle
from fundamentallm_tui.throttle import HURRY_SECONDS, RedrawThrottle


class Throttled:
    """A widget on the screen, whose drawings cost 100 ms and whose timers never fire; and a clock."""

    is_mounted = True
    ancestors_with_self = ()

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.drawings, self.waits = 1000.0, 0, list[float]()
        clock = SimpleNamespace(monotonic=lambda: self.now, thread_time=lambda: self.drawings * 0.1)
        monkeypatch.setattr(throttle, "time", clock)
        self.throttle = RedrawThrottle(self, self.draw, min_interval=0.5, cpu_share=0.01)  # type: ignore[arg-type]

    def draw(self) -> None:
        self.drawings += 1

    def set_timer(self, delay: float, callback: Any) -> None:
        self.waits.append(delay)

    def wait(self) -> float:
        """Draw, and ask for the next drawing: how long that has to wait."""
        drawings = self.drawings
        self.throttle.request()
        self.throttle.request()
        assert self.drawings == drawings + 1
        return self.waits.pop()


def test_the_first_minute_is_drawn_every_second_whatever_it_costs_and_later_minutes_pay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(RedrawThrottle, "last_input", -1e9)
    widget = Throttled(monkeypatch)
    widget.throttle.hurry()
    for _ in range(3):
        assert widget.wait() == 1.0
        widget.now += 1.0
    widget.now += HURRY_SECONDS
    assert widget.wait() == pytest.approx(10.0)
    widget.throttle.hurry()  # what an earlier run's drawings cost does not delay the next run's
    assert widget.wait() == 1.0
    widget.throttle.hurry(always=True)
    widget.now += 2 * HURRY_SECONDS
    assert widget.wait() == 0.5, "a replay's charts keep up with its status line"
    widget.throttle.hurry()
    for seconds, wait in ((9.0, 10.0 / 8), (11.0, 10.0)):  # eight times as often for a user at the keyboard
        widget.now += HURRY_SECONDS + 1
        monkeypatch.setattr(RedrawThrottle, "last_input", widget.now - seconds)
        assert widget.wait() == pytest.approx(wait)


def test_a_slow_line_is_drawn_on_every_two_seconds_but_at_once_for_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RedrawThrottle, "slow_line", True)
    monkeypatch.setattr(RedrawThrottle, "last_input", -1e9)
    widget = Throttled(monkeypatch)
    widget.throttle.hurry()
    assert widget.wait() == 2.0
    widget.throttle.request(now=True)
    assert widget.drawings == 1
    monkeypatch.setattr(RedrawThrottle, "last_input", widget.now - 1.0)
    widget.throttle.request(now=True)
    assert widget.drawings == 2


async def test_a_start_hurries_the_charts(workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hurried: list[tuple[RedrawThrottle, bool]] = []
    monkeypatch.setattr(RedrawThrottle, "hurry", lambda throttled, always: hurried.append((throttled, always)))
    folder = make("old")
    async with workshop.console() as seen:
        charts = seen.main.loss.throttle, seen.main.metric.throttle
        await seen.started()
        assert hurried == [(chart, False) for chart in charts]
        seen.main.open_run(folder, speed=20.0)
        assert hurried[2:] == [(chart, True) for chart in charts]
        await seen.status_is("STOPPED")
