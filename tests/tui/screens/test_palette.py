"""Each entry of the palette does what its name says."""

from collections.abc import Callable
from typing import Any

import pytest
from textual.command import CommandList

from fundamentallm.run.commands import Command, Evaluate, Pause, Save, Set, Stop
from fundamentallm_tui import keys
from fundamentallm_tui.dialogs import Question, TextDialog
from fundamentallm_tui.screens.look import Look
from fundamentallm_tui.screens.pins import Pins
from fundamentallm_tui.screens.runs import Runs
from tests.tui.others import palette

Holds = Callable[[Any], object]


def is_open(title: str) -> Holds:
    return lambda seen: seen.app.screen is not seen.main and title in seen.screen


def sent(kind: type[Command]) -> Holds:
    return lambda seen: [type(command) for command in seen.run.sent] == [kind]


def changed(setting: str, value: float) -> Holds:
    return lambda seen: [(c.setting, c.value) for c in seen.run.sent if isinstance(c, Set)] == [(setting, value)]


BEFORE_A_RUN: dict[str, Holds] = {
    "Text files": is_open("text.txt"),
    "Presets": is_open("Presets"),
    "Edit as YAML": lambda seen: "Set EDITOR to your editor" in seen.log,
    "Sample": lambda seen: seen.main.focused is seen.main.sample.prompt,
    "Look at the text": lambda seen: isinstance(seen.app.screen, Look),
    "Score a text": lambda seen: isinstance(seen.app.screen, Look),
    "Tour": lambda seen: "tour 1/" in seen.screen,
    "Pinned prompts": lambda seen: isinstance(seen.app.screen, Pins),
    "Attention": is_open("Attention over a text"),
    "Nearest tokens": is_open("Attention over a text"),
    "Start": lambda seen: len(seen.runs) == 1,
}
IN_A_RUN: dict[str, Holds] = {  # learning_rate 0.001, 5 epochs, patience 5
    "Pause or resume": sent(Pause),
    "Save": sent(Save),
    "Stop": sent(Stop),
    "Evaluate": sent(Evaluate),
    "Learning rate ×2": changed("learning_rate", 0.002),
    "Learning rate ÷2": changed("learning_rate", 0.0005),
    "Learning rate ×10": changed("learning_rate", 0.01),
    "Learning rate ÷10": changed("learning_rate", 0.0001),
    "Epochs +1": changed("epochs", 6),
    "Epochs +10": changed("epochs", 15),
    "Epochs −1": changed("epochs", 4),
    "Patience +1": changed("patience", 6),
    "Patience +10": changed("patience", 15),
    "Patience −1": changed("patience", 4),
    "Health": is_open("Health: too early to tell"),
    "Runs": lambda seen: isinstance(seen.app.screen, Runs),
    "Help": lambda seen: isinstance(seen.app.screen, TextDialog) and seen.app.screen.title == "Help",
    "Theme": is_open("paper"),
    "Quit": lambda seen: isinstance(seen.app.screen, Question),
}
ELSEWHERE = {  # test_steering, test_keys, test_runs, test_find_rate
    "Undo the change", "New run", "Report", "Export the model", "Find the learning rate",
}  # fmt: skip


def test_every_entry_is_tried() -> None:
    titles = [command.title for command in keys.MAIN if command.title]
    assert sorted({*BEFORE_A_RUN, *IN_A_RUN} | ELSEWHERE) == sorted(titles)


@pytest.mark.parametrize("entries", [BEFORE_A_RUN, IN_A_RUN], ids=["before a run", "in a run"])
async def test_an_entry_does_what_its_name_says(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, entries: dict[str, Holds]
) -> None:
    monkeypatch.delenv("EDITOR", raising=False)
    monkeypatch.delenv("VISUAL", raising=False)
    async with workshop.console(learning_rate=0.001, epochs=5, patience=5) as seen:
        for title, holds in entries.items():
            if entries is IN_A_RUN:
                seen.main.action_new_run()
                await seen.started()
            await palette(seen)[title]()
            await seen.until(lambda holds=holds: holds(seen), title)
            if seen.app.screen is not seen.main or seen.main.focused is seen.main.sample.prompt:
                await seen.press("escape")
            assert seen.app.screen is seen.main


async def test_a_page_key_before_the_palettes_list_is_laid_out_ends_nothing(seen: Any) -> None:
    await seen.press("ctrl+p")
    listed = seen.app.screen.query_one(CommandList)
    listed.styles.display = "none"
    await seen.press("e")
    await seen.until(lambda: listed.option_count and listed.highlighted is not None)
    await seen.press("pagedown", "pageup", "escape")
    assert seen.app.screen is seen.main


async def test_the_palette_offers_what_can_be_done_and_lets_go_of_a_stopped_run(seen: Any) -> None:
    always = {"Health", "Sample", "Look at the text", "Score a text", "Runs"}
    always |= {"Help", "Tour", "Theme", "Quit", "Pinned prompts", "Attention", "Nearest tokens"}
    form = {"Text files", "Presets", "Edit as YAML", "Find the learning rate"}
    assert set(palette(seen)) == {"Start", *form, *always}
    helps = {command.title: command.help for command in seen.app.get_system_commands(seen.app.screen)}
    assert helps["Find the learning rate"].endswith("rises (^l)") and helps["Attention"].endswith("attends to")
    first = await seen.stopped()
    of_run = {"Report", "Export the model"}
    assert set(palette(seen)) == {"Start", "New run", *of_run, *always}
    await palette(seen)["New run"]()
    assert "IDLE" in seen.status and not of_run & set(palette(seen))
    second = await seen.started()
    assert not second.job.auto and second.job.folder != first.folder
    assert {title for title in palette(seen) if title[-1] not in "012"} == {
        "Pause or resume", "Save", "Evaluate", "Stop", *always
    }  # fmt: skip
