"""Drawing costs what it may, and the first minute of a run is not late."""

from typing import Any

import pytest

from fundamentallm_tui import throttle as pace
from fundamentallm_tui.throttle import RedrawThrottle


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Clock:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def test_the_first_minute_is_drawn_every_second_however_dear_and_later_minutes_pay(
    clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RedrawThrottle, "touched", -1e9)
    kept = RedrawThrottle(None, lambda: 0.1, least=0.5, share=0.003)  # type: ignore[arg-type]
    kept.hurry()
    for _ in range(3):
        kept._go()
        assert kept._next - clock.now == 1.0
    clock.now += pace.HURRY + 1
    kept._go()
    assert kept._next - clock.now == pytest.approx(0.1 / 0.003)
    kept.hurry()
    assert kept._next <= clock.now, "what is owed from an earlier run does not delay the next"


async def test_a_start_hurries_the_charts(workshop: Any) -> None:
    async with workshop.console() as seen:
        seen.main.loss.pace._next = 1e12
        await seen.started()
        assert seen.main.loss.pace._next < 1e12
