"""Programs in a pseudo-terminal, with the screen that a person would see."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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
