"""What is remembered from one session to the next, and a damaged file of it that does no harm."""

import os
from pathlib import Path
from typing import Any

import pytest

from fundamentallm_tui.__main__ import main
from fundamentallm_tui.keymap import checked_keymap
from fundamentallm_tui.state.preferences import HEADER, Preferences, last_data, load, preferences_file, remember


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
    assert load() == (Preferences(layout={"maximized": "loss", "metric": "Gradient norm"}, smoothing=0.99), [])
    async with workshop.console() as seen:
        assert seen.main.query_one("#loss").region.width > 100 and not seen.main.query_one("#config").region
        assert seen.main.loss.view.smoothing == seen.main.metric.view.smoothing == 0.99
        await seen.press("4")
        await seen.see("Gradient norm")
        await seen.press("z", "m", "m", "m", "m", "3", "left_square_bracket")
    assert load() == (Preferences(), [])


async def test_a_session_that_changes_nothing_writes_nothing(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.press("3", "2")
    assert not preferences_file().exists()


async def test_the_text_that_was_chosen_is_the_next_sessions_and_the_presets_own_is_not(workshop: Any) -> None:
    async with workshop.console() as seen:
        await seen.started()
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


def test_what_the_user_wrote_by_hand_stays(file: Path, tmp_path: Path) -> None:
    by_hand = "# mine\nkeys:\n  pause: f9  # as in another program\nlast_data:\n- a\n- b\n# end\n"
    collection = tmp_path / "dotfiles.yaml"
    collection.write_text(by_hand)
    file.symlink_to(collection)
    remember(theme="paper", last_data=["/é x"])
    assert collection.read_text() == by_hand.replace("- a\n- b\n", "").replace(
        "last_data:", 'last_data: ["/\\xE9 x"]'
    ) + ("theme: paper\n")
    remember(theme="calm", smoothing=0.99)
    assert load() == (Preferences("calm", {}, 0.99, ("/é x",), {"pause": "f9"}), [])
    assert file.is_symlink() and collection.read_text().startswith("# mine\nkeys:\n  pause: f9  # as")
    collection.write_text("{theme: calm, keys: {pause: f9}}")  # which cannot be changed line by line
    remember(theme="paper")
    assert load() == (Preferences("paper", keys={"pause": "f9"}), [])
    file.unlink()
    remember(theme="paper")
    assert file.read_text() == f"{HEADER}theme: paper\n"
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("no folder")
    remember(theme="paper")
    assert load() == (
        Preferences(),
        [f"{file} is not used: Not a directory. Until it is corrected or deleted, nothing is remembered."],
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"theme: [", "console.yaml is not used: it is damaged"),
        (b"\xff\xfe", "it is damaged"),
        (b"- a", "it is damaged"),
        (b"theme: [a]", "theme is not used: it must be the name of a theme"),
        (b"theme: calmer", "no such theme; did you mean calm?"),
        (b"smoothing: much", "smoothing is not used: it must be a number from 0 to 1"),
        (b"keys: f5", "keys is not used: it must be commands with their keys"),
        (b"layouts: {}", "layouts: no such preference; did you mean layout?"),
        (b"keys: {puase: f9, save: F9, undo: c}", "puase: no such command; did you mean pause?; save: F9 is no key"),
    ],
)
async def test_what_is_wrong_in_the_file_is_said_in_a_line_and_left_alone(
    workshop: Any, file: Path, content: bytes, said: str
) -> None:
    file.write_bytes(content)
    async with workshop.console() as seen:
        await seen.pilot.pause()
        assert seen.app.theme == "calm"
        assert seen.log.count("console.yaml") == seen.log.count(said) == 1
        await seen.started()
    assert content in file.read_bytes()


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ({"pause": "f9", "chart.log": "[", "chart.rougher": "l", "quit": "ctrl+x,f12", "undo": "c"}, ""),
        ({"start": "f6", "pause": "f5"}, ""),
        ({"pause": "f5"}, "f5 is the key of start"),
        ({"pause.letter": "?"}, "? is the key of help.letter"),
        ({"chart.log": "plus"}, "plus is the key of chart.in"),
        ({"chart.log": "f5"}, "f5 is the key of start"),
        ({"pause": "a"}, "a is needed in text fields; a function key, or one with ctrl, is not"),
        ({"pause": "f9,enter"}, "enter is needed in text fields"),
        ({"log.search": "ctrl+i"}, "ctrl+i cannot be told from tab"),
        ({"undo": "ctrl+banana"}, "ctrl+banana is no key"),
        ({"undo": None}, "None is no key"),
        ({"start.leter": "b"}, "no such command; did you mean start.letter?"),
    ],
)
def test_a_key_that_cannot_be_is_refused_with_the_reason(wanted: dict[str, Any], problem: str) -> None:
    keymap, problems = checked_keymap(wanted)
    assert keymap == ({} if problem else wanted)
    assert [text.split(": ", 1)[1][: len(problem)] for text in problems] == ([problem] if problem else [])


async def test_a_changed_key_acts_and_is_shown_by_footer_and_help(workshop: Any, file: Path) -> None:
    file.write_text("keys: {start: f9, start.letter: b, quit: f10, health: ctrl+y}\n")
    async with workshop.console() as seen:
        assert "F9 start" in seen.keys and "F10 quit" in seen.keys and "F5" not in seen.keys
        await seen.press("f5", "r", "ctrl+q")
        assert not seen.runs and seen.app.is_running
        await seen.press("f1")
        await seen.see("F9       b")
        await seen.press("escape", "b")
        await seen.until(lambda: seen.runs)
        await seen.press("ctrl+y")
        await seen.see("Health:")


def test_the_form_begins_with_the_last_text_where_none_is_named(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[tuple[str, ...]] = []
    monkeypatch.setattr("fundamentallm_tui.__main__._run", lambda options, config: opened.append(config.data))
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setattr("sys.stderr", Terminal())
    remember(last_data=[str(workshop.text)])
    for arguments in ([], ["--data", "text.txt"], ["--preset", "tiny"]):
        main(arguments)
    assert opened[:2] == [("text.txt",), ("text.txt",)]
    assert "sample_data.txt" in opened[2][0]


class Terminal:
    """Streams as of a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return os.dup(0)
