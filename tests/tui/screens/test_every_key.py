"""Every key of the tables and a click on every pane, in every state: none may end the console."""

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from textual.events import Key, MouseDown, MouseMove, MouseUp, Paste
from textual.keys import key_to_character
from textual.widgets import Input

from fundamentallm_tui import app, keys
from fundamentallm_tui.panes.bars import takes_text
from fundamentallm_tui.screens.attention import AttentionScreen
from fundamentallm_tui.screens.base import Page
from fundamentallm_tui.screens.look import Look
from fundamentallm_tui.screens.main import MainScreen
from fundamentallm_tui.screens.pins import Pins
from fundamentallm_tui.screens.runs import Runs
from tests.tui.others import attended, bring_about

TYPED = (  # into text fields, beside the keys of the tables
    "tab", "shift+tab", "backspace", "delete", "space", "ctrl+a", "ctrl+e", "ctrl+k", "ctrl+u", "ctrl+r", "7", "é",
)  # fmt: skip
STATES = ("idle", "loading", "training", "paused", "stopping", "stopped", "finished", "failed", "attached", "replayed")
ON_SCREENS = ("idle", "training", "paused", "finished", "replayed")  # in which text fields and the other screens differ
QUIT = "ctrl+q"


def bound(commands: Iterable[keys.Command]) -> list[str]:
    """The keys of commands, without the one that quits."""
    bindings = (binding for command in commands for binding in command.bindings())
    return [key for key in dict.fromkeys(key for binding in bindings for key in binding.key.split(",")) if key != QUIT]


class Hands:
    """Presses keys and clicks in a console that is in a state, which it brings about again after a key that ends it."""

    def __init__(self, seen: Any, old: Path, state: str) -> None:
        self.seen, self.old, self.state = seen, old, state
        self.pressed: set[str] = set()
        self.form = seen.main.form.config, seen.main.form.preset_name
        self._as_it_was = self._now()

    def _now(self) -> tuple[object, ...]:
        store = self.seen.main.store
        return store.phase, store.wanted, store.folder, store.under_way, store.replayed

    async def press(self, *names: str) -> None:
        for name in names:
            self.seen.app.post_message(Key(name, key_to_character(name)))
            await self.seen.settle()
            assert self.seen.app.is_running and self.seen.app.return_code is None, f"{name} ends the console"
            self.pressed.add(name)

    async def back(self, pane: str = "") -> None:
        """Close what is open, and go to a pane in the state as it was."""
        for _ in range(3):  # a dialog over a dialog over a screen
            if self.seen.app.screen is not self.seen.main:
                await self.press("escape")
        assert self.seen.app.screen is self.seen.main
        if self._now() != self._as_it_was:
            await self.seen.until(lambda: self.seen.main.reader or not self.seen.main.store.under_way)
            self.seen.main.action_new_run()
            self.seen.main.form.fill(*self.form)
            await bring_about(self.seen, self.old, self.state)
            self._as_it_was = self._now()
        if pane:
            self.seen.main.action_pane(pane)
            await self.seen.settle()

    async def press_in_panes(self) -> None:
        for pane, _ in keys.PANES:
            await self.back(pane)
            table = getattr(self.seen.main.focused or self.seen.main.query_one(f"#{pane}"), "commands", ())
            for name in bound(table) if pane != "config" else bound(keys.MAIN):
                await self.back(pane)
                await self.press(name)

    async def press_in_text(self) -> None:
        for enter in (self.seen.main.form.fields.enter, self.seen.main.action_prompt):
            for name in (*TYPED, *bound(keys.MAIN)):
                if self.seen.app.screen is not self.seen.main or not takes_text(self.seen.app.focused):
                    await self.back()
                    enter()
                await self.press(name)
            await self.back()
            enter()
            self.seen.app.screen.post_message(Paste("pasted\x1b[2J\n"))
            await self.seen.settle()
        for name in bound(keys.WRITTEN):
            await self.back()
            self.seen.main.set_focus(self.seen.main.sample.written)
            await self.press(name)

    async def press_on(self, page: type[Page[Any]], open: Callable[[], None]) -> None:
        """Press the keys of a page, which is opened again after a key that leaves it."""
        for name in bound([*page.table, *(keys.LIST if page is Runs else ())]):
            if not isinstance(self.seen.app.screen, page):
                await self.back()
                open()
                await self.seen.until(lambda: self.seen.app.screen is not self.seen.main)
                await self.seen.settle()
                if not isinstance(self.seen.app.screen, page):  # it asks for a text
                    await self.press(*(("a", "b", "enter") if page is AttentionScreen else ("escape",)))
                await self.seen.until(lambda: isinstance(self.seen.app.screen, page))
                if asked := getattr(self.seen.app.screen, "asked", None):
                    sampler = self.seen.main.sampler
                    sampler.take(sampler.reader, [attended(asked)])
            if page is Runs:
                await self.seen.until(lambda: self.seen.app.screen.list.current is not None)
            await self.press(name)
            if not isinstance(self.seen.app.screen, (page, MainScreen)):  # a dialog
                await self.press(*(("x", "enter") if page is Pins else ()), "escape")
            if isinstance(self.seen.app.focused, Input):  # the filter
                await self.press("escape")

    async def click_everything(self) -> None:
        """Click into the middle and on the frame of everything that can be seen, pane by pane."""
        clicked = set()
        if self.seen.main.maximized_pane:  # the last z was one too many
            self.seen.main.action_maximize_pane()
        for pane, _ in keys.PANES:
            await self.back(pane)
            shown = self.seen.main.query_one(f"#{pane}")
            await self.seen.until(lambda shown=shown: shown.region.area)
            places = []  # now: a click may show another pane
            for widget in [widget for widget in self.seen.main.walk_children() if widget.id]:
                region = widget.region.intersection(self.seen.main.region)
                for share in (0, 2) if region.area else ():
                    if (widget, share) not in clicked:
                        clicked.add((widget, share))
                        places.append((region.x + region.width * share // 4, region.y + region.height * share // 4))
            for x, y in places:
                await self.back(pane)
                for kind in (MouseMove, MouseDown, MouseUp):
                    self.seen.app.post_message(kind(None, x, y, 0, 0, 1, False, False, False, x, y))
                await self.seen.settle()
        assert {pane for pane, _ in keys.PANES} <= {widget.id for widget, _ in clicked}


@pytest.mark.parametrize("state", STATES)
async def test_no_key_and_no_click_ends_the_console(
    workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setenv("VISUAL", "false")  # an editor that fails
    done = subprocess.CompletedProcess([], 0, "report.md", "")
    monkeypatch.setattr(app.subprocess, "run", lambda *_, **how: done)  # a report, which is a process of its own
    async with workshop.console((120, 36) if state == "training" else (80, 24)) as seen:
        await bring_about(seen, old := make("old"), state)
        hands = Hands(seen, old, state)
        await hands.press_in_panes()
        await hands.click_everything()
        if state in ON_SCREENS:
            await hands.press_in_text()
            main, pages = seen.main, (Runs, Look, Pins, AttentionScreen)
            opens = (main.action_runs, main.action_look, main.action_pins, main.action_attention)
            for page, open in zip(pages, opens, strict=True):
                await hands.press_on(page, open)
            missing = {key for table in keys.TABLES for key in bound(table)} - hands.pressed
            assert not missing, f"never pressed: {missing}"
        await hands.back("loss")
        seen.app.post_message(Key(QUIT, None))  # the key that may end it: at once, or after a question
        await seen.until(lambda: seen.app.return_code == 0 or seen.app.screen is not seen.main)


@pytest.mark.parametrize("state", ["loading", "stopping"])
async def test_a_locked_form_does_not_take_the_focus(seen: Any, make: Any, state: str) -> None:
    await bring_about(seen, make("old"), state)
    await seen.pilot.click("#fields", offset=(20, 3))
    assert not seen.main.form.fields.entered
    for _ in range(6):
        await seen.press("tab")
        assert not seen.main.form.fields.entered
