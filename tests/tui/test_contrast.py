"""Every text on every screen can be read: its contrast is at least 4.5 (WCAG AA) in each theme that we ship."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from textual.color import Color
from textual.theme import Theme
from textual.widgets import OptionList

import fundamentallm_tui
from fundamentallm.run.commands import Attend, Explain, Neighbours
from fundamentallm.run.events import CheckpointFailed, Failed, Notice, Pinned
from fundamentallm.run.range_test import Point
from fundamentallm_tui.theme import CALM, FAINT, INKS, THEMES
from tests.events import evaluated, explained, layers_inspected
from tests.tui.colours import contrast
from tests.tui.fakes import FakeRateTest
from tests.tui.others import attended, nearest

LEAST = 4.5
NO_TEXT = r"(border|scrollbar[a-z-]*|background): [^;]*;"  # in a style sheet


def contrast_of(segment: Segment) -> float:
    style = segment.style
    assert style is not None and style.color is not None and style.bgcolor is not None, segment
    return contrast(style.color.get_truecolor().normalized, style.bgcolor.get_truecolor().normalized)


def is_text(segment: Segment) -> bool:
    """Whether there are letters and digits in it; frames, rules and curves are drawn with other characters."""
    return any(unicodedata.category(character)[0] in "LN" for character in segment.text)


def faint_texts(seen: Any) -> Iterator[str]:
    """The texts of too little contrast; in front of a screen that is dimmed those of the dialog."""
    screen = seen.app.screen
    strips = screen._compositor.render_strips()
    regions = [child.region for child in screen.children] if screen.is_modal else [screen.region]
    for region in regions:
        for strip in strips[region.y : region.bottom]:
            for segment in strip.crop(region.x, region.right):
                if is_text(segment) and (found := contrast_of(segment)) < LEAST:
                    yield f"{segment.text.strip()[:40]!r} {found:.2f} {segment.style}"


async def screens(seen: Any, workshop: Any) -> Any:
    """Bring about every screen and every kind of text; yield for each a text that is seen on it only."""
    yield "IDLE"
    seen.main.action_tour()
    yield "tour 1/"
    await seen.press("escape")
    seen.main.form.fields.enter("learning_rate")
    await seen.press("x")
    yield "learning_rate: "
    await seen.press("ctrl+r", "down")
    yield "lr_schedule"
    await seen.press("escape", "f2")
    yield "text.txt"
    await seen.press("escape", "f3")
    yield "Presets"
    await seen.press("escape", "ctrl+l")
    await seen.until(lambda: FakeRateTest.made)
    FakeRateTest.made[0].say(Point(0.001, 3.0, 3.0), Failed(step=0, error="it cannot be"))
    yield "it cannot be"
    await seen.press("escape", "f1")
    yield "Help"
    await seen.press("escape")
    run = await seen.started()
    steep = workshop.progress(1, 200)
    run.say(
        replace(steep, train_loss=tuple(3 + 6 / step for step in steep.step)),
        evaluated(100, 3.5),
        evaluated(200, 3.1),
        workshop.saved(200, "best.pt", "best"),
    )
    run.say(Notice(step=200, level="warning", text="a warning"), Notice(step=200, level="info", text="a remark"))
    run.say(CheckpointFailed(step=200, path="last.pt", kind="last", why="no space"))
    await seen.until(lambda: seen.main.store.step == 200)
    await seen.press("3", "c")
    yield "step 200"
    await seen.press("enter")
    yield "No checkpoint to go back to"
    await seen.press("escape")
    seen.main.form.fields.enter("learning_rate")
    await seen.press("2")
    yield "›"
    await seen.press("escape", "escape", "2", "up")
    assert seen.main.focused is seen.main.log_view
    yield "a remark"
    await seen.press("g", *"To be")
    assert seen.main.sample.prompt.text == "To be"
    yield "To be"
    await seen.press("escape", "f4")
    yield "Score a text"
    await seen.press(*"the sea and the old boat", "enter")
    await seen.until(lambda: isinstance(run.sent[-1], Explain))
    run.say(explained(run.sent[-1]))
    yield "nats a token"
    for step, text in ((100, " or not to be"), (200, " and not to be")):
        run.say(Pinned(step=step, prompt="To be", text=text, probabilities=(), seconds=0.1))
    await seen.press("escape", "f9")
    await seen.until(lambda: "2 of 2" in seen.screen)
    await seen.press("c", "left")
    yield "To be or not"
    await seen.press("escape")
    seen.main.action_attention()
    yield "Attention over a text"
    await seen.press(*"be", "enter")
    yield "is asked"
    run.say(attended(next(command for command in run.sent if isinstance(command, Attend))))
    yield "attends to"
    await seen.press("n")
    await seen.until(lambda: isinstance(run.sent[-1], Neighbours))
    run.say(nearest(run.sent[-1]))
    yield "0.90"
    await seen.press("n", "right_square_bracket")
    await seen.until(lambda: isinstance(run.sent[-1], Attend))
    run.answer(False, "no such layer")
    yield "no such layer"
    await seen.press("escape")
    run.say(*(layers_inspected(step) for step in (100, 200)))
    await seen.until(lambda: seen.main.store.history.inspected)
    await seen.press("4", "z", *"mmmmm")
    yield "feed-forward 2"
    await seen.press("z", "h")
    yield "Health: "
    await seen.press("escape", "x")
    yield "Stop the run"
    await seen.press("escape")
    seen.app.notify("a toast", title="with a title", severity="warning")
    yield "with a title"
    await seen.press("ctrl+p")
    yield "Raise it by 10 from the next step on"
    await seen.press("escape")
    run.say(Failed(step=200, error="out of memory"))
    await seen.status_is("FAILED")
    yield "out of memory"
    await seen.press("ctrl+o")
    yield "runs/old"
    await seen.press("space", "slash", *"tag:a")
    yield "No run fits the filter."
    await seen.press("escape", "escape", "3", "left")
    assert seen.app.screen is seen.main
    yield "old "


@pytest.mark.parametrize(
    ("theme", "size"), [*((theme, (120, 36)) for theme in THEMES), (CALM, (80, 24))], ids=lambda value: str(value)[:9]
)
async def test_every_text_on_every_screen_can_be_read(
    workshop: Any, make: Any, theme: Theme, size: tuple[int, int]
) -> None:
    make("old", evaluated(40, 2.0))
    async with workshop.console(size, toasts=True) as seen:
        seen.app.theme = theme.name
        faint = []
        async for text in screens(seen, workshop):
            await seen.see(text)
            await seen.pilot.pause()
            faint += [f"{text}: {found}" for found in faint_texts(seen)]
    assert not faint, "\n".join(dict.fromkeys(faint))


@pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.name)
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


async def test_the_palette_offers_the_themes(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.app.run_action("app.change_theme")

        def offered() -> set[str]:
            """Not what was typed into the palette, but what it lists."""
            return {str(option.prompt).strip() for option in seen.app.screen.query_one(OptionList).options}

        await seen.until(lambda: offered() == {theme.name for theme in THEMES})
        await seen.press(*"paper", "enter")
        await seen.until(lambda: seen.app.theme == "paper")
