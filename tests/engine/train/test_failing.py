"""How a run fails: losses that are not finite, a GPU or a journal that is lost."""

import errno
import math
import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest import MonkeyPatch

from fundamentallm.cli import main
from fundamentallm.config.files import to_yaml
from fundamentallm.run import events, journal
from fundamentallm.run.commands import Command, Save, Set, Stop
from fundamentallm.run.journal import read_journal
from fundamentallm.run.summary import summarize
from fundamentallm.train import step, trainer
from fundamentallm.train.checkpoint import load
from fundamentallm.train.metrics import Metrics
from fundamentallm.train.step import TrainStep
from tests.engine.conftest import files, same_tensors
from tests.engine.train.conftest import Breaks, Small, Train


def test_a_loss_that_turns_nan_fails_the_run_and_leaves_finite_weights(train: Train, monkeypatch: MonkeyPatch) -> None:
    plain = train(name="plain", script={10: [Stop()]})
    real, calls = step.F.cross_entropy, count(1)

    def turn_nan(*arguments: Any, **named: Any) -> Any:
        return real(*arguments, **named) * (math.nan if next(calls) > 10 else 1)

    monkeypatch.setattr(step.F, "cross_entropy", turn_nan)
    ran = train()
    assert ran.of(events.Failed) == ran.events[-1:] and isinstance(ran.result, events.Failed)
    assert ran.result.step == 10 and "step 11 was refused" in ran.result.error and ran.result.saved == "last.pt"
    assert ran.result.cause == events.NOT_FINITE
    assert "--learning-rate 0.0003" in ran.result.advice and "--gradient-clip 0.5" in ran.result.advice
    assert not ran.warnings
    saved = load(ran.last)
    assert saved.progress().step == 10 and same_tensors(saved.model, load(plain.last).model)
    assert all(torch.isfinite(tensor).all() for tensor in (*saved.model.values(), *saved.optimizer.values()))
    assert sorted(ran.losses) == list(range(1, 11))
    assert "final_model.pt" not in files(ran.folder)
    monkeypatch.undo()
    assert train(resume_from=ran.last).result.reason == "completed"


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_an_aggressive_learning_rate_stays_finite(train: Train, optimizer: str) -> None:
    assert math.isfinite(train(learning_rate=0.01, optimizer=optimizer, epochs=4).result.val_loss)


def test_what_only_sounds_like_out_of_memory_keeps_its_traceback(train: Train, breaks: Breaks) -> None:
    breaks(TrainStep, "backward", 1, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        train()


@pytest.fixture
def broken_fourth(monkeypatch: MonkeyPatch) -> None:
    """The fourth step is broken, and seen when it is reported: as on a GPU, some steps later or for a command."""
    monkeypatch.setattr(trainer, "REPORT_INTERVAL", 1e9)
    real = TrainStep.__call__

    def break_fourth(self: TrainStep, number: int) -> Any:
        result = real(self, number)
        return result._replace(loss=result.loss * math.nan) if number == 3 else result

    monkeypatch.setattr(TrainStep, "__call__", break_fourth)


def test_a_step_that_a_gpu_refused_ends_the_run_after_those_before_it(train: Train, broken_fourth: None) -> None:
    ran = train(save_every=5)
    assert isinstance(ran.result, events.Failed) and "step 4 was refused" in ran.result.error
    assert sorted(ran.losses) == [1, 2, 3] and ran.result.step == 3


@pytest.mark.parametrize("command", [Set(setting="epochs", value=3), Save()])
def test_a_command_that_meets_the_failure_of_the_run_is_answered_before_it(
    train: Train, broken_fourth: None, command: Command
) -> None:
    ran = train(script={4: [command]})
    (answer,) = ran.of(events.Answered)
    assert (answer.id, answer.ok) == (command.id, False)
    assert answer.why == "the run failed: the loss or its gradient is not finite"
    assert isinstance(ran.events[-1], events.Failed) and ran.trainer.state.config.epochs == 2


def test_a_run_that_lost_its_gpu_still_says_so(train: Train, breaks: Breaks, monkeypatch: MonkeyPatch) -> None:
    caught: list[events.Failed] = []

    def lose(_: Metrics) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    def script(running: trainer.Trainer) -> list[Command]:
        if running.state.step == 5:
            running.step()  # and its result is not read yet
            monkeypatch.setattr(Metrics, "read", lose)
            caught.append(running.fail("a fault", events.FAULT))
            return [Stop()]
        return []

    with pytest.raises(RuntimeError, match="launch failure"):
        train(script=script)
    assert [(failed.error, failed.saved, failed.cause) for failed in caught] == [("a fault", "last.pt", events.FAULT)]


@pytest.mark.parametrize("times", [7, 10**9])
@pytest.mark.parametrize("line", [f'"event":"{events.NAMES[events.Finished]}"', '"path":"final_model.pt"'])
def test_a_run_whose_end_its_journal_does_not_take_tries_again_and_then_says_so(
    times: int, line: str, small: Small, tmp_path: Path, monkeypatch: MonkeyPatch, capfd: Any
) -> None:
    """Else it would be an ended run that the list of runs calls interrupted."""
    write, refused = os.write, [0]

    def refuse(file: int, data: bytes) -> int:
        if (refused[0] or line.encode() in data) and refused[0] < times:
            refused[0] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data)

    monkeypatch.setattr("fundamentallm.run.journal.PAUSE", 0.001)
    (tmp_path / "a.yaml").write_text(to_yaml(small(epochs=1)))
    run = tmp_path / "run"
    command = ["train", "--config", str(tmp_path / "a.yaml"), "--output-dir", str(run), "--resume=auto"]
    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "write", refuse)
        status = main(command)
    printed, found = capfd.readouterr().err, list(read_journal(run))
    if times == 7:
        assert status == 0 and "could not be written" not in printed
    else:
        assert status == 1 and f"{run}/journal.jsonl: its last lines could not be written" in printed
        assert ("journal.jsonl: No space left" in printed) == ("final" in line)  # the end itself says it where it can
        assert not any(isinstance(event, events.Finished) for event in found)
        assert main(command) == 0
        found = list(read_journal(run))
    assert isinstance(found[-1], events.Finished) and [event.seq for event in found] == list(range(1, len(found) + 1))
    assert summarize(run).state == "finished"
