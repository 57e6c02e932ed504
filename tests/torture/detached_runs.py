"""`kill -9` of a worker that `--detach` started; another worker resumes its run."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from fundamentallm.run import events
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import is_held
from tests.torture.random_kills import seeded
from tests.torture.workbench import Bench, Lost, Options, Row, comes_about, compare, events_in, finish

OPTIONS: Options = ("--epochs=50", "--keep-checkpoints=1")


def detach(bench: Bench, run: Path) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a worker; return the command that started it, and the worker's pid, as soon as the journal has its start.

    Raises:
        Lost: it did not begin.
    """
    before = len(events_in(run, events.RunStarted))
    command = [sys.executable, "-m", "fundamentallm", *bench.arguments(run, OPTIONS), "--detach"]
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
    reference, duration = bench.reference(OPTIONS), bench.duration(OPTIONS)

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
        finish(bench, run, OPTIONS, reference)  # nothing is left to be done, and nothing is harmed

    return bench.each(Row("kill -9 of a detached worker"), seeded(count, seed), one)
