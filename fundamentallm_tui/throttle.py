"""Limits redraws to a share of the processor."""

import time
from collections.abc import Callable
from math import inf

from textual.timer import Timer
from textual.widget import Widget

ACTIVE_FACTOR = 8  # how much more drawing may cost while the user is at the keyboard
ACTIVE_SECONDS = 10.0  # after a key or a click for which the user counts as being there
SLOW_INTERVAL = 2.0  # seconds between two drawings on a slow line
HURRY_SECONDS, HURRY_INTERVAL = 60.0, 1.0  # for so long after `hurry`, no drawing waits longer than this


class RedrawThrottle:
    """Calls `draw` after a change: at once if the last drawing is long ago, else as soon as its cost allows.

    A drawing that takes 20 ms at a share of 1 % comes every two seconds, and eight times as often while the user is at
    the keyboard. A widget that cannot be seen is not drawn; request a drawing again when it is shown.
    """

    last_input = -1e9  # when the last key was pressed, for all throttles; monotonic seconds
    slow_line = False  # for all throttles: the bytes of a drawing cost more than its computing

    def __init__(
        self,
        widget: Widget,
        draw: Callable[[], object],
        *,
        min_interval: float,
        cpu_share: float = 1.0,
        slow_interval: float = SLOW_INTERVAL,
    ) -> None:
        """Between two calls of `draw` pass the intervals at least.

        Times are in seconds; `slow_interval` is for a slow line; `cpu_share`, 0 to 1, of one core drawing may take.
        """
        self._slow_interval = slow_interval
        self._widget, self._draw, self._min_interval, self._cpu_share = widget, draw, min_interval, cpu_share
        self._next = 0.0
        self._hurried, self._hurry_interval = -1e9, HURRY_INTERVAL
        self._timer: Timer | None = None

    def request(self, *, now: bool = False) -> None:
        """Draw soon; `now`: at once, because the user waits for it."""
        if not self._widget.is_mounted or not is_visible(self._widget):
            return
        wait = self._next - time.monotonic()
        if now and RedrawThrottle.slow_line:  # then only what the user has just asked for
            now = time.monotonic() - RedrawThrottle.last_input < SLOW_INTERVAL
        if now or wait <= 0:
            self._redraw()
        elif self._timer is None:
            self._timer = self._widget.set_timer(wait, self._redraw)

    def hurry(self, *, always: bool = False) -> None:
        """Draw at least every second for the next minute: a run starts, and its first drawings load modules.

        `always`: until the next call, as often as the status line: a replay runs fast, and takes nothing from training.
        """
        self._hurried, self._next = (inf if always else time.monotonic()), 0.0
        self._hurry_interval = 0.0 if always else HURRY_INTERVAL

    def _redraw(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        start = time.thread_time()
        self._draw()
        now, cost = time.monotonic(), time.thread_time() - start
        wait = cost / (self._cpu_share * (ACTIVE_FACTOR if user_is_active() else 1))
        if now - self._hurried < HURRY_SECONDS:
            wait = min(wait, self._hurry_interval)
        slowest = self._slow_interval if RedrawThrottle.slow_line else 0.0
        self._next = now + max(self._min_interval, wait, slowest)


def user_is_active() -> bool:
    """Return whether the user is at the keyboard."""
    return time.monotonic() - RedrawThrottle.last_input < ACTIVE_SECONDS


def is_visible(widget: Widget) -> bool:
    """Return whether neither a widget nor what holds it is hidden."""
    return all(node.display for node in widget.ancestors_with_self if isinstance(node, Widget))
