"""Measure the console on a run of a million steps that is under way while two processes saturate both cores.

    python tests/benchmarks/console.py [--size 120x36] [--steps 1000000] [--seconds 60] [--keys 230] [--rounds 5]

A synthetic journal is written into a temporary folder, which this process continues as a run does; the console
is attached to it in a pseudo-terminal. Key press to frame: until the console has written all that it writes next.
First paint: compared with an empty Textual app; F5 to the first step trains the tiny preset. Both without other load.
"""

import argparse
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, cycle, islice
from pathlib import Path
from statistics import median, quantiles

from terminal import CONSOLE, Terminal, memory_of, worker_of

from fundamentallm.config.config import Config, to_dict
from fundamentallm.process.worker import NICENESS
from fundamentallm.run.events import JOURNAL, CheckpointSaved, Evaluated, Event, Phase, Progress, RunStarted, encode
from fundamentallm.run.journal import Journal
from fundamentallm.run.locks import RunLock

REPORT, REPORTS_A_SECOND, EPOCH = 100, 10, 10_000  # steps of a report; steps
OTHERS = 8
QUIET = 0.02  # seconds without output after which a frame is complete
SETTLED = 70  # seconds; in the first minute of a run charts are drawn more often
MIB = 1 << 20
F1, F5, LEFT, RIGHT, DOWN, CTRL_O = "\x1bOP", "\x1b[15~", "\x1b[D", "\x1b[C", "\x1b[B", "\x0f"
# Each changes what is on the screen. Not escape: Textual waits for what may follow it.
KEYS = ("c", LEFT, LEFT, RIGHT, "c", "+", "+", LEFT, "0", "m", *"tttt", "l", "l", "z", "z", "2", "1", F1, F1, "3")
GOALS = {  # name, goal or 0, unit
    "keys": ("key press to frame, p95, cores saturated", 30, "ms"),
    "untouched": ("untouched, of a core, cores saturated", 1.5, "%"),
    "alone": ("resident memory, attached", 60, "MiB"),
    "overlaid": (f"resident memory, {OTHERS} runs overlaid", 120, "MiB"),
    "paint": ("first paint, over an empty app's", 0.1, "s"),
    "first step": ("F5 to the first step", 0, "s"),
}
EMPTY = """
from textual.app import App
from textual.widgets import Label
class Empty(App):
    def compose(self):
        yield Label("IDLE")
Empty().run()
"""
BUSY = f"import os\nos.nice({NICENESS})\nwhile True: pass"


def reports(first: int, last: int, rng: random.Random) -> Iterator[Event]:
    """What a run reports about these steps, which begin a report."""
    for start in range(first, last, REPORT):
        steps = tuple(range(start + 1, start + REPORT + 1))
        losses = tuple(round(1.2 + 3 / (1 + step / 2000) + rng.gauss(0, 0.05), 4) for step in steps)
        end = steps[-1]
        yield Progress(
            step=steps, train_loss=losses, learning_rate=(1e-3,) * REPORT, epoch=1 + start // EPOCH,
            grad_norm=tuple(round(rng.lognormvariate(-1, 0.2), 4) for _ in steps), tokens=end * 4096,
            tokens_per_second=4_096_000.0, eta_seconds=600.0, memory_bytes=412_000_000,
        )  # fmt: skip
        if end % EPOCH == 0:
            loss = 1.25 + 3 / (1 + end / 2000) + 2e-8 * end
            yield Evaluated(
                step=end, epoch=end // EPOCH, train_loss=losses[-1], val_loss=loss, perplexity=math.exp(loss),
                epoch_ended=True, best=True,
            )  # fmt: skip
            yield CheckpointSaved(step=end, path="best.pt", kind="best", bytes=1_600_000, seconds=0.1)


def write_runs(steps: int, rng: random.Random) -> Path:
    """Write a run below `runs`, and others with the same journal; return its folder."""
    folder, *others = [Path("runs", name) for name in ("shown", *(f"other-{n}" for n in range(OTHERS)))]
    for each in (folder, *others):
        each.mkdir(parents=True)
    start = RunStarted(
        step=0, version="0", config=to_dict(Config(data=("text.txt",))), parameters=100_000, vocab_size=60, pid=1,
        steps_per_epoch=EPOCH, total_steps=2 * steps, device="cpu", threads=2, torch="2", host="here", preset="small",
    )  # fmt: skip
    events = chain([start, Phase(step=0, phase="training")], reports(0, steps, rng))
    with (others[0] / JOURNAL).open("w") as file:
        for n, event in enumerate(events, 1):
            file.write(encode(replace(event, seq=n, time=time.time() + (n - steps / REPORT) / REPORTS_A_SECOND)) + "\n")
    for other in others[1:]:
        os.link(others[0] / JOURNAL, other / JOURNAL)
    shutil.copy(others[0] / JOURNAL, folder)
    return folder


@contextmanager
def under_way(folder: Path, steps: int, rng: random.Random) -> Iterator[None]:
    """Write a run on, as its process does."""
    ended = threading.Event()

    def write() -> None:
        lock, journal = RunLock(folder), Journal(folder)
        for event in reports(steps, 2 * steps, rng):
            journal.append(event)
            if isinstance(event, Progress) and ended.wait(1 / REPORTS_A_SECOND):
                break
        journal.close()
        lock.release()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def busy_cores() -> Iterator[None]:
    """Saturate every core with a process of a training run's priority."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def settle(terminal: Terminal, seconds: float = 2.0) -> None:
    """Wait until the console has taken in what it has to read, and for so many seconds took a tenth of a core."""
    used = -1.0
    while (now := terminal.cpu_seconds()) - used > seconds / 10:
        used = now
        time.sleep(seconds)


def frame(terminal: Terminal, key: str) -> float:
    """Press a key; return the seconds until the last byte of what is written next."""
    pressed = time.perf_counter()
    terminal.press(key)
    while terminal.read_at < pressed:
        if time.perf_counter() - pressed > 10:
            raise TimeoutError(f"nothing follows the key {key!r}")
        time.sleep(0.001)
    while time.perf_counter() - terminal.read_at < QUIET:
        time.sleep(0.001)
    return terminal.read_at - pressed


def attached(columns: int, rows: int, options: argparse.Namespace) -> dict[str, float]:
    """Measure a console that is attached to a long run."""
    rng, measured = random.Random(0), {}
    folder = write_runs(options.steps, rng)
    with busy_cores(), under_way(folder, options.steps, rng):
        terminal = Terminal([CONSOLE, "attach", str(folder)], columns, rows)
        terminal.see(lambda screen: any(int(n) >= options.steps for n in re.findall(r"step +(\d+)/", screen)))
        settle(terminal)
        terminal.parses = False
        terminal.press("3")
        times = []
        for key in islice(cycle(KEYS), options.keys):
            time.sleep(rng.uniform(0.1, 0.3))
            times.append(frame(terminal, key))
        measured["keys"] = 1000 * quantiles(times, n=20)[-1]
        print(
            f"{len(times)} keys: median {1000 * median(times):.1f} ms, at most {1000 * max(times):.1f} ms", flush=True
        )
        time.sleep(options.settled)
        used, began = terminal.cpu_seconds(), time.monotonic()
        time.sleep(options.seconds)
        measured["untouched"] = 100 * (terminal.cpu_seconds() - used) / (time.monotonic() - began)
        measured["alone"] = memory_of(terminal.pid) / MIB
        terminal.parses = True
        terminal.press(CTRL_O)
        terminal.see(f"{OTHERS + 1} runs")
        for key in ("/", "other-", "\r", *(" ", DOWN) * OTHERS, "o"):
            terminal.press(key)
            settle(terminal, 0.5)
        terminal.see("TRAINING")
        settle(terminal)
        terminal.press("z")
        terminal.see(lambda screen: screen.count(" other-") == OTHERS)
        measured["overlaid"] = memory_of(terminal.pid) / MIB
        terminal.kill()
    return measured


def started(columns: int, rows: int, rounds: int) -> dict[str, float]:
    """Measure the first paint, and how long the first step takes after the key that starts a run."""
    empty, ours, first_step = [], [], []
    for n in range(rounds):
        terminal = Terminal([sys.executable, "-c", EMPTY], columns, rows)
        empty.append(terminal.see("IDLE"))
        terminal.kill()
        folder = Path(f"started-{n}")
        terminal = Terminal([CONSOLE, "--preset", "tiny", "--output-dir", str(folder)], columns, rows)
        ours.append(terminal.see("IDLE"))
        terminal.see("F5 start")
        time.sleep(0.5)
        pressed = time.perf_counter() - terminal.started
        terminal.press(F5)
        first_step.append(terminal.see_first_step() - pressed)
        terminal.kill()
        os.kill(worker_of(folder), signal.SIGKILL)
        time.sleep(0.5)
        shutil.rmtree(folder)
    print(f"first paint {median(ours):.2f} s, an empty app's {median(empty):.2f} s", flush=True)
    return {"paint": median(ours) - median(empty), "first step": median(first_step)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="120x36")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--keys", type=int, default=230)
    parser.add_argument("--seconds", type=float, default=60, help="for which nothing is pressed")
    parser.add_argument("--settled", type=float, default=SETTLED, help="seconds before those")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    columns, rows = map(int, options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            os.environ[name] = folder
        measured = {**started(columns, rows, options.rounds), **attached(columns, rows, options)}
        os.chdir("/")
    print(f"{'':<44}{'measured':>11}{'goal':>11}{'ratio':>7}")
    for name, (what, goal, unit) in GOALS.items():
        value = measured[name]
        shown, aim, ratio = (
            f"{value:.2f} {unit}",
            f"{goal:g} {unit}" if goal else "",
            f"{value / goal:.2f}" if goal else "",
        )
        print(f"{what:<44}{shown:>11}{aim:>11}{ratio:>7}")


if __name__ == "__main__":
    main()
