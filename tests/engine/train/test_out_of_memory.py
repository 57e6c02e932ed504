"""Out of memory, wherever it happens: what was reached is saved, and one line says what to change, with numbers."""

import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from pytest import MonkeyPatch

from fundamentallm.config.estimate import count_state_memory
from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.commands import Sample
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.train import checkpoint, device, samples, trainer
from fundamentallm.train.checkpoint import load
from fundamentallm.train.optimizer import Optimizer
from fundamentallm.train.step import TrainStep
from tests.compare_runs import difference
from tests.engine.conftest import EPOCH, same_tensors
from tests.engine.train.conftest import Breaks, Small, Train, Trained
from tests.texts import estimate

ADVICE = re.compile(
    r"a new run with --batch-size 4 --accumulation-steps 2 \(about \d+ MiB\) or .*; "
    r"this run needs about \d+ MiB, and [\d,.]+ [MG]iB are free"
)
KINDS: dict[str, Exception] = {
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                        "tried to allocate 5368709120 bytes. Error code 12 (Cannot allocate memory)\nframe #0"),
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5.00 GiB.\nGPU 0 has a total capacity of"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 1.00 GB)."),
    "windows": RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 5 bytes."),
    "python": MemoryError(),
}  # fmt: skip


# ---- in this process ----

PLACES: dict[str, tuple[Any, str, int, int]] = {  # a function, which of its calls, and the step that is saved then
    "a step": (TrainStep, "backward", 8, 7),
    "the first evaluation": (trainer, "evaluate", 1, EPOCH),
    "the last evaluation": (trainer, "evaluate", 2, 2 * EPOCH),
    "the midst of an update": (Optimizer, "_step_muon", 23, 20),  # half of the weights have moved: nothing is saved
}


@pytest.mark.parametrize(
    ("place", "kind", "auto"),
    [
        *(("a step", kind, False) for kind in KINDS),
        *((place, "cpu", True) for place in PLACES),
        ("the last evaluation", "cpu", False),
    ],
)
def test_a_run_fails_with_advice_and_resumes_to_the_same_end(
    train: Train, trained: Trained, small: Small, breaks: Breaks, place: str, kind: str, auto: bool
) -> None:
    plain = trained(save_every=5)
    owner, name, call, saved = PLACES[place]
    breaks(owner, name, call, KINDS[kind])
    ran = train(save_every=5)
    failed = ran.result
    assert isinstance(failed, events.Failed) and ran.of(events.Failed) == ran.events[-1:] and not ran.warnings
    assert (
        failed.error == "out of memory" and failed.cause == events.OUT_OF_MEMORY and ADVICE.fullmatch(failed.advice)
    ), failed
    assert failed.saved == "last.pt" and ran.step_of("last.pt") == saved
    assert load(ran.last).progress().seconds > 0  # the time since the last save included
    assert not (ran.folder / "final_model.pt").exists()
    train(small(save_every=5), auto=True) if auto else train(resume_from=ran.last)
    assert difference(ran.folder, plain.folder) == ""


def test_an_evaluation_within_an_epoch_that_failed_is_made_at_the_resume(
    train: Train, trained: Trained, breaks: Breaks
) -> None:
    expected = trained(epochs=1, eval_every=5).of(events.Evaluated)
    breaks(trainer, "evaluate", 2, MemoryError())
    first = train(epochs=1, eval_every=5)
    assert (first.result.error, first.result.step) == ("out of memory", 10)
    evaluated = first.of(events.Evaluated) + train(resume_from=first.last).of(events.Evaluated)
    assert [(e.step, e.val_loss, e.best) for e in evaluated] == [(e.step, e.val_loss, e.best) for e in expected]


def test_a_save_without_memory_is_survived(train: Train, trained: Trained, breaks: Breaks) -> None:
    plain = trained()
    breaks(checkpoint.torch, "save", 3, KINDS["cpu"])  # of the start, 5 and 10
    ran = train(save_every=5)
    assert [event.step for event in ran.of(events.CheckpointFailed)] == [10]
    assert ran.result.reason == "completed" and not ran.result.unsaved
    assert same_tensors(ran.weights, plain.weights)


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_without_memory_breaks_off_alone(train: Train, trained: Trained, breaks: Breaks, kind: str) -> None:
    plain = trained()
    breaks(samples, "stream", 1, KINDS[kind])
    ran = train(script={4: [Sample(prompt="the ", max_tokens=5), Sample(prompt="the ", max_tokens=5)]})
    first, second = ran.of(events.Answered)
    assert not first.ok and re.fullmatch("the sample broke off: .+", first.why) and second.ok
    assert ran.result.reason == "completed" and same_tensors(ran.weights, plain.weights)


# ---- for real ----

TRAIN = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1_500_000_000,) * 2)
from fundamentallm.cli import main
sys.exit(main())
"""
HUGE = {"model_dim": 16384, "num_heads": 2, "num_layers": 1}  # one of its matrices has 3.2 GB
needs_limits = pytest.mark.skipif(
    sys.platform != "linux" or torch.version.cuda is not None,
    reason="limits the address space, of which torch for CUDA takes more, and other systems do not keep to it",
)


def flags(settings: dict[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def train_with_limits(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", TRAIN, "train", *arguments, "--device=cpu"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def fits(advice: str, flag: str) -> bool:
    """Whether the advice names the flag, and what it would need is free."""
    need = re.search(rf"{flag} \d+ [^(]*\(about (\d+) MiB\)", advice)
    free = re.search(r", and (\d+) MiB are free", advice)
    assert need and free, advice
    return int(need[1]) <= int(free[1]) < 1500


@needs_limits
def test_a_model_that_does_not_fit_is_one_line(data: str, tmp_path: Path) -> None:
    done = train_with_limits(tmp_path, data, "--output-dir=run", *flags({**HUGE, "max_seq_len": 16}))
    assert done.returncode in (1, 2) and done.stdout == ""
    assert "Traceback" not in done.stderr and done.stderr.count("\n") <= 2, done.stderr
    assert "out of memory; try a new run with --model-dim " in done.stderr
    assert fits(done.stderr, "--model-dim")
    assert not (tmp_path / "run").exists()


@needs_limits
def test_a_step_that_does_not_fit_leaves_a_checkpoint(data: str, tmp_path: Path) -> None:
    large = {"model_dim": 512, "num_heads": 8, "num_layers": 4, "max_seq_len": 256, "stride": 16, "batch_size": 64}
    done = train_with_limits(tmp_path, data, "--output-dir=run", "--epochs=1", *flags(large))
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    last = done.stderr.splitlines()[-3:]
    assert last[0] == "failed at step 0: out of memory" and last[2] == "the last good state: run/last.pt", done.stderr
    assert last[1].startswith("try a new run with --batch-size ") and "this run needs about 3.7 GiB" in last[1]
    assert fits(last[1], "--batch-size")
    assert load(tmp_path / "run/last.pt").progress().step == 0
    assert isinstance(list(read_journal(tmp_path / "run"))[-1], events.Failed)
    RunLock(tmp_path / "run").release()
    option = re.findall(r"(--[^(]+) \(", last[1])[-1]  # the last one is the fastest
    again = train_with_limits(tmp_path, data, "--max-steps=1", *flags(large), *option.split())
    assert again.returncode == 0, (option, again.stderr)


# ---- what is free ----


def test_a_container_has_the_room_of_its_limit_and_cached_files_do_not_count(tmp_path: Path) -> None:
    assert device.free_in_cgroup(tmp_path) == float("inf")
    for name, text in {"max": "1000\n", "current": "900\n", "stat": "anon 1\ninactive_file 250\n"}.items():
        (tmp_path / f"memory.{name}").write_text(text)
    assert device.free_in_cgroup(tmp_path) == 350
    (tmp_path / "memory.max").write_text("max\n")
    assert device.free_in_cgroup(tmp_path) == float("inf")


def test_a_model_that_cannot_fit_is_refused_before_it_is_built(train: Train, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr("fundamentallm.train.state.Transformer", None)
    with pytest.raises(UserError, match=r"^out of memory; try a .*; this run needs about [\d.]+ GiB, and .* are free$"):
        train(model_dim=8192, num_layers=64, num_heads=8)


@pytest.mark.parametrize("lacking", [0, 1])
def test_the_text_counts_in_what_must_fit(
    train: Train, small: Small, text: str, monkeypatch: MonkeyPatch, lacking: int
) -> None:
    size = estimate(small(), [text])
    assert size.text_memory > 2500, "a byte a character, at least"
    needed = count_state_memory(small(), size.vocab_size) + size.text_memory
    monkeypatch.setattr("fundamentallm.train.state.available_memory", lambda *_: needed - lacking)
    with pytest.raises(UserError, match="^out of memory; try ") if lacking else nullcontext():
        train(epochs=1)


def test_a_run_that_may_not_fit_is_warned_of_before_its_first_step(train: Train, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr("fundamentallm.train.state.available_memory", lambda *_: 2.0**17)
    (warning,) = (event for event in train(epochs=1).of(events.Notice) if event.level == "warning")
    assert warning.step == 0
    assert warning.text.startswith("memory may run out; try a new run with --batch-size ")
    assert warning.text.endswith(", and 0 MiB are free")
