"""Runs outlive the console: attaching, going on, leaving, a folder that holds a run, replaying."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.run.commands import COMMANDS, Pause, Resume, Sample, Stop
from fundamentallm.run.events import JOURNAL, Answered, Intervention, Phase
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.screens.dialogs import Question
from fundamentallm_tui.screens.run_table import RunChoice
from fundamentallm_tui.state import replay
from tests.conftest import file_contents
from tests.tui.others import alive, both_sizes, evaluated, library, told


@both_sizes
async def test_attaching_shows_everything_since_the_start_and_every_control_reaches_the_run(
    workshop: Any, make: Any, size: tuple[int, int]
) -> None:
    folder = make("far", evaluated(40, 2.5), epochs=7)
    with alive(folder) as journal:
        async with workshop.console(size) as seen:
            seen.main.open_run(folder)
            await seen.until(lambda: "TRAINING" in seen.status)
            assert len(seen.main.store.train) == 40 and seen.main.store.val.last == (40.0, 2.5)
            assert seen.main.form.fields.cells["epochs"].value == "7"
            journal.append(workshop.progress(41, 60))
            await seen.until(lambda: seen.main.store.step == 60)
            await seen.pilot.press("f6")
            assert "PAUSING" in seen.status
            journal.append(Phase(step=60, phase="paused"))
            await seen.until(lambda: "PAUSED" in seen.status)
            await seen.pilot.press("f6", "ctrl+g", "H", "enter", "f8")
            assert [type(command) for command in told(folder)] == [Pause, Resume, Sample, Stop]
            journal.append(workshop.finished(61, "stopped"))
            await seen.until(lambda: "STOPPED" in seen.status)
        assert seen.runs == [], "no process was started for it"


async def test_what_others_asked_for_is_told_with_their_names(workshop: Any, make: Any) -> None:
    folder = make("far")
    with alive(folder) as journal:
        async with workshop.console() as seen:
            seen.main.open_run(folder)
            await seen.until(lambda: "TRAINING" in seen.status)
            await seen.pilot.press("f6")
            mine = told(folder)[-1]
            journal.append(Answered(step=40, id=mine.id, command="pause", ok=True, who="me"))
            journal.append(Answered(step=41, id="other", command="pause", ok=True, who="anna\x1b[2J"))
            journal.append(Answered(step=41, id="third", command="stop", ok=True, who="ben"))
            change = Intervention(step=41, setting="learning_rate", old=1e-3, new=5e-4, who="anna")
            journal.append(change)
            await seen.until(lambda: "5e-4" in seen.main.log_view.text or "0.0005" in seen.main.log_view.text)
            log = seen.main.log_view.text
            assert "paused at step 40\n" in log and "(anna·[2J)" in log
            assert "asked to stop (ben)" in log and "0.0005 at step 41 (anna)" in log
            assert seen.main.form.fields.cells["learning_rate"].value == "0.0005"


async def test_a_run_that_was_interrupted_is_shown_whole_and_f5_goes_on_with_it(workshop: Any, make: Any) -> None:
    folder = make("lost", epochs=7)
    async with workshop.console() as seen:
        seen.main.open_run(folder)
        await seen.until(lambda: "STOPPED" in seen.status)
        assert "Interrupted: its process is gone." in seen.main.log_view.text
        assert len(seen.main.store.train) == 40
        await seen.pilot.press("ctrl+g", "H", "enter")
        assert seen.samplers[-1].checkpoint == folder / "last.pt"
        await seen.pilot.press("escape")
        run = await seen.started()
        assert (run.job.folder, run.job.auto, run.job.resume_from) == (folder, True, None)
        assert (run.job.config.epochs, run.job.changes) == (7, {})


async def test_a_journal_with_a_stop_and_a_going_on_ends_as_it_stands(workshop: Any, make: Any) -> None:
    again = [workshop.started(RunSpec(Config(), Path("x"), Path("last.pt")), 30), Phase(step=30, phase="training")]
    folder = make("twice", workshop.finished(40, "stopped"), *again, workshop.progress(31, 35))
    with alive(folder):
        async with workshop.console() as seen:
            seen.main.open_run(folder)
            await seen.until(lambda: "TRAINING" in seen.status)
            assert seen.main.store.step == 35 and seen.main.store.train.last[0] == 35, "nothing is shown twice"


async def test_a_run_that_cannot_be_told_says_so(workshop: Any, make: Any) -> None:
    folder = make("far")
    (folder / COMMANDS).mkdir()
    with alive(folder):
        async with workshop.console() as seen:
            seen.main.open_run(folder)
            await seen.until(lambda: "TRAINING" in seen.status)
            await seen.pilot.press("f6")
            await seen.until(lambda: "The command was not sent" in seen.main.log_view.text)
            assert "TRAINING" in seen.status


async def test_a_run_that_rests_is_live_again_when_somebody_goes_on_with_it(workshop: Any, make: Any) -> None:
    folder = make("far", workshop.finished(40, "stopped"))
    async with workshop.console() as seen:
        seen.main.open_run(folder)
        await seen.until(lambda: "STOPPED" in seen.status and not seen.main.has_model)
        with alive(folder) as journal:
            config = seen.main.store.config
            journal.append(workshop.started(RunSpec(config, folder, preset="medium"), step=40))
            journal.append(Phase(step=40, phase="training"))
            await seen.until(lambda: "TRAINING" in seen.status and seen.main.has_model)
            assert seen.main.form.fields.cells["preset"].value == "medium"
            journal.append(workshop.progress(41, 55))
            await seen.until(lambda: seen.main.store.step == 55)


async def test_leaving_a_paused_run_for_another_asks_first(workshop: Any, make: Any) -> None:
    make("other")
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("f6")
        run.say(Phase(step=9, phase="paused"))
        await seen.until(lambda: "PAUSED" in seen.status)
        await library(seen, 1)
        await seen.pilot.press("enter")
        await seen.until(lambda: isinstance(seen.app.screen, Question))
        await seen.pilot.press("escape")
        assert seen.app.screen is seen.main and not run.left and "PAUSED" in seen.status
        await library(seen, 1)
        await seen.pilot.press("enter", "l")
        await seen.until(lambda: run.left and seen.main.store.folder == Path("runs/other"))


async def test_the_console_says_which_runs_are_under_way(workshop: Any, make: Any) -> None:
    folder = make("far")
    make("lost")
    with alive(folder):
        async with workshop.console() as seen:
            await seen.until(lambda: "runs/far is under way" in seen.main.log_view.text)
            assert "lost" not in seen.main.log_view.text


async def test_a_run_can_be_left_running(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("ctrl+q", "l")
        await seen.until(lambda: seen.app._exit)
        assert run.sent == [] and seen.app.left == run.folder
    assert seen.app.return_code == 0


async def test_a_run_that_is_being_started_is_started_before_it_is_left(workshop: Any) -> None:
    async with workshop.console() as seen:
        seen.main.store.begin(Path("runs/x"), "x", Config(), resumes=False)  # and no process yet
        await seen.pilot.press("ctrl+q", "l")
        assert not seen.app._exit
        seen.main._launch(RunSpec(Config(), Path("runs/x")))
        await seen.until(lambda: seen.app._exit)
        assert len(seen.runs) == 1


async def test_f5_into_a_folder_that_holds_a_run_asks(workshop: Any, make: Any) -> None:
    folder = make("old", epochs=7)
    async with workshop.console(output_dir=str(folder)) as seen:
        await seen.pilot.press("f5")
        assert isinstance(seen.app.screen, Question)
        await seen.pilot.press("escape")
        assert seen.runs == []
        await seen.pilot.press("f5", "n")
        await seen.until(lambda: seen.runs)
        assert (str(seen.run.job.folder), seen.run.job.auto) == ("runs/old-2", False)


async def test_f5_can_go_on_with_the_run_in_the_folder(workshop: Any, make: Any) -> None:
    folder = make("old", epochs=7)
    async with workshop.console(output_dir=str(folder)) as seen:
        await seen.pilot.press("f5", "g")
        await seen.until(lambda: seen.runs)
        assert (seen.run.job.folder, seen.run.job.auto, seen.run.job.config.epochs) == (folder, True, 7)
        assert len(seen.main.store.train) == 40


async def test_f5_offers_to_attach_where_a_process_writes_the_folder(workshop: Any, make: Any) -> None:
    folder = make("old")
    with alive(folder):
        async with workshop.console(output_dir=str(folder)) as seen:
            await seen.pilot.press("f5", "a")
            await seen.until(lambda: "TRAINING" in seen.status)
            assert seen.runs == []


async def test_a_replay_shows_the_whole_run_can_be_held_and_writes_nothing(
    workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_SILENCE", 1e9)
    folder = make("old", evaluated(40, 2.5), workshop.finished(40))
    lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    (folder / JOURNAL).write_text("".join(json.dumps({**line, "time": 1000.0 * line["seq"]}) + "\n" for line in lines))
    before = file_contents(folder)
    async with workshop.console() as seen:
        seen.main.open_run(folder, speed=1e-6)  # stands still after its first event
        await seen.until(lambda: seen.main.store.loaded)
        assert "REPLAY" in seen.status
        await seen.pilot.press("f6")
        await seen.until(lambda: seen.main.store.phase == "paused")
        assert "F6 resume" in seen.keys
        await seen.pilot.press("f7", "f8", "f6")
        await seen.until(lambda: "TRAINING" in seen.status)
        seen.main.reader.handle.speed = 1e9
        await seen.until(lambda: "FINISHED" in seen.status)
        assert len(seen.main.store.train) == 40
        await seen.pilot.press("f5", "ctrl+q")
        await seen.until(lambda: seen.app._exit)
        assert seen.runs == []
    assert file_contents(folder) == before


async def test_what_a_shell_changed_in_our_own_run_stays_when_f5_goes_on(workshop: Any) -> None:
    async with workshop.console() as seen:
        first = await seen.started()
        first.folder.mkdir(parents=True)
        (first.folder / "last.pt").touch()
        first.say(Intervention(step=5, setting="learning_rate", old=1e-3, new=5e-4, who="anna"))
        await seen.until(lambda: seen.main.form.fields.cells["learning_rate"].value == "0.0005")
        first.die()
        await seen.until(lambda: "FAILED" in seen.status)
        second = await seen.started()
        assert (second.job.auto, second.job.changes, second.job.config.learning_rate) == (True, {}, 5e-4)


async def test_what_was_asked_of_a_run_that_is_being_started_reaches_no_other(
    workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make("other")
    with alive(other):
        async with workshop.console() as seen:
            start, ready = seen.main._start, threading.Event()
            monkeypatch.setattr(seen.main, "_start", lambda job: (ready.wait(30), start(job))[1])
            await seen.pilot.press("f5", "f8")
            seen.main._run_chosen(RunChoice("open", other))
            ready.set()
            await seen.until(lambda: seen.runs and seen.run.sent)
            assert isinstance(seen.run.sent[0], Stop) and told(other) == []
            assert seen.main.reader.handle is seen.run and seen.main.store.folder == seen.run.folder
            assert "is being started" in seen.main.log_view.text


async def test_a_run_whose_folder_is_gone_is_not_called_dead_and_offers_nothing(workshop: Any, make: Any) -> None:
    folder = make("far")
    with alive(folder):
        async with workshop.console() as seen:
            seen.main.open_run(folder)
            await seen.until(lambda: "TRAINING" in seen.status)
            folder.rename(folder.with_name("moved"))
            await seen.until(lambda: "TRAINING" not in seen.status)
            log = seen.main.log_view.text
            assert "Interrupted: its folder is gone or has another name." in log and "goes on from" not in log
