"""Runs, and workers that `--detach` started, that get a signal at random instants."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fundamentallm.run import events
from fundamentallm.run.folder import LAST
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import is_held
from fundamentallm.train.checkpoint import load
from tests.torture.workbench import Bench, Lost, Options, Row, ask, comes_about, compare, events_in, finish, wait

FOUR: Options = ("--epochs=4",)
MANY: Options = ("--epochs=50", "--keep-checkpoints=1")
RARELY: Options = ("--epochs=8", "--save-every=0")  # last.pt once a minute: what a stop does not save is lost


def seeded(count: int, seed: int) -> list[tuple[str, random.Random]]:
    """A random generator for each of `count` runs, the same for the same seed."""
    return [(f"run {number}", random.Random(f"{seed} {number}")) for number in range(count)]


def struck(
    bench: Bench, rng: random.Random, duration: float, times: int, start: Callable[[Path], int], number: int
) -> tuple[Path, int]:
    """A run that gets a signal `times` times in a row, at random instants; one that was faster is repeated.

    Returns:
        The run, and the status of the last of its processes.

    Raises:
        Lost: a process ended in another way.
    """
    run, hits, status = bench.new(), 0, 0
    while hits < times:
        pid = start(run)
        time.sleep(rng.uniform(0.002, duration))
        os.kill(pid, number)
        status = wait(pid)
        if status in (-number, 128 + number):
            hits += 1
        elif status == 0:
            shutil.rmtree(run, ignore_errors=True)
            hits, duration = 0, 0.9 * duration
        else:
            raise Lost(f"status {status}: {bench.printed(run)}")
    return run, status


def kills(bench: Bench, count: int, seed: int) -> Row:
    """`kill -9` of runs that save at every step, some several times before they reach their end."""
    reference, duration = bench.reference(FOUR), bench.duration(FOUR)

    def one(bench: Bench, rng: random.Random) -> None:
        times = rng.choice((1, 1, 1, 2, 3))
        run, _ = struck(bench, rng, duration, times, lambda run: bench.start(run, FOUR), signal.SIGKILL)
        finish(bench, run, FOUR, reference)

    return bench.each(Row("kill -9 at a random instant"), seeded(count, seed), one)


def terminations(bench: Bench, count: int, seed: int) -> Row:
    """SIGTERM: the step under way is finished and saved, and none is repeated when the run is resumed."""
    reference, duration = bench.reference(RARELY), bench.duration(RARELY)

    def one(bench: Bench, rng: random.Random) -> None:
        times = rng.choice((1, 1, 2))
        run, status = struck(bench, rng, duration, times, lambda run: bench.start(run, RARELY), signal.SIGTERM)
        journal = list(read_journal(run))
        if status < 0 or not journal:  # it came before there was a run, or while no handler was installed
            finish(bench, run, RARELY, reference)
            return
        end = journal[-1]
        if not isinstance(end, events.Finished) or end.unsaved:
            raise Lost(f"status {status}, and the journal ends with {end}")
        if (saved := ask(lambda: load(run / LAST).counters["step"])) != end.step:
            raise Lost(f"ended at step {end.step} and saved step {saved}")
        journal = finish(bench, run, RARELY, reference)
        later = [event for event in journal if isinstance(event, events.RunStarted) and event.seq > end.seq]
        if any(start.step != end.step for start in later):
            raise Lost(f"ended at step {end.step} and resumed from {later}")

    return bench.each(Row("SIGTERM at a random instant"), seeded(count, seed), one)


# ---- detached ----


def detach(bench: Bench, run: Path) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a worker; return the command that started it, and the worker's pid, as soon as the journal has its start.

    Raises:
        Lost: it did not begin.
    """
    before = len(events_in(run, events.RunStarted))
    command = [sys.executable, "-m", "fundamentallm", *bench.arguments(run, MANY), "--detach"]
    with bench.output(run).open("ab") as output:
        starter = subprocess.Popen(command, stdout=output, stderr=output)
    if not comes_about(lambda: len(events_in(run, events.RunStarted)) > before or bool(starter.poll())):
        starter.kill()
    starts = events_in(run, events.RunStarted)
    if len(starts) <= before:
        raise Lost(f"a worker did not begin: status {starter.wait()}: {bench.printed(run)}")
    return starter, starts[-1].pid


def is_finished(run: Path) -> bool:
    """Wait for the end of the run's last process; whether it reached the run's end."""
    if not comes_about(lambda: not is_held(run)):
        raise Lost("the worker hangs")
    return isinstance(list(read_journal(run))[-1], events.Finished)


def detached_runs(bench: Bench, count: int, seed: int) -> Row:
    reference, duration = bench.reference(MANY), bench.duration(MANY)

    def one(bench: Bench, rng: random.Random) -> None:
        run, longest = bench.new(), duration
        while True:
            starter, pid = detach(bench, run)
            time.sleep(rng.uniform(0, longest))
            if is_held(run):
                os.kill(pid, signal.SIGKILL)
            starter.wait()
            if not is_finished(run):
                break
            shutil.rmtree(run)
            longest *= 0.8
        starter, _ = detach(bench, run)
        if starter.wait() or not is_finished(run):
            raise Lost(f"the second worker ended: {(run / 'engine.log').read_text()[-300:]} {bench.printed(run)}")
        compare(run, reference)
        finish(bench, run, MANY, reference)  # nothing is left to be done, and nothing is harmed

    return bench.each(Row("kill -9 of a detached worker"), seeded(count, seed), one)
