"""Runs of other processes, as a console meets them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run.commands import COMMANDS, decode
from fundamentallm.run.journal import Journal
from fundamentallm.run.locks import RunLock
from fundamentallm_tui.screens.runs import Runs

both_sizes = pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])

Write = Callable[..., Path]  # the fixture `write`


@contextmanager
def alive(folder: Path) -> Iterator[Journal]:
    """A process writes the run."""
    lock, journal = RunLock(folder), Journal(folder)
    yield journal
    journal.close()
    lock.release()


def commands_sent(folder: Path) -> list[Any]:
    """The commands in a run's inbox."""
    path = folder / COMMANDS
    return [decode(line) for line in path.read_text().splitlines()] if path.exists() else []


async def to(seen: Any, runs: Runs, name: str) -> None:
    """Move the cursor of the list to a run."""
    await seen.press("home")
    await seen.press_until("down", lambda: runs.list.current is None or runs.list.current.folder.name == name)


async def overlay(seen: Any, *names: str, shown: str = "shown") -> None:
    """Mark runs in the list, and open another one."""
    runs = await seen.open_list(len(names) + 1)
    for name in (*names, shown):
        await to(seen, runs, name)
        await seen.press("space" if name != shown else "enter")
    await seen.until(
        lambda: seen.main.store.folder == Path("runs", shown) and len(seen.main.loss.beside()) == len(names)
    )
    await seen.press("3")
