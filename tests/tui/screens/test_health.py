"""The health dialog: `h` shows how the run stands, and enter does something about it."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from textual.widgets import OptionList

from fundamentallm.run.commands import Set, Stop
from fundamentallm.run.events import Event, Failed, Progress, last_step
from fundamentallm_tui.panes.health import current_verdict
from fundamentallm_tui.throttle import RedrawThrottle
from tests.events import OVERFITTING, epochs, recorded
from tests.tui.conftest import Watched
from tests.tui.fakes import FakeRun


async def overfitting(watched: Watched, workshop: Any) -> FakeRun:
    """A run that overfits since its second epoch, whose best.pt is in its folder."""
    run = await watched.started()
    run.folder.mkdir(parents=True)
    (run.folder / "best.pt").touch()
    run.say(*epochs(OVERFITTING))
    await watched.until(lambda: len(watched.main.store.history.evaluations) == 4)
    await watched.press("h")
    await watched.see("Health: overfitting")
    return run


# A recorded run as it was after a step: its verdict's numbers, and what its actions are called and do.
SMALL_TEXT = (
    "37.5 parameters for each of its 2,700 characters; gap 35 %: train 1.828, val 2.475, the best was 2.420 in epoch 1"
)
SETS, STOPS, RESUMES = "set", "stop", "resume"
ACTIONS: list[tuple[str, int, str, list[tuple[str, str, dict[str, float]]]]] = [
    ("diverged", 16, "the training loss is 21.161, far above that of blind guessing, 4.060", [
        ("Lower the learning rate to 0.01", SETS, {"learning_rate": 0.01}),
    ]),
    ("overfitting", 84, SMALL_TEXT, [
        ("Raise the dropout to 0.2", SETS, {"dropout": 0.2}),
    ]),
    ("rate_too_high", 124, "the training loss rose from 2.105 to 2.558 in 32 steps", [
        ("Lower the learning rate to 0.001", SETS, {"learning_rate": 0.001}),
        ("Resume from best.pt (epoch 1) with learning rate 0.001", RESUMES, {"learning_rate": 0.001}),
    ]),
    ("rate_too_low", 99, "after 99 steps the training loss is 3.569; blind guessing gives 4.060", [
        ("Raise the learning rate to 0.0001", SETS, {"learning_rate": 0.0001}),
        ("Raise the learning rate to 3e-05", SETS, {"learning_rate": 3e-05}),
    ]),
    ("flat", 70, "3.427, then 3.395 (blind guessing is 3.401)", [
        ("Lower the learning rate to 0.0003", SETS, {"learning_rate": 0.0003}),
    ]),
    ("underfitting", 352, "train 2.729 and val 2.624 are high, and train fell by 1.3 % in the last epoch", [
        ("Raise the learning rate to 0.003", SETS, {"learning_rate": 0.003}),
        ("Lower the dropout to 0", SETS, {"dropout": 0.0}),
    ]),
    ("plateau", 583, "in 4 epochs train from 0.721 to 0.716, best val from 0.704 to 0.700", [
        ("Lower the learning rate to 0.0003", SETS, {"learning_rate": 0.0003}),
        ("Stop, and keep best.pt (epoch 10)", STOPS, {}),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "step", "evidence", "actions"), ACTIONS, ids=[name for name, *_ in ACTIONS])
async def test_h_gives_the_numbers_of_a_verdict_and_each_action_does_what_it_says(
    workshop: Any, name: str, step: int, evidence: str, actions: list[tuple[str, str, dict[str, float]]]
) -> None:
    async with workshop.console(size=(200, 60)) as watched:
        run = await watched.started()
        run.folder.mkdir(parents=True)
        (run.folder / "best.pt").touch()
        run.say(*up_to(step, recorded(name)))
        await watched.until(lambda: watched.main.store.step == step)
        numbered = [(n, *action) for n, action in enumerate(actions, 1)]
        for n, label, effect, changes in sorted(numbered, key=lambda action: action[2] != SETS):  # stopping comes last
            await watched.press("h")
            await watched.see("Health: ")
            offered = [str(option.prompt) for option in watched.app.screen.query_one(OptionList).options]
            assert offered == [*(f"{n}  {label}" for n, (label, *_) in enumerate(actions, 1)), "c  Close"]
            assert current_verdict(watched.main.store).evidence == evidence and evidence[1:30] in watched.screen
            await watched.press(str(n))
            if effect == SETS:
                await watched.until(lambda: isinstance(run.sent[-1], Set))
                assert {run.sent[-1].setting: run.sent[-1].value} == changes
                continue
            await watched.until(lambda: isinstance(run.sent[-1], Stop))
            run.finish(step, "stopped")
            await watched.status_is("STOPPED" if effect == STOPS else "LOADING")
            if effect == RESUMES:
                await watched.until(lambda: len(watched.runs) == 2)
                spec = watched.run.job
                assert (spec.folder, spec.resume_from, spec.changes) == (run.folder, run.folder / "best.pt", changes)


def up_to(step: int, events: list[Event]) -> list[Event]:
    """The events up to a step, which may lie in the middle of a report."""
    found: list[Event] = []
    for event in events:
        if isinstance(event, Progress) and event.step[-1] > step >= event.step[0]:
            count = event.step.index(step) + 1
            rows = {name: getattr(event, name)[:count] for name in ("step", "train_loss", "learning_rate", "grad_norm")}
            return [*found, replace(event, **rows)]
        if last_step(event) > step:
            return found
        found.append(event)
    return found


async def test_enter_takes_the_first_action_and_a_digit_its_own(workshop: Any, seen: Any) -> None:
    run = await overfitting(seen, workshop)
    assert "Since epoch 2 the validation loss rose from 1.800 to" in seen.screen
    assert "1  Stop, and keep best.pt (epoch 2)" in seen.screen and "2  Raise the dropout to 0.2" in seen.screen
    await seen.press("2")
    assert isinstance(run.sent[-1], Set) and (run.sent[-1].setting, run.sent[-1].value) == ("dropout", 0.2)
    await seen.press("h", "enter")
    await seen.until(lambda: isinstance(run.sent[-1], Stop))
    await seen.status_is("STOPPING")


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_a_run_resumes_from_its_best_state_once_it_has_stopped(workshop: Any, seen: Any, end: str) -> None:
    run = await overfitting(seen, workshop)
    await seen.press("3")
    assert isinstance(run.sent[-1], Stop) and len(seen.runs) == 1
    health = seen.main.health
    health.throttle = RedrawThrottle(health, health.refresh, min_interval=1e9)
    health.throttle.request()
    run.finish(320, "stopped") if end == "stopped" else run.die()
    await seen.until(lambda: len(seen.runs) == 2)
    spec = seen.run.job
    assert (spec.folder, spec.resume_from, spec.changes) == (run.folder, run.folder / "best.pt", {"dropout": 0.2})
    seen.run.begin(step=160)
    await seen.status_is("TRAINING")
    assert [event.step for event in seen.main.store.history.evaluations] == [80, 160]
    await seen.see("the best so far")  # the verdict, at once: what it was about is left behind
    assert "overfitting" not in seen.screen


async def test_only_what_is_possible_is_offered(workshop: Any) -> None:
    async with workshop.console(size=(80, 24)) as watched:
        await watched.press("h")
        await watched.see("Health: no run yet")
        await watched.press("escape")
        run = await overfitting(watched, workshop)
        await watched.press("escape")
        run.finish(400)
        await watched.status_is("FINISHED")
        await watched.press("h")
        await watched.see("1  Resume from best.pt (epoch 2) with dropout 0.2")
        assert "Resuming from best.pt leaves behind" in watched.screen
        assert [str(option.prompt)[0] for option in watched.app.screen.query_one(OptionList).options] == ["1", "c"]
        Path(run.folder, "best.pt").unlink()
        await watched.press("1")
        await watched.pilot.pause()
        assert len(watched.runs) == 1
        await watched.press("h")
        await watched.see("c  Close")
        assert "Resume from" not in watched.screen


async def test_the_words_of_an_error_are_not_changed(seen: Any, run: Any) -> None:
    run.say(Failed(step=1, error="run/last.pt: No space left on device"))
    await seen.status_is("FAILED")
    await seen.press("h")
    await seen.see("  run/last.pt: No space left on device  ")


async def test_a_verdict_is_drawn_when_it_changes_and_not_with_each_report(
    workshop: Any, seen: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a slow line, each drawing takes a part of it."""
    await seen.see("too early to tell")
    monkeypatch.setattr(seen.main.health, "refresh", drawn := Mock())
    for events, drawings in ((workshop.progress(1, 40),), 0), (epochs(OVERFITTING), 1):
        seen.main.store.apply([*events])
        seen.main.health.throttle.request(now=True)
        assert drawn.call_count == drawings
