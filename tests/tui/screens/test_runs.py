"""The list of runs: every run that is found, and what can be done with it."""

import re
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from textual.widgets import Input

from fundamentallm import train_model
from fundamentallm.config.config import Config
from fundamentallm.run import summary
from fundamentallm.run.events import JOURNAL, encode
from fundamentallm.run.history import read_history
from fundamentallm.run.notes import read_notes, rename_run, write_notes
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui import keys
from fundamentallm_tui.screens import runs as runs_screen
from fundamentallm_tui.screens.run_table import all_runs, arrange, sparkline
from fundamentallm_tui.screens.runs import Runs
from tests.conftest import PATIENCE
from tests.events import evaluated
from tests.tui.others import alive, both_sizes, commands_sent, showing


@both_sizes
@pytest.mark.parametrize("key", ["ctrl+o", "o"])
async def test_the_list_shows_live_runs_first_with_state_steps_best_and_curve(
    workshop: Any, make: Any, size: tuple[int, int], key: str
) -> None:
    far = make("far", evaluated(40, 2.345))
    make("lost")
    make("done", workshop.finished(40))
    with alive(far):
        async with workshop.console(size) as seen:
            await seen.press(key)
            await seen.until(lambda: isinstance(seen.app.screen, Runs) and "▁" in seen.screen)
            lines = seen.screen.splitlines()
            rows = [line for line in lines if line.startswith("   runs/")]
            assert all(text in rows[0] for text in ("runs/far", "training", "2.345", "40/400", "small"))
            states = {row.split()[0]: row.split()[1] for row in rows}
            assert states == {"runs/far": "training", "runs/lost": "interrupted", "runs/done": "finished"}
            assert lines[-1].rstrip().endswith("esc close  F1 help  ^q quit")
            await seen.pilot.resize_terminal(250, 70)
            await seen.until(lambda: re.search(r"runs/far {50,60}training", seen.screen), "they stay near the name")
            await seen.press("escape")
            assert seen.app.screen is seen.main


async def test_typing_filters_and_letters_are_text_there(seen: Any, make: Any) -> None:
    for name in ("red", "blue", "drc"):
        make(name)
    runs = await seen.open_list(3)
    await seen.press("slash", "d", "r", "c")
    assert [run.folder.name for run in runs.list.runs] == ["drc"] and "1 of 3 runs" in seen.screen
    footer = runs.footer.render()
    possible = [footer.plain[span.start : span.end] for span in footer.spans if "accent" in str(span.style)]
    assert possible == ["esc", "F1", "^q"], "letters are text"
    await seen.press(*" learning_rate>0.0001")
    await seen.see("drc learning_rate>0.0001")
    await seen.press("escape")
    assert seen.app.screen is runs and not runs.query_one("#filter", Input).has_focus
    await seen.press("r")
    await seen.until(lambda: seen.runs)
    assert (seen.run.job.folder, seen.run.job.auto) == (Path("runs/drc"), True)


async def test_of_two_hundred_runs_only_a_journal_that_has_grown_is_read_again(
    workshop: Any, make: Any, monkeypatch: Any
) -> None:
    folders = [make(f"run-{n}", steps=3) for n in range(200)]
    read: list[Path] = []
    monkeypatch.setattr(
        summary, "read_history", lambda folder, **how: read.append(folder) or read_history(folder, **how)
    )
    assert len(all_runs(None)) == 200 and sorted(read) == sorted(folders)
    read.clear()
    with alive(folders[7]) as journal:
        journal.append(workshop.progress(4, 9))
        write_notes(folders[9], note="new")
        runs = {run.folder: run for run in all_runs(None)}
        assert sorted(read) == sorted([folders[7], folders[9]])
        assert (runs[folders[7]].state, runs[folders[7]].steps, runs[folders[9]].note) == ("training", 9, "new")
    assert [run.state for run in all_runs(None)] == ["interrupted"] * 200


async def test_runs_whose_reading_takes_longer_than_the_interval_are_listed(
    workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("old")
    read, waiting = Event(), list[str]()

    def slow(*how: Any) -> Any:
        waiting.append("reads")
        assert read.wait(60)
        return all_runs(*how)

    monkeypatch.setattr(runs_screen, "all_runs", slow)
    monkeypatch.setattr(runs_screen, "REFRESH_INTERVAL", 0.01)
    async with workshop.console() as seen:
        await seen.press("o")
        await seen.see("looking for runs")
        await seen.pilot.pause(0.2)
        assert waiting == ["reads"]
        read.set()
        await seen.see("1 run, 0 under way")


async def test_sorting_goes_through_the_orders(seen: Any, make: Any) -> None:
    make("b", evaluated(40, 3.0), steps=40)
    make("a", evaluated(20, 2.0), steps=20)
    runs = await seen.open_list(2)
    orders = []
    for _ in range(3):  # from the newest first, which test_run_table holds
        await seen.press("t")
        orders.append("".join(run.folder.name for run in runs.list.runs))
    assert orders == ["ab", "ab", "ba"]


async def test_the_keys_of_the_list_move_its_cursor(workshop: Any, make: Any) -> None:
    for n in range(40):
        make(f"run-{n:02}", steps=1)
    moves = [("end", 39), ("up", 38), ("k", 37), ("home", 0), ("down", 1), ("j", 2)]
    async with workshop.console() as seen:
        runs = await seen.open_list(40)
        await seen.press("t")
        for key, place in moves:
            await seen.press(key)
            assert runs.list.highlighted == place and runs.list.current.folder.name == f"run-{place:02}"
        await seen.press("pagedown")
        assert runs.list.highlighted - 2 > 10, "a page"
        await seen.press("pageup")
        assert runs.list.highlighted <= 2
    bound = {key for command in keys.LIST for key in command.key.split(",")}
    assert bound == {*(key for key, _ in moves), "pagedown", "pageup"}


async def test_enter_attaches_to_a_live_run_and_shows_another(workshop: Any, make: Any) -> None:
    far = make("far")
    make("done", workshop.finished(40))
    with alive(far):
        async with workshop.console() as seen:
            await seen.open_list(2)
            await seen.press("enter")
            await seen.until(lambda: "TRAINING" in seen.status and "runs/far" in seen.status)
            await seen.open_list(2)
            await seen.press("down", "enter")
            await seen.until(lambda: "FINISHED" in seen.status and "runs/done" in seen.status)
    assert commands_sent(far) == []


async def test_a_click_goes_to_a_run_and_a_double_click_opens_it(workshop: Any, seen: Any, make: Any) -> None:
    make("a", workshop.finished(40))
    make("b", workshop.finished(40))
    runs = await seen.open_list(2)
    first, second = (run.folder.name for run in runs.list.runs)
    await seen.pilot.click("#list", offset=(5, 1))
    assert seen.app.screen is runs and runs.list.current.folder.name == second
    await seen.pilot.click("#list", offset=(5, 0), times=2)
    await seen.until(lambda: seen.app.screen is seen.main and f"runs/{first}" in seen.status)


async def test_a_live_run_is_never_deleted_and_another_only_when_confirmed(workshop: Any, make: Any) -> None:
    far, old = make("far"), make("old")
    (old / "notes.txt").write_text("mine")
    with alive(far):
        async with workshop.console() as seen:
            runs = await seen.open_list(2)
            await seen.press("d")
            assert seen.app.screen is runs, "the live one is under the cursor"
            await seen.press("down", "d", "escape")
            assert (old / JOURNAL).exists()
            await seen.press("d", "d")
            await seen.until(lambda: len(runs.list.runs) == 1)
    assert [path.name for path in old.iterdir()] == ["notes.txt"], "what no run wrote stays"
    assert (far / JOURNAL).exists() and (far / "last.pt").exists()


@pytest.mark.parametrize(
    ("losses", "bars"),
    [
        ([4.6, 1.5, 1.56, 1.68], "█▁▂▄"),  # a bar for each 4 % above the lowest: a rise is seen after a steep fall
        ([2.0, float("nan"), 2.0], "▁ ▁"),
        ([0.0, 1.0, 0.0], "▁▂▁"),
        ([3.0] * 4 + [2.0] * 4, "█▁"),
        ([], ""),
    ],
)
def test_the_bars_of_two_runs_have_one_scale(losses: list[float], bars: str) -> None:
    assert sparkline(losses, 4 if len(losses) < 5 else 2) == bars


@pytest.mark.parametrize(("width", "beside"), [(60, [2, 2, 2, 2]), (80, [3, 3, 2]), (120, [5, 3]), (200, [8])])
async def test_more_runs_are_compared_side_by_side_and_it_is_said_whose_losses_do_not_compare(
    workshop: Any, make: Any, width: int, beside: list[int]
) -> None:
    for n in range(8):
        text = "sonnets.txt" if n == 1 else str(workshop.text)
        make(f"r{n}", evaluated(40, 2.0 - n / 10), data=(text,), val_split=0.2 if n == 1 else 0.1, seed=n)
    async with workshop.console((width, 60)) as seen:
        runs = await seen.open_list(8)
        await seen.press("t", "home", *["space", "down"] * 8)
        assert len(runs.list.marks) == 8
        await seen.press("c")
        await seen.see("best epoch")
        rows = [(line.strip(" │").split("  ")[0], line.split()) for line in seen.screen.splitlines() if "│" in line]
        seeds = [cells[2:-1] for name, cells in rows if name == "seed"]
        losses = [cells[3:-1] for name, cells in rows if name == "best val"]
        assert [len(row) for row in seeds] == beside and sum(seeds, []) == [str(n) for n in range(8)]
        assert sum(losses, []) == [f"{2.0 - n / 10:.3f}" for n in range(8)]
        names = [name for name, _ in rows]
        assert "model_dim" not in names and names.count("val_split") == len(beside)
        words = " ".join(seen.screen.replace("│", " ").split())
        assert "The losses of runs/r1 and runs/r0 do not compare: other text, other val_split." in words
        assert "runs/r2 and runs/r0" not in words


async def test_names_from_outside_cannot_steer_the_terminal(workshop: Any, make: Any) -> None:
    folder = make("bad\x1b[2J\u202e[b]")
    write_notes(folder, note="[b]\x1b]52;c;AA\x07", tags=("[/]", "\x9b31m"))
    async with workshop.console() as seen:
        await seen.open_list(1)
        await seen.pilot.pause(0.1)
        text = seen.screen
        assert "\x1b" not in text and "\u202e" not in text and "bad·[2J" in text and "[b]·]52;c;AA·" in text
        for key, title in (("n", "Rename bad·[2J·[b]"), ("e", "A note on bad·"), ("g", "The tags of bad·")):
            await seen.press(key)
            assert title in seen.screen and "\x1b" not in seen.screen and "\x9b" not in seen.screen
            await seen.press("escape")


async def test_an_end_that_could_not_be_saved_is_shown_and_resumed(workshop: Any, seen: Any, make: Any) -> None:
    make("full", evaluated(20, 2.5), workshop.finished(40, unsaved="disk full"))
    runs = await seen.open_list(1)
    await seen.until(lambda: "NOT SAVED" in seen.screen)
    assert "finished, NOT saved: disk full; r resumes it from its last checkpoint." in seen.screen
    await seen.pilot.press("enter")
    await seen.until(lambda: seen.app.screen is not runs and "NOT SAVED" in seen.status)
    await seen.until(lambda: "the end could NOT be saved: disk full" in seen.screen)
    await seen.pilot.press("f5")
    await seen.until(lambda: seen.runs)
    assert (seen.run.job.folder, seen.run.job.auto) == (Path("runs/full"), True)


async def test_a_run_gets_a_name_a_note_and_tags_and_is_found_by_them(seen: Any, make: Any) -> None:
    make("prose-1")
    make("prose-2")
    runs = await seen.open_list(2)
    await seen.press("t", "home", "n", *"prose-2", "enter")
    assert "runs/prose-2: there is one already; choose" in seen.screen
    await seen.press("ctrl+u", *"night", "enter")
    assert Path("runs/night/journal.jsonl").exists() and not Path("runs/prose-1").exists()
    assert runs.list.current.folder == Path("runs/night"), "the cursor stays on the run"
    await seen.press("e", *"less [dropout]", "enter", "g", *"good, slow", "enter")
    await seen.see("less [dropout] #good #slow")
    assert "runs/night #good #slow" in seen.screen
    await seen.pilot.resize_terminal(60, 20)
    await seen.see("night #good #…")
    notes = read_notes(Path("runs/night"))
    assert (notes.note, notes.tags, notes.former_names) == ("less [dropout]", ("good", "slow"), ("prose-1",))
    await seen.press("slash", *"tag:slow", "enter")
    assert [run.folder.name for run in runs.list.runs] == ["night"]
    await seen.press("slash", *" seed>", "enter")
    assert "seed>: a number must follow >" in seen.screen and runs.list.runs == []


async def test_the_run_that_the_console_shows_is_shown_under_its_new_name(workshop: Any, make: Any) -> None:
    make("old", workshop.finished(40))
    async with showing(workshop, Path("runs/old")) as seen:
        await seen.open_list(1)
        await seen.press("n", "ctrl+u", *"new", "enter", "escape")
        await seen.until(lambda: "runs/new" in seen.status and "FINISHED" in seen.status)
        assert seen.main.store.folder == Path("runs/new") and seen.main.store.step == 40


async def test_a_run_under_way_is_not_renamed_but_takes_notes(workshop: Any, make: Any) -> None:
    folder = make("far")
    with alive(folder):
        async with workshop.console(toasts=True) as seen:
            runs = await seen.open_list(1)
            for key in ("n", "d"):
                await seen.press(key)
                await seen.see("far is under way: it can be renamed or deleted")
                assert seen.app.screen is runs
                seen.app.clear_notifications()
            await seen.press("r")
            await seen.see("far is under way: enter attaches to it.")
            await seen.press("c")
            await seen.see("Mark two runs or more with space")
            await seen.press("e", *"mine", "enter")
            assert read_notes(folder).note == "mine"


async def test_runs_are_sorted_by_a_setting_that_has_a_column_then(seen: Any, make: Any) -> None:
    for n, rate in enumerate((0.02, 0.0005, 0.003)):
        make(f"run-{n}", learning_rate=rate)
    runs = await seen.open_list(3)
    await seen.press("T", "enter")
    await seen.see("newest first")
    await seen.press("T", *"learning", "enter")
    assert "learning: no such setting; did you mean learning_rate?" in seen.screen
    await seen.press("ctrl+u", *"learning_rate", "enter")
    assert [run.folder.name for run in runs.list.runs] == ["run-1", "run-2", "run-0"]
    rows = [line.split() for line in seen.screen.splitlines() if "runs/run-" in line]
    assert [row[4 if row[3] == "min" else 3] for row in rows[:3]] == ["0.0005", "0.003", "0.02"]
    assert "by learning_rate" in seen.screen


@pytest.mark.parametrize("where", ["list", "main"])
async def test_w_writes_a_report_of_the_run(workshop: Any, seen: Any, make: Any, monkeypatch: Any, where: str) -> None:
    folder = make("night", evaluated(40, 2.5), workshop.finished(40))
    notified: list[str] = []
    monkeypatch.setattr(seen.app, "notify", lambda text, **_: notified.append(text))
    await seen.press("w")
    await seen.app.workers.wait_for_complete()
    assert notified == [] and not (folder / "report.md").exists(), "there is no run yet"
    if where == "main":
        seen.main.open_run(folder)
        await seen.status_is("FINISHED")
    else:
        await seen.open_list(1)
    await seen.press("w")
    await seen.until(lambda: notified)
    assert notified == ["The report is in runs/night/report.md"]
    assert "| best val_loss | 2.5000," in (folder / "report.md").read_text()
    (folder / "report.md").write_text("mine")
    await seen.press("w")
    await seen.until(lambda: len(notified) == 2)
    assert notified[1].startswith("runs/night/report.md: is there already and is no report of a run")


async def test_one_key_exports_the_model_of_the_run(workshop: Any, monkeypatch: Any) -> None:
    small = {"model_dim": 16, "num_layers": 1, "max_seq_len": 16, "max_steps": 2}
    folder = train_model(workshop.text, output_dir="runs/night", device="cpu", **small).folder
    monkeypatch.setattr("tests.tui.conftest.PATIENCE", 5 * PATIENCE)  # PyTorch is loaded, twice
    async with workshop.console() as seen:
        notified: list[str] = []
        monkeypatch.setattr(seen.app, "notify", lambda text, **_: notified.append(text))
        await seen.press("E")
        assert notified == [], "there is no run yet"
        seen.main.open_run(folder)
        await seen.status_is("FINISHED")
        for said in ("The model is in runs/night-hf", "runs/night-hf: exists already; name another folder"):
            notified.clear()
            await seen.press("E")
            await seen.until(lambda: notified)
            assert notified == [said]
        assert Path("runs/night-hf/model.safetensors").is_file()


async def test_the_runs_on_the_first_screen_are_those_that_there_are(workshop: Any, make: Any) -> None:
    make("one", evaluated(40, 2.345))
    async with workshop.console((200, 60)) as seen:
        await seen.see("one ")
        await seen.see("best 2.345")
        run = await seen.stopped()
        make("two")
        await seen.press("N")
        await seen.see("two ")
        await seen.open_list(2)
        await seen.press("home", "d", "d")
        await seen.until(lambda: len(seen.app.screen.list.runs) == 1)
        await seen.press("escape")
        await seen.until(lambda: len(seen.main.welcome.runs) == 1)
        assert run.folder not in {run.folder for run in seen.main.welcome.runs}


async def test_runs_under_way_keep_their_order(workshop: Any, make: Any) -> None:
    old, new = make("old"), make("new", workshop.progress(41, 42))
    with alive(old) as journal, alive(new):
        for step in (41, 42):
            journal.append(workshop.progress(step, step))  # its last event is the newer one
        started = {run.folder.name: run.started for run in all_runs(None)}
        assert started["old"] < started["new"]
        assert [run.folder.name for run in arrange(all_runs(None), "", "-last_event")] == ["new", "old"]


async def test_the_parent_of_a_run_is_shown_under_the_name_that_it_has_now(workshop: Any, make: Any) -> None:
    make("old")
    rename_run(Path("runs/old"), "elder")
    folder = Path("runs/child")
    folder.mkdir()
    begin = workshop.started(RunSpec(Config(), folder))
    (folder / JOURNAL).write_text(encode(replace(begin, initialised_from="runs/old/best.pt")) + "\n")
    async with workshop.console() as seen:
        await seen.open_list(2)
        await seen.press("end")
        await seen.see("from runs/elder/best.pt")
