"""Runs that are struck at random instants."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from fundamentallm.run import events
from fundamentallm.run.folder import LAST
from fundamentallm.run.journal import read_journal
from fundamentallm.train.checkpoint import load
from tests.torture.bench import Bench, Lost, Options, Row, ask, finish, wait

FOUR: Options = ("--epochs=4",)
RARELY: Options = ("--epochs=8", "--save-every=0")  # last.pt once a minute: what a stop does not save is lost


def cases(count: int, seed: int) -> list[tuple[str, random.Random]]:
    """Dice for each of `count` runs, the same for the same seed."""
    return [(f"run {number}", random.Random(f"{seed} {number}")) for number in range(count)]


def struck(
    bench: Bench, dice: random.Random, length: float, times: int, start: Callable[[Path], int], number: int
) -> tuple[Path, int]:
    """A run that was sent a signal `times` times in a row, at random instants; one that was faster is done anew.

    Returns:
        The run, and the status of the last of its processes.

    Raises:
        Lost: a process ended in another way.
    """
    run, hits, status = bench.new(), 0, 0
    while hits < times:
        pid = start(run)
        time.sleep(dice.uniform(0.002, length))
        os.kill(pid, number)
        status = wait(pid)
        if status in (-number, 128 + number):
            hits += 1
        elif status == 0:
            shutil.rmtree(run, ignore_errors=True)
            hits, length = 0, 0.9 * length
        else:
            raise Lost(f"status {status}: {bench.words(run)}")
    return run, status


def kills(bench: Bench, count: int, seed: int) -> Row:
    """`kill -9` over runs that save at every step; one run may be killed several times before it goes on to its end."""
    reference, length = bench.reference(FOUR), bench.length(FOUR)

    def one(bench: Bench, dice: random.Random) -> None:
        times = dice.choice((1, 1, 1, 2, 3))
        run, _ = struck(bench, dice, length, times, lambda run: bench.start(run, FOUR), signal.SIGKILL)
        finish(bench, run, FOUR, reference)
        shutil.rmtree(run)

    return bench.each(Row("kill -9 at a random instant"), cases(count, seed), one)


def terminations(bench: Bench, count: int, seed: int) -> Row:
    """SIGTERM: the step under way is finished and saved, and nothing is done twice when the run goes on."""
    reference, length = bench.reference(RARELY), bench.length(RARELY)

    def one(bench: Bench, dice: random.Random) -> None:
        run, status = struck(
            bench, dice, length, dice.choice((1, 1, 2)), lambda run: bench.start(run, RARELY), signal.SIGTERM
        )
        told = list(read_journal(run))
        if status < 0 or not told:  # it came before there was a run, or before or after anybody minded it
            return finish(bench, run, RARELY, reference)
        end = told[-1]
        if not isinstance(end, events.Finished) or end.unsaved:
            raise Lost(f"status {status}, and the journal ends with {end}")
        if (saved := ask(lambda: load(run / LAST).counters["step"])) != end.step:
            raise Lost(f"ended at step {end.step} and saved step {saved}")
        finish(bench, run, RARELY, reference)
        later = [event for event in read_journal(run) if isinstance(event, events.RunStarted) and event.seq > end.seq]
        if any(event.step != end.step for event in later):
            raise Lost(f"ended at step {end.step} and went on from {later}")
        shutil.rmtree(run)

    return bench.each(Row("SIGTERM at a random instant"), cases(count, seed), one)
