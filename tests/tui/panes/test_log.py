"""The log: one row an epoch, search, levels, engine.log and the clipboard."""

from typing import Any

import pytest

from fundamentallm.run.events import CheckpointFailed, Evaluated, Notice, Phase
from fundamentallm_tui.panes.log import PIECE
from fundamentallm_tui.state.event_log import MAX_LINES, EventLog, to_lines


def evaluation(epoch: int, *, best: bool = True) -> Evaluated:
    return Evaluated(
        step=100 * epoch, epoch=epoch, train_loss=12.0 / epoch, val_loss=25.0 / epoch, perplexity=1024.4 / epoch,
        epoch_ended=True, best=best,
    )  # fmt: skip


def frame(seen: Any) -> str:
    """What the log's frame says."""
    return str(seen.main.log_view.border_subtitle)


def marked(seen: Any) -> list[str]:
    """The texts on the screen that are marked as found."""
    strips = seen.app.screen._compositor.render_strips()
    return [s.text for strip in strips for s in strip if s.style and s.style.reverse and s.text.isalnum()]


async def with_lines(seen: Any, *notices: tuple[str, str]) -> Any:
    """Start a run that says so many notices, and put the keyboard into the log."""
    run = await seen.started()
    run.say(*(Notice(step=1, level=level, text=text) for level, text in notices))
    await seen.until(lambda: notices[-1][1] in seen.log)
    await seen.press("2", "enter")
    return run


ROWS = {
    (80, 24): "epoch {n:<3}  train {train:<5}  val {val:<5}  ppl {ppl:<5}  {best:<4} ✓",
    (60, 20): "epoch {n:<3}  train {train:<5}  val {val:<5}  {best:<4} ✓",
}
LOSSES = {1: ("12.00", "25.00", "1,024"), 12: ("1.000", "2.083", "85.37"), 100: ("0.120", "0.250", "10.24")}


@pytest.mark.parametrize("size", ROWS)
async def test_an_epoch_takes_one_row_with_its_numbers_in_columns_and_a_tick_once_it_is_saved(
    workshop: Any, seen: Any, run: Any, size: tuple[int, int]
) -> None:
    await seen.press("2")
    for epoch in LOSSES:
        run.say(evaluation(epoch, best=epoch != 12), Notice(step=1, level="info", text="advice"))
        for name, kind in ((f"checkpoint_epoch_{epoch}.pt", "epoch"), ("best.pt", "best"), ("last.pt", "last")):
            run.say(workshop.saved(100 * epoch, name, kind))
    await seen.until(lambda: seen.log.count("✓") == 3 and "0.120" in seen.screen)
    rows = [line[11:].strip("│ ") for line in seen.screen.splitlines() if "epoch " in line and "✓" in line]
    expected = []
    for epoch, (train, val, ppl) in LOSSES.items():
        best = "" if epoch == 12 else "best"
        expected.append(ROWS[size].format(n=epoch, train=train, val=val, ppl=ppl, best=best))
    assert [row.partition(" ")[2] if row[0].isdigit() else row for row in rows] == expected
    assert "saved" not in seen.log, "the tick says it"


async def test_between_evaluations_only_a_save_by_hand_takes_a_row_or_one_after_a_failure(workshop: Any) -> None:
    async with workshop.training((80, 24)) as (seen, run):
        run.say(workshop.saved(0, "last.pt", "last"), evaluation(1), workshop.saved(100, "last.pt", "last"))
        run.say(workshop.saved(100, "checkpoint_step_100.pt", "hand"))
        run.say(*(workshop.saved(step, "last.pt", "last") for step in (120, 140)))
        run.say(workshop.saved(150, "checkpoint_step_150.pt", "hand"), evaluation(2))
        run.say(CheckpointFailed(step=200, path="best.pt", kind="best", why="disk full"))
        run.say(*(workshop.saved(step, "last.pt", "last") for step in (220, 240)))
        await seen.until(lambda: seen.log.endswith("2 times"))
        assert [line[9:].split("  ")[0].split(" (")[0] for line in seen.log.splitlines()[1:]] == [
            "saved last.pt", "epoch 1", "saved checkpoint_step_150.pt", "epoch 2", "could not save best.pt: disk full",
            "saved last.pt",
        ]  # fmt: skip
        first, second = [line for line in seen.log.splitlines() if "epoch " in line and "ppl" in line]
        assert first.endswith("best ✓ checkpoint_step_100.pt") and "✓" not in second


def test_of_very_many_lines_the_newest_are_kept() -> None:
    log = EventLog()
    for n in range(MAX_LINES + 10):
        log.add(to_lines(f"line {n}", "plain", 1.0))
    assert len(log.lines) < MAX_LINES and log.lines[-1].text == f"line {MAX_LINES + 9}"
    assert log.lines[0].text == f"line {MAX_LINES + 10 - len(log.lines)}"


async def test_search_marks_what_it_finds_counts_it_and_goes_through_it(
    seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    notified: list[str] = []
    monkeypatch.setattr(seen.app, "notify", lambda text, **_: notified.append(text))
    await with_lines(seen, *(("info", f"Loss {n}" if n % 10 == 0 else f"line {n}") for n in range(40)))
    await seen.press("slash", *"loss", "enter")
    assert frame(seen) == "loss: 4/4 · end follows" and marked(seen) == ["Loss"], "the newest before the cursor"
    places = []
    for key in ("n", "N", "N"):
        await seen.press(key)
        places.append(frame(seen))
        assert f"Loss {(0, 30, 20)[len(places) - 1]}" in seen.screen
    assert places == [f"loss: {n}/4 · end follows" for n in (1, 4, 3)]
    await seen.press("y")
    assert [line[9:] for line in seen.app.clipboard.splitlines()] == ["Loss 0", "Loss 10", "Loss 20", "Loss 30"]
    await seen.press("slash", "[", "enter")
    assert frame(seen) == "[: –/0 · end follows" and marked(seen) == []
    await seen.press("escape")
    assert "[" not in frame(seen) and seen.main.log_view.has_focus
    await seen.press("end", "up", "y")
    assert seen.app.clipboard.endswith("line 38") and "\n" not in seen.app.clipboard
    assert notified == ["Copied 4 lines.", "Copied 1 line."]


async def test_without_a_search_n_leaves_the_cursor_and_capital_n_closes_the_run(seen: Any) -> None:
    run = await with_lines(seen, *(("info", f"line {n}") for n in range(40)))
    run.finish(400)
    await seen.status_is("FINISHED")
    await seen.press("2", "slash", *"line", "enter", "N")
    assert "FINISHED" in seen.status and frame(seen).startswith("line: 39/40")
    await seen.press("escape", "n", "N")
    await seen.status_is("IDLE")


async def test_the_cursor_goes_by_lines_and_pages_and_follows_at_the_end(seen: Any) -> None:
    run = await with_lines(seen, *(("info", f"{n}. {'a long line' + ' again' * 15}") for n in range(40)))
    places = []
    for key in ("k", "up", "pageup", "pagedown", "j", "home", "down", "pagedown", "end"):
        await seen.press(key, "y")
        places.append(seen.app.clipboard[9:].partition(".")[0])
    start = "100,000 parameters, 60 characters, 400 steps (5 epochs of 80) on cpu, 2 threads"
    assert places == ["38", "37", "34", "36", "37", start, "0", "2", "39"], "a page is what the pane shows"
    run.say(Notice(step=1, level="info", text="newest"))
    await seen.see("newest")
    assert frame(seen) == ""


async def test_levels_are_hidden_and_the_frame_says_how_many_lines(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        run = await with_lines(seen, ("info", "calm"), ("warning", "beware"), ("error", "broken"))
        run.say(workshop.saved(3, "last.pt", "last"))
        await seen.see("saved last.pt")
        total = len(seen.log.splitlines())
        await seen.press("l")
        assert frame(seen) == "no details, 1 hidden" and "saved last.pt" not in seen.screen and "calm" in seen.screen
        await seen.press("l")
        assert frame(seen) == f"problems, {total - 2} hidden"
        assert "beware" in seen.screen and "broken" in seen.screen and "calm" not in seen.screen
        await seen.press("l")
        assert frame(seen) == "" and "saved last.pt" in seen.screen


async def test_only_new_lines_that_are_shown_are_counted_as_new(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        lines = [(level, f"line {n}") for n in range(30) for level in ("info", "warning")]
        run = await with_lines(seen, *lines)
        await seen.press("l", "l", "home")
        run.say(*(Notice(step=1, level=level, text=text) for level, text in (("info", "more"), ("warning", "beware"))))
        await seen.until(lambda: " new" in frame(seen))
        assert frame(seen) == "problems, 32 hidden · 1 new, end follows"
        assert "line 0" in seen.screen and "beware" not in seen.screen, "it stays where the user is"
        await seen.press("end")
        await seen.see("beware")
        run.say(Notice(step=1, level="warning", text="newest"))
        await seen.see("newest")


async def test_engine_log_is_read_from_its_end_in_pieces_and_followed(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        run = await with_lines(seen, ("info", "an event"))
        run.folder.mkdir(parents=True)
        path = run.folder / "engine.log"
        path.write_bytes(b"".join(b"%05d\x1b[2J %s\n" % (n, b"x" * 50) for n in range(4000)) + b"torn")
        await seen.press("t")
        await seen.see("03999·[2J xx")
        assert "\x1b" not in seen.screen and "torn" not in seen.screen
        await seen.press("home")
        skipped = path.stat().st_size - PIECE
        assert f"({skipped:,} bytes before this are not shown)" in seen.screen
        with path.open("ab") as file:
            file.write(b" no more\nnext\n")
        await seen.until(lambda: frame(seen) == "2 new, end follows")
        await seen.press("end")
        await seen.see("torn no more")
        assert "next" in seen.screen
        await seen.press("t")
        assert "next" not in seen.screen


async def test_an_empty_engine_log_is_said_to_be_empty_until_it_grows(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        run = await with_lines(seen, ("info", "an event"))
        await seen.press("t")
        await seen.see("There is no engine.log: No such file or directory.")
        run.folder.mkdir(parents=True)
        path = run.folder / "engine.log"
        path.touch()
        await seen.press("t")
        seen.main.log_view.clear()
        await seen.press("2", "t")
        await seen.see("engine.log is empty.")
        path.write_text("first\n")
        await seen.see("first")
        assert "is empty" not in seen.screen
        path.write_text("first\nsecond\n")
        await seen.see("second")
        assert seen.screen.count("first") == 1


async def test_the_log_makes_text_from_outside_harmless(seen: Any, run: Any) -> None:
    run.say(Notice(step=1, level="warning", text="[red]file[/] \x1b[2J\x9b31m\u202eevil\ttab"))
    await seen.until(lambda: "evil" in seen.log)
    assert "[red]file[/] ·[2J·31m·evil    tab" in seen.log
    await seen.see("[red]file[/] ·[2J·31m·evil    tab")


async def test_saves_in_a_row_share_a_line_and_so_do_failures(workshop: Any, seen: Any, run: Any) -> None:
    for step in range(1, 31):
        run.say(workshop.saved(step, "last.pt", "last"), Phase(step=step, phase="training"))
        if step == 10:
            run.say(workshop.saved(10, "checkpoint_step_10.pt", "hand"))  # the user asked for it: its own line
    for step in range(31, 34):
        names = ("last.pt", "best.pt")
        run.say(*(CheckpointFailed(step=step, path=name, kind="last", why="disk full") for name in names))
    run.say(*(CheckpointFailed(step=34, path=why, kind="last", why=why) for why in ("one", "two")))
    run.say(workshop.saved(34, "last.pt", "last"))
    await seen.until(lambda: seen.log.endswith("(1.6 MB)") and "full" in seen.log)
    lines = [line[9:] for line in seen.log.splitlines() if "save" in line]
    assert lines == [
        "saved last.pt (1.6 MB), 10 times", "saved checkpoint_step_10.pt (1.6 MB)",
        "saved last.pt (1.6 MB), 20 times", "could not save last.pt, best.pt: disk full, 3 times",
        "could not save one: one", "could not save two: two", "saved last.pt (1.6 MB)",
    ]  # fmt: skip
    await seen.press("2", "z")
    await seen.pilot.pause()
    assert seen.screen.count("saved last.pt") == 3, "what was replaced is gone from the screen, too"


async def test_a_page_key_before_the_lines_are_laid_out_ends_nothing(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        await with_lines(seen, *(("info", f"remark {n}") for n in range(40)))
        view = seen.main.log_view
        view.styles.display = "none"  # without a size Textual's list has items and none of their lines
        view.draw(view.option_count)
        await seen.pilot.pause()
        view.highlighted = 0
        for name in ("pageup", "pagedown"):
            await seen.pilot.press(name)
            getattr(view, f"action_{name.replace('page', 'page_')}")()
        assert seen.app.is_running
