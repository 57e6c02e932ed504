"""The tour: on the first start of all and by the palette, one thing after the other, until escape."""

from typing import Any

import pytest

from fundamentallm.run.commands import Sample
from fundamentallm.run.events import Phase, Sampled
from fundamentallm_tui.panes.tour import END_WIDTH, STEPS, Step, step_rows
from fundamentallm_tui.state.preferences import load, preferences_file, remember
from tests.conftest import opened_console
from tests.events import evaluated
from tests.tui.others import both_sizes

ALL = len(STEPS)


def test_only_the_first_start_of_all_asks_for_it_unless_it_names_a_text_or_a_run(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        assert opened_console([], monkeypatch)[0].tour
        assert opened_console(["--preset", "tiny", "--start"], monkeypatch)[0].tour, "as make run does"
        for arguments in (["attach"], ["--data", "text.txt"], ["--output-dir", "mine"]):
            assert not opened_console(arguments, monkeypatch)[0].tour, arguments
        remember(metric="Memory")
        assert not opened_console([], monkeypatch)[0].tour


async def test_it_begins_by_itself_once(workshop: Any) -> None:
    async with workshop.console(tour=True) as seen:
        await seen.see(f"tour 1/{ALL}")
    assert load()[0].toured and preferences_file().exists()


@both_sizes
async def test_it_goes_on_when_the_thing_has_happened_and_not_before(workshop: Any, seen: Any) -> None:
    await seen.press("T")

    async def next_step(text: str) -> None:
        nonlocal place
        place += 1
        await seen.see(f"tour {place}/{ALL}")
        assert text in seen.screen

    place = 1
    await seen.see("F5 starts")
    await seen.press("3")
    assert "tour 1/" in seen.screen, "another key than it names"
    run = await seen.started()
    run.say(workshop.progress(1, 80))
    await next_step("Wait for ★")
    run.say(evaluated(80, 2.01))
    await next_step("F6 pauses")
    await seen.press("f6")
    await seen.status_is("PAUSING")
    run.say(Phase(step=80, phase="paused"))
    await next_step("^g goes to the prompt")
    await seen.press("ctrl+g", *"To be", "enter")
    await seen.until(lambda: any(isinstance(command, Sample) for command in run.sent))
    await seen.until(lambda: "ends it" not in seen.screen, "escape leaves the prompt")
    asked = next(command for command in run.sent if isinstance(command, Sample))
    run.say(Sampled(step=80, id=asked.id, prompt="To be", text=", or not"))
    await seen.see(", or not")
    run.say(Sampled(step=80, id=asked.id, prompt="To be", text=" to be", done=True))
    await next_step("F4 shows how likely each letter was")
    await seen.press("f4", "escape")
    await next_step("esc, then h shows the verdict")
    await seen.press("escape")
    await seen.see("esc ends it")
    await seen.press("h", "escape")
    await next_step("F5 lets the run continue")
    await seen.press("f5")
    run.say(Phase(step=80, phase="training"))
    await next_step("F1 explains")
    assert place == ALL
    await seen.press("escape")
    await seen.until(lambda: "tour" not in seen.screen)
    assert seen.main.store.phase == "training", "nothing happens to the run"


async def test_what_has_happened_already_is_passed_over(workshop: Any, make: Any) -> None:
    """A run that has ended cannot be paused; its best.pt can be sampled."""
    folder = make("old", evaluated(40, 2.0), workshop.finished(40))
    async with workshop.training() as (seen, run):
        seen.main.action_tour()
        run.say(workshop.progress(1, 80))
        await seen.see(f"tour 2/{ALL}")
        seen.main.open_run(folder)
        await seen.see("Let it write.")


async def test_who_pauses_before_the_first_star_is_not_left_waiting_for_it(workshop: Any, seen: Any, run: Any) -> None:
    seen.main.action_tour()
    run.say(workshop.progress(1, 8))
    await seen.see("Wait for ★")
    run.say(Phase(step=8, phase="paused"))
    await seen.see("Let it write.")


@pytest.mark.parametrize("keys", [["escape"], ["3", "escape"], ["1", "enter", "escape", "escape"]])
async def test_escape_ends_it_outside_text_fields(seen: Any, keys: list[str]) -> None:
    before = seen.main.query_one("#panes").region
    seen.main.action_tour()
    await seen.see(f"tour 1/{ALL}")
    assert seen.main.query_one("#panes").region == before.shrink((2, 0, 0, 0))
    await seen.press(*keys[:-1])
    assert f"tour 1/{ALL}" in seen.screen
    await seen.press(keys[-1])
    await seen.until(lambda: "tour" not in seen.screen)
    assert seen.main.query_one("#panes").region == before


async def test_it_names_the_users_own_keys(workshop: Any) -> None:
    keys_file = preferences_file().with_name("keys.yaml")
    keys_file.parent.mkdir(parents=True)
    keys_file.write_text("start: f11\nleave: f10\n")
    async with workshop.console() as seen:
        seen.main.action_tour()
        await seen.see("F11 starts")
        assert "F10 ends it" in seen.screen
        await seen.press("f10")
        await seen.until(lambda: "tour" not in seen.screen)


@pytest.mark.parametrize("step", STEPS, ids=range(1, ALL + 1))
def test_every_step_fits_into_two_lines_at_60_columns(step: Step) -> None:
    room = 60 - END_WIDTH - 2
    for typing in (False, True):
        rows = [row.plain.strip() for row in step_rows(step, room, typing=typing)]
        assert all(len(row) <= room for row in rows)
        shown = " ".join(rows)
        assert shown.startswith(step.why) and shown.endswith(step.do.rpartition("}")[2].strip()), shown
    assert step_rows(step, 100, typing=False)[0].plain == step.why
