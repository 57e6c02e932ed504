"""Runs outlive the console: attaching, resuming, leaving, a folder that holds a run, replaying."""

import json
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run.commands import COMMANDS, Pause, Resume, Sample, Stop
from fundamentallm.run.events import JOURNAL, Answered, Intervention, Phase
from fundamentallm.run.journal import BATCH
from fundamentallm.run.spec import RunSpec
from fundamentallm.run.summary import summarize
from fundamentallm_tui.dialogs import Question
from fundamentallm_tui.state import replay
from fundamentallm_tui.state.reader import EventsReceived
from tests.conftest import file_contents
from tests.events import evaluated
from tests.tui.others import Starts, alive, attached, both_sizes, commands_sent


@both_sizes
async def test_attaching_shows_everything_since_the_start_and_every_control_reaches_the_run(
    workshop: Any, make: Any, size: tuple[int, int]
) -> None:
    folder = make("far", evaluated(40, 2.5), epochs=7)
    async with attached(workshop, folder, size) as (seen, journal):
        assert len(seen.main.store.train) == 40 and seen.main.store.val.last == (40.0, 2.5)
        assert seen.cells["epochs"].value == "7"
        journal.append(workshop.progress(41, 60))
        await seen.until(lambda: seen.main.store.step == 60)
        await seen.press("f6")
        assert "PAUSING" in seen.status
        journal.append(Phase(step=60, phase="paused"))
        await seen.status_is("PAUSED")
        await seen.press("f6", "ctrl+g", "H", "enter", "f8")
        assert [type(command) for command in commands_sent(folder)] == [Pause, Resume, Sample, Stop]
        journal.append(workshop.finished(61, "stopped"))
        await seen.status_is("STOPPED")
        assert seen.runs == [], "no process was started for it"


async def test_what_others_asked_for_is_logged_with_their_names(workshop: Any, make: Any) -> None:
    folder = make("far")
    async with attached(workshop, folder) as (seen, journal):
        await seen.press("f6")
        [ours] = commands_sent(folder)
        journal.append(Answered(step=40, id=ours.id, command="pause", ok=True, who="me"))
        journal.append(Answered(step=41, id="other", command="pause", ok=True, who="anna\x1b[2J"))
        journal.append(Answered(step=41, id="third", command="stop", ok=True, who="ben"))
        journal.append(Intervention(step=41, setting="learning_rate", old=1e-3, new=5e-4, who="anna"))
        await seen.until(lambda: "0.0005" in seen.log)
        assert "paused at step 40\n" in seen.log and "(anna·[2J)" in seen.log
        assert "asked to stop (ben)" in seen.log and "0.0005 at step 41 (anna)" in seen.log
        assert seen.cells["learning_rate"].value == "0.0005"


async def test_a_run_that_was_interrupted_is_shown_and_f5_resumes_it(seen: Any, make: Any) -> None:
    folder = make("lost", epochs=7)
    seen.main.open_run(folder)
    await seen.status_is(summarize(folder).state.upper())
    assert "INTERRUPTED" in seen.status and "● interrupted" in seen.screen
    assert "Interrupted: its process is gone." in seen.log
    assert len(seen.main.store.train) == 40
    await seen.press("ctrl+g", "H", "enter")
    assert seen.samplers[-1].checkpoint == folder / "last.pt"
    await seen.press("escape")
    run = await seen.started()
    assert (run.job.folder, run.job.auto, run.job.resume_from) == (folder, True, None)
    assert (run.job.config.epochs, run.job.changes) == (7, {})


async def test_a_command_that_cannot_be_sent_is_logged(workshop: Any, make: Any) -> None:
    folder = make("far")
    (folder / COMMANDS).mkdir()
    async with attached(workshop, folder) as (seen, _):
        await seen.press("f6")
        await seen.until(lambda: "The command was not sent" in seen.log)
        assert "TRAINING" in seen.status


async def test_an_ended_run_is_live_again_when_someone_resumes_it(workshop: Any, seen: Any, make: Any) -> None:
    folder = make("far", workshop.finished(40, "stopped"))
    seen.main.open_run(folder)
    await seen.until(lambda: "STOPPED" in seen.status and not seen.main.has_model)
    with alive(folder) as journal:
        journal.append(workshop.started(RunSpec(seen.main.store.config, folder, preset="medium"), step=40))
        journal.append(Phase(step=40, phase="training"))
        await seen.until(lambda: "TRAINING" in seen.status and seen.main.has_model)
        assert seen.cells["preset"].value == "medium"
        journal.append(workshop.progress(41, 55))
        await seen.until(lambda: seen.main.store.step == 55)


async def test_leaving_a_paused_run_for_another_asks_first(seen: Any, make: Any) -> None:
    make("other")
    run = await seen.paused()
    await seen.open_list(1)
    await seen.press("enter")
    await seen.until(lambda: isinstance(seen.app.screen, Question))
    await seen.press("escape")
    assert seen.app.screen is seen.main and not run.left and "PAUSED" in seen.status
    await seen.open_list(1)
    await seen.press("enter", "l")
    await seen.until(lambda: run.left and seen.main.store.folder == Path("runs/other"))


async def test_the_console_says_which_runs_are_under_way(workshop: Any, make: Any) -> None:
    make("lost")
    with alive(make("far")):
        async with workshop.console() as seen:
            await seen.until(lambda: "runs/far is under way" in seen.log)
            assert "lost" not in seen.log


async def test_a_run_that_is_being_started_is_started_before_it_is_left(workshop: Any) -> None:
    start = Starts()
    start.ready.clear()
    async with workshop.console(start=start) as seen:
        await seen.press("f5", "ctrl+q", "l")
        assert seen.app.return_code is None and not seen.runs
        start.ready.set()
        await seen.until(lambda: seen.app.return_code == 0)
        assert len(seen.runs) == 1


async def test_what_was_asked_of_a_run_that_is_being_started_reaches_no_other(workshop: Any, make: Any) -> None:
    other, start = make("other"), Starts()
    start.ready.clear()
    with alive(other):
        async with workshop.console(start=start) as seen:
            await seen.press("f5", "f8")
            await seen.open_list(1)
            await seen.press("enter")
            await seen.until(lambda: "is being started" in seen.log)
            start.ready.set()
            await seen.until(lambda: seen.runs and seen.run.sent)
            assert isinstance(seen.run.sent[0], Stop) and commands_sent(other) == []
            assert seen.main.reader.handle is seen.run and seen.main.store.folder == seen.run.folder


@pytest.mark.parametrize(
    ("finished", "answer", "offer", "starts"),
    [
        (False, "n", "Start a new run in a folder beside it", [("runs/old-2", False, 5)]),
        (False, "g", "Resume that run", [("runs/old", True, 7)]),
        (True, "g", "Open that run, which has finished", []),
    ],
)
async def test_f5_into_a_folder_that_holds_a_run_asks(
    workshop: Any, make: Any, finished: bool, answer: str, offer: str, starts: list[tuple[str, bool, int]]
) -> None:
    folder = make("old", *([workshop.finished(40)] if finished else []), epochs=7)
    async with workshop.console(output_dir=str(folder)) as seen:
        await seen.press("f5")
        await seen.see(offer)
        await seen.press("escape")
        assert seen.runs == []
        await seen.press("f5", answer)
        await seen.until(lambda: seen.runs or "FINISHED" in seen.status)
        assert [(str(run.job.folder), run.job.auto, run.job.config.epochs) for run in seen.runs] == starts
        assert len(seen.main.store.train) == (40 if answer == "g" else 0)


async def test_f5_offers_to_attach_where_a_process_writes_the_folder(workshop: Any, make: Any) -> None:
    folder = make("old")
    with alive(folder):
        async with workshop.console(output_dir=str(folder)) as seen:
            await seen.press("f5", "a")
            await seen.status_is("TRAINING")
            assert seen.runs == []


async def test_a_replay_shows_the_whole_run_can_be_paused_and_writes_nothing(
    workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "MAX_SILENCE", 1e9)
    folder = make("old", evaluated(40, 2.5), workshop.finished(40, "stopped"))
    lines = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    (folder / JOURNAL).write_text("".join(json.dumps({**line, "time": 1000.0 * line["seq"]}) + "\n" for line in lines))
    before = file_contents(folder)
    async with workshop.console() as seen:
        seen.main.open_run(folder, speed=1e-6)  # shows its first event, and the next in days
        await seen.until(lambda: seen.main.store.loaded)
        assert "REPLAY" in seen.status
        await seen.press("f6")
        await seen.until(lambda: seen.main.store.phase == "paused")
        assert "F5 resume" in seen.keys
        await seen.press("f7", "f8", "f6")
        await seen.status_is("TRAINING")
        seen.main.reader.handle.speed = 1e9
        await seen.status_is("STOPPED")
        assert len(seen.main.store.train) == 40 and "stopped after 40 steps" in seen.log
        assert "resumes" not in seen.log, "a replay has nothing to resume"
        await seen.press("f5", "ctrl+q")
        await seen.until(lambda: seen.app.return_code == 0)
        assert seen.runs == []
    assert file_contents(folder) == before


async def test_what_a_shell_changed_in_our_own_run_stays_when_f5_resumes_it(seen: Any) -> None:
    first = await seen.started()
    first.folder.mkdir(parents=True)
    (first.folder / "last.pt").touch()
    first.say(Intervention(step=5, setting="learning_rate", old=1e-3, new=5e-4, who="anna"))
    await seen.until(lambda: seen.cells["learning_rate"].value == "0.0005")
    first.die()
    await seen.status_is("INTERRUPTED")
    second = await seen.started()
    assert (second.job.auto, second.job.changes, second.job.config.learning_rate) == (True, {}, 5e-4)


async def test_a_run_whose_journal_is_still_being_read_is_not_called_training(workshop: Any, make: Any) -> None:
    async with attached(workshop, make("far")) as (seen, _):
        many = [workshop.progress(step, step) for step in range(41, 41 + BATCH)]
        for events, status in (many, "LOADING"), ([workshop.progress(41 + BATCH, 41 + BATCH)], "TRAINING"):
            seen.main.post_message(EventsReceived(seen.main.reader, events))
            await seen.status_is(status)


async def test_a_run_whose_folder_is_gone_is_not_called_dead_and_offers_nothing(workshop: Any, make: Any) -> None:
    folder = make("far")
    async with attached(workshop, folder) as (seen, _):
        folder.rename(folder.with_name("moved"))
        await seen.until(lambda: "TRAINING" not in seen.status)
        assert "Interrupted: its folder is gone or has another name." in seen.log and "resumes" not in seen.log
