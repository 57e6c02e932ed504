"""A console under test, around runs that a test controls."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from textual.css.stylesheet import Stylesheet
from textual.events import Key, Paste
from textual.keys import _character_to_key, key_to_character
from textual.pilot import Pilot

from fundamentallm.config.config import Config, flags_layer
from fundamentallm.config.files import load_preset
from fundamentallm.process.session import SamplerRun
from fundamentallm.run.events import Evaluated, Event, Phase
from fundamentallm.run.journal import Journal
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui import keys
from fundamentallm_tui.app import Console
from fundamentallm_tui.panes.cells import Cell
from fundamentallm_tui.screens import find_rate, run_table
from fundamentallm_tui.screens.main import MainScreen
from fundamentallm_tui.screens.runs import Runs
from fundamentallm_tui.state.launch import Options
from tests.conftest import PATIENCE, source_of, until
from tests.tui.fakes import FakeRateTest, FakeRun, FakeSampler, finished, progress, saved, started

# Every console parses the same style sheets, a quarter of the time of its start: in the tests once in all.
_parse_rules, _parsed = Stylesheet._parse_rules, dict[Any, Any]()


def parse_once(self: Stylesheet, *args: Any, **how: Any) -> Any:
    key = (tuple(self._variables.items()), args, tuple(how.items()))
    if key not in _parsed:
        _parsed[key] = _parse_rules(self, *args, **how)
    return _parsed[key]


Stylesheet._parse_rules = parse_once  # type: ignore[method-assign]


@dataclass
class Watched:
    """A console under test, and the runs that it started."""

    app: Console
    pilot: Pilot[Any]
    runs: list[FakeRun] = field(default_factory=list)
    samplers: list["FakeSampler"] = field(default_factory=list)

    @property
    def main(self) -> MainScreen:
        return self.app.main

    @property
    def run(self) -> FakeRun:
        return self.runs[-1]

    @property
    def status(self) -> str:
        return str(self.main.status.render())

    @property
    def keys(self) -> str:
        return str(self.main.footer.render())

    @property
    def log(self) -> str:
        return self.main.log_view.text

    @property
    def screen(self) -> str:
        return "\n".join(strip.text for strip in self.app.screen._compositor.render_strips())

    @property
    def cells(self) -> dict[str, Cell]:
        return self.main.form.fields.cells

    async def press(self, *keys: str) -> None:
        """Press keys one after the other, and wait until each has done its work.

        The pilot waits after each key until the whole process has been idle for 40 ms, which was a third of the time
        that all tests took.
        """
        for key in keys:
            screen = self.app.screen
            name = _character_to_key(key) if len(key) == 1 and not key.isalnum() else key
            self.app.post_message(Key(name, key_to_character(name) or (key if len(key) == 1 else None)))
            await self.settle()
            await self.pilot.pause(0)
            if self.app.screen is not screen:  # it is made while the application does other things
                await self.pilot.pause()

    async def settle(self) -> None:
        """Wait until what was posted has gone its way: to the application, to what has the focus, and up again."""
        await self._taken_in(self.app, self.app.call_later)
        for node in (self.app.focused or self.app.screen).ancestors_with_self:
            await self._taken_in(node, node.call_later)

    async def _taken_in(self, node: Any, call: Callable[..., object]) -> None:
        """Wait until `call`, which a node calls something by, has called."""
        done, deadline = asyncio.Event(), time.monotonic() + PATIENCE
        call(done.set)
        waiting = asyncio.ensure_future(done.wait())
        while not done.is_set() and node.is_running and self.app.return_code is None:
            assert time.monotonic() < deadline, f"{node} takes nothing in"
            await asyncio.wait([waiting], timeout=0.05)  # a node that has ended calls nothing
        waiting.cancel()

    async def see(self, text: str) -> None:
        """Wait until a text is on the screen."""
        await self.until(lambda: text in self.screen, text)

    async def status_is(self, word: str) -> None:
        await self.until(lambda: word in self.status, word)

    async def type(self, **values: str) -> None:
        """Choose and type values in the form, and wait until the text was read."""
        fields = self.main.form.fields
        for name, value in values.items():
            fields.enter(name)
            await self.pilot.pause()
            if self.cells[name].choices:
                await self.press_until("right", lambda name=name, value=value: self.cells[name].value == value)
            if not self.cells[name].choices:
                await self.press("ctrl+u")
                self.app.screen.post_message(Paste(value))
                await self.pilot.pause()
        await self.pilot.pause(0.3)

    async def open_list(self, count: int) -> Runs:
        """Open the list of runs, and wait until it shows so many."""
        await self.press("ctrl+o")
        await self.until(lambda: isinstance(self.app.screen, Runs) and len(self.app.screen.list.runs) == count)
        assert isinstance(self.app.screen, Runs)
        return self.app.screen

    async def stopped(self) -> FakeRun:
        """Start a run and let it stop, with a checkpoint and a journal in its folder."""
        run = await self.started()
        run.folder.mkdir(parents=True)
        for name in ("journal.jsonl", "last.pt"):
            (run.folder / name).touch()
        run.finish(10, "stopped")
        await self.status_is("STOPPED")
        return run

    async def paused(self) -> FakeRun:
        """Start a run and let it pause."""
        run = await self.started()
        run.say(Phase(step=1, phase="paused"))
        await self.status_is("PAUSED")
        return run

    async def until(self, what: Callable[[], object], name: str = "") -> None:
        """Wait for something that other threads bring about, and until what it changes is drawn, widget by widget.

        `name` says what, where the condition does not.
        """
        deadline = time.monotonic() + PATIENCE
        await self.pilot.pause(0.01)
        while not what():
            if time.monotonic() > deadline:
                found = f"status: {self.status}\nlog:\n{self.log}\nscreen:\n{self.screen}"
                raise AssertionError(f"waited {PATIENCE:g} seconds in vain: {name or source_of(what)}; {found}")
            await self.pilot.pause(0.01)
        await self._taken_in(self.app.screen, self.app.screen.call_after_refresh)

    async def press_until(self, key: str, what: Callable[[], object]) -> None:
        """Press a key as often as it takes until something holds."""
        deadline = time.monotonic() + PATIENCE
        while not what():
            assert time.monotonic() < deadline, f"{key}, pressed for {PATIENCE:g} seconds: not {source_of(what)}"
            await self.press(key)

    async def started(self, total: int = 400, epochs: int = 5) -> FakeRun:
        """Press F5 and wait until the run trains."""
        before = len(self.runs)
        await self.pilot.press("f5")
        await self.until(lambda: len(self.runs) > before and self.main.reader is not None)
        self.run.begin(total=total, epochs=epochs)
        await self.status_is("TRAINING")
        return self.run


class Workshop:
    """What tests make consoles and events with."""

    started, progress, finished, saved = map(staticmethod, (started, progress, finished, saved))

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.text = folder / "text.txt"
        self.text.write_text("To be, or not to be, that is the question. " * 400)

    @asynccontextmanager
    async def console(
        self,
        size: tuple[int, int] = (120, 36),
        start: Callable[[RunSpec], FakeRun] = FakeRun,
        sample: Callable[[Path], FakeSampler] = FakeSampler,
        toasts: bool = False,
        tour: bool = False,
        attach: Path | None = None,
        real: bool = False,
        **flags: Any,
    ) -> AsyncIterator[Watched]:
        """A console at this size.

        Args:
            start: starts its runs.
            sample: starts what samples a checkpoint.
            toasts: whether it shows them.
            tour: whether it begins with the tour, as the first start of all does.
            attach: the run that it begins with.
            real: whether checkpoints are sampled by processes that do so.
            flags: settings as typed on the command line.
        """
        runs: list[FakeRun] = []
        samplers: list[FakeSampler] = []

        def sample_and_keep(checkpoint: Path) -> FakeSampler:
            samplers.append(sample(checkpoint))
            return samplers[-1]

        def start_and_keep(job: RunSpec) -> FakeRun:
            run = start(job)
            runs.append(run)
            return run

        layer = flags_layer({"data": [str(self.text)], **flags})
        options = Options(preset=load_preset("tiny"), flags=layer, tour=tour, attach=attach)
        app = Console(options, start_and_keep, SamplerRun if real else sample_and_keep)
        try:
            async with app.run_test(size=size, notifications=toasts) as pilot:
                await pilot.pause()
                yield Watched(app, pilot, runs, samplers)
        finally:
            app.main.close_run()  # or its reader would go on reading beside all tests that follow

    @asynccontextmanager
    async def training(self, *args: Any, **how: Any) -> AsyncIterator[tuple[Watched, FakeRun]]:
        """A console as `console` makes it, and a run that trains in it."""
        async with self.console(*args, **how) as seen:
            yield seen, await seen.started()


@pytest.fixture(scope="session", autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Every thread that reads a run ends with the console that began it."""
    yield
    until(lambda: "run reader" not in {thread.name for thread in threading.enumerate()})


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(find_rate, "RateTest", FakeRateTest)
    monkeypatch.setattr(FakeRateTest, "made", [])
    monkeypatch.setattr(run_table, "_known", {})  # by relative folders, which are others in each test
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))  # the theme is kept there
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    yield Workshop(tmp_path)
    keys.use({})  # a console may have had a keymap


@pytest.fixture
def size() -> tuple[int, int]:
    """The size of the terminal, where no parameter of the test says another."""
    return 120, 36


@pytest.fixture
async def seen(workshop: Workshop, size: tuple[int, int]) -> AsyncIterator[Watched]:
    """A console without a run."""
    async with workshop.console(size) as seen:
        yield seen


@pytest.fixture
async def run(seen: Watched) -> FakeRun:
    """A run that trains in that console."""
    return await seen.started()


@pytest.fixture
def make(workshop: Any) -> Any:
    """Writes the journal of a run below `runs`, with a checkpoint."""

    def make(name: str, *events: Event, steps: int = 40, **settings: Any) -> Path:
        folder = workshop.folder / "runs" / name
        folder.mkdir(parents=True)
        config = Config(**{"data": (str(workshop.text),), **settings})
        start = workshop.started(RunSpec(config, folder, preset="small"))
        begin = (start, Phase(step=0, phase="training"), workshop.progress(1, steps))
        with closing(Journal(folder)) as journal:
            for event in (*begin, workshop.saved(steps, "last.pt", "last"), *events):
                journal.append(event)
                if isinstance(event, Evaluated):
                    journal.append(workshop.saved(event.step, "best.pt", "best"))
        (folder / "last.pt").write_bytes(b"weights")
        return Path("runs", name)

    return make
