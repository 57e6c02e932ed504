"""How a run fails: losses that are not finite, a GPU, a journal or memory that is lost, and what it advises then."""

import errno
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest import MonkeyPatch

from fundamentallm.cli import main
from fundamentallm.config.config import to_dict
from fundamentallm.config.files import to_yaml
from fundamentallm.run import events, journal
from fundamentallm.run.commands import Command, Sample, Stop
from fundamentallm.run.history import summarize
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.train import checkpoint, control, device, step, trainer
from fundamentallm.train.checkpoint import load
from fundamentallm.train.metrics import Metrics
from fundamentallm.train.optimizer import Optimizer
from fundamentallm.train.step import TrainStep
from tests.compare_runs import difference
from tests.engine.conftest import EPOCH, files, same_tensors
from tests.engine.train.conftest import Breaks, Small, Train, Trained


def test_a_loss_that_turns_nan_fails_the_run_and_leaves_finite_weights(train: Train, monkeypatch: MonkeyPatch) -> None:
    plain = train(name="plain", script={10: [Stop()]})
    real, calls = step.F.cross_entropy, count(1)

    def turn_nan(*arguments: Any, **named: Any) -> Any:
        return real(*arguments, **named) * (math.nan if next(calls) > 10 else 1)

    monkeypatch.setattr(step.F, "cross_entropy", turn_nan)
    ran = train()
    assert ran.of(events.Failed) == ran.events[-1:] and isinstance(ran.result, events.Failed)
    assert ran.result.step == 10 and "step 11 was refused" in ran.result.error and ran.result.saved == "last.pt"
    assert "--learning-rate 0.0003" in ran.result.advice and "--gradient-clip 0.5" in ran.result.advice
    assert not ran.warnings
    saved = load(ran.last)
    assert saved.progress().step == 10 and same_tensors(saved.model, load(plain.last).model)
    assert all(torch.isfinite(tensor).all() for tensor in (*saved.model.values(), *saved.optimizer.values()))
    assert sorted(ran.losses) == list(range(1, 11))
    assert "final_model.pt" not in files(ran.folder)
    monkeypatch.undo()
    assert train(resume_from=ran.last).result.reason == "completed"


def test_what_only_sounds_like_out_of_memory_keeps_its_traceback(train: Train, breaks: Breaks) -> None:
    breaks(TrainStep, "backward", 1, RuntimeError("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal"):
        train()


def test_a_step_that_a_gpu_refused_ends_the_run_after_those_before_it(train: Train, monkeypatch: MonkeyPatch) -> None:
    """A GPU's steps are looked at when they are reported: here five at once, the fourth broken and only this once."""
    monkeypatch.setattr(trainer, "REPORT_INTERVAL", 1e9)
    real, calls = TrainStep.__call__, count()

    def break_fourth(self: TrainStep, number: int) -> Any:
        result = real(self, number)
        return result._replace(loss=result.loss * math.nan) if next(calls) == 3 else result

    monkeypatch.setattr(TrainStep, "__call__", break_fourth)
    ran = train(save_every=5)
    assert isinstance(ran.result, events.Failed) and "step 4 was refused" in ran.result.error
    assert sorted(ran.losses) == [1, 2, 3] and ran.result.step == 3


def test_a_run_that_lost_its_gpu_still_says_so(train: Train, breaks: Breaks, monkeypatch: MonkeyPatch) -> None:
    caught: list[events.Failed] = []

    def lose(_: Metrics) -> Any:
        raise RuntimeError("CUDA error: unspecified launch failure")

    def script(running: trainer.Trainer) -> list[Command]:
        if running.state.step == 5:
            running.step()  # and its result is not read yet
            monkeypatch.setattr(Metrics, "read", lose)
            caught.append(running.fail("a fault", ""))
            return [Stop()]
        return []

    with pytest.raises(RuntimeError, match="launch failure"):
        train(script=script)
    assert [(failed.error, failed.saved) for failed in caught] == [("a fault", "last.pt")]


@pytest.mark.parametrize("times", [7, 10**9])
@pytest.mark.parametrize("line", ['"event":"finished"', '"path":"final_model.pt"'])
def test_a_run_whose_end_its_journal_does_not_take_tries_again_and_then_says_so(
    times: int, line: str, small: Small, tmp_path: Path, monkeypatch: MonkeyPatch, capfd: Any
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


# ---- out of memory ----

ADVICE = re.compile(r"this run needs about \d+ MiB; less: --batch-size 4 --accumulation-steps 2 \(about \d+ MiB\), .*")
MEMORY_ERRORS: dict[str, Exception] = {
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                        "tried to allocate 5368709120 bytes. Error code 12 (Cannot allocate memory)\nframe #0"),
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5.00 GiB.\nGPU 0 has a total capacity of"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 1.00 GB)."),
    "windows": RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes."),
    "python": MemoryError(),
}  # fmt: skip

PLACES: dict[str, tuple[Any, str, int, int]] = {  # a function, which of its calls, and the step that is saved then
    "a step": (TrainStep, "backward", 8, 7),
    "the first evaluation": (trainer, "evaluate", 1, EPOCH),
    "the last evaluation": (trainer, "evaluate", 2, 2 * EPOCH),
    "the midst of an update": (Optimizer, "_step_muon", 23, 20),  # half of the weights have moved: nothing is saved
}


@pytest.mark.parametrize(
    ("place", "kind", "auto"),
    [
        *(("a step", kind, False) for kind in MEMORY_ERRORS),
        *((place, "cpu", True) for place in PLACES),
        ("the last evaluation", "cpu", False),
    ],
)
def test_a_run_fails_with_advice_and_resumes_to_the_same_end(
    train: Train, trained: Trained, small: Small, breaks: Breaks, place: str, kind: str, auto: bool
) -> None:
    plain = trained(save_every=5)
    owner, name, call, saved = PLACES[place]
    breaks(owner, name, call, MEMORY_ERRORS[kind])
    ran = train(save_every=5)
    failed = ran.result
    assert isinstance(failed, events.Failed) and ran.of(events.Failed) == ran.events[-1:] and not ran.warnings
    assert failed.error == "out of memory" and ADVICE.fullmatch(failed.advice), failed
    assert failed.saved == "last.pt" and ran.step_of("last.pt") == saved
    assert not (ran.folder / "final_model.pt").exists()
    train(small(save_every=5), auto=True) if auto else train(resume_from=ran.last)
    assert difference(ran.folder, plain.folder) == ""


def test_a_save_without_memory_is_survived(train: Train, trained: Trained, breaks: Breaks) -> None:
    plain = trained()
    breaks(checkpoint.torch, "save", 3, MEMORY_ERRORS["cpu"])  # of the start, 5 and 10
    ran = train(save_every=5)
    assert [event.step for event in ran.of(events.CheckpointFailed)] == [10]
    assert ran.result.reason == "completed" and not ran.result.unsaved
    assert same_tensors(ran.weights, plain.weights)


@pytest.mark.parametrize("kind", MEMORY_ERRORS)
def test_a_sample_without_memory_breaks_off_alone(train: Train, trained: Trained, breaks: Breaks, kind: str) -> None:
    plain = trained()
    breaks(control, "stream", 1, MEMORY_ERRORS[kind])
    ran = train(script={4: [Sample(prompt="the ", max_tokens=5), Sample(prompt="the ", max_tokens=5)]})
    first, second = ran.of(events.Answered)
    assert not first.ok and re.fullmatch("the sample broke off: .+", first.why) and second.ok
    assert ran.result.reason == "completed" and same_tensors(ran.weights, plain.weights)


# ---- memory that is really limited ----

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000,) * 2)
sys.argv = ["fundamentallm", *sys.argv[1:]]
"""
TRAIN = LIMITED + "from fundamentallm.cli import main\nsys.exit(main())"
SESSION = f"""{LIMITED}
import json
from pathlib import Path
from fundamentallm.config.config import Layer, resolve
from fundamentallm.run.events import Failed, encode
from fundamentallm.run.spec import RunSpec
from fundamentallm.process.session import WorkerRun

if __name__ == "__main__":
    session = WorkerRun(RunSpec(resolve(Layer(json.loads(sys.argv[2]))), Path(sys.argv[1])))
    while session.alive:
        for event in session.events(0.2):
            if isinstance(event, Failed):
                print(encode(event), flush=True)
    print(session.exit_reason)
"""
HUGE = {"model_dim": 16384, "num_heads": 2, "num_layers": 1}  # one of its matrices has 3.2 GB
needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere address space is not what is limited")


def flags(settings: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


@pytest.fixture
def alone(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def run(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        (tmp_path / "script.py").write_text(code)
        command = [sys.executable, str(tmp_path / "script.py"), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    return run


@needs_limits
def test_a_model_that_does_not_fit_is_one_line(alone: Callable[..., Any], data: str, tmp_path: Path) -> None:
    done = alone(TRAIN, "train", data, "--output-dir=run", "--device=cpu", *flags({**HUGE, "max_seq_len": 16}))
    assert done.returncode in (1, 2) and done.stdout == ""
    assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 2, done.stderr
    assert "out of memory" in done.stderr and re.search(r"--model-dim 8192 \(about [\d.]+ GiB\)", done.stderr)
    assert not (tmp_path / "run").exists()


@needs_limits
def test_a_worker_whose_model_does_not_fit_says_so(alone: Callable[..., Any], small: Small, tmp_path: Path) -> None:
    done = alone(SESSION, "run", json.dumps(to_dict(small(**HUGE))))
    failed, end = done.stdout.splitlines()
    event = events.decode(failed)
    assert isinstance(event, events.Failed) and end == "ended with status 1"
    assert "out of memory" in event.error and re.search(r"--model-dim 8192 \(about [\d.]+ GiB\)", event.error)
    log = tmp_path / "run/engine.log"
    assert not log.exists() or "Traceback" not in log.read_text()


@needs_limits
def test_a_step_that_does_not_fit_leaves_a_checkpoint(alone: Callable[..., Any], data: str, tmp_path: Path) -> None:
    large = {"model_dim": 512, "num_heads": 8, "num_layers": 4, "max_seq_len": 256, "stride": 16, "batch_size": 64}
    done = alone(TRAIN, "train", data, "--output-dir=run", "--epochs=1", "--device=cpu", *flags(large))
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    last = done.stderr.splitlines()[-3:]
    assert last[0] == "failed at step 0: out of memory" and last[2] == "the last good state: run/last.pt", done.stderr
    less = r"--batch-size 32 --accumulation-steps 2 \(about ([\d.]+) GiB\), .*"
    found = re.fullmatch(rf"try this run needs about ([\d.]+) GiB; less: {less}", last[1])
    assert found and float(found[1]) > float(found[2]) > 0.5
    assert load(tmp_path / "run/last.pt").progress().step == 0
    assert isinstance(list(read_journal(tmp_path / "run"))[-1], events.Failed)
    RunLock(tmp_path / "run").release()


def test_a_container_has_the_room_of_its_limit_and_cached_files_do_not_count(tmp_path: Path) -> None:
    assert device.free_in_cgroup(tmp_path) == float("inf")
    for name, text in {"max": "1000\n", "current": "900\n", "stat": "anon 1\ninactive_file 250\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert device.free_in_cgroup(tmp_path) == 350
    (tmp_path / "memory.max").write_text("max\n")
    assert device.free_in_cgroup(tmp_path) == float("inf")


def test_a_run_that_may_not_fit_is_warned_of_before_its_first_step(train: Train, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr("fundamentallm.train.state.free_memory", lambda _: 2.0**10)
    (warning,) = (event for event in train(epochs=1).of(events.Notice) if event.level == "warning")
    assert warning.step == 0
    assert warning.text.startswith("memory may run out, 0.0 GiB are free: this run needs about ")
