"""What the tests of all rooms share: waiting for other processes, and reading what a run wrote."""

import ctypes
import gc
import inspect
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings

from fundamentallm.run.events import Answered, Event, Progress, last_step
from fundamentallm.run.journal import read_journal

# On busy cores, threads that wait for each other take ten to fifty times as long; the number of threads also changes
# the bits of a matrix product. Set before torch is imported, here and in every process that a test starts.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

# A shell that starts the tests in the background makes them ignore SIGINT, and the programs under test inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("suite", deadline=None, max_examples=50, derandomize=True, database=None)
settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "write the pictures of tests/tui/test_snapshots.py anew, instead of comparing screens with them"
    parser.addoption("--update-snapshots", action="store_true", help=text)


def pytest_collection_finish() -> None:
    """What is imported by now stays: to search it for garbage again and again took a quarter of the console's tests."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


PATIENCE = 60.0  # seconds until a test gives up on what it waits for
T = TypeVar("T")


def source_of(condition: Callable[..., object]) -> str:
    """The source of a condition: a wait that ends in vain says with it what it waited for."""
    try:
        return " ".join(inspect.getsource(condition).split())
    except (OSError, TypeError):
        return repr(condition)


def until(condition: Callable[[], T], timeout: float = PATIENCE, what: Callable[[], object] | None = None) -> T:
    """Wait until the condition holds, and return its value; what is said to be missing otherwise is `what` of it."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout:g} seconds in vain: {source_of(what or condition)}"
        time.sleep(0.05)  # conditions read files, which takes time from what they wait for
    return value


def journal_events(folder: Path, kind: type) -> list[Any]:
    """The events of one type in a run's journal."""
    return [event for event in read_journal(folder) if isinstance(event, kind)]


def file_contents(folder: Path) -> dict[str, bytes]:
    """The bytes of all files in and below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def delete_folder(folder: Path) -> None:
    """Delete the folder of a run that a process may still write: renamed first, so that nothing is added meanwhile."""
    shutil.rmtree(folder.rename(folder.with_name(f".{folder.name}.deleted")))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, also where its parent has not asked for its status yet."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except ProcessLookupError:
        return True
    except OSError:  # there is no /proc here, or it is gone since
        return Path("/proc/self").exists()


class Listener:
    """Collects the events of a run from its handle."""

    def __init__(self, run: Any) -> None:
        self.run, self.received = run, list[Any]()
        self._seen = 0

    def until(self, matches: Callable[[Any], bool]) -> Any:
        """Wait for an event that matches; events before the last match are not looked at again."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            while self._seen < len(self.received):
                self._seen += 1
                if matches(self.received[self._seen - 1]):
                    return self.received[self._seen - 1]
            alive = self.run.alive
            self.received += self.run.events(0.2)
            assert alive or self._seen < len(self.received), f"the run ended: {self.run.log_tail()}"
        raise AssertionError(f"no such event: {source_of(matches)}; the last ones: {self.received[-3:]}")

    def until_type(self, kind: type[Event]) -> Any:
        return self.until(lambda event: isinstance(event, kind))

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one type so far."""
        return [event for event in self.received if isinstance(event, kind)]

    def next_step(self) -> int:
        """Wait for progress, and return its last step."""
        return last_step(self.until_type(Progress))

    def answer(self, command: Any) -> Answered:
        """Send a command and wait for its answer."""
        self.run.send(command)
        found = self.until(lambda event: isinstance(event, Answered) and event.id == command.id)
        assert isinstance(found, Answered)
        return found


def opened_console(arguments: list[str], patch: pytest.MonkeyPatch) -> Any:
    """The options and the configuration with which a command line opens the console in a terminal."""
    from fundamentallm_tui import __main__ as console

    opened: list[Any] = []
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        patch.setattr(stream, "isatty", lambda: True)
    patch.setenv("TERM", "xterm-256color")
    patch.setattr(console, "_run", lambda options, _slow: opened.append((options, options.resolve())))
    assert console.main(arguments) is None, f"fllm-tui {arguments} is refused"
    (found,) = opened
    return found


# A console in which one key meets a fault of the program.
FAULTY_CONSOLE = """
if __name__ == "__main__":
    from fundamentallm_tui.__main__ import main
    from fundamentallm_tui.screens.main import MainScreen
    MainScreen.action_save = lambda self: 1 / 0
    main()
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def screen() -> Iterator[Callable[..., Any]]:
    """Starts a program in a terminal; whatever still runs at the end of the test, also of a failed one, is killed."""
    from tests.benchmarks.terminal import Terminal

    started: list[Terminal] = []

    def start(*command: str, columns: int = 120, rows: int = 36) -> Terminal:
        started.append(Terminal(command, columns, rows))
        return started[-1]

    yield start
    for program in started:
        program.end()


@pytest.fixture
def kill_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kill, after the test, all processes that it started and that still live (where there is /proc)."""
    mark = f"STARTED_BY_A_TEST={tmp_path}"
    monkeypatch.setenv(*mark.split("=", 1))
    yield
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if int(folder.name) != os.getpid() and mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


def as_a_user(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test without root's right to look into every folder, which Linux takes from a thread alone."""

    def without_right(*args: Any, **how: Any) -> None:
        if sys.platform == "linux":
            header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            libc = ctypes.CDLL(None)
            libc.capget(header, rights)
            for which in (0, 1):  # effective and permitted: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
                rights[which] &= ~0b110
            libc.capset(header, rights)
        test(*args, **how)

    @wraps(test)
    def in_thread(*args: Any, **how: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(without_right, *args, **how).result()

    return in_thread
