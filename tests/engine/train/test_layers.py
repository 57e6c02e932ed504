"""Each layer's gradient, weights and update, measured at their steps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.run import events
from fundamentallm.run.commands import Save, Set, Stop
from fundamentallm.run.history import read_history
from fundamentallm.train.checkpoint import load
from fundamentallm.train.step import TrainStep
from tests.conftest import journal_events
from tests.engine.conftest import EPOCH
from tests.engine.train.conftest import Build, Train

LAYERS = ("embedding", "blocks.0.attention", "blocks.0.feed_forward")


def norm(tensors: list[torch.Tensor]) -> float:
    return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_the_numbers_are_those_of_the_update(train: Train, optimizer: str) -> None:
    commands: dict[int, list[Any]] = {step: [Save()] for step in (7, 8)}
    ran = train(inspect_every=4, optimizer=optimizer, gradient_clip=0.05, script=commands)
    before, after = (load(ran.folder / f"checkpoint_step_{step}.pt").model for step in (7, 8))
    inspected = next(event for event in ran.of(events.Inspected) if event.step == 8)
    assert inspected.layers == LAYERS
    for layer, weight, ratio in zip(LAYERS, inspected.weight_norm, inspected.update_ratio, strict=True):
        names = [name for name in before if name.startswith(layer)]
        assert names and weight == pytest.approx(norm([before[name] for name in names]), rel=1e-5)
        moved = norm([after[name] - before[name] for name in names])
        assert ratio == pytest.approx(moved / weight, rel=1e-3) and ratio > 0
    progress = {
        step: value
        for event in ran.of(events.Progress)
        for step, value in zip(event.step, event.grad_norm, strict=True)
    }
    for event in ran.of(events.Inspected):  # all layers together are the whole model, before clipping
        assert sum(value**2 for value in event.grad_norm) ** 0.5 == pytest.approx(progress[event.step], rel=1e-4)
        assert 0 <= event.seconds < 60


def test_the_gradients_are_those_of_the_batch(build: Build) -> None:
    state = build(inspect_every=1)
    step = TrainStep(state)
    step.backward(0)
    own = {name: p.grad for name, p in state.model.named_parameters()}
    step.discard_gradients()
    step(0)
    assert step.inspected is not None
    for layer, value in zip(step.inspected.layers, step.inspected.grad_norm, strict=True):
        assert value == pytest.approx(
            norm([g for name, g in own.items() if g is not None and name.startswith(layer)]), rel=1e-5
        )


def test_they_are_measured_every_few_steps_and_forgotten_where_the_run_went_back(train: Train, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(inspect_every=5, script={12: [Save()], 17: [Set(setting="inspect_every", value=2)], 23: [Stop()]})
    assert [event.step for event in journal_events(folder, events.Inspected)] == [5, 10, 15, 18, 20, 22]
    train(resume_from=folder / "checkpoint_step_12.pt")
    assert [event.step for event in read_history(folder).inspected] == list(range(5, 2 * EPOCH, 5))
    assert not train(name="other").of(events.Inspected)
