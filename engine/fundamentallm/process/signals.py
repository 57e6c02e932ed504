"""Signals of a user who wants a process to end: the first asks, the second insists."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def obeyed(names: Iterable[str], stop: Callable[[], None], received: list[int] | None = None) -> Iterator[list[int]]:
    """Within: the first of these signals calls `stop`, the second ends the process with status 128 + its number.

    A hangup that is ignored (nohup) stays ignored.

    Args:
        names: such as "SIGTERM".
        received: the list to append to; a caller that gives one sees the signal even if `stop` raises.

    Yields:
        The numbers of the signals received so far.
    """
    received = [] if received is None else received

    def handle(number: int, _: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        stop()

    previous = {}
    for name in names:
        number = signal.Signals[name]
        if name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
            continue
        previous[number] = signal.signal(number, handle)
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
