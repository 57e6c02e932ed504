"""How threads of the CPU share work. torch has them share each operation, and wait for one another at its end."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

THREADS = 2  # that compute halves; not measured with more, which would wait longer for Python's lock


def in_two_threads(work: Callable[[Part], Result], first: Part, second: Part) -> tuple[Result, Result]:
    """Call `work` with two halves of something at the same time, each in a thread of its own that uses one core.

    Threads that share each operation of a step wait for one another thousands of times a second. If another program
    takes a core for a moment, both of them stand; with halves, they wait once. Beside a program that keeps one of two
    cores busy a step is about twice as fast, on idle cores 0.97 to 1.12 times (tests/benchmarks/RESULTS.md).

    An exception of `work` is raised when both calls have ended.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of this one, while they compute
    calls = list[Future[Result]]()
    try:
        calls += [_threads().submit(work, half) for half in (first, second)]
        wait(calls)
        return calls[0].result(), calls[1].result()
    finally:
        torch.set_num_threads(threads)
        calls.clear()  # an exception refers to this frame, and so to both results: memory may have run out


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, "half", torch.set_num_threads, (1,))  # each thread has a number of its own
