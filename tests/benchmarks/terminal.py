"""Run a program in a pseudo-terminal: read its screen, press keys, measure its CPU time and memory."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyte

CONSOLE = str(Path(sys.executable).with_name("fllm-tui"))


def worker_of(folder: Path) -> int:
    """Return the process id of the worker that writes a run."""
    with (folder / "journal.jsonl").open() as file:
        return int(next(start["pid"] for start in map(json.loads, file) if start["event"] == "run_started"))


def memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes (Linux)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Terminal:
    """A terminal that runs `command`. A thread keeps `screen`, the text on it, up to date."""

    def __init__(self, command: Sequence[str], columns: int = 120, rows: int = 36) -> None:
        self.started = time.perf_counter()
        self._status: int | None = None
        self.bytes = b""  # everything that the program has written
        self.read_at = 0.0  # when the last of it came, in seconds of perf_counter
        self.parses = True  # whether `screen` is kept up to date, which takes time
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self.pid, self._file = pty.fork()
        if self.pid == 0:
            # COLUMNS and LINES: if readline was imported, it has set them to the size of another terminal
            environment = {
                name: value
                for name, value in os.environ.items()
                if name not in ("COLUMNS", "LINES", "NO_COLOR", "PYTHONDONTWRITEBYTECODE")
            }
            environment.update(TERM="xterm-256color", COLORTERM="truecolor")
            fcntl.ioctl(
                0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0)
            )  # before the program asks for it
            os.execvpe(command[0], list(command), environment)
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def screen(self) -> str:
        return "\n".join(self._screen.display)

    def press(self, keys: str) -> None:
        os.write(self._file, keys.encode())

    def see(self, shown: str | Callable[[str], bool], patience: float = 60.0) -> float:
        """Wait until `shown` is on the screen; return the seconds since the start of the program."""
        found = shown if callable(shown) else lambda screen: shown in screen
        begun = time.perf_counter()
        while not found(self.screen):
            if time.perf_counter() - begun > patience:
                raise TimeoutError(f"not seen: {shown}\n{self.screen}")
            time.sleep(0.005)
        return time.perf_counter() - self.started

    def hang_up(self) -> None:
        """Close the terminal, as closing its window does: the kernel sends SIGHUP."""
        os.close(self._file)

    def see_first_step(self) -> float:
        """Wait until the console has shown a step; return the seconds since the start of the program."""
        return self.see(lambda screen: re.search(r"step +[1-9]\d*/", screen) is not None)

    def cpu_seconds(self) -> float:
        """Return the user and system time of the process without its children (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.status()

    def status(self) -> int:
        """Wait for the end of the program; return its exit status, or minus the signal that killed it."""
        deadline = time.monotonic() + 60
        while self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise TimeoutError(f"the program does not end:\n{self.screen}")
            else:
                time.sleep(0.02)
        return self._status

    def end(self) -> None:
        """Kill the program if it still runs."""
        if self._status is None:
            self.kill()

    def _read(self) -> None:
        while True:
            try:
                if select.select([self._file], [], [], 0.5)[0]:
                    block = os.read(self._file, 1 << 16)
                    self.read_at = time.perf_counter()
                    self.bytes += block
                    if self.parses:
                        self._stream.feed(block)
            except (OSError, ValueError):
                return
