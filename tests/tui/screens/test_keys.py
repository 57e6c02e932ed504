"""The keys do what they say, at both sizes and in each state."""

from typing import Any

import pytest
from textual._xterm_parser import XTermParser
from textual.events import Key, Paste

from fundamentallm.run.commands import Pause, Resume, Sample, Save, Stop
from fundamentallm.run.events import Phase
from fundamentallm_tui import keys
from fundamentallm_tui.screens.dialogs import Question, TextDialog
from fundamentallm_tui.screens.help import help_text

SIZES = [(80, 24), (120, 36)]
both_sizes = pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x36"])


@both_sizes
@pytest.mark.parametrize("letters", [False, True], ids=["function keys", "letters"])
async def test_start_pause_resume_save_stop(workshop: Any, size: tuple[int, int], letters: bool) -> None:
    start, pause, save, stop = "rpsx" if letters else ("f5", "f6", "f7", "f8")
    async with workshop.console(size) as seen:
        assert "IDLE" in seen.status
        await seen.pilot.press(start)
        assert "LOADING" in seen.status
        await seen.until(lambda: seen.runs and seen.main.reader)
        seen.run.begin()
        await seen.until(lambda: "TRAINING" in seen.status)

        await seen.pilot.press(pause)
        assert "PAUSING" in seen.status, "a key shows before the engine has heard of it"
        seen.run.say(Phase(step=3, phase="evaluating"))
        await seen.until(lambda: seen.main.store.phase == "evaluating")
        assert "PAUSING" in seen.status, "what else the engine does meanwhile does not hide it"
        seen.run.say(Phase(step=3, phase="paused"))
        await seen.until(lambda: "PAUSED" in seen.status)

        await seen.pilot.press(save)
        await seen.pilot.press(pause)
        assert "TRAINING" in seen.status
        seen.run.say(Phase(step=3, phase="training"))
        await seen.pilot.press(*([stop, "enter"] if letters else [stop]))
        assert "STOPPING" in seen.status
        seen.run.finish(4, "stopped")
        await seen.until(lambda: "STOPPED" in seen.status)
        assert [type(command) for command in seen.run.sent] == [Pause, Save, Resume, Stop]


async def test_start_key_resumes_a_paused_run(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        run.say(Phase(step=1, phase="paused"))
        await seen.until(lambda: "PAUSED" in seen.status)
        await seen.pilot.press("f5")
        assert isinstance(run.sent[-1], Resume) and len(seen.runs) == 1


async def test_a_refused_pause_is_taken_back(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("f6")
        run.answer(ok=False, why="it is compiling")
        await seen.until(lambda: "TRAINING" in seen.status)
        assert "pause failed: it is compiling" in seen.main.log_view.text


async def test_after_stopped_it_goes_on_and_after_finished_it_takes_a_new_folder(workshop: Any) -> None:
    async with workshop.console() as seen:
        first = await seen.started()
        first.folder.mkdir(parents=True)
        (first.folder / "journal.jsonl").touch()
        (first.folder / "last.pt").touch()
        first.finish(10, "stopped")
        await seen.until(lambda: "STOPPED" in seen.status)
        assert "F5 resume" in seen.keys
        second = await seen.started()
        assert first.left
        assert second.job.folder == first.folder
        assert second.job.auto
        second.finish(400)
        await seen.until(lambda: "FINISHED" in seen.status)
        third = await seen.started()
        assert not third.job.auto
        assert third.job.folder.name == f"{first.folder.name[:-1]}2"


async def test_a_named_folder_that_holds_the_last_run_gets_a_number(workshop: Any) -> None:
    async with workshop.console(output_dir="my_model") as seen:
        first = await seen.started()
        first.folder.mkdir()
        (first.folder / "journal.jsonl").touch()
        first.finish(400)
        await seen.until(lambda: "FINISHED" in seen.status)
        second = await seen.started()
        assert [str(run.job.folder) for run in (first, second)] == ["my_model", "my_model-2"]


async def test_what_was_changed_after_a_stop_reaches_the_run_that_goes_on(workshop: Any) -> None:
    async with workshop.console() as seen:
        first = await seen.started()
        first.folder.mkdir(parents=True)
        (first.folder / "last.pt").touch()
        first.finish(10, "stopped")
        await seen.until(lambda: "STOPPED" in seen.status)
        assert seen.main.form.fields.cells["model_dim"].disabled, "the width belongs to the saved state"
        seen.main.form.fields.enter("epochs")
        await seen.pilot.press("9")
        second = await seen.started()
        assert second.job.changes == {"epochs": 9}


async def test_letters_are_text_in_the_prompt_and_escape_leaves_it(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("ctrl+g", "p", "x", "1")
        assert seen.main.sample.prompt.text == "px1"
        assert run.sent == []
        await seen.pilot.press("escape", "p")
        assert isinstance(run.sent[-1], Pause)


async def test_function_keys_act_inside_text_fields(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("ctrl+g", "f6", "f7")
        assert [type(command) for command in run.sent] == [Pause, Save]


async def test_enter_samples_and_up_recalls(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("ctrl+g", "H", "i", "enter")
        sample = run.sent[-1]
        assert isinstance(sample, Sample)
        expected = ("Hi", 200, 0.8, 0, 1.0, None)
        assert (
            sample.prompt,
            sample.max_tokens,
            sample.temperature,
            sample.top_k,
            sample.top_p,
            sample.seed,
        ) == expected
        seen.main.sample.prompt.text = ""
        await seen.pilot.press("up")
        assert seen.main.sample.prompt.text == "Hi"
        await seen.pilot.press("down")
        assert seen.main.sample.prompt.text == ""


@both_sizes
async def test_the_footer_and_the_keys_agree_on_what_can_be_done(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size) as seen:
        await seen.pilot.press("f6", "f7", "f8")
        assert seen.runs == []
        possible = {name: seen.main.check_action(name, ()) for name in ("start", "pause", "save", "stop")}
        assert possible == {"start": True, "pause": None, "save": None, "stop": None}
        run = await seen.started()
        possible = {name: seen.main.check_action(name, ()) for name in ("start", "pause", "save", "stop")}
        assert possible == {"start": None, "pause": True, "save": True, "stop": True}
        await seen.pilot.press("f5")
        assert seen.runs == [run]


async def test_quit_asks_while_a_run_is_under_way_and_cancel_changes_nothing(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        for key in ("escape", "c"):
            await seen.pilot.press("ctrl+q")
            assert isinstance(seen.app.screen, Question)
            await seen.pilot.press("f8", "f6", "1", "ctrl+q")
            assert isinstance(seen.app.screen, Question), "in a dialog only its own keys act"
            await seen.pilot.press("f1", "f1")
            assert isinstance(seen.app.screen, Question), "and the help, which lies over it"
            await seen.pilot.press(key)
            assert seen.app.screen is seen.main
        assert run.sent == []
        assert seen.app.return_code is None


async def test_quit_with_stop_waits_for_the_end_of_the_run(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("ctrl+q", "s")
        assert "STOPPING" in seen.status
        assert [type(command) for command in run.sent] == [Stop]
        assert seen.app.is_running and not seen.app._exit
        run.finish(5, "stopped")
        await seen.until(lambda: seen.app._exit)
    assert seen.app.return_code == 0


async def test_quit_without_a_run_ends_at_once(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.pilot.press("ctrl+q")
        await seen.until(lambda: seen.app._exit)
    assert seen.app.return_code == 0


@both_sizes
async def test_number_keys_and_ctrl_arrows_reach_every_pane(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size) as seen:
        for key, name in zip("12345", ("config", "log", "loss", "rate", "sample"), strict=True):
            await seen.pilot.press("escape", key)
            await seen.pilot.pause()
            assert seen.main.query_one(f"#{name}").region.width > 20
        await seen.pilot.press("escape", "ctrl+right")
        assert seen.main.tabs.active == "config"
        await seen.pilot.press("ctrl+left")
        assert seen.main.tabs.active == "sample"


async def test_resizing_keeps_everything(workshop: Any) -> None:
    async with workshop.console((120, 36)) as seen:
        run = await seen.started()
        run.say(workshop.progress(1, 50))
        await seen.pilot.press("ctrl+g", "a", "b")
        await seen.until(lambda: seen.main.store.step == 50)
        log = seen.main.log_view.text
        await seen.pilot.resize_terminal(80, 24)
        await seen.pilot.pause()
        visible = [pane.id for pane in seen.main.query(".pane") if pane.region.width]
        assert visible == ["sample"], "the pane that a person is in is the one that stays"
        await seen.pilot.resize_terminal(120, 36)
        await seen.pilot.pause()
        assert all(pane.region.width for pane in seen.main.query(".pane"))
        assert seen.main.sample.prompt.text == "ab"
        assert seen.main.focused is seen.main.sample.prompt
        assert (seen.main.log_view.text, seen.main.store.step) == (log, 50)


def test_help_lists_every_key() -> None:
    text = str(help_text())
    for command in (*keys.MAIN, *keys.RUNS):
        if command.key and command.help:
            assert f"{keys.key_name(command.key)} " in text and command.help in text
            assert not command.letter or f" {keys.key_name(command.letter)} " in text


async def test_help_opens_and_closes(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        for opening in ("f1", "question_mark"):
            await seen.pilot.press(opening)
            assert isinstance(seen.app.screen, TextDialog)
            await seen.pilot.press("escape")
            assert seen.app.screen is seen.main


async def test_every_binding_has_an_id_so_that_it_can_be_remapped(workshop: Any) -> None:
    async with workshop.console() as seen:
        seen.app.set_keymap({"start": "f9"})
        await seen.pilot.press("f5")
        assert seen.runs == []
        assert "F9 start" in seen.keys
        await seen.pilot.press("f9")
        await seen.until(lambda: seen.runs)


async def test_a_number_key_shows_a_pane_and_the_next_digit_changes_nothing_there(workshop: Any) -> None:
    async with workshop.console() as seen:
        before = {name: cell.value for name, cell in seen.main.form.fields.cells.items()}
        for key, name in zip("12345", ("config", "log", "loss", "rate", "sample"), strict=True):
            await seen.pilot.press(key, "7")
            assert [pane.id for pane in seen.main.query(".pane.-active")] == [name]
            assert seen.main.focused is None
        assert {name: cell.value for name, cell in seen.main.form.fields.cells.items()} == before
        assert seen.main.sample.prompt.text == ""


async def test_enter_goes_into_the_highlighted_pane(workshop: Any) -> None:
    async with workshop.console() as seen:
        main = seen.main
        inside = {"1": main.form.fields, "2": main.log_view, "3": None, "4": None, "5": main.sample.prompt}
        for key, widget in inside.items():
            await seen.pilot.press(key, "enter")
            assert main.focused is widget
            await seen.pilot.press("escape")


async def test_entering_a_pane_in_another_way_highlights_it(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.pilot.click("#log")
        assert [pane.id for pane in seen.main.query(".pane.-active")] == ["log"]


async def test_escape_and_a_quick_key_act_as_the_two_of_them_and_type_nothing(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("ctrl+g", "a")
        seen.app.post_message(Key("alt+p", "p"))
        await seen.until(lambda: run.sent)
        assert isinstance(run.sent[-1], Pause) and seen.main.sample.prompt.text == "a"
        seen.app.post_message(Key("alt+2", "2"))
        await seen.until(lambda: seen.main.tabs.active == "log")


def test_escape_and_a_digit_are_no_character() -> None:
    for digit in "0123456789":
        keys = [event for event in XTermParser().feed(f"\x1b{digit}") if isinstance(event, Key)]
        assert [(key.key, key.character) for key in keys] in ([(f"alt+{digit}", digit)], [])


async def test_x_asks_before_it_stops_and_escape_lets_the_run_go_on(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("x")
        assert isinstance(seen.app.screen, Question)
        await seen.pilot.press("escape")
        assert seen.app.screen is seen.main and run.sent == []
        await seen.pilot.press("x", "x")
        assert [type(command) for command in run.sent] == [Stop]


async def test_f1_shows_the_help_in_every_screen_and_closes_it(workshop: Any, make: Any) -> None:
    make("a"), make("b")
    async with workshop.console() as seen:
        for opening in ((), ("ctrl+o",), ("d",), ("escape", "space", "down", "space", "c")):
            await seen.pilot.press(*opening)
            await seen.pilot.pause(0.3)
            below = seen.app.screen
            await seen.pilot.press("f1")
            assert seen.app.screen is not below and seen.app.screen.title == "Help"
            await seen.pilot.press("f1")
            assert seen.app.screen is below


@both_sizes
async def test_the_footer_says_how_to_leave_a_field(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size) as seen:
        assert "esc leave" not in seen.keys
        for keys_pressed in (("1", "enter"), ("escape", "ctrl+g")):
            await seen.pilot.press(*keys_pressed)
            assert seen.keys.startswith(" esc leave ") and len(seen.keys) <= size[0]
        await seen.pilot.press("escape")
        assert "esc leave" not in seen.keys


async def test_what_is_pasted_or_typed_as_several_lines_is_asked_as_it_is(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        await seen.pilot.press("ctrl+g")
        seen.main.sample.prompt.post_message(Paste("\ufeffone\r\ntwo\rthree"))
        await seen.until(lambda: "three" in seen.main.sample.prompt.text)
        await seen.pilot.press("ctrl+j", "x", "enter")
        assert run.sent[-1].prompt == "one\ntwo\nthree\nx"
        seen.main.sample.prompt.text = ""
        await seen.pilot.press("up")
        assert seen.main.sample.prompt.text == "one\ntwo\nthree\nx"
