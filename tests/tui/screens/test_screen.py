"""The main screen as a whole: nothing is cut, charts show what they should, every theme can be drawn."""

import re
from typing import Any

import pytest

from fundamentallm.run.events import Evaluated, Phase
from fundamentallm_tui import keys
from tests.tui.others import both_sizes


@both_sizes
async def test_the_status_line_and_the_footer_are_never_cut(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size) as seen:
        run = await seen.started(total=1120, epochs=20)
        run.say(workshop.progress(1, 312, epoch=15, eta=72.0))
        await seen.see("train ~2.485")  # which comes with the chart
        lines = seen.screen.splitlines()
        whole = "text-1 TRAINING ━╸─── 28% step 312/1120 epoch 6/20 ETA 1:12"
        assert " ".join(lines[0].split()) == whole + (" train ~2.485 val – best –" if size[0] > 80 else "")
        labels = {
            f"{keys.key_name(key)} {c.label}" for c in (*keys.MAIN, *keys.LOSS) for key in (c.key, c.letter) if key
        }
        shown = re.split(" {2,}", lines[-1].strip())
        assert set(shown) <= labels and shown[-2:] == ["F1 help", "^q quit"]


async def test_a_phase_that_lasts_comes_on_the_screen_by_itself(workshop: Any) -> None:
    async with workshop.training() as (seen, run):
        run.say(Phase(step=1, phase="evaluating"))
        await seen.see("EVALUATING")


async def test_training_dots_are_seen_where_validation_crosses_them_and_its_points_lie_over_them(workshop: Any) -> None:
    async with workshop.training() as (seen, run):
        losses = [
            Evaluated(
                step=step, epoch=1, train_loss=1.0, val_loss=4.0 - step / 200, perplexity=2.0, epoch_ended=False,
                best=True,
            )
            for step in (1, 50, 100)  # the same as in training: both lines share every cell
        ]  # fmt: skip
        run.say(workshop.progress(1, 100), *losses)
        await seen.until(lambda: len(seen.main.store.val) == 3)
        await seen.press("3", "left_square_bracket", "left_square_bracket")  # not smoothed
        view = seen.main.loss.canvas
        cells = [segment for y in range(view.size.height) for segment in view.render_line(y) if segment.style]
        dots: dict[Any, int] = {}
        for segment in cells:
            if "⠀" < segment.text[:1] <= "⣿":
                dots[segment.style.color] = dots.get(segment.style.color, 0) + len(segment.text)
        [points] = {segment.style.color for segment in cells if "•" in segment.text}
        assert dots.pop(points, 0) < sum(dots.values()) / 5


async def test_every_theme_and_no_colour_at_all_can_be_drawn(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with workshop.training() as (seen, run):
        run.say(workshop.progress(1, 80), Phase(step=80, phase="training"))
        await seen.until(lambda: seen.main.store.step == 80)
        assert sorted(seen.app.available_themes) == ["calm", "high contrast", "paper"]
        for theme in seen.app.available_themes:
            seen.app.theme = theme
            await seen.pilot.pause()
            assert "TRAINING" in seen.screen


async def test_resizing_keeps_everything(workshop: Any) -> None:
    async with workshop.training((120, 36)) as (seen, run):
        run.say(workshop.progress(1, 50))
        await seen.press("ctrl+g", "a", "b")
        await seen.until(lambda: seen.main.store.step == 50)
        log = seen.log
        await seen.pilot.resize_terminal(80, 24)
        await seen.pilot.pause()
        visible = [pane.id for pane in seen.main.query(".pane") if pane.region.width]
        assert visible == ["sample"], "the pane that the user is in stays"
        await seen.pilot.resize_terminal(120, 36)
        await seen.pilot.pause()
        assert all(pane.region.width for pane in seen.main.query(".pane"))
        assert seen.main.sample.prompt.text == "ab" and seen.main.focused is seen.main.sample.prompt
        assert (seen.log, seen.main.store.step) == (log, 50)
