"""Every text can be read: its contrast is at least 4.5 (WCAG AA) in each of our themes. The pictures hold it, too."""

import re
from pathlib import Path
from typing import Any

import pytest
from textual.color import Color
from textual.theme import Theme

import fundamentallm_tui
from fundamentallm_tui.theme import FAINT, INKS, THEMES
from tests.events import evaluated
from tests.tui.colours import LEAST, contrast, faint_texts

NO_TEXT = r"(border|scrollbar[a-z-]*|background): [^;]*;"  # in a style sheet
# Keys, and a text that is then on the screen, of the kinds that are on no picture.
RARER = (
    (["g", *"To be"], "To be"),
    (["escape", "f4"], "Score a text"),
    (["escape", "escape", "ctrl+p"], "Raise it by 10 from the next step on"),
    (["escape", "ctrl+o"], "runs/old"),
    (["space", "slash", *"tag:a"], "No run fits the filter."),
)

each_theme = pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)


@each_theme
async def test_messages_text_fields_and_the_palette_can_be_read(workshop: Any, make: Any, theme: Theme) -> None:
    make("old", evaluated(40, 2.0))
    async with workshop.training(toasts=True) as (seen, _):
        seen.app.theme = theme.name
        faint = []
        for presses, text in RARER:
            seen.app.notify("a toast", title="with a title", severity="warning")
            await seen.press(*presses)
            await seen.see(text)
            await seen.pilot.pause()
            faint += [f"{text}: {found}" for found in faint_texts(seen)]
        assert not faint, "\n".join(faint)


@each_theme
def test_every_ink_and_every_strength_in_the_source_can_be_read_on_every_paper(theme: Theme) -> None:
    colours = theme.to_color_system().generate()
    used = {(FAINT.split()[0], FAINT.split()[1]), *((f"$text-{ink}", "100%") for ink in INKS), ("$foreground", "100%")}
    for path in Path(fundamentallm_tui.__file__).parent.rglob("*"):
        if path.suffix in (".py", ".tcss"):
            lines = path.read_text().splitlines()
            texts = " ".join(re.sub(NO_TEXT, "", line) for line in lines if "─" not in line)
            used |= set(re.findall(r"(\$(?:foreground|text-[a-z]+)) (\d+%)", texts))
    found = {}
    for paper in ("background", "surface", "panel"):
        for ink, strength in used:
            behind = Color.parse(colours[paper])
            ink_colour = behind.blend(Color.parse(colours[ink.removeprefix("$")]), float(strength[:-1]) / 100)
            found[paper, ink, strength] = contrast(ink_colour.normalized, behind.normalized)
    found["accent", "$background", "100%"] = contrast(
        Color.parse(colours["background"]).normalized, Color.parse(colours["accent"]).normalized
    )
    assert len(found) > 20 and min(found.values()) >= LEAST, sorted(found.items(), key=lambda item: item[1])[:5]
