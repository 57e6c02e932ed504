"""Runs of other processes, as a console meets them."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
from textual.geometry import Region

from fundamentallm import train_model
from fundamentallm.errors import UserError
from fundamentallm.run.commands import COMMANDS, Attend, Neighbours, decode
from fundamentallm.run.events import Attended, Failed, Nearest, Phase
from fundamentallm.run.journal import Journal
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.screens.runs import Runs
from tests.tui.fakes import FakeRun

both_sizes = pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])

Write = Callable[..., Path]  # the fixture `write`


SMALL: dict[str, Any] = {  # a model that trains in a second
    "model_dim": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 16, "stride": 16, "batch_size": 8, "dropout": 0.1,
    "device": "cpu",
}  # fmt: skip


def train(workshop: Any, **settings: Any) -> Path:
    """Train a real run; returns its folder."""
    settings = {**SMALL, "eval_every": 10, "max_steps": 30, **settings}
    return train_model(workshop.text, output_dir="runs/real", **settings).folder


REFUSED = "--output-dir runs/text-1: holds a run already"


class Starts:
    """Starts runs when the test allows it, and refuses so many of them."""

    def __init__(self, refused: int = 0) -> None:
        self.refused, self.ready = refused, threading.Event()
        self.ready.set()

    def __call__(self, job: RunSpec) -> FakeRun:
        assert self.ready.wait(60)
        if self.refused > 0:
            self.refused -= 1
            raise UserError(REFUSED)
        return FakeRun(job)


@contextmanager
def alive(folder: Path) -> Iterator[Journal]:
    """A process writes the run."""
    with RunLock(folder), closing(Journal(folder)) as journal:
        yield journal


@asynccontextmanager
async def showing(
    workshop: Any, folder: Path, size: tuple[int, int] = (120, 36), status: str = "FINISHED", **how: Any
) -> AsyncIterator[Any]:
    """A console that shows a run, and what it says of it."""
    async with workshop.console(size, **how) as seen:
        seen.main.open_run(folder)
        await seen.status_is(status)
        yield seen


@asynccontextmanager
async def attached(
    workshop: Any, folder: Path, size: tuple[int, int] = (120, 36), **how: Any
) -> AsyncIterator[tuple[Any, Journal]]:
    """A console that is attached to a run of another process, and the journal of that."""
    with alive(folder) as journal:
        async with showing(workshop, folder, size, "TRAINING", **how) as seen:
            yield seen, journal


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
    main = seen.main
    await seen.until(lambda: main.store.folder == Path("runs", shown) and len(main.loss.beside()) == len(names))
    await seen.press("3")


def palette(seen: Any) -> dict[str, Any]:
    """What the palette offers now, and what each entry does."""
    return {command.title: command.callback for command in seen.app.get_system_commands(seen.app.screen)}


def panes(seen: Any) -> dict[str, Region]:
    """The panes that can be seen, by name."""
    return {pane.id: pane.region for pane in seen.main.query(".pane") if pane.region.area}


async def bring_about(seen: Any, old: Path, state: str) -> None:
    """Put the console into a state; `old` is a run that was interrupted."""
    if state in ("attached", "replayed"):
        seen.main.open_run(old, speed=1000.0 if state == "replayed" else 0.0)
        return await seen.until(lambda: seen.main.store.loaded and not seen.main.store.under_way)
    if state == "idle":
        return
    if state == "loading":
        await seen.press("f5")
        return await seen.until(lambda: "LOADING" in seen.status and seen.main.reader)
    run = await seen.started()
    if state in ("paused", "stopping"):
        run.say(Phase(step=1, phase=state))
    elif state == "failed":
        run.say(Failed(step=1, error="out of memory"))
    elif state in ("stopped", "finished"):
        run.finish(4, "stopped" if state == "stopped" else "completed")
    await seen.status_is(state.upper())


def attended(asked: Attend, *, step: int = 0, layers: int = 2, heads: int = 2) -> Attended:
    """An answer whose weights are others in each head and layer."""

    def row(head: int, i: int) -> tuple[float, ...]:
        raw = [1 / (1 + (3 * j + (head + 2 * asked.layer + 2) * i) % 7) ** 2 for j in range(i + 1)]
        return tuple(round(value / sum(raw), 6) for value in raw)

    tokens = tuple(asked.text[-96:])
    rows = tuple(tuple(row(head, i) for i in range(len(tokens))) for head in range(heads))
    return Attended(step=step, id=asked.id, tokens=tokens, layer=asked.layer, layers=layers, heads=rows)


def nearest(asked: Neighbours, *, step: int = 0) -> Nearest:
    """An answer in which the letters come in the order of the alphabet."""
    names = tuple(letter for letter in ascii_lowercase if letter != asked.text)[:12]
    cosines = tuple(round(0.9 - 0.1 * n, 6) for n in range(12))
    return Nearest(step=step, id=asked.id, token=asked.text, tokens=names, cosine=cosines)
