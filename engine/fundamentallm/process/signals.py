"""Signals of a user who wants a process to end: the first asks, the second insists."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def obeyed(stop: Callable[[int], object], *numbers: int) -> Iterator[list[int]]:
    """Within: the first of these signals calls `stop` with its number, the second ends the process with 128 + number.

    A hangup that is ignored (nohup) stays ignored.

    Yields:
        The numbers of the signals received so far.
    """
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        stop(number)

    ignored = signal.SIGHUP if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else None
    previous = {number: signal.signal(number, handle) for number in numbers if number != ignored}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
