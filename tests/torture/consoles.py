"""Consoles that are killed, hang, or never read."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fundamentallm.run import events
from fundamentallm.run.commands import Stop
from fundamentallm.run.journal import read_journal, send_command
from fundamentallm.run.locks import is_held
from tests.torture.workbench import Bench, Lost, Row, comes_about, events_in

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
    run = session.WorkerRun(RunSpec(resolve(Layer(values)), Path(sys.argv[1])))
    while not Path(sys.argv[3]).exists():
        run.events(0.1)
    time.sleep(600)
"""


def broken_consoles(bench: Bench, short: bool) -> list[Row]:
    """The run continues as fast as before, and still obeys; the note says how fast."""
    script, stops_reading = bench.folder / "console.py", bench.folder / "stops reading"
    script.write_text(CONSOLE)
    faults: dict[str, Callable[[int], None]] = {
        "console killed": lambda pid: os.kill(pid, signal.SIGKILL),
        "console hung (SIGSTOP)": lambda pid: os.kill(pid, signal.SIGSTOP),
        "console that never reads its queue": lambda pid: stops_reading.touch(),
    }
    rows = [Row(fault) for fault in faults]
    for row, act in zip(rows, faults.values(), strict=True):
        run = bench.new()
        command = [sys.executable, str(script), str(run), str(bench.text), str(stops_reading)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            row.take(run.name, lambda: outlived(row, run, process.pid, act, 0.5 if short else 5.0))  # noqa: B023
        finally:
            process.kill()
            process.wait()
            if run.exists():
                send_command(run, Stop())
    return rows


def outlived(row: Row, run: Path, console: int, act: Callable[[int], None], seconds: float) -> None:
    if not comes_about(lambda: steps(run) > 5):
        raise Lost("did not begin")
    time.sleep(seconds)
    broken_at = time.time()
    act(console)
    before = steps(run)
    trained = comes_about(lambda: steps(run) > before + 30 and time.time() > broken_at + seconds)
    rates = rate(run, broken_at - seconds, broken_at), rate(run, broken_at, broken_at + seconds)
    row.note = f"{rates[0]:.0f} steps a second before, {rates[1]:.0f} after: {rates[1] / rates[0]:.2f} times"
    send_command(run, Stop())
    ended = trained and comes_about(lambda: not is_held(run))
    last = list(read_journal(run))[-1]
    if not ended or not isinstance(last, events.Finished) or last.reason != "stopped" or last.unsaved:
        raise Lost(f"is at step {steps(run)}, {last}")


def steps(run: Path) -> int:
    progress = events_in(run, events.Progress)
    return events.last_step(progress[-1]) if progress else 0


def rate(run: Path, since: float, until: float) -> float:
    """Steps a second between two moments, as the journal has them."""
    progress = [event for event in events_in(run, events.Progress) if since <= event.time <= until]
    if len(progress) < 2:
        return float("nan")
    first, last = progress[0], progress[-1]
    return (events.last_step(last) - events.last_step(first)) / float(last.time - first.time)
