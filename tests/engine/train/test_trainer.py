"""The loop: when it steps, reports and evaluates, and what a whole run leaves behind."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fundamentallm.config.config import resolve
from fundamentallm.config.files import load_config
from fundamentallm.run import events
from fundamentallm.run.commands import Sample, Save, Set
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.train import checkpoints, metrics, trainer
from fundamentallm.train.checkpoint import Checkpoint, load
from fundamentallm.train.evaluate import evaluate
from fundamentallm.train.metrics import StepResult
from fundamentallm.train.schedule import learning_rate, warmup
from fundamentallm.train.step import TrainStep
from tests.engine.seen import EPOCH, files, same_tensors, steps_in
from tests.engine.train.conftest import Build, Small, Train


def column(ran: Any, name: str) -> list[float]:
    """What a run reported of each step."""
    return [value for event in ran.of(events.Progress) for value in getattr(event, name)]


def test_a_run_leaves_its_files_and_its_events_in_order(train: Train, small: Small) -> None:
    ran = train()
    assert files(ran.folder) == {
        "config.yaml", "journal.jsonl", "lock", "tokenizer.json", "last.pt", "best.pt", "final_model.pt",
        "checkpoint_epoch_1.pt", "checkpoint_epoch_2.pt",
    }  # fmt: skip
    assert list(read_journal(ran.folder)) == ran.said
    assert [event.seq for event in ran.said] == list(range(1, len(ran.said) + 1))
    started, finished = ran.said[0], ran.said[-1]
    assert isinstance(started, events.RunStarted) and isinstance(finished, events.Finished)
    assert (started.step, started.total_steps, started.steps_per_epoch) == (0, 2 * EPOCH, EPOCH)
    assert started.parameters == sum(p.numel() for p in ran.weights.values())
    assert resolve(load_config(ran.folder / "config.yaml")) == replace(small(), output_dir=str(ran.folder))
    assert (finished.step, finished.reason, finished.epoch, finished.unsaved) == (2 * EPOCH, "completed", 2, "")
    assert finished.tokens == 2 * 139 * 16 and finished.path == "best.pt"
    assert sorted(ran.losses) == list(range(1, 2 * EPOCH + 1))
    last = [events.last_step(event) for event in ran.said]
    assert last == sorted(last)
    vocabulary = json.loads((ran.folder / "tokenizer.json").read_text())["vocabulary"]
    assert "".join(vocabulary) == load(ran.folder / "last.pt").vocabulary
    for name, done in (("checkpoint_epoch_1.pt", EPOCH), ("checkpoint_epoch_2.pt", 2 * EPOCH), ("last.pt", 2 * EPOCH),
                       ("final_model.pt", 2 * EPOCH)):  # fmt: skip
        assert load(ran.folder / name).progress().step == done
    RunLock(ran.folder).release()


def test_every_loss_before_a_checkpoint_stands_in_the_journal_before_it(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    train(save_every=5, name="run", script={7: [Save()]})


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "accumulation_steps": 2, "lr_schedule": "linear"}])
def test_losses_and_weights_are_those_of_a_plain_loop(train: Train, build: Build, changes: dict[str, Any]) -> None:
    ran, state = train(**changes), build(**changes)
    take, total = TrainStep(state), state.total_steps
    results = [take(n) for n in range(total)]
    config, warmup_steps = state.config, warmup(total, None)
    rates = [learning_rate(n, total, config.learning_rate, config.lr_schedule, warmup_steps) for n in range(total)]
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


def test_a_model_learns(train: Train) -> None:
    ran = train(epochs=6, learning_rate=0.01, dropout=0)
    losses = ran.losses
    assert losses[1] > 2.6 and losses[6 * EPOCH] < 1.7
    assert ran.result.val_loss < 1.7


def test_progress_has_columns_of_equal_length(train: Train) -> None:
    reports = train().of(events.Progress)
    for event in reports:
        lengths = {len(event.step), len(event.train_loss), len(event.learning_rate), len(event.grad_norm)}
        assert len(lengths) == 1 and event.memory_bytes > 0 and event.tokens_per_second >= 0
        assert event.epoch == math.ceil(event.step[-1] / EPOCH)
    tokens = [event.tokens for event in reports]
    assert tokens == sorted(tokens) and tokens[-1] == 2 * 139 * 16


def test_the_time_left_counts_what_comes_between_steps(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
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

    counted: list[float] = []
    monkeypatch.setattr(metrics.Metrics, "add_recurring", lambda _, seconds: counted.append(seconds))
    train(epochs=2, script={3: [Sample(prompt="sea", max_tokens=2), Save()]})
    assert len(counted) == 5  # the first save, two evaluations, a save after each; not what the user asked for


def test_the_time_left_follows_a_change_of_the_epochs(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_INTERVAL", 0.0)
    monkeypatch.setattr(metrics.Metrics, "eta", lambda _, steps: float(steps))
    ran = train(script={7: [Set(setting="epochs", value=3)]})
    left = {event.step[-1]: event.eta_seconds for event in ran.of(events.Progress)}
    assert (left[7], left[8]) == (2 * EPOCH - 7, 3 * EPOCH - 8)
