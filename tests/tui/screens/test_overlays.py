"""Other runs over the one that is shown: chosen in the list, drawn, read off, hidden, and live."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run.events import JOURNAL, encode
from fundamentallm.run.journal import read_journal
from fundamentallm.run.notes import rename_run
from fundamentallm_tui.charts.palette import run_styles
from tests.events import evaluated
from tests.tui.others import Write, alive, both_sizes, overlay, showing, to


def row(seen: Any, name: str) -> str:
    """The row of a run in the legend."""
    return next((line.strip("│ ") for line in seen.screen.splitlines() if f" {name} " in line), "")


@both_sizes
async def test_marked_runs_lie_over_the_one_that_is_shown_with_a_legend_and_are_hidden_one_by_one(
    workshop: Any, write: Write, size: tuple[int, int]
) -> None:
    write("shown", 40), write("a", 60, top=4.5, seed=7), write("b", 20, top=4.0, data=("sonnets.txt",))
    styles = run_styles(Path("runs", name) for name in ("shown", "a", "b"))
    marks = {name: styles[Path("runs", name)].mark for name in ("a", "b")}
    async with workshop.console(size) as seen:
        assert seen.main.loss.check_action("hide", ()) is None, "there is nothing to hide"
        await overlay(seen, "a", "b")
        await seen.press("z" if size[0] > 80 else "3")
        await seen.see("other text")
        assert seen.main.loss.check_action("hide", ())
        assert row(seen, "a").startswith(f"{marks['a']} a  val 4.500  best 4.500") and "seed 7" in row(seen, "a")
        assert "does not compare: other text" in row(seen, "b")
        drawn = [line.mark for line in seen.main.loss.chart().lines]
        assert all(drawn.count(mark) == 1 for mark in marks.values())
        assert seen.main.loss.extent == (0.0, 60.0), "as far as the longest goes"
        for hidden in ("a", "ab", ""):
            await seen.press("i")
            drawn = [line.mark for line in seen.main.loss.chart().lines]
            assert {name for name in "ab" if marks[name] not in drawn} == set(hidden)
            assert all(("hidden" in row(seen, name)) == (name in hidden) for name in "ab")
        assert await seen.pilot.click(seen.main.loss.legend, offset=(3, 1))
        assert [run.hidden for run in seen.main.loss.beside()] == [False, True]
        runs = await seen.open_list(3)
        assert {folder.name: style.mark for folder, style in runs.list.marks.items()} == marks
        assert all(f"{marks[name]} runs/{name}" in seen.screen for name in "ab")
        await to(seen, runs, "a")
        await seen.press("d", "d")
        await seen.until(lambda: len(runs.list.runs) == 2)
        assert [folder.name for folder in runs.list.marks] == ["b"]
        await to(seen, runs, "b")
        await seen.press("n", "end", "x", "enter")
        assert [folder.name for folder in runs.list.marks] == ["bx"], "it stays marked under its new name"


async def test_a_click_anywhere_in_a_row_of_the_legend_hides_its_run_and_one_that_is_unmarked_goes(
    workshop: Any, write: Write
) -> None:
    write("shown", 40), write("a", 60, seed=7), write("b", 60, seed=8)
    async with workshop.console((80, 24)) as seen:
        await overlay(seen, "a", "b")
        loss = seen.main.loss
        await seen.see("seed 8")
        for place, hidden in (((30, 0), [True, False]), ((30, 1), [False, False])):
            assert await seen.pilot.click(loss.legend, offset=place)
            assert [run.hidden for run in loss.beside()] == hidden
            await seen.see("hidden" if any(hidden) else "seed 7")
        runs = await seen.open_list(3)
        await to(seen, runs, "b")
        await seen.press("space", "escape")
        await seen.until(lambda: "seed 7" in seen.screen and "seed 8" not in seen.screen)
        loss.hide_row(1)  # a click on a row that is gone since
        await seen.pilot.pause()
        assert [run.hidden for run in loss.beside()] == [False]


async def test_a_ninth_run_takes_the_place_of_the_oldest_and_the_list_says_so(workshop: Any, write: Write) -> None:
    names = [f"run-{n}" for n in range(9)]
    for n, name in enumerate(names):
        write(name, 20, seed=n)
    async with workshop.console(toasts=True) as seen:
        runs = await seen.open_list(9)
        for name in names:
            await to(seen, runs, name)
            await seen.press("space")
        assert [folder.name for folder in runs.list.marks] == names[1:]
        messages = [toast.message for toast in seen.app._notifications]
        assert messages == ["Eight runs at most lie over the chart: run-0 no longer does."]


async def test_the_legend_leaves_the_chart_its_rows_and_tells_first_what_tells_the_runs_apart(
    workshop: Any, write: Write
) -> None:
    names = [f"a-long-name-of-an-experiment-{n}" for n in range(6)]
    write("shown", 40), write("longer-than-the-names-that-have-a-row", 40)
    for n, name in enumerate(names):
        write(name, 40, batch_size=99, seed=n + 1, dropout=0.3, learning_rate=0.002, weight_decay=0.2, epochs=7)
    async with workshop.console((80, 24)) as seen:
        await overlay(seen, *names, "longer-than-the-names-that-have-a-row")
        loss, marks = seen.main.loss, [run.style.mark for run in seen.main.loss.beside()]
        await seen.see("and 4 more")
        assert [line.strip("│ ")[0] for line in seen.screen.splitlines() if " seed " in line] == marks[:3]
        assert "  seed 1, " in seen.screen and re.search(r" \+\d", seen.screen) and "riment-0  val" in seen.screen
        assert loss.canvas.size.height >= 10 and loss.legend.size.height == 4
        await seen.pilot.resize_terminal(80, 17)
        await seen.see("and 7 more")
        await seen.pilot.resize_terminal(80, 24)
        await seen.press("i")
        await seen.see("and 3 more, 1 hidden")
        await seen.press("i", "i", "i", "i")
        await seen.see(f"5 hidden  {marks[0]} a-long")
        assert loss.legend.size.height == 3, "hidden ones share a row"


@pytest.mark.parametrize(
    ("presses", "unit", "step"), [(0, "step", 40), (1, "epoch", 10), (2, "tokens", 20), (3, "time", 80)]
)
async def test_the_crosshair_reads_every_run_at_the_same_step_epoch_token_or_second(
    workshop: Any, write: Write, presses: int, unit: str, step: int
) -> None:
    write("shown", 40), write("other", 100, top=4.0, epoch=20, tokens=2000, seconds=0.5), write("short", 5)
    async with workshop.console((80, 24)) as seen:
        await overlay(seen, "other", "short")
        await seen.press("c", *["["] * 4, *["t"] * presses)
        await seen.see("step 40")
        assert f"train {4.0 - step / 100:.3f}" in row(seen, "other")
        assert "val – " in row(seen, "other"), "its only evaluation came later"
        assert "val –  train –" in row(seen, "short"), "it did not get there"
        assert f"{unit} 0" in seen.screen
        at = {"step": 40, "epoch": 0.5, "tokens": 40_000, "time": 40}[unit]
        chart = seen.main.loss.chart()
        assert chart.crosshair == pytest.approx(at)
        assert [line.x for line in chart.lines[-3:]] == [[pytest.approx(at)]] * 3, "the points that are read off"


@pytest.mark.parametrize(("origin", "over"), [("resumed_from", ["elder"]), ("initialised_from", [])])
async def test_a_branch_that_is_opened_lies_over_the_run_that_it_comes_from_and_other_runs_do_not(
    workshop: Any, write: Write, origin: str, over: list[str]
) -> None:
    old, branch = write("old", 60), write("branch", 40, seed=7)
    write("other", 40)
    begin, *rest = read_journal(branch)
    begin = replace(begin, **{origin: "runs/old/best.pt"})
    (branch / JOURNAL).write_text("".join(f"{encode(event)}\n" for event in (begin, *rest)))
    rename_run(old, "elder")

    async def show(name: str, *names: str) -> None:
        await to(seen, await seen.open_list(3), name)
        await seen.press("enter")
        await seen.until(lambda: seen.main.store.folder == Path("runs", name) and seen.main.store.history.started)
        assert [folder.name for folder in seen.main.overlays.folders] == [*names]
        await seen.until(lambda: len(seen.main.loss.beside()) == len(names))

    async with showing(workshop, branch) as seen:
        await seen.until(lambda: [run.folder.name for run in seen.main.loss.beside()] == over)
        await show("other")
        await show("branch", *over)
        await seen.press("N")
        assert seen.main.overlays.folders == []
        await to(seen, await seen.open_list(3), "elder")
        await seen.press("space", "escape")
        await show("branch", "elder")
        await show("other", "elder")


async def test_where_there_is_no_room_for_a_legend_the_crosshair_line_reads_the_runs(
    workshop: Any, write: Write
) -> None:
    write("shown", 40), write("other", 100, top=4.0, epoch=20)
    mark = run_styles([Path("shown"), Path("other")])[Path("other")].mark
    async with workshop.console((80, 24)) as seen:
        await overlay(seen, "other")
        seen.main.loss.styles.height = 4
        await seen.press("c", "left")
        await seen.until(lambda: f"{mark} –" in seen.screen)
        assert not seen.main.loss.legend.display
        await seen.press("t")
        points = {line.x[0] for line in seen.main.loss.chart().lines if line.y == [4.0]}
        assert points == {5.0}, "its validation at step 100 of 20 an epoch, and not of the 80 of the run that is shown"


async def test_a_live_run_grows_while_it_lies_over_another(workshop: Any, make: Any, write: Write) -> None:
    write("shown", 40)
    live = make("live")
    with alive(live) as journal:
        async with workshop.console((80, 24)) as seen:
            await overlay(seen, "live")
            (run,) = seen.main.loss.beside()
            assert run.store.train.last == (40, 3.8)
            journal.append(workshop.progress(41, 60))
            journal.append(evaluated(60, 3.25))
            await seen.until(lambda: "val 3.250" in row(seen, "live"))
            assert run.store.train.last == (60, 3.7)


@both_sizes
async def test_the_list_says_which_losses_do_not_compare(seen: Any, write: Write) -> None:
    write("a", 5), write("b", 5, top=1.5), write("c", 5, top=0.365, data=("sonnets.txt",))
    write("d", 5, top=0.41, data=("sonnets.txt",), val_split=0.2)
    runs = await seen.open_list(4)
    await to(seen, runs, "a")
    await seen.pilot.pause()
    assert set(re.findall(r"≠[\d.]+", seen.screen)) == {"≠0.365", "≠0.410"}
    shown = " ".join(seen.screen.split())
    assert "≠ marks losses that do not compare with this run's: other text, other val_split" in shown
    assert shown.count("other text") == 1, "each reason once"


async def test_without_a_run_the_marked_ones_are_drawn_alone(seen: Any, write: Write) -> None:
    write("a", 60, top=4.5), write("b", 40, seed=7)
    await seen.see("No run yet.")
    runs = await seen.open_list(2)
    for name in "ab":
        await to(seen, runs, name)
        await seen.press("space")
    await seen.press("escape")
    await seen.until(lambda: "seed 7" in row(seen, "b"))
    assert "No run yet." not in seen.screen and seen.main.loss.extent == (0.0, 60.0)
    assert row(seen, "a").endswith("best 4.500"), "the others differ from the first"
