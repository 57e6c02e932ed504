"""The loop: when it steps, reports and evaluates, and what a whole run leaves behind."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytest import MonkeyPatch

from fundamentallm.config.config import resolve
from fundamentallm.config.files import load_config
from fundamentallm.config.schedule import configured_rate
from fundamentallm.run import events
from fundamentallm.run.commands import Sample, Save, Stop
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.train import checkpoints, device, metrics
from fundamentallm.train.checkpoint import Checkpoint, load, save
from fundamentallm.train.evaluate import evaluate
from fundamentallm.train.metrics import StepResult
from fundamentallm.train.step import TrainStep
from tests.engine.conftest import EPOCH, files, notices, same_tensors, steps_in
from tests.engine.train.conftest import Build, Small, Train, Trained


def column(ran: Any, name: str) -> list[float]:
    """What a run reported of each step."""
    return [value for event in ran.of(events.Progress) for value in getattr(event, name)]


def test_a_run_leaves_its_files_and_its_events_in_order(trained: Trained, small: Small) -> None:
    ran = trained()
    saved = {"checkpoint_epoch_1.pt": EPOCH, "checkpoint_epoch_2.pt": 2 * EPOCH, "last.pt": 2 * EPOCH,
             "final_model.pt": 2 * EPOCH}  # fmt: skip
    assert files(ran.folder) == {"config.yaml", "journal.jsonl", "lock", "tokenizer.json", "best.pt", *saved}
    assert {name: ran.step_of(name) for name in saved} == saved
    assert list(read_journal(ran.folder)) == ran.events
    assert [event.seq for event in ran.events] == list(range(1, len(ran.events) + 1))
    started, finished = ran.events[0], ran.events[-1]
    assert isinstance(started, events.RunStarted) and isinstance(finished, events.Finished)
    assert (started.step, started.total_steps, started.steps_per_epoch) == (0, 2 * EPOCH, EPOCH)
    assert started.parameters == sum(p.numel() for p in ran.weights.values())
    assert resolve(load_config(ran.folder / "config.yaml")) == replace(small(), output_dir=str(ran.folder))
    assert (finished.step, finished.reason, finished.epoch, finished.unsaved) == (2 * EPOCH, "completed", 2, "")
    assert finished.tokens == 2 * 139 * 16 and finished.path == "best.pt"
    assert sorted(ran.losses) == list(range(1, 2 * EPOCH + 1))
    last = [events.last_step(event) for event in ran.events]
    assert last == sorted(last)
    vocabulary = json.loads((ran.folder / "tokenizer.json").read_text())["vocabulary"]
    assert "".join(vocabulary) == load(ran.last).vocabulary
    RunLock(ran.folder).release()


def test_every_loss_before_a_checkpoint_stands_in_the_journal_before_it(train: Train, monkeypatch: MonkeyPatch) -> None:
    synced: list[int] = []
    sync, save = checkpoints.Journal.sync, checkpoints.save

    def noted(journal: Any) -> None:
        sync(journal)
        synced.append(journal.events_written)

    def checked(checkpoint: Checkpoint, folder: Path, names: list[str]) -> Any:
        assert synced.pop() == checkpoint.counters["said"] == list(read_journal(folder))[-1].seq
        assert len(steps_in(folder)) == checkpoint.counters["step"]
        return save(checkpoint, folder, names)

    monkeypatch.setattr(checkpoints.Journal, "sync", noted)
    monkeypatch.setattr(checkpoints, "save", checked)
    train(save_every=5, script={7: [Save()]})


@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "adamw", "accumulation_steps": 2, "lr_schedule": "linear", "warmup_steps": 2}]
)
def test_losses_and_weights_are_those_of_a_plain_loop(trained: Trained, build: Build, changes: dict[str, Any]) -> None:
    ran, state = trained(**changes), build(**changes)
    take, total = TrainStep(state), state.total_steps
    results = [take(n) for n in range(total)]
    config = state.config
    rates = [configured_rate(config, total, n) for n in range(total)]
    losses = [result.loss.item() for result in results]
    assert ran.losses == pytest.approx(dict(enumerate(losses, 1)), rel=1e-8)
    assert column(ran, "learning_rate") == [result.learning_rate for result in results] == rates
    assert column(ran, "grad_norm") == pytest.approx([result.grad_norm.item() for result in results], rel=1e-8)
    assert same_tensors(ran.weights, {name: p.detach() for name, p in state.model.named_parameters()})
    ends = [event for event in ran.of(events.Evaluated) if event.epoch_ended]
    evaluation = evaluate(state.model, state.corpus.val, 16, state.precision)
    assert (ends[-1].val_loss, ends[-1].perplexity) == (evaluation.loss, evaluation.perplexity)
    for epoch, event in enumerate(ends):  # the mean over the epoch's tokens
        steps = range(epoch * state.corpus.steps_per_epoch, (epoch + 1) * state.corpus.steps_per_epoch)
        tokens = sum(results[n].tokens for n in steps)
        assert tokens == 139 * 16
        mean = sum(losses[n] * results[n].tokens for n in steps) / tokens
        assert event.train_loss == pytest.approx(mean, rel=1e-6)


def test_a_model_learns(trained: Trained) -> None:
    ran = trained(epochs=6, learning_rate=0.01, dropout=0)
    assert ran.losses[1] > 2.6 and ran.losses[6 * EPOCH] < 1.7 and ran.result.val_loss < 1.7


def test_progress_has_columns_of_equal_length(trained: Trained) -> None:
    reports = trained().of(events.Progress)
    for event in reports:
        lengths = {len(event.step), len(event.train_loss), len(event.learning_rate), len(event.grad_norm)}
        assert len(lengths) == 1 and event.memory_bytes > 0 and event.tokens_per_second >= 0
        assert event.epoch == math.ceil(event.step[-1] / EPOCH)
    tokens = [event.tokens for event in reports]
    assert tokens == sorted(tokens) and tokens[-1] == 2 * 139 * 16


def test_the_time_left_counts_what_comes_between_steps(train: Train, monkeypatch: MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = metrics.Metrics(torch.device("cpu"))
    clock.add_recurring(100.0)  # before the first step: it says nothing of what is to come
    clock.start_clock()
    for n in range(1, 11):
        clock.add(n, StepResult(torch.zeros(()), torch.zeros(()), 0.1, 1))
    now[0] = 10.0
    clock.read()
    assert clock.eta(90) == 90.0
    clock.add_recurring(5.0)
    assert clock.eta(90) == 135.0
    clock.add(11, StepResult(torch.zeros(()), torch.zeros(()), 0.1, 1))
    now[0] = 110.0
    clock.read()
    assert (clock.mean_tokens_per_second, clock.tokens_per_second) == (0.1, 0.0)

    counted: list[float] = []
    monkeypatch.setattr(metrics.Metrics, "add_recurring", lambda _, seconds: counted.append(seconds))
    train(epochs=2, script={3: [Sample(prompt="sea", max_tokens=2), Save()]})
    assert len(counted) == 5  # the first save, two evaluations, a save after each; not what the user asked for


# ---- what the settings amount to ----

NO_BFLOAT16 = "mixed precision is off: this processor has no 16-bit arithmetic; training continues in float32"


@pytest.mark.parametrize(
    ("topic", "settings", "notice"),
    [
        ("effective", {"accumulation_steps": 4}, "effective batch size: 8 x 4 = 32"),
        ("warm-up", {"warmup_steps": 500, "epochs": 3}, "warm-up shortened from 500 to 5 steps, a tenth of the run"),
        ("warm-up", {"warmup_steps": 5, "epochs": 3}, None),
        ("precision", {"mixed_precision": True}, NO_BFLOAT16),
    ],
)
def test_one_notice_says_what_a_setting_amounts_to(
    train: Train, trained: Trained, monkeypatch: MonkeyPatch, topic: str, settings: Any, notice: str | None
) -> None:
    plain = trained()
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: False)
    ran = train(**settings)
    assert [text for text in notices(ran) if topic in text] == [notice] * (notice is not None)
    assert not any(topic in text for text in notices(plain))
    if topic == "precision":
        assert ran.losses == plain.losses and same_tensors(ran.weights, plain.weights)


@pytest.mark.parametrize(("has_bf16", "width", "chosen"), [(True, 16, True), (True, 17, False), (False, 16, False)])
def test_16_bits_are_chosen_by_processor_and_width_when_a_run_begins(
    train: Train, monkeypatch: MonkeyPatch, has_bf16: bool, width: int, chosen: bool
) -> None:
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    asked, other = (train(mixed_precision=mixed, name=f"asked-{mixed}") for mixed in (chosen, not chosen))
    assert asked.losses != other.losses
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(device, "MIXED_PRECISION_WIDTH", width)
    first = train(script={25: [Stop()]})
    assert load(first.last).mixed_precision is chosen and load(first.last).settings().mixed_precision is None
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    monkeypatch.setattr(device, "MIXED_PRECISION_WIDTH", 17 if chosen else 16)
    second = train(resume_from=first.last)
    assert {**first.losses, **second.losses} == asked.losses and same_tensors(second.weights, asked.weights)
    assert not any("bits" in text for text in notices(second))


@pytest.mark.parametrize(
    ("has_bf16", "then", "said"),
    [
        (False, {}, ["precision bfloat16 but for attention then, float32 now", NO_BFLOAT16]),
        (True, {"precision": ""}, ["attention bfloat16 then, float32 now"]),  # as earlier versions saved it
    ],
)
def test_a_run_that_resumes_with_another_precision_says_that_the_bits_differ(
    train: Train, monkeypatch: MonkeyPatch, has_bf16: bool, then: dict[str, Any], said: list[str]
) -> None:
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    first = train(mixed_precision=True, script={25: [Stop()]})
    save(replace(load(first.last), **then), first.folder, ["last.pt"])
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: has_bf16)
    second = notices(train(resume_from=first.last))
    assert all(any(words in text for text in second) for words in said)


def test_mixed_precision_trains_and_resumes_exactly(train: Train, trained: Trained, monkeypatch: MonkeyPatch) -> None:
    settings = {"epochs": 4, "learning_rate": 0.01}
    exact = trained(**settings)
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)
    plain = train(**settings, mixed_precision=True, name="plain")
    assert not any("precision" in text for text in notices(plain))
    assert all(math.isfinite(loss) for loss in plain.losses.values())
    assert plain.losses != exact.losses and plain.losses[4 * EPOCH] < plain.losses[1] - 0.3
    assert max(abs(plain.losses[n] - exact.losses[n]) for n in range(1, 6)) < 0.1
    assert all(tensor.dtype == torch.float32 for tensor in plain.weights.values())
    first = train(**settings, mixed_precision=True, script={25: [Stop()]})
    second = train(resume_from=first.last)
    assert {**first.losses, **second.losses} == plain.losses and same_tensors(second.weights, plain.weights)
