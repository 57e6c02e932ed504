"""Consoles that are killed, hang, or never read; and two on one run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events
from fundamentallm.run.commands import Pause, Resume, Save, Stop
from fundamentallm.run.journal import read_journal, send_command
from fundamentallm.run.locks import is_held
from tests.torture.bench import Bench, Lost, Row, until, wait

CONSOLE = """
import sys, time
from pathlib import Path
from fundamentallm.process import session
from fundamentallm.config.config import Layer, resolve
from fundamentallm.run.spec import RunSpec

if __name__ == "__main__":
    session.QUEUE_SIZE = 3
    values = dict(data=sys.argv[2], model_dim=16, num_layers=1, max_seq_len=16, stride=16, batch_size=64, epochs=10**6,
                  keep_checkpoints=1, device="cpu")
    kept = session.WorkerRun(RunSpec(resolve(Layer(values)), Path(sys.argv[1])))
    while not Path(sys.argv[3]).exists():
        kept.events(0.1)
    time.sleep(600)
"""


def consoles(bench: Bench, short: bool) -> list[Row]:
    """The run goes on, as fast as before, and still obeys; the note says how fast."""
    script, deaf = bench.folder / "console.py", bench.folder / "deaf"
    script.write_text(CONSOLE)
    faults: dict[str, Callable[[int], None]] = {
        "console killed": lambda pid: os.kill(pid, signal.SIGKILL),
        "console hung (SIGSTOP)": lambda pid: os.kill(pid, signal.SIGSTOP),
        "console that never reads its queue": lambda pid: deaf.touch(),
    }
    rows = [Row(fault) for fault in faults]
    for row, strike in zip(rows, faults.values(), strict=True):
        run = bench.new()
        command = [sys.executable, str(script), str(run), str(bench.text), str(deaf)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            row.take(run.name, lambda: outlived(row, run, process, strike, 0.5 if short else 5.0))  # noqa: B023
        finally:
            process.kill()
            process.wait()
            if run.exists():
                send_command(run, Stop())
    return rows


def outlived(
    row: Row, run: Path, console: "subprocess.Popen[bytes]", strike: Callable[[int], None], seconds: float
) -> None:
    if not until(lambda: steps(run) > 5):
        raise Lost("did not begin")
    time.sleep(seconds)
    struck = time.time()
    strike(console.pid)
    before = steps(run)
    went = until(lambda: steps(run) > before + 30 and time.time() > struck + seconds)
    rates = rate(run, struck - seconds, struck), rate(run, struck, struck + seconds)
    row.note = f"{rates[0]:.0f} steps a second before, {rates[1]:.0f} after: {rates[1] / rates[0]:.2f} times"
    send_command(run, Stop())
    ended = went and until(lambda: not is_held(run))
    last = list(read_journal(run))[-1]
    if not ended or not isinstance(last, events.Finished) or last.reason != "stopped" or last.unsaved:
        raise Lost(f"stood at step {steps(run)}, {last}")


def steps(run: Path) -> int:
    last = [event for event in read_journal(run) if isinstance(event, events.Progress)]
    return events.last_step(last[-1]) if last else 0


def rate(run: Path, since: float, until: float) -> float:
    """Steps a second, as the journal tells of the time between two moments."""
    told = [e for e in read_journal(run) if isinstance(e, events.Progress) and since <= e.time <= until]
    if len(told) < 2:
        return float("nan")
    return (events.last_step(told[-1]) - events.last_step(told[0])) / (told[-1].time - told[0].time)


def two_consoles(bench: Bench) -> Row:
    """Two consoles attached to one run: both act, both see all, and who did it."""
    row, run = Row("two consoles on one run"), bench.new()
    pid = bench.start(run, ("--epochs=100000",))
    if not until(lambda: steps(run) > 3):
        wait(pid, 0)
        row.take("all", lambda: nothing(bench.words(run)))
        return row
    attached = [AttachedRun(run), AttachedRun(run)]
    seen: list[list[events.Event]] = [[], []]
    said = [Pause(who="ada"), Save(who="bob"), Resume(who="bob"), Stop(who="ada")]

    def hear(timeout: float) -> None:
        for heard, console in zip(seen, attached, strict=True):
            heard += console.events(timeout)

    def answered(told: Any) -> bool:
        hear(0.02)
        return all(any(getattr(event, "id", "") == told.id for event in heard) for heard in seen)

    def obeyed(by: int, told: Any) -> None:
        attached[by].send(told)
        if not until(lambda: answered(told)):
            raise Lost("it was not answered for both")

    def same() -> None:
        status = wait(pid)
        hear(0.1)
        journal = list(read_journal(run))
        answers = [(e.command, e.who, e.ok) for e in journal if isinstance(e, events.Answered)]
        wanted = [("pause", "ada", True), ("save", "bob", True), ("resume", "bob", True), ("stop", "ada", True)]
        if status or seen != [journal, journal] or answers != wanted:
            raise Lost(f"status {status}, {answers}, saw {[len(heard) for heard in seen]} of {len(journal)}")

    for told, by in zip(said, (0, 1, 1, 0), strict=True):
        row.take(str(told), lambda: obeyed(by, told))  # noqa: B023
    row.take("all of it", same)
    return row


def nothing(words: str) -> None:
    raise Lost(f"did not begin: {words}")
