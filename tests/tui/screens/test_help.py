"""F1 explains what has the focus, on one screen, before it lists the keys."""

from typing import Any

import pytest

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


async def field(seen: Any) -> None:
    seen.main.form.fields.enter("learning_rate")


async def finished(seen: Any) -> None:
    (await seen.started()).finish(400)
    await seen.status_is("FINISHED")


async def inspected(seen: Any) -> None:
    run = await seen.started()
    run.say(layers_inspected(1))
    await seen.until(lambda: seen.main.store.history.inspected)


async def attention(seen: Any) -> None:
    await palette(seen)["Attention"]()
    await seen.see("Attention over a text")
    await seen.press("a", "enter")


@pytest.mark.parametrize(
    ("before", "press", "title", "explanation"),
    [
        (None, ["3", "escape"], "The status line and the curves", [TOPICS["status"], READING]),
        (None, ["1"], "Config", [TOPICS["config"]]),
        (None, ["5"], "Sample", [TOPICS["sample"]]),
        (field, [], "learning_rate", [RATE.help, f"Typical {RATE.typical}.", f"Too high: {RATE.too_high}."]),
        (None, ["3"], "Loss", ["When the validation loss rises while the training loss still falls", "◆ a changed"]),
        (None, ["4"], "Learning rate", [TOPICS["Learning rate"]]),
        (None, ["m", "4"], "Gradient norm", [TOPICS["Gradient norm"]]),
        (None, ["m", "m", "4"], "Tokens a second", [TOPICS["Tokens a second"]]),
        (None, ["m", "m", "m", "4"], "Perplexity", [TOPICS["Perplexity"]]),
        (None, ["m", "m", "m", "m", "4"], "Memory", [TOPICS["Memory"]]),
        (inspected, ["m"] * 5 + ["4"], "Gradient norm by layer", [TOPICS["Gradient norm by layer"]]),
        (inspected, ["m"] * 6 + ["4"], "Weight norm by layer", [TOPICS["Weight norm by layer"]]),
        (inspected, ["m"] * 7 + ["4"], "Update-to-weight ratio", [TOPICS["Update-to-weight ratio"]]),
        (attention, [], "Attention", [TOPICS["attention"]]),
        (None, ["2"], "Log", [TOPICS["log"]]),
        (None, ["g"], "Sample", [TOPICS["sample"]]),
        (None, ["g", "tab", "tab"], "temperature", ["Too low: the text repeats itself."]),
        (None, ["6"], "Health: no run yet", ["Here will stand whether the run goes well"]),
        (finished, ["6"], "Health: too early to tell", ["the run ended before its first epoch did"]),
        (None, ["f4"], "Look", [TOPICS["look"]]),
        (None, ["ctrl+o"], "The list of runs", [TOPICS["list"]]),
    ],
)  # fmt: skip
async def test_f1_explains_what_has_the_focus_without_scrolling_at_80x24(
    workshop: Any, before: Any, press: list[str], title: str, explanation: list[str]
) -> None:
    async with workshop.console((80, 24)) as seen:
        if before is not None:
            await before(seen)
        await seen.press(*press, "f1")
        await seen.until(lambda: isinstance(seen.app.screen, TextDialog))
        await seen.pilot.pause()
        shown = words(seen.screen)
        assert shown.startswith(title)
        for text in explanation:
            assert keys.spell(text) in shown


async def test_the_help_lists_every_key_and_those_of_the_focus_first(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.press("3")
        text = " ".join(str(help_text(seen.main)).split())
        for command in (*keys.LOSS, *keys.MAIN, *keys.RUNS):
            if command.key and command.help:
                key = keys.key_name(command.key) if command.action else keys.spell(command.key)
                assert f"{key} " in text and keys.spell(command.help) in text
                assert not command.letter or f" {keys.key_name(command.letter)} " in text
        assert text.index("Its keys") < text.index("Zoom in") < text.index("All keys") < text.index("F5")


async def test_help_opens_and_closes(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        for opening in ("f1", "question_mark"):
            await seen.press(opening)
            assert isinstance(seen.app.screen, TextDialog)
            await seen.press("escape")
            assert seen.app.screen is seen.main
