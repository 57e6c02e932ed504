"""Runs of other processes, as a console meets them; and what is on its screen."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run.commands import COMMANDS, decode
from fundamentallm.run.events import Evaluated
from fundamentallm.run.journal import Journal
from fundamentallm.run.locks import RunLock
from fundamentallm_tui.screens.runs import Runs

both_sizes = pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])


@contextmanager
def alive(folder: Path) -> Iterator[Journal]:
    """A process writes the run."""
    lock, journal = RunLock(folder), Journal(folder)
    yield journal
    journal.close()
    lock.release()


def told(folder: Path) -> list[Any]:
    """The commands in a run's inbox."""
    path = folder / COMMANDS
    return [decode(line) for line in path.read_text().splitlines()] if path.exists() else []


def evaluated(step: int, loss: float) -> Evaluated:
    return Evaluated(
        step=step, epoch=1, train_loss=loss, val_loss=loss, perplexity=2.0, epoch_ended=True, best=True
    )  # fmt: skip


def screen_text(app: Any) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


async def library(seen: Any, count: int) -> Runs:
    await seen.pilot.press("ctrl+o")
    await seen.until(lambda: isinstance(seen.app.screen, Runs) and len(seen.app.screen.list.runs) == count)
    return seen.app.screen  # type: ignore[no-any-return]
