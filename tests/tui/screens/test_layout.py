"""Where the panes stand: in every state they fill the window, and the loss is the largest as soon as there is one."""

from dataclasses import replace
from typing import Any

import pytest

from fundamentallm_tui.format import cell_len
from fundamentallm_tui.panes.status import layout
from fundamentallm_tui.screens.main import shape_of
from fundamentallm_tui.state.store import Store
from tests.events import evaluated, layers_inspected
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
    run.say(seen.progress(1, 80), evaluated(80, 2.01), seen.saved(80, "best.pt", "best"))
    texts = ("train ~3.", " 80/400", *(["best 2.010 in epoch 1"] if seen.app.size.width > 60 else []))
    await seen.until(lambda: all(text in seen.screen for text in texts))
    return run


@every_size
async def test_the_panes_fill_every_window_and_the_loss_is_the_largest(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size) as seen:
        seen.progress, seen.saved = workshop.progress, workshop.saved
        check_whole(seen)
        assert max(panes(seen).items(), key=lambda item: item[1].area)[0] == "config"
        run = await trained(seen)
        check_whole(seen)
        assert max(panes(seen).items(), key=lambda item: item[1].area)[0] == "loss"
        assert seen.main.focused is seen.main.loss
        for word in ("TRAINING", "val 2.010"):
            assert word in seen.screen, word
        for key in ("1", "z", "z", "2", "4", "z", "z", "5", "6"):
            await seen.press(key)
            await seen.pilot.pause()
            check_whole(seen)
        run.finish(80, "stopped")
        await seen.status_is("STOPPED")
        for key in ("1", "3"):
            await seen.press(key)
            await seen.pilot.pause()
            check_whole(seen)


async def test_a_window_can_be_resized_at_any_time(workshop: Any) -> None:
    async with workshop.console() as seen:
        seen.progress, seen.saved = workshop.progress, workshop.saved
        await trained(seen)
        for size in (*SIZES, *reversed(SIZES)):
            await seen.pilot.resize_terminal(*size)
            await seen.pilot.pause()
            check_whole(seen)
            assert seen.main.focused is seen.main.loss


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
    workshop: Any,
) -> None:
    async with workshop.console() as seen:
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


async def test_below_the_pane_of_a_small_terminal_stand_the_newest_numbers_and_the_verdict(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        seen.progress, seen.saved = workshop.progress, workshop.saved
        assert not seen.main.numbers.region.area, "before a run there are none"
        run = await trained(seen)
        lines = seen.screen.splitlines()
        assert lines[1].startswith(" 1 Config   2 Log   3 Loss ") and lines[2].startswith("╭─ Loss")
        assert (
            lines[-2].startswith(" train ~3.") and "val 2.010  best 2.010 in epoch 1 " in lines[-2] and "●" in lines[-2]
        )
        run.say(replace(seen.main.store.history.started, step=40))
        await seen.see("best 2.010 left behind ")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_bar_is_as_long_as_what_is_done(workshop: Any, width: int) -> None:
    store, lengths = Store(), set()
    for store.total_steps, done in ((400, 0), (400, 100), (400, 200), (400, 400)):
        store.history.step = done
        bar = next((text for text, _ in layout(store, width) if set(text) & set("━─")), "")
        line = "".join(text for text, _ in layout(store, width))
        lengths.add(line.count("━") + line.count("─") + line.count("╸"))
        assert f"{done // 4:>3}% " in line and (done or "━" not in line)
        full = line.count("━") + line.count("╸") / 2
        assert width == 60 or abs(full - done / 400 * max(lengths)) <= 0.5, bar
    assert len(lengths) == 1 and (lengths == {0}) == (width == 60)


async def test_a_finished_run_has_the_colour_of_success_and_a_paused_one_that_of_a_warning(workshop: Any) -> None:
    def colour() -> str:
        return next(style for text, style in layout(seen.main.store, 120) if text.strip() == seen.main.store.status())

    async with workshop.console() as seen:
        run = await seen.paused()
        assert colour() == "bold $text-warning"
        run.finish(400)
        await seen.status_is("FINISHED")
        assert colour() == "bold $text-success" and "took  1:23" in seen.status


async def test_before_a_run_the_loss_says_what_a_start_trains_and_which_runs_there_are(
    workshop: Any, make: Any
) -> None:
    make("old", evaluated(40, 2.345), workshop.finished(40))
    async with workshop.console((200, 60)) as seen:
        await seen.see("best 2.345")
        assert (
            "F5  trains tiny on text.txt" in seen.screen and "old " in seen.screen and "A falling loss" in seen.screen
        )
        assert "no steps yet" not in seen.screen
        await seen.type(num_heads="7")
        await seen.see("F5  trains, once the form has no problem")
        await seen.type(num_heads="2")
        await seen.started()
        await seen.pilot.pause()
        assert "No run yet." not in seen.screen


async def test_the_log_has_a_place_before_a_run_only_when_it_says_something(workshop: Any) -> None:
    async with workshop.console() as seen:
        assert "log" not in panes(seen)
        seen.main.log_line("something is wrong", "bad")
        await seen.see("something is wrong")
        check_whole(seen)


async def test_a_click_on_any_part_of_a_pane_goes_to_it(workshop: Any) -> None:
    async with workshop.training() as (seen, _):
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


DIALOGS = ("f1", "f2", "f3", "h", "ctrl+o d", "ctrl+o n")


@pytest.mark.parametrize("keys", DIALOGS)
async def test_a_window_can_be_resized_while_a_dialog_is_open(workshop: Any, make: Any, keys: str) -> None:
    make("old")
    async with workshop.console() as seen:
        first, *more = keys.split()
        await seen.press(first)
        await seen.until(lambda: seen.app.screen is not seen.main)
        if more:
            await seen.see("runs/old")
            await seen.press(*more)
        dialog = seen.app.screen
        for size in (*SIZES[::4], *SIZES[::-4]):
            await seen.pilot.resize_terminal(*size)
            await seen.pilot.pause()
            assert seen.app.screen is dialog and len(seen.screen.splitlines()) == size[1]
            box = dialog.children[0].region
            assert box.area and dialog.region.size == size and dialog.region.contains_region(box)
        await seen.press("escape", *["escape"] * len(more))
        assert seen.app.screen is seen.main
        check_whole(seen)


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


async def test_the_legend_of_the_layers_is_wrapped_at_words_and_counts_what_has_no_room(workshop: Any) -> None:
    async with workshop.training((80, 24)) as (seen, run):
        run.say(*(layers_inspected(step, 12) for step in range(8, 80, 8)))
        await seen.until(lambda: len(seen.main.store.history.inspected) == 9)
        await seen.press("4", *"mmmmm")
        for size, text in (((80, 24), "may soon diverge."), ((120, 36), "and 2 more"), ((80, 24), "may soon diverge.")):
            await seen.pilot.resize_terminal(*size)
            await seen.see(text)
            rows = seen.main.metric.legend.region.height
            assert rows == len(str(seen.main.metric.legend.render()).splitlines()), "no row is broken"
