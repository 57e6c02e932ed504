"""Drawing at a pace that its cost allows."""

import time
from collections.abc import Callable

from textual.timer import Timer
from textual.widget import Widget

WATCHED = 8
PRESENCE = 10.0  # seconds after a key in which someone is taken to be watching
HURRY, HURRIED = 60.0, 1.0  # for so many seconds after `hurry`, no picture waits longer than this


class RedrawThrottle:
    """Calls `draw` after something changed: at once if that was long ago, else when its turn comes.

    `share` is the part of one core that drawing may take: a picture that costs 20 ms at a share of 1 % comes every two
    seconds. While someone is at the keyboard it may take `WATCHED` times as much. A widget that cannot be seen is not
    drawn; whoever shows it calls `ask` again. `hurry` says that something begins which is looked at closely for a
    minute.
    """

    touched = -1e9  # when a key was pressed last, for all paces; monotonic seconds

    def __init__(self, widget: Widget, draw: Callable[[], float], *, least: float, share: float) -> None:
        """
        Args:
            draw: draws and returns what the last drawing cost, in seconds.
            least: shortest time between two drawings, in seconds.
        """
        self._widget, self._draw, self._least, self._share = widget, draw, least, share
        self._next = 0.0
        self._hurried = -1e9
        self._timer: Timer | None = None

    def ask(self, *, now: bool = False) -> None:
        """Something changed; `now`: a person is waiting for it."""
        if not self._widget.is_mounted or not visible(self._widget):
            return
        wait = self._next - time.monotonic()
        if now or wait <= 0:
            self._go()
        elif self._timer is None:
            self._timer = self._widget.set_timer(wait, self._go)

    def hurry(self) -> None:
        """What is drawn is about to change fast, and its first drawings, which load things, cost more than others."""
        self._hurried, self._next = time.monotonic(), 0.0

    def _go(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        cost = self._draw()
        now = time.monotonic()
        share = self._share * (WATCHED if now - RedrawThrottle.touched < PRESENCE else 1)
        wait = cost / share
        if now - self._hurried < HURRY:
            wait = min(wait, HURRIED)
        self._next = now + max(self._least, wait)


def visible(widget: Widget) -> bool:
    """Whether a widget has a place on the screen: neither it nor what holds it is hidden."""
    return all(node.display for node in widget.ancestors_with_self if isinstance(node, Widget))
