"""Every key and a click on every pane, in every state: none may end the console."""

from typing import Any

import pytest
from textual.events import Key, Paste

from fundamentallm.run.events import Failed, Phase
from fundamentallm_tui import keys

PRESSED = (
    "tab", "shift+tab", "up", "down", "left", "right", "home", "end", "backspace", "delete", "enter", "space", "escape",
    "pageup", "pagedown", "ctrl+a", "ctrl+e", "ctrl+k", "ctrl+u", "ctrl+left", "ctrl+right", "j", "k", "7", "é",
    *(str(n) for n in range(1, len(keys.PANES) + 1)), "f1", "escape", "question_mark", "escape", "g", "escape",
    "ctrl+o", "escape", "3", *(key for command in keys.LOSS for key in command.key.split(",") if key), "m", "4", "plus",
)  # fmt: skip
STATES = ("idle", "loading", "training", "paused", "stopping", "stopped", "finished", "failed", "attached", "replayed")
PANES = ("#config", "#fields", "#log", "#loss", "#metric", "#sample", "#options", "#output", "#status", "#keys")


async def bring_about(seen: Any, make: Any, state: str) -> None:
    """Put the console into a state."""
    if state in ("attached", "replayed"):
        seen.main.open_run(make("old"), speed=100.0 if state == "replayed" else 0.0)
        return await seen.until(lambda: seen.main.store.loaded)
    if state == "idle":
        return
    if state == "loading":
        await seen.press("f5")
        return await seen.status_is("LOADING")
    run = await seen.started()
    if state in ("paused", "stopping"):
        run.say(Phase(step=1, phase=state))
    elif state == "failed":
        run.say(Failed(step=1, error="out of memory"))
    elif state in ("stopped", "finished"):
        run.finish(4, "stopped" if state == "stopped" else "completed")
    await seen.status_is(state.upper())


async def press(seen: Any, *keys: str) -> None:
    """Press keys; shorter than the pilot, which waits after each until the whole process has been idle for 40 ms."""
    for key in keys:
        seen.app.post_message(Key(key, key if len(key) == 1 else None))
        await seen.pilot.pause(0.01)
        assert seen.app.is_running, key
    await seen.pilot.pause()


@pytest.mark.parametrize("state", STATES)
async def test_no_key_and_no_click_ends_the_console(workshop: Any, make: Any, state: str) -> None:
    async with workshop.console((80, 24) if state == "paused" else (120, 36)) as seen:
        await bring_about(seen, make, state)
        await press(seen, *PRESSED)
        for pane in PANES:
            if seen.main.query_one(pane).region.area and seen.app.screen is seen.main:
                await seen.pilot.click(pane, offset=(2, 1) if pane not in ("#status", "#keys") else (40, 0))
                await press(seen, "tab", "up", "shift+tab")
                seen.app.screen.post_message(Paste("pasted"))
                await seen.pilot.pause()
                assert seen.app.is_running, pane


@pytest.mark.parametrize("state", ["loading", "stopping"])
async def test_a_locked_form_does_not_take_the_focus(workshop: Any, make: Any, state: str) -> None:
    async with workshop.console() as seen:
        await bring_about(seen, make, state)
        await seen.pilot.click("#fields", offset=(20, 3))
        assert not seen.main.form.fields.entered
        for _ in range(6):
            await seen.press("tab")
            assert not seen.main.form.fields.entered
