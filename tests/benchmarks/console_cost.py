"""Measure the console's CPU time and memory while it shows a run and nobody presses a key.

python tests/benchmarks/console_cost.py [--seconds 60] [--size 120x36]
"""

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

from terminal import CONSOLE, Terminal, memory_of, worker_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--size", default="120x36")
    options = parser.parse_args()
    columns, rows = map(int, options.size.split("x"))
    config = Path(tempfile.mkdtemp()) / "long.yaml"
    config.write_text("data: data/samples/sample_data.txt\nmodel_dim: 64\nnum_layers: 2\nepochs: 1000\nstride: 32\n")
    command = [CONSOLE, "--config", str(config), "--output-dir", str(config.parent / "run"), "--start"]
    terminal = Terminal(command, columns, rows)
    terminal.see_first_step()
    time.sleep(70)  # in the first minute of a run charts are drawn more often
    before, started, memory = terminal.cpu_seconds(), time.monotonic(), memory_of(terminal.pid)
    time.sleep(options.seconds)
    used, passed = terminal.cpu_seconds() - before, time.monotonic() - started
    print(f"{100 * used / passed:.2f} % of one core over {passed:.0f} s at {options.size}")
    print(f"{memory / 2**20:.0f} MiB, {(memory_of(terminal.pid) - memory) / 2**20:+.1f} MiB during it")
    worker = worker_of(config.parent / "run")
    print(f"the worker runs at nice {os.getpriority(os.PRIO_PROCESS, worker)}")
    terminal.kill()
    os.kill(worker, signal.SIGKILL)


if __name__ == "__main__":
    main()
