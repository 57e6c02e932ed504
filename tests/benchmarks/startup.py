"""Measure the console's first paint against an empty Textual app's, and the time from F5 to the first step.

python tests/benchmarks/startup.py [--rounds 5]
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from terminal import CONSOLE, Terminal, worker_of

EMPTY = """
from textual.app import App
from textual.widgets import Label
class Empty(App):
    def compose(self):
        yield Label("IDLE")
Empty().run()
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    empty, ours, first_step, key = [], [], [], []
    for _ in range(options.rounds):
        terminal = Terminal([sys.executable, "-c", EMPTY])
        empty.append(terminal.see("IDLE"))
        terminal.kill()

        folder = Path(tempfile.mkdtemp()) / "run"
        terminal = Terminal([CONSOLE, "--preset", "tiny", "--output-dir", str(folder)])
        ours.append(terminal.see("IDLE"))
        terminal.see("F5 start")
        time.sleep(0.5)
        pressed = time.perf_counter() - terminal.started
        terminal.press("\x1b[15~")  # F5
        first_step.append(terminal.see_first_step() - pressed)
        time.sleep(3)
        pressed = time.perf_counter() - terminal.started
        terminal.press("\x1b[17~")  # F6
        key.append(terminal.see("PAUS") - pressed)
        terminal.kill()
        os.kill(worker_of(folder), signal.SIGKILL)
    more = median(ours) - median(empty)
    print(f"first paint     {median(ours):.2f} s, an empty app's {median(empty):.2f} s: {more:+.2f} s")
    print(f"F5 to step 1    {median(first_step):.2f} s (at most {max(first_step):.2f} s)")
    print(f"key to screen   {1000 * median(key):.0f} ms while training (at most {1000 * max(key):.0f} ms)")


if __name__ == "__main__":
    main()
