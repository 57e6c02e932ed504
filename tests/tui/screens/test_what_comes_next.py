"""What a start, a stop or a resume leads to happens once, for the run that was meant, and never by surprise."""

import threading
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run.commands import Sample, Stop
from fundamentallm.run.events import JOURNAL, Phase
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.app import describe_outcome
from fundamentallm_tui.dialogs import Fetch, Question, TextDialog
from fundamentallm_tui.screens.runs import Runs
from tests.conftest import delete_folder
from tests.tui.fakes import FakeRun
from tests.tui.others import REFUSED, Starts, alive, attached, showing


@pytest.mark.parametrize("answer", ["l", "s"])
async def test_a_start_that_failed_lets_no_later_one_quit_the_console(workshop: Any, answer: str) -> None:
    start = Starts(refused=1)
    start.ready.clear()
    async with workshop.console(start=start) as seen:
        await seen.press("f5", "ctrl+q", answer)
        start.ready.set()
        await seen.until(lambda: "output_dir" in seen.main.form.problems)
        assert seen.app.is_running and "IDLE" in seen.status, "the user has to see why"
        await seen.press("escape")
        run = await seen.started()
        run.finish(10)
        await seen.status_is("FINISHED")
        assert seen.app.return_code is None


async def test_f5_tries_again_what_was_refused(workshop: Any) -> None:
    async with workshop.console(start=Starts(refused=2)) as seen:
        for _ in range(2):
            await seen.press("f5")
            await seen.until(lambda: "output_dir" in seen.main.form.problems)
        assert seen.main.form.problems == {"output_dir": "runs/text-1: holds a run already"}, "the field has its name"
        assert "IDLE" in seen.status and "holds a run already" in seen.log
        await seen.press("escape")
        await seen.started()
        assert seen.main.form.problems == {}


async def test_f5_looks_again_for_a_text_that_was_missing(workshop: Any) -> None:
    text = workshop.folder / "late.txt"
    async with workshop.console() as seen:
        await seen.type(data="late.txt")
        await seen.until(lambda: "data" in seen.main.form.problems)
        await seen.press("f5")
        await seen.until(lambda: seen.main.form.fields.current.name == "data")
        assert seen.runs == [] and "IDLE" in seen.status
        text.write_text(workshop.text.read_text())
        await seen.press("escape", "f5")
        await seen.until(lambda: seen.runs)
        assert seen.run.job.config.data == ("late.txt",)


async def test_what_a_run_refused_does_not_keep_the_next_start(workshop: Any) -> None:
    async with workshop.training(epochs=5) as (seen, run):
        seen.main.form.fields.enter("epochs")
        await seen.press(*"2", "enter")
        await seen.until(lambda: run.sent)
        run.answer(ok=False, why="epochs: epoch 3 is under way; 3 is the smallest total")
        await seen.until(lambda: "epochs" in seen.main.form.problems)
        run.folder.mkdir(parents=True)
        (run.folder / "last.pt").touch()
        run.finish(10, "stopped")
        await seen.status_is("STOPPED")
        assert seen.main.form.problems == {}
        await seen.press("escape")
        second = await seen.started()
        assert second.job.folder == run.folder


async def test_a_resume_that_failed_can_be_tried_again(workshop: Any) -> None:
    start = Starts()
    async with workshop.console(start=start) as seen:
        run = await seen.stopped()
        start.refused = 1
        await seen.press("f5")
        await seen.until(lambda: f" {REFUSED.removeprefix('--output-dir ')}" in seen.log)
        assert not seen.main.form.fields.entered, "no field of a run that is resumed can mend it"
        assert seen.main.tabs.active == "log"
        assert "STOPPED" in seen.status and seen.main.store.folder == run.folder and seen.main.store.step == 10
        await seen.press("escape")
        assert "F5 resume" in seen.keys
        again = await seen.started()
        assert (again.job.folder, again.job.auto) == (run.folder, True)


async def test_a_run_that_is_being_saved_can_be_left_to_itself(seen: Any, run: Any) -> None:
    await seen.press("ctrl+q", "s")
    await seen.until(lambda: run.sent)
    for key in ("escape", "s"):
        await seen.press("ctrl+q")
        assert isinstance(seen.app.screen, Question) and "it saves and ends by itself" in seen.screen
        await seen.press(key)
        assert seen.app.screen is seen.main
    assert [type(command) for command in run.sent] == [Stop], "it is asked once"
    await seen.press("ctrl+q", "l")
    await seen.until(lambda: seen.app.return_code == 0)
    assert seen.app.leaves


async def test_a_stop_that_was_refused_can_be_asked_for_again(seen: Any, run: Any) -> None:
    await seen.press("ctrl+q", "s")
    await seen.until(lambda: run.sent)
    run.answer(ok=False, why="no")
    await seen.status_is("TRAINING")
    await seen.press("ctrl+q", "s")
    await seen.until(lambda: len(run.sent) == 2)
    run.finish(3, "stopped")
    await seen.until(lambda: seen.app.return_code == 0)


async def test_a_run_that_someone_resumed_first_is_not_resumed_when_it_ends(
    workshop: Any, seen: Any, make: Any
) -> None:
    folder = make("old", workshop.finished(40, "stopped"))
    runs = await seen.open_list(1)
    with alive(folder) as journal:
        assert runs.list.current.state == "stopped", "the list does not know yet"
        journal.append(workshop.started(RunSpec(seen.main.form.config, folder), step=40))
        await seen.press("r")
        await seen.until(lambda: "is under way: it is shown, not resumed." in seen.log)
        await seen.until(lambda: seen.main.store.under_way and seen.main.store.loaded)
        journal.append(workshop.finished(41, "stopped"))
        await seen.status_is("STOPPED")
    await seen.until(lambda: not seen.main.reader.alive)
    await seen.pilot.pause(0.5)
    assert seen.runs == []


async def test_a_text_that_arrives_below_the_help_starts_the_run_when_that_is_closed(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, arrived = threading.Event(), threading.Event()

    def download(text: Any, **_: Any) -> None:
        begun.set()
        assert arrived.wait(60)
        Path(text.folder).mkdir(parents=True)
        (Path(text.folder) / "shakespeare25k.txt").write_text(workshop.text.read_text())

    monkeypatch.setattr("fundamentallm_tui.dialogs.download", download)
    async with workshop.console() as seen:
        await seen.type(data="data/raw/shakespeare/shakespeare25k.txt")
        await seen.press("f5")
        await seen.until(lambda: isinstance(seen.app.screen, Fetch))
        await seen.press("f")
        await seen.until(begun.is_set)
        await seen.press("f1")
        assert isinstance(seen.app.screen, TextDialog)
        arrived.set()
        await seen.until(lambda: seen.app.screen_stack[-2]._fetched)
        assert isinstance(seen.app.screen, TextDialog) and seen.runs == []
        await seen.press("escape")
        await seen.until(lambda: seen.runs)
        assert seen.app.screen is seen.main


async def ask(seen: Any, run: FakeRun) -> None:
    await seen.press("ctrl+g", "H", "enter")
    await seen.until(lambda: any(isinstance(command, Sample) for command in run.sent))
    await seen.see("writing")


@pytest.mark.parametrize("end", ["dies", "ends", "is left"])
async def test_a_sample_ends_with_the_process_that_writes_it(workshop: Any, make: Any, end: str) -> None:
    make("other", workshop.finished(40))
    async with workshop.training() as (seen, run):
        await ask(seen, run)
        if end == "is left":
            await seen.press("escape")
            await seen.open_list(1)
            await seen.press("enter")
        else:
            if end == "ends":
                run.finish(10)
                await seen.status_is("FINISHED")
            run.die("killed by SIGKILL")
        await seen.until(lambda: "writing" not in seen.screen and seen.app.screen is seen.main)
        if end != "is left":
            await seen.see("the process that was asked is gone")


async def test_a_sample_that_cannot_be_asked_for_says_so(workshop: Any, make: Any) -> None:
    folder = make("far")
    async with attached(workshop, folder) as (seen, _):
        seen.main.looked.look_at("a text")
        (folder / "commands.jsonl").unlink()
        (folder / "commands.jsonl").mkdir()
        await seen.press("ctrl+g", "H", "enter")
        await seen.see("it could not be asked for")
        assert not seen.main.looked.current.problem, "that was asked for before"


async def test_the_palette_does_not_act_through_what_lies_over_the_run(workshop: Any, make: Any) -> None:
    make("old")
    async with workshop.training() as (seen, _):
        await seen.press("x")
        question = seen.app.screen
        assert isinstance(question, Question)
        await seen.press("ctrl+p")
        assert seen.app.screen is question
        await seen.press("escape")
        titles = {command.title for command in seen.app.get_system_commands(seen.app.screen)}
        assert {"Stop", "Save", "Theme"} <= titles
        runs = await seen.open_list(1)
        assert isinstance(runs, Runs)
        titles = {command.title for command in seen.app.get_system_commands(runs)}
        assert "Theme" in titles and not {"Start", "Stop", "Save", "Pause or resume"} & titles


async def test_a_large_run_is_deleted_while_the_list_takes_keys(
    workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fundamentallm_tui.screens import runs as module

    old, may_end = make("old", workshop.finished(40)), threading.Event()
    make("other")
    delete = module.delete_run

    def slowly(folder: Path) -> list[str]:
        assert may_end.wait(60)
        return delete(folder)

    monkeypatch.setattr(module, "delete_run", slowly)
    async with showing(workshop, old) as seen:
        runs = await seen.open_list(2)
        while runs.list.current.folder.name != "old":
            await seen.press("down")
        await seen.press("d", "d")
        await seen.until(lambda: len(runs.list.runs) == 1)
        await seen.press("t", "t")
        assert "by best loss" in seen.screen and (old / JOURNAL).exists()
        may_end.set()
        await seen.until(lambda: not old.exists())
        await seen.press("escape")
        await seen.status_is("IDLE")


async def test_a_deletion_that_is_refused_brings_the_run_back(workshop: Any, make: Any) -> None:
    folder = make("old")
    async with workshop.console(toasts=True) as seen:
        runs = await seen.open_list(1)
        await seen.press("d")
        with alive(folder):
            await seen.press("d")
            await seen.see("is being written by")
            await seen.until(lambda: len(runs.list.runs) == 1)
            await seen.press("escape")
            assert "IDLE" in seen.status and (folder / "last.pt").exists()


async def test_a_factor_of_a_setting_that_is_not_known_or_too_far_is_said(workshop: Any) -> None:
    async with workshop.training(epochs=1, learning_rate=0.001) as (seen, run):
        await seen.main.run_action("change('epochs', 1, -1)")
        assert "epochs: 0 is out of bounds" in seen.log
        for _ in range(400):
            await seen.main.run_action("change('learning_rate', 10.0, 0)")
        assert seen.app.is_running and len(run.sent) < 400


async def test_events_that_come_while_the_console_closes_do_no_harm(workshop: Any, seen: Any, run: Any) -> None:
    run.say(workshop.progress(1, 5))


async def test_a_journal_without_the_setting_lets_the_palette_say_so(workshop: Any, make: Any) -> None:
    folder = make("far")
    lines = (
        (folder / JOURNAL)
        .read_text()
        .replace('"epochs":10', '"epochs":"many"')
        .replace('"patience":5', '"patience":[]')
    )
    (folder / JOURNAL).write_text(lines)
    async with attached(workshop, folder) as (seen, _):
        assert seen.main.store.config is None
        for action in ("change('epochs', 1, 1)", "change('patience', 1, 1)", "change('learning_rate', 2.0, 0)"):
            await seen.main.run_action(action)
        await seen.until(lambda: "learning_rate cannot change: its value is not known." in seen.log)


@pytest.mark.parametrize("journal", ["", "garbage\n"])
async def test_a_run_whose_journal_is_lost_is_neither_forgotten_nor_replaced_by_another(
    workshop: Any, make: Any, journal: str
) -> None:
    folder = make("lost")
    (folder / JOURNAL).write_text(journal)
    async with showing(workshop, folder, (120, 36), "FAILED", toasts=True) as seen:
        await seen.press("1", "enter", "f5", "escape")  # the cursor was in a field before
        await seen.until(lambda: "runs/lost: its journal has no settings to resume it with" in seen.log)
        assert "fundamentallm train --resume auto --output-dir runs/lost does without" in " ".join(seen.log.split())
        assert not seen.main.form.fields.entered and seen.runs == []
        await seen.press("o")
        await seen.see("runs/lost: its journal is empty or damaged")


async def test_a_run_that_is_deleted_while_it_is_shown_is_not_replaced_by_another(workshop: Any, make: Any) -> None:
    folder = make("lost")
    async with showing(workshop, folder, (120, 36), "INTERRUPTED") as seen:
        delete_folder(folder)
        await seen.press("f5", "escape")
        await seen.until(lambda: "runs/lost: is gone; N closes it" in " ".join(seen.log.split()))
        assert seen.runs == []


@pytest.mark.parametrize(
    ("state", "said"), [("paused", "is paused, and ends saved"), ("stopping", "saves and ends"), ("", "continues")]
)
async def test_what_is_said_of_a_run_that_is_left_is_what_becomes_of_it(
    seen: Any, run: Any, state: str, said: str
) -> None:
    if state:
        run.say(Phase(step=1, phase=state))
        await seen.status_is(state.upper())
    await seen.press("ctrl+q", "l")
    await seen.until(lambda: seen.app.return_code == 0)
    assert seen.app.leaves and run.sent == [] and f"The run {said}" in describe_outcome(seen.main.store)


@pytest.mark.parametrize(("setting", "said"), [("stop", "saves and ends"), ("continue", "continues")])
async def test_what_is_said_of_a_run_that_a_fault_of_the_console_left(workshop: Any, setting: str, said: str) -> None:
    async with workshop.training(on_console_loss=setting) as (seen, _):
        assert f"The run {said}" in describe_outcome(seen.main.store, lost=True)
        assert "The run continues" in describe_outcome(seen.main.store)
