"""The keys do what the one table of commands says, at both sizes and in each state."""

import asyncio
from typing import Any

import pytest
from textual.events import Key
from textual.keys import _character_to_key
from textual.widgets import Input, OptionList
from textual.widgets._toast import Toast
from textual.widgets.option_list import Option

from fundamentallm.run.commands import Pause, Resume, Save, Stop
from fundamentallm.run.events import Notice, Phase
from fundamentallm.run.notes import Notes, read_notes
from fundamentallm_tui import keys
from fundamentallm_tui.dialogs import Answer, Question
from fundamentallm_tui.screens.runs import Runs
from tests.tui.others import both_sizes, panes

TITLES = dict(keys.PANES)
TAKE_TEXT = ("config", "sample")


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
        await seen.press(*([stop, "enter"] if letters else [stop]))
        assert "STOPPING" in seen.status
        seen.run.finish(4, "stopped")
        await seen.status_is("STOPPED")
        assert [type(command) for command in seen.run.sent] == [Pause, Save, Resume, Stop]


async def test_a_refused_pause_is_taken_back(seen: Any, run: Any) -> None:
    await seen.press("f6")
    run.answer(ok=False, why="it is compiling")
    await seen.status_is("TRAINING")
    assert "it is compiling" in seen.log


async def test_a_stopped_run_is_resumed_and_after_a_finished_one_a_new_run_gets_a_new_folder(seen: Any) -> None:
    first = await seen.stopped()
    assert "F5 resume" in seen.keys
    second = await seen.started()
    assert first.left and second.job.auto and second.job.folder == first.folder
    second.finish(400)
    await seen.status_is("FINISHED")
    third = await seen.started()
    assert not third.job.auto and third.job.folder.name == f"{first.folder.name[:-1]}2"


async def test_a_named_folder_that_holds_the_last_run_gets_a_number(workshop: Any) -> None:
    async with workshop.console(output_dir="my_model") as seen:
        first = await seen.started()
        first.folder.mkdir()
        (first.folder / "journal.jsonl").touch()
        first.finish(400)
        await seen.status_is("FINISHED")
        second = await seen.started()
        assert [str(run.job.folder) for run in (first, second)] == ["my_model", "my_model-2"]


async def test_what_was_changed_after_a_stop_reaches_the_resumed_run(seen: Any) -> None:
    await seen.stopped()
    assert seen.cells["model_dim"].disabled, "the width belongs to the saved state"
    await seen.type(epochs="9")
    second = await seen.started()
    assert second.job.changes == {"epochs": 9}


async def test_letters_are_text_in_the_prompt_function_keys_act_and_escape_leaves_it(seen: Any, run: Any) -> None:
    await seen.press("ctrl+g", "p", "x", "1")
    assert seen.main.sample.prompt.text == "px1" and run.sent == []
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


async def test_quit_asks_while_a_run_is_under_way_and_cancel_changes_nothing(seen: Any, run: Any) -> None:
    for key in ("escape", "c"):
        await seen.press("ctrl+q")
        assert isinstance(seen.app.screen, Question)
        await seen.press("f8", "f6", "1", "ctrl+q", "f1", "f1")
        assert isinstance(seen.app.screen, Question), "in a dialog only its own keys act, and the help's"
        await seen.press(key)
        assert seen.app.screen is seen.main
    assert run.sent == [] and seen.app.return_code is None


@pytest.mark.parametrize("before", [(), ("f1",), ("f3",)])
async def test_quit_without_a_run_ends_at_once_from_a_dialog_too(seen: Any, before: tuple[str, ...]) -> None:
    await seen.press(*before, "ctrl+q")
    await seen.until(lambda: seen.app.return_code == 0)


@both_sizes
async def test_a_number_key_shows_a_pane_where_the_next_digit_changes_nothing_and_ctrl_arrows_go_round(
    seen: Any,
) -> None:
    before = {name: cell.value for name, cell in seen.cells.items()}
    for key, name in zip("123456", TITLES, strict=True):
        await seen.press(key, "7")
        await seen.pilot.pause()
        assert [pane.id for pane in seen.main.query(".pane.-active")] == [name]
        assert seen.main.query_one(f"#{name}").region.width > 20
        assert seen.main.focused is (None if name in TAKE_TEXT else seen.main.query_one(f"#{name}"))
    assert {name: cell.value for name, cell in seen.cells.items()} == before
    assert seen.main.sample.prompt.text == ""
    for key, name in (("ctrl+right", "config"), ("ctrl+left", "health")):
        await seen.press(key)
        assert seen.main.tabs.active == name


async def test_enter_goes_into_the_highlighted_pane(seen: Any) -> None:
    main = seen.main
    inside = {
        "1": main.form.fields,
        "2": main.log_view,
        "3": main.loss,
        "4": main.metric,
        "5": main.sample.prompt,
        "6": main.health,
    }
    for key, widget in inside.items():
        await seen.press(key)
        assert (main.focused is widget) == (key not in "15"), "those take text, and so wait for enter"
        await seen.press("enter")
        assert seen.app.screen is not main if key == "6" else main.focused is widget
        await seen.press("escape")
        assert seen.app.screen is main
    await seen.press("5", "enter", *"12", "escape", "1", "enter", "down", "7")
    assert main.sample.prompt.text == "12" and main.form.fields.current.value == "7"


async def test_escape_and_a_quick_key_act_as_the_two_of_them_and_type_nothing(seen: Any, run: Any) -> None:
    await seen.press("ctrl+g", "a")
    seen.app.post_message(Key("alt+p", "p"))
    await seen.until(lambda: run.sent)
    assert isinstance(run.sent[-1], Pause) and seen.main.sample.prompt.text == "a"
    seen.app.post_message(Key("alt+2", "2"))
    await seen.until(lambda: seen.main.tabs.active == "log")


async def test_x_asks_before_it_stops_and_escape_lets_the_run_go_on(seen: Any, run: Any) -> None:
    await seen.press("x")
    assert isinstance(seen.app.screen, Question)
    await seen.press("escape")
    assert seen.app.screen is seen.main and run.sent == []
    await seen.press("x", "x")
    assert [type(command) for command in run.sent] == [Stop]


async def test_a_click_in_the_footer_does_what_the_key_does_in_the_pane_that_has_the_focus(seen: Any, run: Any) -> None:
    run.say(*(Notice(step=1, level="info", text=f"line {n}") for n in range(50)))
    await seen.see("line 49")
    await seen.press("2")
    for word, done in (("level", "no details"), ("engine", "There is no engine.log"), ("pause", "PAUSING")):
        await seen.pilot.click("#keys", offset=(seen.keys.index(word), 0))
        await seen.see(done)
    assert isinstance(run.sent[-1], Pause) and seen.main.focused is seen.main.log_view


async def test_a_pane_is_maximized_and_comes_back(seen: Any, run: Any) -> None:
    await seen.press("2")
    before = panes(seen)
    for key, name in zip("123456", TITLES, strict=True):
        await seen.press(key, "z")
        await seen.pilot.pause()
        assert {name: (120, 32)} == {name: region.size for name, region in panes(seen).items()}
        assert name in TAKE_TEXT or seen.main.focused is seen.main.query_one(f"#{name}")
        await seen.press("z", "2")
        await seen.pilot.pause()
        assert panes(seen) == before
    await seen.press("3", "z", "2")
    await seen.pilot.pause()
    assert list(panes(seen)) == ["log"], "a number key goes to another pane, which is alone, too"


async def test_a_highlighted_pane_that_takes_text_after_enter_is_framed_and_spoken_of(workshop: Any) -> None:
    async with workshop.console((160, 36)) as seen:
        await seen.press("3")
        focused = seen.main.loss.styles.border_top
        for key, pane, footer, title in (
            ("1", seen.main.form, " enter edit  F2 files  F3 presets  e YAML  F5 start  ", "Config"),
            ("5", seen.main.sample, " enter edit  F4 look  F5 start  ", "Sample"),
        ):
            await seen.press(key)
            assert pane.styles.border_top == focused != seen.main.loss.styles.border_top
            assert seen.keys.startswith(footer)
            await seen.press("f1")
            await seen.see(f"{title} ")
            await seen.press("f1", "enter")
            assert seen.keys.startswith(" esc leave ") and "enter edit" not in seen.keys
            await seen.press("escape")
            assert seen.keys.startswith(footer)
        for key, footer in (("1", " enter edit  F2 files "), ("5", " enter edit  F4 look ")):  # neither has the focus
            await seen.press(key)
            await seen.until(lambda footer=footer: seen.screen.splitlines()[-1].startswith(footer), footer)


async def test_a_paused_run_has_one_key_to_resume_it_in_the_footer(workshop: Any) -> None:
    async with workshop.console((160, 36)) as seen:
        run = await seen.paused()
        assert seen.keys.count("resume") == 1 and "F5 resume" in seen.keys
        await seen.press("f5")
        assert isinstance(run.sent[-1], Resume) and len(seen.runs) == 1


async def test_after_a_stop_what_is_fixed_says_so_and_a_new_run_has_a_key(workshop: Any) -> None:
    async with workshop.training(toasts=True, epochs=5) as (seen, _):
        await seen.press("f2")
        await seen.see("F2 is for a new run; press N when this one has")
        assert "new run" not in seen.keys
        await seen.press("N")
        assert "TRAINING" in seen.status
        seen.app.clear_notifications()
        seen.run.folder.mkdir(parents=True)
        (seen.run.folder / "last.pt").touch()
        seen.run.finish(10, "stopped")
        await seen.status_is("STOPPED")
        await seen.press("1")
        assert "F5 resume" in seen.keys and "N new run" in seen.keys
        for key, what in (("f2", "F2"), ("f3", "F3"), ("e", "e"), ("", "This field")):
            if key:
                await seen.press(key)
            else:
                fields = seen.main.form.fields
                fields.enter("epochs")
                row = fields.row_of(seen.cells["model_dim"])
                await seen.pilot.click(fields, offset=(20, row - fields.scroll_offset.y))
                await seen.press("7")
                assert not fields.entered and seen.cells["epochs"].value == "5"
            await seen.see(f"{what} is for a new run; press N first.")
            assert seen.app.screen is seen.main
            seen.app.clear_notifications()
        planned = seen.main.form.run_size.steps
        await seen.press("N")
        assert "IDLE" in seen.status and not seen.cells["model_dim"].disabled
        assert f"0/{planned} " in seen.status and "0/5" in seen.status, "what the next start would train"
        await seen.press("f3")
        assert seen.app.screen is not seen.main


@pytest.mark.parametrize(
    ("opens", "typed", "took"),
    [(["n"], "delta", "delta"), (["slash"], "deg", "deg"), (["e"], "a / d", "a / d")],
)
async def test_keys_that_arrive_at_once_reach_what_the_first_of_them_opens(
    seen: Any, make: Any, opens: list[str], typed: str, took: str
) -> None:
    make("old")
    listed = await seen.open_list(1)
    for key in (*opens, *typed):
        seen.app.post_message(Key(_character_to_key(key) if len(key) == 1 else key, key if len(key) == 1 else None))
    await seen.until(lambda: isinstance(seen.app.focused, Input) and seen.app.focused.value == took)
    assert (seen.app.screen is listed) == (opens == ["slash"])


async def test_keys_after_enter_in_a_dialog_reach_what_lies_below_it(workshop: Any, make: Any) -> None:
    folder = make("old")
    async with workshop.console() as seen:
        listed = await seen.open_list(1)
        for key in ("e", "x", "enter", "g", "y", "enter"):
            seen.app.post_message(Key(key, key if len(key) == 1 else None))
        await seen.until(lambda: read_notes(folder) == Notes("x", ("y",)))
        assert seen.app.screen is listed


async def test_a_second_click_on_an_answer_closes_nothing_else_and_acts_once(workshop: Any) -> None:
    async with workshop.training() as (seen, run):
        await seen.press("f9")
        pins = seen.app.screen
        question = Question("Sure?", "", Answer("y", "Yes", lambda: seen.main.action_stop()))
        await seen.app.push_screen(question)
        for _ in range(3):  # clicks that arrive at once
            question.post_message(OptionList.OptionSelected(question.query_one(OptionList), Option("Yes"), 0))
        await seen.until(lambda: [type(command) for command in run.sent] == [Stop])
        assert seen.app.screen is pins


async def test_keys_after_one_that_opens_a_dialog_stay_out_of_the_text_below(seen: Any) -> None:
    await seen.press("g")
    for key in ("f3", "a", "down", "b"):
        seen.app.post_message(Key(key, key if len(key) == 1 else None))
    await seen.until(lambda: seen.app.screen is not seen.main)
    await seen.pilot.pause()
    assert seen.main.sample.prompt.text == ""


async def test_a_key_acts_although_the_widget_of_the_one_before_went_away(
    seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await seen.press("f1")
    monkeypatch.setattr(seen.app.focused or seen.app.screen, "post_message", lambda message: False)
    for key in ("x", "f1"):
        seen.app.post_message(Key(key, None))
    await seen.until(lambda: seen.app.screen is seen.main)


async def test_a_key_that_takes_long_does_not_let_go_those_after_the_next(
    workshop: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sort(screen: Runs) -> None:
        await asyncio.sleep(0.6)

    monkeypatch.setattr("fundamentallm_tui.app.KEY_TIMEOUT", 0.4)
    monkeypatch.setattr(Runs, "action_sort", sort)
    make("old")
    async with workshop.console() as seen:
        await seen.open_list(1)
        for key in "sndelta":
            seen.app.post_message(Key(key, key))
        await seen.until(lambda: isinstance(seen.app.focused, Input) and seen.app.focused.value == "delta")


async def test_a_message_that_comes_again_is_shown_once_and_anew(workshop: Any) -> None:
    async with workshop.console(toasts=True) as seen:
        for text in ("the same", "another", "the same"):
            seen.app.notify(text)
        await seen.until(lambda: [str(t.render()) for t in seen.app.screen.query(Toast)] == ["another", "the same"])
