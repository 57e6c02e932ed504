"""Every screen looks as when someone last looked; `pytest --update-snapshots tests/tui/test_snapshots.py` renews."""

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.widgets import Input

from fundamentallm.paths import shipped
from fundamentallm.run.commands import Attend, Explain, Neighbours, Sample
from fundamentallm.run.events import Event, Failed, Phase, Pinned, RunStarted, Sampled
from fundamentallm.run.notes import write_notes
from fundamentallm.run.range_test import Point, Suggestion
from fundamentallm_tui.state import store
from fundamentallm_tui.theme import THEMES
from fundamentallm_tui.throttle import RedrawThrottle
from tests import events
from tests.events import layers_inspected
from tests.tui import pictures
from tests.tui.fakes import FakeRateTest
from tests.tui.others import attended, nearest, overlay, to

FOLDER = Path(__file__).parent / "snapshots"
RECORDED = Path(__file__).parents[1] / "fixtures" / "health"
SIZES = ((80, 24), (120, 36), (200, 60))
SHOWN_THEMES = tuple(theme.name for theme in THEMES[:2])  # a dark and the light one
SETTINGS = ("max_seq_len", "stride", "epochs", "lr_schedule")  # in which the recorded runs differ from the preset
NOW = 1_796_000_000.0  # UTC, in seconds: some hours after the runs were recorded


@pytest.fixture(autouse=True)
def fixed_world(workshop: Any) -> Iterator[None]:
    """One clock, time zone and number of cores for all, and drawings that wait for nothing."""
    request = RedrawThrottle.request
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        patch.setattr(time, "time", lambda: NOW)
        patch.setattr(store, "time", SimpleNamespace(time=lambda: NOW, monotonic=lambda: 0.0))
        patch.setattr(os, "cpu_count", lambda: 2)
        patch.setattr(RedrawThrottle, "request", lambda self, now=False: request(self, now=True))
        patch.setattr(Input, "cursor_blink", False)
        yield
    time.tzset()


def recorded(name: str, last: int = 1_000_000) -> list[Event]:
    """The events of a recorded run, of the tiny preset, up to a step."""
    found = events.recorded(name, last)
    return [replace(event, preset="tiny") if isinstance(event, RunStarted) else event for event in found]


def copy_runs(workshop: Any, *names: str) -> None:
    """Put recorded runs below `runs`."""
    for name in names:
        folder = workshop.folder / "runs" / name
        folder.mkdir(parents=True)
        (folder / "journal.jsonl").write_bytes((RECORDED / f"{name}.jsonl").read_bytes())
        for file in ("last.pt", "best.pt"):
            (folder / file).write_bytes(b"weights")


async def train(seen: Any, name: str = "healthy", last: int = 264) -> Any:
    """Start a run that reports what a recorded one did, and sample from it."""
    await seen.press("f5")
    await seen.until(lambda: seen.runs and seen.main.reader is not None)
    run = seen.run
    run.folder.mkdir(parents=True)
    for file in ("journal.jsonl", "best.pt"):
        (run.folder / file).touch()
    run.say(*recorded(name, last), Phase(step=last, phase="training"))
    await seen.until(lambda: seen.main.store.step == last)
    await seen.press("g", *"To be", "enter")
    await seen.until(lambda: any(isinstance(command, Sample) for command in run.sent))
    asked = next(command for command in run.sent if isinstance(command, Sample))
    text = ", or not to be: that is the sea\nand the old crew went out at dawn."
    chances = tuple((n * 37 % 100) / 100 for n in range(len(text)))
    run.say(Sampled(step=last, id=asked.id, prompt="To be", text=text, probabilities=chances, done=True))
    await seen.until(lambda: seen.main.store.sample.done)
    await seen.press("escape", "3")
    return run


async def idle(seen: Any, workshop: Any) -> None:
    await seen.see("No run yet." if seen.app.size.width > 80 else "IDLE")


async def tour(seen: Any, workshop: Any) -> None:
    await idle(seen, workshop)
    seen.main.action_tour()
    await seen.see("tour 1/")


async def problem(seen: Any, workshop: Any) -> None:
    await seen.until(lambda: seen.main.form.run_size.steps)
    await seen.type(num_heads="7")
    await seen.see("does not divide")


async def training(seen: Any, workshop: Any) -> None:
    await train(seen)


async def paused(seen: Any, workshop: Any) -> None:
    run = await train(seen)
    run.say(Phase(step=264, phase="paused"))
    await seen.status_is("PAUSED")


async def finished(seen: Any, workshop: Any) -> None:
    copy_runs(workshop, "healthy", "wide_gap", "underfitting")
    await overlay(seen, "wide_gap", "underfitting", shown="healthy")
    await seen.status_is("FINISHED")
    await seen.press("c", *["left"] * 8)


async def failed(seen: Any, workshop: Any) -> None:
    run = await train(seen, "rate_too_high", 176)
    run.say(Failed(step=176, error="the loss became nan", advice="a lower learning_rate", saved="best.pt", time=NOW))
    await seen.status_is("FAILED")


async def edit(seen: Any, workshop: Any) -> None:
    await train(seen)
    await seen.type(learning_rate="0.0005")


async def health(seen: Any, workshop: Any) -> None:
    await train(seen, "overfitting", 168)
    await seen.press("h")


async def runs(seen: Any, workshop: Any) -> None:
    copy_runs(workshop, "healthy", "wide_gap", "underfitting", "diverged", "rate_too_low", "plateau")
    write_notes(workshop.folder / "runs" / "healthy", note="The one to compare others with.", tags=["base", "keep"])
    listed = await seen.open_list(6)
    for name in ("wide_gap", "underfitting", "healthy"):
        await to(seen, listed, name)
        await seen.press("space")


async def compare(seen: Any, workshop: Any) -> None:
    await runs(seen, workshop)
    await seen.press("c")


async def layers(seen: Any, workshop: Any) -> None:
    run = await train(seen)
    run.say(*(layers_inspected(step, 12) for step in range(8, 265, 8)))
    await seen.until(lambda: len(seen.main.store.history.inspected) == 33)
    await seen.press("4", *"mmmmm")


async def attention(seen: Any, workshop: Any) -> None:
    run = await train(seen)
    seen.main.action_attention()
    await seen.until(lambda: isinstance(run.sent[-1], Attend))
    run.say(attended(run.sent[-1], step=264))
    await seen.see("attends to")
    await seen.press("up", "up", "full_stop")


async def neighbours(seen: Any, workshop: Any) -> None:
    run = await train(seen)
    seen.main.action_attention(nearest=True)
    await seen.until(lambda: isinstance(run.sent[-1], Attend))
    run.say(attended(replace(run.sent[-1], text="the sea"), step=264))
    await seen.until(lambda: isinstance(run.sent[-1], Neighbours))
    run.say(nearest(run.sent[-1], step=264))
    await seen.see("0.90")


async def help(seen: Any, workshop: Any) -> None:
    await train(seen)
    await seen.press("f1")


async def look(seen: Any, workshop: Any) -> None:
    run = await train(seen)
    await seen.press("f4")
    await seen.until(lambda: isinstance(run.sent[-1], Explain))
    run.say(events.explained(run.sent[-1]))
    await seen.see("nats a token")
    await seen.press("w", "right", "right", "tab")


async def files(seen: Any, workshop: Any) -> None:
    folder = workshop.folder / "texts"
    (folder / "letters").mkdir(parents=True)
    for name in ("dawn.txt", "sea.txt"):
        (folder / name).write_text("The sea and her old crew went out at dawn.\nNobody asked them why.\n" * 200)
    await seen.type(data="texts")
    await seen.press("escape", "f2")
    await seen.see("dawn.txt")
    await seen.press("down", "down")
    await seen.see("Nobody asked")


async def presets(seen: Any, workshop: Any) -> None:
    await seen.press("f3", "up")


async def pins(seen: Any, workshop: Any) -> None:
    run = await train(seen)
    lines = {"To be": ", or not to be: that is the sea", "The old crew": " went out at dawn.\nNobody asked"}
    for step, end in ((88, " thir an"), (176, " the sat"), (264, " and why.")):
        for prompt, text in lines.items():
            run.say(Pinned(step=step, prompt=prompt, text=text + end, probabilities=(), seconds=0.05))
    await seen.press("f9")
    await seen.see("step 264, 3 of 3")
    await seen.press("c", "left")


async def find_rate(seen: Any, workshop: Any) -> None:
    await seen.press("ctrl+l")
    await seen.until(lambda: FakeRateTest.made)
    [test], rates = FakeRateTest.made, [1e-5 * 1.05**n for n in range(190)]
    falls = [4 - 2 / (1 + (0.002 / rate) ** 1.5) + (rate / 0.06) ** 3 for rate in rates]
    losses = [loss + 0.1 * ((n * 37 % 100) / 100 - 0.5) for n, loss in enumerate(falls)]
    test.say(*map(Point, rates, losses, falls), Suggestion(steepest=0.0011, lowest=0.02, learning_rate=0.005))
    await seen.see("0.005 is suggested")


async def rewind(seen: Any, workshop: Any) -> None:
    run = await train(seen)
    run.say(workshop.saved(264, "checkpoint_step_264.pt", "hand"))
    (run.folder / "checkpoint_step_264.pt").touch()
    await seen.until(lambda: "checkpoint_step_264.pt" in seen.main.store.history.saved)
    await seen.press("c", "enter")
    await seen.see("Back to step")


async def quit(seen: Any, workshop: Any) -> None:
    await train(seen)
    await seen.press("ctrl+q")


ON_HEALTHY = (
    training, paused, finished, edit, runs, compare, layers, attention, neighbours, help, quit, look, pins, rewind
)  # fmt: skip
SCENES: dict[Callable[[Any, Any], Awaitable[None]], tuple[str, int]] = {  # the recorded run, characters of its text
    **dict.fromkeys((idle, tour, problem, files, presets, find_rate), ("", 100_000)),
    **dict.fromkeys(ON_HEALTHY, ("healthy", 25_000)),
    failed: ("rate_too_high", 25_000),
    health: ("overfitting", 3_000),
}
NAMES = {f"{scene.__name__}-{width}x{height}" for scene in SCENES for width, height in SIZES}


# A window that is resized looks as one that had the size from the start, but for these: what they show, or where they
# are scrolled to, depends on the size at which they were opened. The others are pictured in one console at all sizes.
OPENED_AT_EACH_SIZE = (attention, compare, edit, failed, finished, help, layers, presets)
PICTURED = [
    (scene, sizes)
    for scene in SCENES
    for sizes in ([(size,) for size in SIZES] if scene in OPENED_AT_EACH_SIZE else [SIZES])
]


@pytest.mark.parametrize(("scene", "sizes"), PICTURED)
async def test_a_screen_looks_as_it_did(
    workshop: Any, scene: Any, sizes: tuple[tuple[int, int], ...], pytestconfig: pytest.Config
) -> None:
    run, characters = SCENES[scene]
    workshop.text.write_text((shipped("data/samples") / "sample_data.txt").read_text()[:characters])
    started: Any = recorded(run)[0] if run else None
    settings = {setting: started.config[setting] for setting in SETTINGS} if run else {}
    async with workshop.console(sizes[0], data=["text.txt"], **settings) as seen:
        await scene(seen, workshop)
        for width, height in sizes:
            name = f"{scene.__name__}-{width}x{height}"
            await seen.pilot.resize_terminal(width, height)
            picture = await pictures.take(seen, name, SHOWN_THEMES)
            pictures.check(name, picture, FOLDER / f"{name}.txt", update=pytestconfig.getoption("--update-snapshots"))


def test_there_is_no_picture_of_a_screen_that_is_gone_and_all_are_small() -> None:
    files = {path.stem: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(files) == NAMES and sum(files.values()) < 600_000
