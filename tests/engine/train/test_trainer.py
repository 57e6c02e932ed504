"""The loop: when it steps, reports and evaluates, and what a whole run leaves behind."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Config, resolve
from fundamentallm.config.files import load_config
from fundamentallm.run import commands, events
from fundamentallm.run.commands import Pause, Resume, Sample, Save
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.train import metrics as meter
from fundamentallm.train.checkpoint import Checkpoint, load
from fundamentallm.train.evaluate import evaluate
from fundamentallm.train.schedule import learning_rate, warmup
from fundamentallm.train.state import TrainState
from fundamentallm.train.step import TrainStep
from tests.engine.seen import EPOCH, files, steps_in

Train = Callable[..., Any]
Small = Callable[..., Config]


def test_a_run_leaves_its_files_and_says_its_story_in_order(train: Train, small: Small) -> None:
    ran = train(small())
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
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from fundamentallm.train import checkpoints as saver

    synced: list[int] = []
    real_sync, real_save = saver.Journal.sync, saver.save

    def sync(journal: Any) -> None:
        real_sync(journal)
        synced.append(len(steps_in(tmp_path / "run")))

    def save(checkpoint: Checkpoint, folder: Path, names: list[str]) -> int:
        assert synced.pop() == checkpoint.counters["step"] == len(steps_in(folder))
        return real_save(checkpoint, folder, names)

    monkeypatch.setattr(saver.Journal, "sync", sync)
    monkeypatch.setattr(saver, "save", save)
    train(small(save_every=5), "run", {7: [Save()]})


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "accumulation_steps": 2, "lr_schedule": "linear"}])
def test_losses_and_weights_are_those_of_a_plain_loop(
    train: Train,
    small: Small,
    build: Callable[..., TrainState],
    equal: Callable[..., bool],
    changes: dict[str, Any],
) -> None:
    ran, built = train(small(**changes)), build(**changes)
    take = TrainStep(built.model, built.optimizer, built.corpus, built.config, built.precision)
    total, losses, rates, norms = built.total_steps, {}, {}, {}
    for n in range(total):
        rate = learning_rate(n, total, built.config.learning_rate, built.config.lr_schedule, warmup(total, None))
        loss, norm = take(n, rate)
        losses[n + 1], rates[n + 1], norms[n + 1] = loss.item(), rate, norm.item()
    assert ran.losses == pytest.approx(losses, rel=1e-8)
    told = [pair for event in ran.of(events.Progress) for pair in zip(event.step, event.learning_rate, strict=True)]
    assert dict(told) == rates
    told = [pair for event in ran.of(events.Progress) for pair in zip(event.step, event.grad_norm, strict=True)]
    assert dict(told) == pytest.approx(norms, rel=1e-8)
    assert equal(ran.weights, {name: p.detach() for name, p in built.model.named_parameters()})
    ends = [event for event in ran.of(events.Evaluated) if event.epoch_ended]
    result = evaluate(built.model, built.corpus.val, 16, built.precision)
    assert ends[-1].val_loss == result.loss and ends[-1].perplexity == result.perplexity
    per_epoch = total // 2
    for n, event in enumerate(ends):  # the mean over the epoch's tokens
        span = range(n * per_epoch, (n + 1) * per_epoch)
        weights = {s: built.corpus.real_rows(s) for s in span}
        mean = sum(losses[s + 1] * w for s, w in weights.items()) / sum(weights.values())
        assert event.train_loss == pytest.approx(mean, rel=1e-6)


def test_a_model_learns(train: Train, small: Small) -> None:
    ran = train(small(epochs=6, learning_rate=0.01, dropout=0))
    losses = ran.losses
    assert losses[1] > 2.6 and losses[6 * EPOCH] < 1.7
    assert ran.result.val_loss < 1.7


def test_looking_at_a_run_changes_no_weight(train: Train, small: Small, equal: Callable[..., bool]) -> None:
    plain = train(small(), "plain")
    looked = train(
        small(eval_every=4, save_every=3),
        "looked",
        {
            2: [Sample(prompt="the ", max_tokens=30, seed=1)],
            5: [Save(), Sample(prompt="", max_tokens=5)],
            9: [Pause(), Resume()],
            20: [Save(), Save()],
        },
    )
    assert looked.losses == plain.losses
    assert equal(looked.weights, plain.weights)
    a, b = load(plain.folder / "last.pt"), load(looked.folder / "last.pt")
    assert equal(a.optimizer, b.optimizer)


def test_progress_is_said_in_columns_of_equal_length(train: Train, small: Small) -> None:
    ran = train(small())
    for event in ran.of(events.Progress):
        lengths = {len(event.step), len(event.train_loss), len(event.learning_rate), len(event.grad_norm)}
        assert len(lengths) == 1 and event.memory_bytes > 0 and event.tokens_per_second >= 0
        assert event.epoch == math.ceil(event.step[-1] / EPOCH)
    assert set(commands.NAMES.values()) == {"pause", "resume", "save", "stop", "sample", "cancel_sample", "set"}
    tokens = [event.tokens for event in ran.of(events.Progress)]
    assert tokens == sorted(tokens) and tokens[-1] == 2 * 139 * 16


def test_the_time_left_counts_what_comes_between_steps(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: now[0]))
    clock = meter.Metrics(torch.device("cpu"))
    clock.add_between(100.0)  # before the first step: it says nothing of what is to come
    clock.go()
    for n in range(1, 11):
        clock.add(n, torch.zeros(()), torch.zeros(()), 0.1, 1)
    now[0] = 10.0
    clock.read()
    assert clock.eta(90) == 90.0
    clock.add_between(5.0)
    assert clock.eta(90) == 135.0

    between: list[float] = []
    monkeypatch.setattr(meter.Metrics, "add_between", lambda _, seconds: between.append(seconds))
    train(small(epochs=2), script={3: [Sample(prompt="sea", max_tokens=2), Save()]})
    assert len(between) == 5  # the first save, two evaluations, a save after each; not what a person asked for
