"""Where the panes stand: in every state they fill the window, and the loss is the largest as soon as there is one."""

from collections import Counter
from typing import Any

import pytest

from fundamentallm.run.events import Phase
from fundamentallm_tui.format import cell_len
from fundamentallm_tui.screens.main import shape_of
from tests.events import evaluated
from tests.tui.fakes import progress, saved
from tests.tui.others import bring_about, panes

SIZES = [(60, 20), (80, 24), (80, 50), (109, 30), (110, 29), (120, 36), (160, 46), (200, 60), (250, 70)]
every_size = pytest.mark.parametrize("size", SIZES, ids=[f"{width}x{height}" for width, height in SIZES])


def check_whole(seen: Any) -> None:
    """Every cell of the window belongs to one pane or bar, nothing is cut, and the way out is always shown.

    What depends on the layout was styled anew, as if everything had been.
    """
    styles = {node: dict(node.styles.base.get_rules()) for node in seen.main.walk_children()}
    seen.main.update_node_styles(animate=False)
    assert {node: dict(node.styles.base.get_rules()) for node in seen.main.walk_children()} == styles
    width, height = seen.app.size
    bars = [seen.main.query_one(f"#{name}").region for name in ("status", "tour", "tabs", "numbers", "keys")]
    regions = [region for region in (*bars, *panes(seen).values()) if region.area]
    assert sum(region.area for region in regions) == width * height
    assert all(seen.app.screen.region.contains_region(region) for region in regions)
    assert not any(a.overlaps(b) for n, a in enumerate(regions) for b in regions[:n])
    lines = seen.screen.splitlines()
    assert len(lines) == height and all(cell_len(line) == width for line in lines)
    assert lines[-1].endswith("F1 help  ^q quit ")


async def trained(seen: Any) -> Any:
    """Start a run that has learnt something and saved its best state."""
    run = await seen.started()
    run.say(progress(1, 80), evaluated(80, 2.01), saved(80, "best.pt", "best"))
    texts = ("train ~3.", " 80/400", *(["best 2.010 in epoch 1"] if seen.app.size.width > 60 else []))
    await seen.until(lambda: all(text in seen.screen for text in texts))
    return run


@every_size
async def test_the_panes_fill_every_window_and_the_loss_is_the_largest(seen: Any) -> None:
    check_whole(seen)
    assert max(panes(seen).items(), key=lambda item: item[1].area)[0] == "config"
    run = await trained(seen)
    check_whole(seen)
    assert max(panes(seen).items(), key=lambda item: item[1].area)[0] == "loss"
    assert seen.main.focused is seen.main.loss
    for word in ("TRAINING", "val 2.010"):
        assert word in seen.screen, word
    for key in ("1", "z", "z", "2", "4", "z", "z", "5", "enter", "escape", "6"):
        await seen.press(key)
        await seen.pilot.pause()
        check_whole(seen)
    run.finish(80, "stopped")
    await seen.status_is("STOPPED")
    for key in ("1", "3"):
        await seen.press(key)
        await seen.pilot.pause()
        check_whole(seen)


async def test_a_window_can_be_resized_at_any_time(seen: Any) -> None:
    await trained(seen)
    await seen.press("ctrl+g", "a", "b")
    log = seen.log
    for size in (*SIZES, *reversed(SIZES)):
        await seen.pilot.resize_terminal(*size)
        await seen.pilot.pause()
        check_whole(seen)
        assert seen.main.focused is seen.main.sample.prompt and seen.main.sample.prompt.text == "ab"
        assert "sample" in panes(seen) and seen.log == log


@pytest.mark.parametrize(
    ("size", "shapes"),
    [
        ((60, 20), ("single", "single", "single")),
        ((109, 29), ("single", "single", "single")),
        ((109, 30), ("single", "stacked", "single")),
        ((110, 29), ("beside", "beside", "single")),
        ((110, 30), ("full", "full", "single")),
        ((250, 70), ("full", "full", "single")),
    ],
)
def test_how_many_panes_there_are_depends_on_the_window(size: tuple[int, int], shapes: tuple[str, ...]) -> None:
    states = ({"run": False, "maximized": False}, {"run": True, "maximized": False}, {"run": True, "maximized": True})
    assert tuple(shape_of(*size, **state) for state in states) == shapes


async def test_the_form_is_folded_while_a_run_trains_and_whole_where_it_is_maximized_or_the_run_has_ended(
    seen: Any,
) -> None:
    assert "num_heads" in seen.screen and panes(seen)["config"].width >= 70
    run = await seen.started()
    await seen.pilot.pause()
    assert "num_heads" not in seen.screen and "dropout" in seen.screen and panes(seen)["config"].width == 36
    for keys, whole in (("1", False), ("z", True), ("z", False), ("3", False)):
        await seen.press(keys)
        await seen.pilot.pause()
        assert ("num_heads" in seen.screen) == whole
    assert ("≈" in seen.screen, " params" in seen.screen) == (False, True)  # the status line has the time left
    run.finish(80, "stopped")
    await seen.status_is("STOPPED")
    for keys, whole in (("1", True), ("3", False)):
        await seen.press(keys)
        await seen.pilot.pause()
        assert ("num_heads" in seen.screen) == whole
    assert seen.main.store.folder is not None
    seen.main.action_new_run()
    await seen.pilot.pause()
    assert "num_heads" in seen.screen and seen.main.tabs.active == "config"


async def test_the_log_has_a_place_before_a_run_only_when_it_says_something(seen: Any) -> None:
    assert "log" not in panes(seen)
    seen.main.log_line("something is wrong", "bad")
    await seen.see("something is wrong")
    check_whole(seen)


async def test_a_click_on_any_part_of_a_pane_goes_to_it(seen: Any, run: Any) -> None:
    await seen.pilot.pause()
    for name in ("config", "log", "loss", "metric", "sample", "health"):
        await seen.pilot.click(f"#{name}", offset=(8, 0))  # its frame
        assert [seen.main.tabs.active] == [pane.id for pane in seen.main.query(".pane.-active")] == [name]
        assert seen.main.focused is (None if name in ("config", "sample") else seen.main.query_one(f"#{name}"))


ENDS = ("stopped", "finished", "failed", "attached", "replayed")


@pytest.mark.parametrize("state", ENDS)
async def test_the_loss_stays_the_largest_pane_after_the_end_of_a_run(workshop: Any, make: Any, state: str) -> None:
    async with workshop.console((120, 36)) as seen:
        await bring_about(seen, make("old", evaluated(40, 2.5)), state)
        for size in ((120, 36), (200, 60)):
            await seen.pilot.resize_terminal(*size)
            await seen.pilot.pause()
            check_whole(seen)
            assert max(panes(seen).items(), key=lambda item: item[1].area)[0] == "loss"
            if state in ("attached", "replayed"):
                await seen.see("val 2.500")


@pytest.mark.parametrize("keys", ["f1", "f3 down", "ctrl+o space down space c"])
async def test_a_dialog_is_after_a_resize_as_if_it_had_been_opened_at_that_size(
    workshop: Any, make: Any, keys: str
) -> None:
    make("old"), make("other", dropout=0.5)

    async def picture(size: tuple[int, int], resized: tuple[int, int]) -> list[str]:
        async with workshop.console(size) as seen:
            first, *more = keys.split()
            await seen.press(first)
            if "space" in more:
                await seen.see("runs/other")
            await seen.press(*more)
            await seen.pilot.resize_terminal(*resized)
            await seen.until(lambda: seen.app.screen.size == resized)
            await seen.pilot.pause()
            box = seen.app.screen.children[0].region
            return [line[box.x : box.right] for line in seen.screen.splitlines()[box.y : box.bottom]]

    small, large = (80, 24), (120, 36)
    assert await picture(small, large) == await picture(large, large)
    assert await picture(large, small) == await picture(small, small)


async def test_a_phase_that_lasts_comes_on_the_screen_by_itself(seen: Any, run: Any) -> None:
    run.say(Phase(step=1, phase="evaluating"))
    await seen.see("EVALUATING")


async def test_training_dots_are_seen_where_validation_crosses_them_and_its_points_lie_over_them(
    seen: Any, run: Any
) -> None:
    losses = [evaluated(step, 4.0 - step / 200) for step in (1, 50, 100)]  # as in training: both share every cell
    run.say(progress(1, 100), *losses)
    await seen.until(lambda: len(seen.main.store.val) == 3)
    await seen.press("3", "left_square_bracket", "left_square_bracket")  # not smoothed
    view = seen.main.loss.canvas
    cells = [segment for y in range(view.size.height) for segment in view.render_line(y) if segment.style]
    dots = Counter[Any]()
    for segment in cells:
        dots[segment.style.color] += len(segment.text) if "⠀" < segment.text[:1] <= "⣿" else 0
    [points] = {segment.style.color for segment in cells if "•" in segment.text}
    assert dots.pop(points) < dots.total() / 5


async def test_without_any_colour_the_screen_can_be_drawn(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with workshop.training() as (seen, run):
        run.say(progress(1, 80))
        await seen.see(" 80/400")
