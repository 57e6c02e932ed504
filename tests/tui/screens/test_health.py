"""The health dialog: `h` shows how the run stands, and enter does something about it."""

from pathlib import Path
from typing import Any

import pytest
from textual.widgets import OptionList

from fundamentallm.run.commands import Set, Stop
from fundamentallm_tui.throttle import RedrawThrottle
from tests.events import OVERFITTING, epochs
from tests.tui.conftest import FakeRun, Watched


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


async def test_enter_takes_the_first_action_and_a_digit_its_own(workshop: Any) -> None:
    async with workshop.console() as watched:
        run = await overfitting(watched, workshop)
        assert "since epoch 2 the validation loss rose from 1.800 to" in watched.screen
        assert (
            "1  Stop, and keep best.pt (epoch 2)" in watched.screen and "2  Raise the dropout to 0.2" in watched.screen
        )
        await watched.press("2")
        assert isinstance(run.sent[-1], Set) and (run.sent[-1].setting, run.sent[-1].value) == ("dropout", 0.2)
        await watched.press("h", "enter")
        await watched.until(lambda: isinstance(run.sent[-1], Stop))
        await watched.status_is("STOPPING")


@pytest.mark.parametrize("end", ["stopped", "killed"])
async def test_a_run_resumes_from_its_best_state_once_it_has_stopped(workshop: Any, end: str) -> None:
    async with workshop.console() as watched:
        run = await overfitting(watched, workshop)
        await watched.press("3")
        assert isinstance(run.sent[-1], Stop) and len(watched.runs) == 1
        health = watched.main.health
        health.throttle = RedrawThrottle(health, lambda: float(bool(health.refresh())), min_interval=1e9, cpu_share=1.0)
        health.show()
        run.finish(320, "stopped") if end == "stopped" else run.die()
        await watched.until(lambda: len(watched.runs) == 2)
        spec = watched.run.job
        assert (spec.folder, spec.resume_from, spec.changes) == (run.folder, run.folder / "best.pt", {"dropout": 0.2})
        watched.run.begin(step=160)
        await watched.status_is("TRAINING")
        assert [event.step for event in watched.main.store.history.evaluations] == [80, 160]
        await watched.see("the best so far")  # the verdict, at once: what it was about is left behind
        assert "overfitting" not in watched.screen


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
        assert [option.id for option in watched.app.screen.query_one(OptionList).options] == ["1", "cancel"]
        Path(run.folder, "best.pt").unlink()
        await watched.press("1")
        await watched.pilot.pause()
        assert len(watched.runs) == 1
        await watched.press("h")
        await watched.see("c  Close")
        assert "Resume from" not in watched.screen


@pytest.mark.parametrize(("size", "shown"), [
    ((120, 36), "● overfitting: since epoch 2 the validation loss rose from 1.800 to 2.100 while"),
    ((200, 60), "h  Stop, and keep best.pt (epoch 2)"),
    ((80, 24), "● overfitting  h acts"),
    ((60, 20), "● overfitting  h acts"),
])  # fmt: skip
async def test_the_verdict_is_on_the_screen_at_every_size(workshop: Any, size: tuple[int, int], shown: str) -> None:
    async with workshop.console(size=size) as watched:
        await overfitting(watched, workshop)
        await watched.press("escape")
        await watched.see(shown)


async def test_enter_in_the_pane_asks_what_to_do(workshop: Any) -> None:
    async with workshop.console() as watched:
        await overfitting(watched, workshop)
        await watched.press("escape", "6")
        assert watched.main.health.has_focus and "enter what to do" in watched.keys
        await watched.press("enter")
        await watched.see("Health: overfitting")
