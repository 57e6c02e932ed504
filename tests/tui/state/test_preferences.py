"""What is remembered from one session to the next, and a damaged file of it that does no harm."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fundamentallm_tui.keymap import checked_keymap
from fundamentallm_tui.screens.help import help_text
from fundamentallm_tui.state.preferences import (
    HEADER,
    Preferences,
    keys_file,
    last_data,
    load,
    preferences_file,
    remember,
)
from tests.conftest import opened_console
from tests.tui.others import alive


@pytest.fixture
def file(workshop: Any) -> Path:
    path = preferences_file()
    path.parent.mkdir(parents=True)
    return path


async def test_the_theme_is_kept_and_repaints_every_pane(workshop: Any) -> None:
    async with workshop.console() as seen:
        assert seen.app.theme == "calm"
        run = await seen.started()
        run.say(workshop.progress(1, 80))
        await seen.until(lambda: seen.main.store.step == 80)
        await seen.pilot.press("f6")
        await seen.pilot.pause(0.2)
        old = seen.app.theme_variables["background"].lower()
        seen.app.theme = "paper"
        await seen.pilot.pause(0.2)
        colours = {
            segment.style.bgcolor.get_truecolor().hex
            for strip in seen.app.screen._compositor.render_strips()
            for segment in strip
            if segment.style is not None and segment.style.bgcolor is not None
        }
        assert old not in colours, "no cell keeps a colour of the theme before"
    assert load()[0].theme == "paper"
    async with workshop.console() as seen:
        assert seen.app.theme == "paper"


async def test_smoothing_metric_and_the_maximized_pane_are_kept(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.press("3", "right_square_bracket", "m", "z")
    assert load() == (Preferences(maximized="loss", metric="Gradient norm", smoothing=0.99), "")
    async with workshop.console() as seen:
        assert seen.main.query_one("#config").region.width > 100, "without a run the form is what is shown"
        await seen.started()
        assert seen.main.query_one("#loss").region.width > 100 and not seen.main.query_one("#config").region
        assert seen.main.loss.view.smoothing == seen.main.metric.view.smoothing == 0.99
        await seen.press("4")
        await seen.see("Gradient norm")
        await seen.press("z", "m", "m", "m", "m", "3", "left_square_bracket")
    assert replace(load()[0], last_data=()) == Preferences()


async def test_a_session_that_changes_nothing_writes_nothing(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.press("3", "2")
    assert not preferences_file().exists()


async def test_the_text_that_was_chosen_is_the_next_sessions_and_the_presets_own_is_not(workshop: Any) -> None:
    async with workshop.training():
        pass
    assert load()[0].last_data == (str(workshop.text),)
    assert last_data() == (workshop.text.name,)  # by the short path
    workshop.text.rename(workshop.text.with_name("elsewhere.txt"))
    assert last_data() == ()
    workshop.text.with_name("elsewhere.txt").rename(workshop.text)
    async with workshop.console() as seen:
        seen.main.form.fields.enter("data")
        await seen.press("ctrl+r", "escape", "f5")
        await seen.until(lambda: seen.runs)
    assert load()[0].last_data == ()


def test_the_keys_that_the_user_wrote_are_never_written_and_a_link_stays_one(file: Path, tmp_path: Path) -> None:
    by_hand = "# mine\npause: f11  # as in another program\n"
    keys_file().write_text(by_hand)
    collection = tmp_path / "dotfiles.yaml"
    collection.write_text("theme: calm\nsmoothing: much\n")
    file.symlink_to(collection)
    remember(theme="paper", last_data=("/é x",))
    remember(smoothing=0.99)
    assert load() == (Preferences("paper", smoothing=0.99, last_data=("/é x",)), "")
    assert keys_file().read_text() == by_hand
    assert file.is_symlink() and collection.read_text().startswith(HEADER)
    file.unlink()
    file.mkdir()
    remember(theme="calm")
    keys_file().unlink()
    file.rmdir()
    file.parent.rmdir()
    file.parent.write_text("no folder")
    remember(theme="paper")
    assert load()[1].startswith(f"{file} is not used: Not a directory.")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("console.yaml", b"theme: [", "console.yaml is not used: it is damaged"),
        ("console.yaml", b"\xff\xfe", "it is damaged"),
        ("console.yaml", b"- a", "it is damaged"),
        ("keys.yaml", b"f5", "keys.yaml is not used: it is damaged"),
        ("keys.yaml", b"{puase: f11, save: F9}", "puase: no such command; did you mean pause?; save: F9 is no key"),
    ],
)
async def test_what_is_wrong_in_a_file_is_said_in_a_line_and_left_alone(
    workshop: Any, file: Path, name: str, content: bytes, said: str
) -> None:
    file.with_name(name).write_bytes(content)
    async with workshop.console() as seen:
        await seen.pilot.pause()
        assert seen.app.theme == "calm"
        assert seen.log.count(name) == seen.log.count(said) == 1
        await seen.started()
    assert file.with_name(name).read_bytes() == content


def test_a_value_that_is_none_is_left_out(file: Path) -> None:
    file.write_text("theme: [a]\nlayouts: {}\nsmoothing: 0.5\nmetric:\n")
    assert load() == (Preferences(smoothing=0.5), "")


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"pause": "f11", "chart.log": "[", "chart.rougher": "l", "quit": "ctrl+x,f12", "undo": "c"}, ""),
        ({"start": "f6", "pause": "f5"}, ""),
        ({"pause": "f5"}, "f5 is the key of start"),
        ({"pause.letter": "?"}, "? is the key of help.letter"),
        ({"chart.log": "plus"}, "plus is the key of chart.in"),
        ({"chart.log": "f5"}, "f5 is the key of start"),
        ({"pause": "a"}, "a is needed in text fields; a function key, or one with ctrl, is not"),
        ({"pause": "f11,enter"}, "enter is needed in text fields"),
        ({"log.search": "ctrl+i"}, "terminals send ctrl+i as tab"),
        ({"undo": "ctrl+banana"}, "ctrl+banana is no key"),
        ({"undo": None}, "None is no key"),
        ({"start.leter": "b"}, "no such command; did you mean start.letter?"),
        ({"xyzzy": "f10"}, "no such command; docs/keys.md has the names"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_the_reason(wanted: dict[str, Any], problem: str) -> None:
    keymap, problems = checked_keymap(wanted)
    assert keymap == ({} if problem else wanted)
    assert [text.split(": ", 1)[1][: len(problem)] for text in problems] == ([problem] if problem else [])


async def test_what_is_wrong_is_said_too_where_a_run_is_opened(workshop: Any, make: Any, file: Path) -> None:
    keys_file().write_text("{xyzzy: f10, plugh: f11, save: q}\n")
    folder = make("old", workshop.finished(40))
    async with workshop.console(attach=folder) as seen:
        await seen.status_is("FINISHED")
        await seen.until(lambda: "save: q is needed in text fields" in " ".join(seen.log.split()))


async def test_a_changed_key_acts_and_is_shown_by_footer_and_help(workshop: Any, file: Path) -> None:
    keys_file().write_text("{start: f11, start.letter: b, quit: f10, health: ctrl+y}\n")
    async with workshop.console() as seen:
        assert "F11 start" in seen.keys and "F10 quit" in seen.keys and "F5" not in seen.keys
        await seen.press("f5", "r", "ctrl+q")
        assert not seen.runs and seen.app.is_running
        await seen.press("f1")
        await seen.see("F11      b")
        await seen.press("escape", "b")
        await seen.until(lambda: seen.runs)
        await seen.press("ctrl+y")
        await seen.see("Health:")


async def test_every_sentence_names_the_keys_that_the_user_has(workshop: Any, make: Any, file: Path) -> None:
    changed = "{start: f11, stop: ctrl+y, stop.letter: X, health: H, new_run: M, runs: f10, help: f12, run.open: O}"
    keys_file().write_text(
        changed.replace("}", ", pane.config: C, files: ctrl+x, leave: ctrl+b, run.resume: R}") + "\n"
    )
    with alive(make("far")):
        async with workshop.console((120, 36), toasts=True) as seen:
            await seen.until(lambda: "F10 lists the runs, O attaches." in seen.log)
            await seen.press("6")
            await seen.see("F11 starts one")
            await seen.press("5")
            assert "No model yet. F11 starts a run" in " ".join(seen.screen.replace("│", " ").split())
            await seen.press("C", "f12")
            await seen.see("All keys")
            await seen.press("escape")
            text = " ".join(str(help_text(seen.main)).split())
            for part in ("F12 explains it", "M begins a new", "X asks first", "C … 6 Go to a pane"):
                assert part in text
            await seen.press("f11")
            await seen.until(lambda: seen.main.reader is not None)
            run = seen.run
            run.begin()
            await seen.status_is("TRAINING")
            await seen.press("X")
            await seen.see("^y stops without asking.")
            await seen.press("escape", "ctrl+x")
            await seen.see("^x is for a new run; press M when")
            seen.main.form.fields.enter("epochs")
            await seen.press("7")
            await seen.see("^b takes it back")
            run.folder.mkdir(parents=True)
            (run.folder / "last.pt").touch()
            run.finish(10, "stopped")
            await seen.until(lambda: "F11 resumes last.pt" in seen.log)


def test_the_form_begins_with_the_last_text_where_none_is_named(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(last_data=(str(workshop.text),))
    with capsys.disabled():
        for arguments, name in (([], "text.txt"), (["--data", "text.txt"], "text.txt")):
            assert opened_console(arguments, monkeypatch)[1].data == (name,)
        assert "sample_data.txt" in opened_console(["--preset", "tiny"], monkeypatch)[1].data[0]
