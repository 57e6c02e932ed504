"""Runs of other processes, as a console meets them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.geometry import Region

from fundamentallm.config.config import Layer, resolve
from fundamentallm.run.commands import COMMANDS, decode
from fundamentallm.run.events import Failed, Finished, Phase
from fundamentallm.run.journal import Journal
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.trainer import Trainer
from fundamentallm_tui.screens.runs import Runs

both_sizes = pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])

Write = Callable[..., Path]  # the fixture `write`


def train(workshop: Any, name: str = "real", **settings: Any) -> Path:
    """Train a real run, in a second; returns its folder."""
    small: dict[str, Any] = {
        "model_dim": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 16, "stride": 16, "batch_size": 8,
        "eval_every": 10, "max_steps": 30, "device": "cpu",
    }  # fmt: skip
    folder = workshop.folder / "runs" / name
    folder.mkdir(parents=True)
    spec = RunSpec(resolve(Layer({**small, "data": str(workshop.text), **settings})), folder)
    trainer = Trainer(spec, lambda event: None, lambda: [])
    assert isinstance(trainer.run(), Finished)
    trainer.close()
    return Path("runs", name)


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
