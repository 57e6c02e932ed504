"""The status line's columns, and the sample pane."""

from dataclasses import replace
from typing import Any

import pytest
from textual.events import Paste

from fundamentallm.config.config import Config
from fundamentallm.config.format import format_duration, format_rate
from fundamentallm.run.commands import Sample
from fundamentallm.run.events import Phase, Sampled
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.format import cell_len, shorten
from fundamentallm_tui.panes.status import layout
from fundamentallm_tui.state.store import Store
from tests.tui.others import both_sizes

LABELS = ("step ", "epoch ", "ETA ", " tok/s", "grad ")


def text_of(store: Store, width: int) -> str:
    line = "".join(text for text, _ in layout(store, width))
    assert cell_len(line) <= width and line.endswith(" "), "nothing touches the edge"
    return line


def test_of_a_name_that_is_cut_the_end_stays_which_tells_it_from_others() -> None:
    names = [f"my first story-{n}" for n in (1, 2, 12)]
    for width in (8, 12, 14):
        cut = [shorten(name, width) for name in names]
        assert len(set(cut)) == 3 and all("…" in name and cell_len(name) <= width for name in cut)
    assert [shorten(names[0], width) for width in (17, 12, 1)] == ["my first story-1", "my…t story-1", "…"]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_the_status_lines_columns_stand_still(workshop: Any, width: int) -> None:
    folder = workshop.folder / ("a" * 60)
    places = set()
    moments = [(1, 8.0, None), (999, 24_100.0, 59.2), (1120, 1.23e6, 3600 * 7), (1000, 999_900.0, 86400.0 * 12)]
    for step, per_second, eta in moments:
        for phase in ("training", "evaluating", "saving", "paused", "compiling"):
            store = Store()
            store.begin(folder, "small", Config(), resumes=False)
            start = workshop.started(RunSpec(Config(epochs=20), folder), total=1120, epochs=20)
            norm = 10.0 ** (step % 7) / 10
            progress = replace(workshop.progress(step, step, eta=eta, rate=per_second), grad_norm=(norm,))
            store.apply([start, progress, Phase(step=step, phase=phase)])
            line = text_of(store, width)
            places.add(tuple(line.find(label) for label in LABELS))
    assert len(places) == 1
    assert places.pop()[0] > 0, "the step is always there"


@pytest.mark.parametrize(("name", "bar"), [("tiny-1", True), ("overfitting", False)])
def test_the_status_line_has_a_bar_where_that_leaves_room_for_the_name(workshop: Any, name: str, bar: bool) -> None:
    store = Store()
    store.begin(workshop.folder / name, "small", Config(), resumes=False)
    store.apply([workshop.started(RunSpec(Config(epochs=20), workshop.folder / name), total=1120, epochs=20)])
    line = text_of(store, 120)
    assert line.startswith(f" {name} ") and ("─" in line) == bar


def test_the_status_line_cuts_no_digit_off_the_speed_of_a_replay(workshop: Any) -> None:
    store = Store()
    store.attach(workshop.folder / "story-1", "REPLAY ×20", replayed=True)
    for width, name in ((80, "REPLAY ×20 "), (200, "REPLAY ×20 story-1 ")):
        assert text_of(store, width).startswith(f" {name}")


def test_the_columns_stand_still_from_before_the_steps_are_known() -> None:
    store, places = Store(), set()
    for store.total_steps, store.epochs in ((0, 0), (7, 1), (720, 5), (99_999, 20)):
        line = text_of(store, 100)
        places.add(tuple(line.find(label) for label in LABELS[:4]))
    assert len(places) == 1


def test_numbers_never_outgrow_their_columns() -> None:
    values = [0.0, 0.4, 9.99, 59.0, 3599.2, 3600.0, 86400.0 * 3, 86400.0 * 400, 1e12, float("inf"), float("nan"), None]
    assert all(len(format_duration(value)) <= 6 for value in values)
    assert all(len(format_rate(value)) <= 5 for value in [*values, 999.6, 9_999.0, 99_960.0, 999_600.0, 1e10, 1e15])


@both_sizes
async def test_a_sample_streams_in_behind_its_prompt(seen: Any) -> None:
    await seen.press("ctrl+g")
    assert "No model yet." in seen.screen
    await seen.press("H", "o", "enter")
    assert "text-warning" in str(seen.main.sample.output.content.spans), "it is refused"
    run = await seen.started()
    await seen.press("ctrl+g", "enter")
    command = run.sent[-1]
    run.say(Sampled(step=3, id=command.id, prompt="Ho", text="ratio [b]said[/b]"))
    await seen.see("Horatio [b]said[/b]")
    run.say(Sampled(step=3, id=command.id, prompt="Ho", text=" no\x1b", done=True))
    await seen.see("said[/b] no·")
    assert "at step 3" in seen.screen


async def test_enter_samples_with_the_tables_defaults_and_up_recalls(seen: Any, run: Any) -> None:
    await seen.press("ctrl+g", "H", "i", "enter")
    [sample] = run.sent
    assert sample == Sample(id=sample.id, time=sample.time, prompt="Hi")
    await seen.press("ctrl+u", "up")
    assert seen.main.sample.prompt.text == "Hi"
    await seen.press("down")
    assert seen.main.sample.prompt.text == ""


async def test_a_prompt_of_several_lines_is_sent_as_it_was_pasted_and_typed(seen: Any, run: Any) -> None:
    await seen.press("ctrl+g")
    seen.app.screen.post_message(Paste("\ufeffone\r\ntwo\rthree"))
    await seen.until(lambda: "three" in seen.main.sample.prompt.text)
    await seen.press("ctrl+j", "x", "enter")
    await seen.until(lambda: run.sent)
    assert run.sent[-1].prompt == "one\ntwo\nthree\nx"
    seen.main.sample.prompt.text = ""
    await seen.press("up")
    assert seen.main.sample.prompt.text == "one\ntwo\nthree\nx"


async def test_the_model_can_be_sampled_after_the_end_until_the_worker_exits(seen: Any, run: Any) -> None:
    run.finish(400)
    await seen.status_is("FINISHED")
    await seen.press("ctrl+g", "a", "enter")
    assert run.sent[-1].prompt == "a"
    run.die("ended with status 0")
    await seen.until(lambda: not seen.main.has_model)
    await seen.press("enter")
    assert "This run has left no checkpoint to sample from." in seen.screen and "FINISHED" in seen.status
