"""ctrl+l finds a learning rate for the form, in a process that leaves nothing."""

import json
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.process.session import RateTest, WorkerRun
from fundamentallm.run.events import Failed, RunStarted
from fundamentallm.run.range_test import Point
from fundamentallm_tui.screens import find_rate
from fundamentallm_tui.screens.find_rate import FindRate
from tests.conftest import file_contents, journal_events
from tests.tui.fakes import FakeRateTest
from tests.tui.others import SMALL


@pytest.fixture
def real(workshop: Any, processes: None, monkeypatch: pytest.MonkeyPatch) -> list[RateTest]:
    """The real tests that a console has started."""
    made: list[RateTest] = []
    monkeypatch.setattr(find_rate, "RateTest", lambda config: made.append(RateTest(config)) or made[-1])
    return made


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
async def test_the_rate_that_the_command_suggests_is_taken_over_and_trained_with(
    workshop: Any, real: list[RateTest], capsys: pytest.CaptureFixture[str], optimizer: str
) -> None:
    settings = {**SMALL, "optimizer": optimizer, "epochs": 1}
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
    assert main(["find-lr", str(workshop.text), "--preset=tiny", *flags, "--json"]) == 0
    rate = json.loads(capsys.readouterr().out)["suggestion"]
    async with workshop.console(start=WorkerRun, **settings) as seen:
        before = file_contents(workshop.folder)
        await seen.press("ctrl+l")
        await seen.see(" of 200, rate ")
        await seen.see(f"{rate:g} is suggested for text.txt with {optimizer}")
        assert file_contents(workshop.folder) == before and real[0].wait(60)
        await seen.press("enter")
        cell = seen.cells["learning_rate"]
        assert seen.app.screen is seen.main and float(cell.value) == rate and cell.marked
        await seen.press("f5")
        await seen.status_is("FINISHED")
        [start] = journal_events(seen.run.folder, RunStarted)
        assert (start.config["learning_rate"], start.config["optimizer"]) == (rate, optimizer)


async def test_escape_ends_the_test_and_leaves_no_process_and_no_file(workshop: Any, real: list[RateTest]) -> None:
    async with workshop.console(**SMALL) as seen:
        before, rate = file_contents(workshop.folder), seen.cells["learning_rate"].value
        await seen.press("ctrl+l")
        await seen.see(" of 200, rate ")
        await seen.press("enter")
        assert isinstance(seen.app.screen, FindRate), "there is nothing to take over yet"
        await seen.press("escape")
        assert seen.app.screen is seen.main and seen.cells["learning_rate"].value == rate
        assert real[0].wait(60) and file_contents(workshop.folder) == before
        await seen.press("ctrl+l")
        await seen.until(lambda: len(real) == 2)
        await seen.press("ctrl+q")
        await seen.until(lambda: seen.app.return_code == 0)
    assert real[1].wait(60), "nor does the test outlive the console"


@pytest.mark.parametrize("end", ["fails", "dies"])
async def test_a_test_that_comes_to_no_end_says_why(workshop: Any, end: str) -> None:
    async with workshop.console((80, 24)) as seen:
        await seen.press("ctrl+l")
        await seen.see("loading text.txt with muon")
        [test] = FakeRateTest.made
        test.say(*(Point(1e-5 * 1.05**n, 4.0, 4.0) for n in range(50)))
        await seen.see("step 50 of 200, rate 0.00011, loss 4.000")
        if end == "fails":
            test.say(Failed(step=0, error="the loss did not fall at any learning rate\x1b[2J"))
            await seen.see("the loss did not fall at any learning rate")
        else:
            test.exit_reason, test.alive = "killed by SIGKILL", False
            await seen.see("the process of the test is gone: killed by SIGKILL.")
        assert "no suggestion" in seen.screen and not test.alive
        await seen.press("enter")
        assert isinstance(seen.app.screen, FindRate)
        await seen.press("escape")
        assert seen.app.screen is seen.main


async def test_a_rate_is_found_only_for_a_form_that_is_right_and_for_a_new_run(workshop: Any) -> None:
    async with workshop.console(toasts=True) as seen:
        await seen.type(num_heads="7")
        await seen.press("ctrl+l")
        await seen.until(lambda: seen.main.form.fields.current.name in seen.main.form.problems)
        assert seen.app.screen is seen.main
        await seen.press("ctrl+r", "escape")
        await seen.started()
        await seen.press("ctrl+l")
        await seen.see("is for a new run; press N when this one has ended.")
        assert FakeRateTest.made == []
