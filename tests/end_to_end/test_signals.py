"""A first signal finishes the step, saves and ends, whatever the run is doing; a second one ends it at once."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run import events
from fundamentallm.run.locks import RunLock, is_held
from fundamentallm.train.checkpoint import load
from tests.compare_runs import difference
from tests.conftest import journal_events

Run = Callable[..., Any]
STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
both = pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
LONG = ("--epochs=200000", "--keep-checkpoints=1", "--output-dir=run")

# Sends signals to its own process at the n-th call of a function, before or after the call.
SIGNALLED = """
import os, signal
def signalled(owner, name, plan, before=True):
    real, calls = getattr(owner, name), [0]
    def call(*arguments, **named):
        calls[0] += 1
        if before:
            [os.kill(os.getpid(), number) for number in plan.get(calls[0], ())]
        result = real(*arguments, **named)
        if not before:
            [os.kill(os.getpid(), number) for number in plan.get(calls[0], ())]
        return result
    setattr(owner, name, call)
from signal import *
from fundamentallm.train import checkpoint, state, step, trackers, trainer
"""


def assert_saved(program: Any, status: int, folder: Path) -> int:
    """The run was stopped, with this exit status, and is whole; returns its step."""
    assert program.wait() == status and "Traceback" not in program.err, program.err
    (finished,) = journal_events(folder, events.Finished)
    assert finished.reason == "stopped" and load(folder / "last.pt").progress().step == finished.step
    assert "resume with: fundamentallm train --resume-from run/last.pt" in program.err
    RunLock(folder).release()
    return int(finished.step)


@pytest.mark.parametrize("name", STATUS)
def test_in_a_step_it_finishes_the_step_and_resumes_to_the_same_bits(
    run: Run, tiny: list[str], tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "run"
    hook = SIGNALLED + f"signalled(step.TrainStep, 'backward', {{15: [{name}]}})"
    arguments = [*tiny, "--epochs=2", "--resume=auto"]
    assert assert_saved(run(*arguments, "--output-dir=run", prepare=hook), STATUS[name], folder) == 15
    assert run(*arguments, "--output-dir=run").status == 0
    assert run(*arguments, "--output-dir=plain").status == 0
    assert difference(folder, tmp_path / "plain") == ""


def test_while_it_evaluates_the_evaluation_counts(run: Run, tiny: list[str], tmp_path: Path) -> None:
    stopped = run(*tiny, *LONG, prepare=SIGNALLED + "signalled(trainer, 'evaluate', {2: [SIGTERM]})")
    assert assert_saved(stopped, STATUS["SIGTERM"], tmp_path / "run") == 22
    assert [event.step for event in journal_events(tmp_path / "run", events.Evaluated)] == [11, 22]
    assert load(tmp_path / "run/checkpoint_epoch_2.pt").progress().step == 22


def test_while_it_is_paused(launch: Run, run: Run, tiny: list[str], tmp_path: Path) -> None:
    program = launch(*tiny, *LONG)
    program.until(lambda: is_held(tmp_path / "run"))
    assert run("pause", "run").status == 0
    program.until(lambda: journal_events(tmp_path / "run", events.Phase)[-1].phase == "paused")
    at = journal_events(tmp_path / "run", events.Phase)[-1].step
    program.signal(signal.SIGINT)
    assert assert_saved(program, STATUS["SIGINT"], tmp_path / "run") == at


def test_while_it_saves_the_save_is_finished(run: Run, tiny: list[str], tmp_path: Path) -> None:
    hook = SIGNALLED + "signalled(checkpoint.torch, 'save', {4: [SIGINT]})"  # 1: the start, 2 and 3: of 5 and 10
    assert assert_saved(run(*tiny, *LONG, "--save-every=5", prepare=hook), 130, tmp_path / "run") == 11


@pytest.mark.parametrize(("first", "second", "status"), [("SIGINT", "SIGINT", 130), ("SIGINT", "SIGTERM", 143)])
@pytest.mark.parametrize(
    "place", ["checkpoint.torch, 'save'", "checkpoint.os, 'replace'", "step.TrainStep, 'backward'"]
)
def test_a_second_signal_ends_at_once_and_the_last_checkpoint_stands(
    run: Run, tiny: list[str], tmp_path: Path, first: str, second: str, status: int, place: str
) -> None:
    """The second comes in the step under way, or in the save that the first one asked for."""
    at = 1 + (13 if "backward" in place else 5 if "replace" in place else 3)  # config and tokenizer are replaced, too
    hook = SIGNALLED + f"signalled({place}, {{{at}: [{first}, {second}]}})"
    ended = run(*tiny, *LONG, "--save-every=5", prepare=hook)
    assert ended.status == status and "Traceback" not in ended.err and "once more ends at once" in ended.err
    assert not journal_events(tmp_path / "run", events.Finished)
    assert load(tmp_path / "run/last.pt").progress().step in (5, 10, 11)
    RunLock(tmp_path / "run").release()
    assert run(*tiny, "--epochs=2", "--output-dir=run", "--resume=auto").status == 0
    assert list((tmp_path / "run").glob(".*")) == []  # nor is anything left of the save that broke off


def test_while_it_writes_a_sample_the_sample_ends(launch: Run, tiny: list[str], tmp_path: Path) -> None:
    program = launch(*tiny, *LONG)
    program.until(lambda: is_held(tmp_path / "run"))
    asking = launch("sample", "run", "--max-tokens=20000")
    program.until(lambda: journal_events(tmp_path / "run", events.Sampled))
    program.signal(signal.SIGINT)
    assert_saved(program, 130, tmp_path / "run")
    assert asking.wait() == 0
    assert sum(len(event.text) for event in journal_events(tmp_path / "run", events.Sampled)) < 20_000


# ---- before the first step ----

LOADING = SIGNALLED + "signalled(state, 'read_source', {{1: [{}]}})"  # its folder is made, its model is not
HOLDING = SIGNALLED + "signalled(trackers, 'start', {{1: [{}]}}, before=False)"  # lock and journal are there


@both
@pytest.mark.parametrize("where", [LOADING, HOLDING], ids=["loading", "holding"])
def test_before_the_first_step_nothing_half_made_is_left(
    run: Run, tiny: list[str], tmp_path: Path, name: str, where: str
) -> None:
    ended = run(*tiny, "--epochs=1", "--output-dir=new/run", prepare=where.format(name))
    assert (ended.status, "Traceback" in ended.err) == (STATUS[name], False)
    assert not (tmp_path / "new").exists()
    assert run(*tiny, "--epochs=1", "--output-dir=new/run").status == 0
