"""How a run fails: losses that are not finite, memory that runs out, a GPU or a disk that is lost."""

import errno
import math
import os
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.cli import main
from fundamentallm.config.files import to_yaml
from fundamentallm.run import events, journal
from fundamentallm.run.commands import Command, Stop
from fundamentallm.run.history import summarize
from fundamentallm.run.journal import read_journal
from fundamentallm.train import step, trainer
from fundamentallm.train.checkpoint import load
from fundamentallm.train.metrics import StepResult
from fundamentallm.train.step import TrainStep
from tests.engine.seen import files
from tests.engine.train.conftest import Equal, Small, Train


def backward_raises(monkeypatch: pytest.MonkeyPatch, error: Exception, at: int = 0) -> None:
    """Let the backward pass of a step fail."""
    real = TrainStep.backward

    def breaks(self: TrainStep, step: int) -> torch.Tensor:
        if step == at:
            raise error
        return real(self, step)

    monkeypatch.setattr(TrainStep, "backward", breaks)


def test_a_loss_that_turns_nan_fails_the_run_and_leaves_finite_weights(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, equal: Equal
) -> None:
    plain = train(small(), "plain", {10: [Stop()]})
    real, calls = step.F.cross_entropy, count(1)

    def breaks(*arguments: Any, **named: Any) -> torch.Tensor:
        return real(*arguments, **named) * (math.nan if next(calls) > 10 else 1)

    monkeypatch.setattr(step.F, "cross_entropy", breaks)
    ran = train(small())
    assert ran.of(events.Failed) == ran.said[-1:] and isinstance(ran.result, events.Failed)
    assert ran.result.step == 10 and "step 11 was refused" in ran.result.error and ran.result.saved == "last.pt"
    assert "--learning-rate 0.0003" in ran.result.advice and "--gradient-clip 0.5" in ran.result.advice
    assert not [event for event in ran.of(events.Notice) if event.level == "warning"]
    saved = load(ran.folder / "last.pt")
    assert saved.progress().step == 10 and equal(saved.model, load(plain.folder / "last.pt").model)
    assert all(torch.isfinite(tensor).all() for tensor in (*saved.model.values(), *saved.optimizer.values()))
    assert sorted(ran.losses) == list(range(1, 11))
    assert "final_model.pt" not in files(ran.folder)
    monkeypatch.undo()
    assert train(small(), resume_from=ran.folder / "last.pt").result.reason == "completed"


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_an_aggressive_learning_rate_stays_finite(train: Train, small: Small, optimizer: str) -> None:
    ran = train(small(learning_rate=0.01, optimizer=optimizer, epochs=4))
    assert isinstance(ran.result, events.Finished) and math.isfinite(ran.result.val_loss)


def test_running_out_of_memory_fails_with_advice(train: Train, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
    backward_raises(monkeypatch, RuntimeError(text), at=5)
    ran = train(small())
    assert len(ran.of(events.Failed)) == 1 and ran.result.error == "out of memory"
    assert "a new run with --batch-size 4 --accumulation-steps 2 (" in ran.result.advice
    assert not [event for event in ran.of(events.Notice) if event.level == "warning"]
    assert load(ran.folder / "last.pt").progress().step == 5


def test_what_only_sounds_like_out_of_memory_keeps_its_traceback(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward_raises(monkeypatch, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        train(small())


def test_a_step_that_a_gpu_refused_ends_the_run_after_the_steps_before_it(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's steps are looked at when they are reported: here five at once, the fourth broken and only this once."""
    monkeypatch.setattr(trainer, "REPORT_INTERVAL", 1e9)
    real, broken = TrainStep.__call__, {3}

    def unseen(self: TrainStep, number: int) -> StepResult:
        result = real(self, number)
        if number not in broken:
            return result
        broken.remove(number)
        return result._replace(loss=result.loss * math.nan)

    monkeypatch.setattr(TrainStep, "__call__", unseen)
    ran = train(small(save_every=5))
    assert isinstance(ran.result, events.Failed) and "step 4 was refused" in ran.result.error
    assert sorted(ran.losses) == [1, 2, 3] and ran.result.step == 3


def test_a_run_that_lost_its_gpu_still_says_so(train: Train, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: trainer.Metrics) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    def script(running: trainer.Trainer) -> list[Command]:
        if running.state.step == 5:
            running.step()  # and its result is not read yet
            monkeypatch.setattr(trainer.Metrics, "read", lost)
            caught.append(running.fail("a fault", ""))
            return [Stop()]
        return []

    caught: list[events.Failed] = []
    with pytest.raises(RuntimeError, match="launch failure"):
        train(small(), script=script)
    assert [(failed.error, failed.saved) for failed in caught] == [("a fault", "last.pt")]


@pytest.mark.parametrize("times", [7, 10**9])
@pytest.mark.parametrize("line", ['"event":"finished"', '"path":"final_model.pt"'])
def test_a_run_whose_end_its_journal_does_not_take_tries_again_and_then_says_so(
    times: int, line: str, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """Else it would be an ended run that the library calls interrupted."""
    write, refused = os.write, [0]

    def refuse(file: int, data: bytes) -> int:
        if (refused[0] or line.encode() in data) and refused[0] < times:
            refused[0] += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data)

    monkeypatch.setattr("fundamentallm.run.journal.PAUSE", 0.001)
    (tmp_path / "a.yaml").write_text(to_yaml(small(epochs=1)))
    command = ["train", "--config", str(tmp_path / "a.yaml"), "--output-dir", str(tmp_path / "run"), "--resume=auto"]
    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "write", refuse)
        status = main(command)
    said, told = capfd.readouterr().err, list(read_journal(tmp_path / "run"))
    if times == 7:
        assert status == 0 and "could not be written" not in said
    else:
        assert status == 1 and f"{tmp_path / 'run/journal.jsonl'}: its last lines could not be written" in said
        assert ("journal.jsonl: No space left" in said) == ("final" in line)  # the end itself says it where it can
        assert not any(isinstance(event, events.Finished) for event in told)
        assert main(command) == 0
        told = list(read_journal(tmp_path / "run"))
    assert isinstance(told[-1], events.Finished) and [event.seq for event in told] == list(range(1, len(told) + 1))
    assert summarize(tmp_path / "run").state == "finished"
