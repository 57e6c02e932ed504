"""Programs in a pseudo-terminal, with the screen that a person would see; and programs without one, many of them."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE

spec = importlib.util.spec_from_file_location("terminal", Path(__file__).parents[1] / "benchmarks" / "terminal.py")
assert spec is not None and spec.loader is not None
terminal = importlib.util.module_from_spec(spec)
spec.loader.exec_module(terminal)


@pytest.fixture
def screen() -> Iterator[Callable[..., Any]]:
    """Starts a program in a terminal; whatever still runs at the end of the test is killed."""
    started: list[Any] = []

    def start(*command: str, columns: int = 120, rows: int = 36) -> Any:
        started.append(terminal.Terminal(command, columns, rows))
        return started[-1]

    yield start
    for program in started:
        program.end()


@dataclass
class Program:
    """A `fundamentallm` that was started; `out` and `err` are what it has printed so far."""

    pid: int
    _folder: Path
    _ask: Callable[[dict[str, Any]], Any]
    status: int | None = None

    @property
    def out(self) -> str:
        return (self._folder / f"{self.pid}.out").read_text()

    @property
    def err(self) -> str:
        return (self._folder / f"{self.pid}.err").read_text()

    def wait(self) -> int:
        """Its exit status, negative for a signal that ended it."""
        deadline = time.monotonic() + PATIENCE
        while self.status is None:
            assert time.monotonic() < deadline, f"it does not end: {self.err}"
            self.status = self._ask({"wait": self.pid, "seconds": 1.0})
        return self.status

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def says(self, words: str) -> None:
        """Wait until it has printed something."""
        self.until(lambda: words in self.out + self.err)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds that this program is to bring about."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {self.err}"
            self.status = self._ask({"wait": self.pid, "seconds": 0.01}) if self.status is None else self.status
            assert self.status is None or condition(), f"ended with {self.status}: {self.err}"


@pytest.fixture(scope="session")
def _nursery() -> Iterator[Callable[[dict[str, Any]], Any]]:
    script = str(Path(__file__).with_name("nursery.py"))
    process = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    orders, answers = process.stdin, process.stdout

    def ask(order: dict[str, Any]) -> Any:
        orders.write(json.dumps(order) + "\n")
        orders.flush()
        return json.loads(answers.readline())

    yield ask
    orders.close()
    process.wait()


@pytest.fixture
def launch(
    _nursery: Callable[[dict[str, Any]], Any], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Program]]:
    """Starts `fundamentallm ARGUMENTS` in `tmp_path`; `prepare` is Python that its process runs first.

    The default arguments of `train` (a text, a tiny model) come with the fixture `tiny`.
    """
    started: list[Program] = []
    printed = tmp_path_factory.mktemp("printed")

    def start(*arguments: object, prepare: str = "") -> Program:
        files = {name: str(printed / f"{len(started)}.{name}") for name in ("out", "err")}
        for path in files.values():
            Path(path).touch()
        order = {"arguments": list(map(str, arguments)), "folder": str(tmp_path), "prepare": prepare, **files}
        program = Program(_nursery(order), printed, _nursery)
        for name, path in files.items():
            (printed / f"{program.pid}.{name}").hardlink_to(path)
        started.append(program)
        return program

    yield start
    for program in started:
        if program.status is None:
            with suppress(ProcessLookupError):
                program.signal(signal.SIGKILL)
            program.wait()


@pytest.fixture
def run(launch: Callable[..., Program]) -> Callable[..., Program]:
    """`launch`, and wait for the end."""

    def run(*arguments: object, prepare: str = "") -> Program:
        program = launch(*arguments, prepare=prepare)
        program.wait()
        return program

    return run


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """The arguments of a `train` whose epoch has 11 steps and takes no time; the text is text.txt."""
    words = ["once", "upon", "a", "time", "there", "was", "owl", "that", "read", "small", "books", "by", "moonlight.\n"]
    text = "Once upon a time " + " ".join(random.Random(1).choices(words, k=600))
    (tmp_path / "text.txt").write_text(text)
    return [
        "train", "text.txt", "--model-dim=16", "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=16",
        "--learning-rate=0.005", "--dropout=0.1", "--device=cpu",
    ]  # fmt: skip
