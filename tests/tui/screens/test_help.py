"""F1 explains what has the focus, on one screen, before it lists the keys."""

from typing import Any

from fundamentallm.config.config import SETTINGS
from fundamentallm_tui import keys
from fundamentallm_tui.dialogs import TextDialog
from fundamentallm_tui.format import BARS
from fundamentallm_tui.screens.help import READING, TOPICS, help_text
from tests.events import layers_inspected
from tests.tui.others import palette

RATE = SETTINGS["learning_rate"]


def words(screen: str) -> str:
    """The words in a dialog over a screen, without its frame, its scroll bar and the edges of what is behind."""
    rows = [row.strip(BARS).split("│")[1:-1] for row in screen.splitlines()]
    return " ".join(" ".join(max(row, key=len).strip(f"{BARS} ") for row in rows if row).split())


# Keys that bring the focus somewhere, row after row in one console; the title of the help, and what it says.
IDLE: list[tuple[list[str], str, list[str]]] = [
    (["3", "escape"], "The status line and the curves", [TOPICS["status"], READING]),
    (["1"], "Config", [TOPICS["config"]]),
    (["5"], "Sample", [TOPICS["sample"]]),
    (["3"], "Loss", ["When the validation loss rises while the training loss still falls", "◆ a changed"]),
    (["4"], "Learning rate", [TOPICS["Learning rate"]]),
    *((["m"], metric, [TOPICS[metric]]) for metric in ("Gradient norm", "Tokens a second", "Perplexity", "Memory")),
    (["2"], "Log", [TOPICS["log"]]),
    (["g"], "Sample", [TOPICS["sample"]]),
    (["tab", "tab"], "temperature", ["Too low: the text repeats itself."]),
    (["escape", "6"], "Health: no run yet", ["Here will stand whether the run goes well"]),
]
OTHER_SCREENS: list[tuple[list[str], str, list[str]]] = [
    (["f4"], "Look", [TOPICS["look"]]),
    (["escape", "ctrl+o"], "The list of runs", [TOPICS["list"]]),
    (["escape", "f9", "a"], "Pinned", [TOPICS["pinned"]]),
    (["escape", "escape", "f3"], "Presets", [TOPICS["preset"], "s saves"]),
    (["escape", "ctrl+l"], "Find the learning rate", [TOPICS["find_rate"]]),
]
LAYERS: list[tuple[list[str], str, list[str]]] = [
    (["4", *"mmmmm"], "Gradient norm by layer", [TOPICS["Gradient norm by layer"]]),
    (["m"], "Weight norm by layer", [TOPICS["Weight norm by layer"]]),
    (["m"], "Update-to-weight ratio", [TOPICS["Update-to-weight ratio"]]),
]
FIELD = [RATE.help, f"Typical {RATE.typical}.", f"Too high: {RATE.too_high}."]


async def explains(seen: Any, title: str, explanation: list[str]) -> None:
    """Assert that F1 shows this at once, without scrolling; esc closes it."""
    below = seen.app.screen
    await seen.press("f1")
    await seen.until(lambda: isinstance(seen.app.screen, TextDialog))
    await seen.pilot.pause()
    shown = words(seen.screen)
    assert shown.startswith(title)
    for text in explanation:
        assert keys.spell(text) in shown
    await seen.press("escape")
    assert seen.app.screen is below


async def test_f1_explains_what_has_the_focus_without_scrolling_at_80x24(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        for press, title, explanation in (*IDLE, *OTHER_SCREENS):
            await seen.press(*press)
            await explains(seen, title, explanation)
        await seen.press("escape", "escape")
        seen.main.form.fields.enter("learning_rate")
        await explains(seen, "learning_rate", FIELD)


async def test_f1_explains_what_there_is_with_a_run_without_scrolling_at_80x24(workshop: Any) -> None:
    async with workshop.training((80, 24)) as (seen, run):
        run.say(layers_inspected(1))
        await seen.until(lambda: seen.main.store.history.inspected)
        for press, title, explanation in LAYERS:
            await seen.press(*press)
            await explains(seen, title, explanation)
        await palette(seen)["Attention"]()
        await seen.see("Attention over a text")
        await seen.press("a", "enter")
        await explains(seen, "Attention", [TOPICS["attention"]])
        await seen.press("escape")
        run.finish(400)
        await seen.status_is("FINISHED")
        await seen.press("6")
        await explains(seen, "Health: too early to tell", ["The run ended before epoch 1 did."])


async def test_the_help_lists_every_key_and_those_of_the_focus_first(seen: Any) -> None:
    await seen.press("3")
    text = " ".join(str(help_text(seen.main)).split())
    for command in (*keys.LOSS, *keys.MAIN, *keys.RUNS):
        if command.key and command.help:
            key = keys.key_name(command.key) if command.action else keys.spell(command.key)
            assert f"{key} " in text and keys.spell(command.help) in text
            assert not command.letter or f" {keys.key_name(command.letter)} " in text
    assert text.index("Its keys") < text.index("Zoom in") < text.index("All keys") < text.index("F5")


async def test_f1_shows_the_help_in_every_screen_and_closes_it(seen: Any, make: Any) -> None:
    make("a"), make("b")
    for opening in ((), ("ctrl+o",), ("d",), ("escape", "space", "down", "space", "c")):
        await seen.press(*opening)
        await seen.pilot.pause(0.3)
        below = seen.app.screen
        await seen.press("f1")
        assert seen.app.screen is not below and seen.app.screen.title == "Help"
        await seen.press("f1")
        assert seen.app.screen is below
    await seen.press("escape", "escape", "escape", "question_mark")
    assert seen.app.screen.title == "Help"
    await seen.press("escape")
    assert seen.app.screen is seen.main
