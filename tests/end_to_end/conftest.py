"""Programs in a pseudo-terminal, with the screen that the user would see; and many programs without one."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.terminal import Terminal
from tests.conftest import until

Ask = Callable[[dict[str, Any]], Any]
WORDS = ["once", "upon", "a", "time", "there", "was", "owl", "that", "read", "small", "books", "by", "moonlight.\n"]
TEXT = "Once upon a time " + " ".join(random.Random(1).choices(WORDS, k=600))
TINY = [
    "--model-dim=16", "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=16", "--learning-rate=0.005",
    "--device=cpu",
]  # fmt: skip
EPOCH = 11  # steps of TINY on TEXT
CONSOLE = (sys.executable, "-m", "fundamentallm_tui")
KEYS = {"F5": "\x1b[15~", "F6": "\x1b[17~", "F7": "\x1b[18~", "F8": "\x1b[19~", "ctrl+g": "\x07", "ctrl+q": "\x11"}


# ---- in a terminal ----


def step_of(seen: Terminal) -> int:
    """The step that a console shows."""
    found = re.search(r"step +(\d+)/", seen.screen)
    return int(found[1]) if found else 0


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_leftovers: None) -> Path:
    """The current folder, with a configuration in quick.yaml of quick steps that would take minutes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    Path("text.txt").write_text("the sea is deep, the night is long, and the lamp is lit.\n" * 200)
    Path("quick.yaml").write_text(
        "data: text.txt\nmodel_dim: 16\nnum_layers: 1\nmax_seq_len: 32\nbatch_size: 8\nepochs: 10000\n"
    )
    return tmp_path


# ---- without one: forked from a process that has imported torch ----


@dataclass
class Program:
    """A `fundamentallm` that was started; `out` and `err` are what it has printed so far."""

    pid: int
    _out: Path
    _err: Path
    _ask: Ask
    status: int | None = None

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, or ends within so many seconds."""
        if self.status is None:
            self.status = self._ask({"wait": self.pid, "seconds": seconds})
        return self.status is not None

    def wait(self) -> int:
        """Its exit status, negative for a signal that ended it."""
        until(lambda: self.has_ended(1.0))
        assert self.status is not None
        return self.status

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait until something holds that this program brings about."""
        until(lambda: condition() or self.has_ended(), what=condition)
        assert condition(), f"ended with {self.status}: {self.err}"

    def until_printed(self, text: str) -> None:
        self.until(lambda: text in self.out + self.err)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[Ask]:
    yield from serve()


def serve(*modules: str) -> Iterator[Ask]:
    """Start a fork server that imports these modules, too."""
    command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), *modules]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
    fork_server: Ask, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Program]]:
    """Starts `fundamentallm ARGUMENTS` in `tmp_path`; `prepare` is Python that its process runs first."""
    started: list[Program] = []
    printed = tmp_path_factory.mktemp("printed")

    def start(*arguments: object, prepare: str = "") -> Program:
        files = {name: printed / f"{len(started)}.{name}" for name in ("out", "err")}
        for path in files.values():
            path.touch()
        order = {"arguments": list(map(str, arguments)), "folder": str(tmp_path), "prepare": prepare}
        pid = fork_server({**order, **{name: str(path) for name, path in files.items()}})
        started.append(Program(pid, files["out"], files["err"], fork_server))
        return started[-1]

    yield start
    for program in started:
        if not program.has_ended():
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
    (tmp_path / "text.txt").write_text(TEXT)
    return ["train", "text.txt", *TINY, "--dropout=0.1"]
