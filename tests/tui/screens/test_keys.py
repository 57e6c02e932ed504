"""The keys do what the one table of commands says, at both sizes and in each state."""

from typing import Any

import pytest

from fundamentallm.run.commands import Pause, Resume, Save, Stop
from fundamentallm.run.events import Phase
from fundamentallm_tui import keys
from fundamentallm_tui.screens.dialogs import Question, TextDialog
from fundamentallm_tui.screens.help import help_text
from tests.tui.others import both_sizes


@both_sizes
@pytest.mark.parametrize("letters", [False, True], ids=["function keys", "letters"])
async def test_start_pause_resume_save_stop(workshop: Any, size: tuple[int, int], letters: bool) -> None:
    start, pause, save, stop = "rpsx" if letters else ("f5", "f6", "f7", "f8")
    async with workshop.console(size) as seen:
        assert "IDLE" in seen.status
        await seen.press(start)
        assert "LOADING" in seen.status
        await seen.until(lambda: seen.runs and seen.main.reader)
        seen.run.begin()
        await seen.status_is("TRAINING")

        await seen.press(pause)
        assert "PAUSING" in seen.status, "a key shows before the worker has received it"
        seen.run.say(Phase(step=3, phase="evaluating"))
        await seen.until(lambda: seen.main.store.phase == "evaluating")
        assert "PAUSING" in seen.status, "what else the worker does meanwhile does not hide it"
        seen.run.say(Phase(step=3, phase="paused"))
        await seen.status_is("PAUSED")

        await seen.press(save, pause)
        assert "TRAINING" in seen.status
        seen.run.say(Phase(step=3, phase="training"))
        await seen.press(stop)
        assert "STOPPING" in seen.status
        seen.run.finish(4, "stopped")
        await seen.status_is("STOPPED")
        assert [type(command) for command in seen.run.sent] == [Pause, Save, Resume, Stop]


async def test_start_key_resumes_a_paused_run(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.paused()
        await seen.press("f5")
        assert isinstance(run.sent[-1], Resume) and len(seen.runs) == 1


async def test_a_refused_pause_is_taken_back(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.press("f6")
        run.answer(ok=False, why="it is compiling")
        await seen.status_is("TRAINING")
        assert "it is compiling" in seen.log


async def test_a_stopped_run_is_resumed_and_after_a_finished_one_a_new_run_gets_a_new_folder(workshop: Any) -> None:
    async with workshop.console() as seen:
        first = await seen.stopped()
        assert "F5 resume" in seen.keys
        second = await seen.started()
        assert first.left and second.job.auto and second.job.folder == first.folder
        second.finish(400)
        await seen.status_is("FINISHED")
        third = await seen.started()
        assert not third.job.auto and third.job.folder.name == f"{first.folder.name[:-1]}2"


async def test_the_palette_offers_what_can_be_done_and_lets_go_of_a_stopped_run(workshop: Any) -> None:
    async with workshop.console() as seen:

        def offered() -> dict[str, Any]:
            return {command.title: command.callback for command in seen.app.get_system_commands(seen.app.screen)}

        always = {"Sample", "Runs", "Help", "Theme", "Quit"}
        assert set(offered()) == {"Start", *always}
        first = await seen.stopped()
        assert set(offered()) == {"Start", "New run", *always}
        offered()["New run"]()
        assert "IDLE" in seen.status
        second = await seen.started()
        assert not second.job.auto and second.job.folder != first.folder
        assert set(offered()) == {"Pause or resume", "Save", "Stop", *always}


async def test_a_named_folder_that_holds_the_last_run_gets_a_number(workshop: Any) -> None:
    async with workshop.console(output_dir="my_model") as seen:
        first = await seen.started()
        first.folder.mkdir()
        (first.folder / "journal.jsonl").touch()
        first.finish(400)
        await seen.status_is("FINISHED")
        second = await seen.started()
        assert [str(run.job.folder) for run in (first, second)] == ["my_model", "my_model-2"]


async def test_what_was_changed_after_a_stop_reaches_the_resumed_run(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.stopped()
        assert seen.cells["model_dim"].disabled, "the width belongs to the saved state"
        await seen.type(epochs="9")
        second = await seen.started()
        assert second.job.changes == {"epochs": 9}


async def test_letters_are_text_in_the_prompt_function_keys_act_and_escape_leaves_it(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.press("ctrl+g", "p", "x", "1")
        assert seen.main.sample.prompt.value == "px1" and run.sent == []
        await seen.press("f6", "f7", "escape", "s")
        assert [type(command) for command in run.sent] == [Pause, Save, Save]


@both_sizes
async def test_the_footer_and_the_keys_agree_on_what_can_be_done(workshop: Any, size: tuple[int, int]) -> None:
    def possible() -> dict[str, bool | None]:
        return {name: seen.main.check_action(name, ()) for name in ("start", "pause", "save", "stop")}

    async with workshop.console(size) as seen:
        await seen.press("f6", "f7", "f8")
        assert seen.runs == []
        assert possible() == {"start": True, "pause": None, "save": None, "stop": None}
        run = await seen.started()
        assert possible() == {"start": None, "pause": True, "save": True, "stop": True}
        await seen.press("f5")
        assert seen.runs == [run]


async def test_quit_asks_while_a_run_is_under_way_and_cancel_changes_nothing(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        for key in ("escape", "c"):
            await seen.press("ctrl+q")
            assert isinstance(seen.app.screen, Question)
            await seen.press("f8", "f6", "1", "ctrl+q", "f1")
            assert isinstance(seen.app.screen, Question), "in a dialog only its own keys act"
            await seen.press(key)
            assert seen.app.screen is seen.main
        assert run.sent == [] and seen.app.return_code is None


async def test_quit_with_stop_waits_for_the_end_of_the_run(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.press("ctrl+q", "s")
        assert "STOPPING" in seen.status and [type(command) for command in run.sent] == [Stop]
        assert seen.app.is_running and seen.app.return_code is None
        run.finish(5, "stopped")
        await seen.until(lambda: seen.app.return_code == 0)


async def test_quit_without_a_run_ends_at_once(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.press("ctrl+q")
        await seen.until(lambda: seen.app.return_code == 0)


@both_sizes
async def test_number_keys_and_ctrl_arrows_reach_every_pane(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size) as seen:
        for key, (name, _) in zip("12345", keys.PANES, strict=True):
            await seen.press("escape", key)
            await seen.pilot.pause()
            assert seen.main.query_one(f"#{name}").region.width > 20
        await seen.press("escape", "ctrl+right")
        assert seen.main.tabs.active == "config"
        await seen.press("ctrl+left")
        assert seen.main.tabs.active == "sample"


def test_help_lists_every_key() -> None:
    text = str(help_text())
    for command in (*keys.MAIN, *keys.RUNS):
        if command.key and command.help:
            assert f"{keys.key_name(command.key)} " in text and command.help in text
            assert not command.letter or f" {keys.key_name(command.letter)} " in text


async def test_help_opens_and_closes(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        for opening in ("f1", "question_mark"):
            await seen.press(opening)
            assert isinstance(seen.app.screen, TextDialog)
            await seen.press("escape")
            assert seen.app.screen is seen.main


async def test_every_binding_has_an_id_so_that_it_can_be_remapped(workshop: Any) -> None:
    assert all(binding.id for command in (*keys.MAIN, *keys.RUNS) for binding in command.bindings())
    async with workshop.console() as seen:
        seen.app.set_keymap({"start": "f9"})
        await seen.press("f5")
        assert seen.runs == [] and "F9 start" in seen.keys
        await seen.press("f9")
        await seen.until(lambda: seen.runs)
