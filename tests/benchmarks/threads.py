"""Measure training in tokens per second by how two threads share the work, on idle cores and with one core busy.

    python tests/benchmarks/threads.py [--presets tiny,small] [--rounds 5] [--seconds 3]

Each round starts a process for each way, one after the other, first on idle cores, then beside a process that computes
on one core. "Shared" is each operation: OpenMP's threads wait for one another, as long as the rest of the name says. A
row is the median over the rounds and its spread, as a share of the median of one thread under the same conditions.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

SHARED = "shared"
WAYS: dict[str, dict[str, str]] = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "halves": {"OMP_NUM_THREADS": "2"},
    SHARED: {"OMP_NUM_THREADS": "2"},
    f"{SHARED}, as it comes": {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": "300000"},  # as where nothing is set
    f"{SHARED}, passive": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
}


def measure(preset: str, seconds: float, shared: bool) -> float:
    """Train for some seconds in this process; tokens per second."""
    from fundamentallm.config.config import Layer, resolve
    from fundamentallm.config.files import load_preset
    from fundamentallm.run.spec import RunSpec
    from fundamentallm.train.state import build_state
    from fundamentallm.train.step import TrainStep

    rng = random.Random(0)
    with TemporaryDirectory() as folder:
        text = Path(folder, "text.txt")
        text.write_text("".join(chr(rng.randrange(33, 98)) for _ in range(100_000)))
        config = resolve(load_preset(preset).layer, Layer({"data": str(text)}))
        state = build_state(RunSpec(config, Path(folder, "run")))
    state.halves = not shared
    step = TrainStep(state)
    for number in range(3):
        step(number)
    began, number = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        step(number)
        number += 1
    return number * config.effective_batch * config.max_seq_len / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--presets", default="tiny,small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--shared", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return print(measure(options.measure, options.seconds, options.shared))
    found: dict[tuple[str, bool, str], list[float]] = {}
    for _ in range(options.rounds):
        for preset in options.presets.split(","):
            for busy in (False, True):
                for way, environment in WAYS.items():
                    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if busy else None
                    command = [sys.executable, __file__, "--measure", preset, "--seconds", str(options.seconds)]
                    command += ["--shared"] * way.startswith(SHARED)
                    done = subprocess.run(
                        command, env=os.environ | environment, capture_output=True, text=True, check=True
                    )
                    if other is not None:
                        other.kill()
                        other.wait()
                    found.setdefault((preset, busy, way), []).append(float(done.stdout))
    for (preset, busy, way), speeds in found.items():
        base = median(found[preset, busy, "one thread"])
        spread = f"{min(speeds) / base:.2f} to {max(speeds) / base:.2f}"
        where = "one core busy" if busy else "idle"
        print(f"{preset:6}  {where:13}  {way:20}  {median(speeds):9,.0f}  {median(speeds) / base:.2f}  ({spread})")


if __name__ == "__main__":
    main()
