"""The two signals of a person who wants a process to end: the first asks, the second insists."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def obeyed(names: Iterable[str], stop: Callable[[], None], received: list[int] | None = None) -> Iterator[list[int]]:
    """Within: the first signal of these names calls `stop`, the second ends the process with status 128 + its number.

    Yields those received; in the list that was given, they are seen also where `stop` raises. A signal that this system
    lacks is left out, and a hangup that is ignored (nohup) stays so.
    """
    received = [] if received is None else received

    def arrived(number: int, _: FrameType | None) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        stop()

    numbers = [number for name in names if (number := getattr(signal, name, None)) is not None]
    minded = [n for n in numbers if not (n.name == "SIGHUP" and signal.getsignal(n) is signal.SIG_IGN)]
    before = {number: signal.signal(number, arrived) for number in minded}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
