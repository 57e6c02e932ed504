"""`kill -9` while a worker trains that `--detach` left alone, and another worker goes on."""

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
from tests.torture.bench import Bench, Lost, Options, Row, compare, finish, until
from tests.torture.instants import cases

OPTIONS: Options = ("--epochs=50", "--keep-checkpoints=1")


def detached(bench: Bench, run: Path) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a worker; returns as soon as it has told of its beginning: the command that started it, and its pid.

    Raises:
        Lost: it did not begin.
    """
    before = len(starts(run))
    command = [sys.executable, "-m", "fundamentallm", *bench.arguments(run, OPTIONS), "--detach"]
    with bench.output(run).open("ab") as output:
        starter = subprocess.Popen(command, stdout=output, stderr=output)
    if not until(lambda: len(starts(run)) > before or bool(starter.poll())):
        starter.kill()
    if len(starts(run)) <= before:
        raise Lost(f"a worker did not begin: status {starter.wait()}: {bench.words(run)}")
    return starter, starts(run)[-1].pid


def starts(run: Path) -> list[events.RunStarted]:
    return [event for event in read_journal(run) if isinstance(event, events.RunStarted)]


def ended(run: Path) -> bool:
    """Whether the run's last process came to the run's end."""
    if not until(lambda: not is_held(run)):
        raise Lost("the worker hangs")
    return isinstance(list(read_journal(run))[-1], events.Finished)


def workers(bench: Bench, count: int, seed: int) -> Row:
    reference, length = bench.reference(OPTIONS), bench.length(OPTIONS)

    def one(bench: Bench, dice: random.Random) -> None:
        run, longest = bench.new(), length
        while True:
            starter, pid = detached(bench, run)
            time.sleep(dice.uniform(0, longest))
            if is_held(run):
                os.kill(pid, signal.SIGKILL)
            starter.wait()
            if not ended(run):
                break
            shutil.rmtree(run)
            longest *= 0.8
        starter, _ = detached(bench, run)
        if starter.wait() or not ended(run):
            raise Lost(f"the second worker ended: {(run / 'engine.log').read_text()[-300:]} {bench.words(run)}")
        compare(run, reference)
        finish(bench, run, OPTIONS, reference)  # nothing is left to be done, and nothing is harmed
        shutil.rmtree(run)

    return bench.each(Row("kill -9 of a detached worker"), cases(count, seed), one)
