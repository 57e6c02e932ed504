"""Runs that are killed at random instants."""

import os
import random
import shutil
import signal
import time

from tests.torture.workbench import KILLED, Bench, Lost, Options, Row, finish, wait

FOUR: Options = ("--epochs=4",)


def kills(bench: Bench, short: bool) -> Row:
    """`kill -9` of runs that save at every step, some several times before they reach their end."""
    reference, duration = bench.reference(FOUR), bench.duration(FOUR)

    def one(bench: Bench, rng: random.Random) -> None:
        run, left, longest = bench.new(), rng.choice((1, 1, 1, 2, 3)), duration
        while left:
            pid = bench.start(run, FOUR)
            time.sleep(rng.uniform(0.002, longest))
            os.kill(pid, signal.SIGKILL)
            status = wait(pid)
            if status == KILLED:
                left -= 1
            elif status == 0:  # it was faster
                shutil.rmtree(run)
                longest *= 0.9
            else:
                raise Lost(f"status {status}: {bench.printed(run)}")
        finish(bench, run, FOUR, reference)

    runs = [(f"run {number}", random.Random(number)) for number in range(8 if short else 200)]
    return bench.each(Row("kill -9 at a random instant"), runs, one)
