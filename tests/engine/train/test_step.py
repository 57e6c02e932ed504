"""A step depends only on weights, optimizer state, settings, seed and step number."""

import gc
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.data.corpus import IGNORED
from fundamentallm.model.dropout import DropoutMasks, fold_in
from fundamentallm.train import device
from fundamentallm.train.metrics import NotFinite
from fundamentallm.train.state import TrainState
from fundamentallm.train.step import TrainStep
from tests.engine.conftest import same_tensors
from tests.engine.train.conftest import Build, awaken


def copy_gradients(state: TrainState) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in state.model.named_parameters() if p.grad is not None}


def gradients(state: TrainState, step: int) -> tuple[float, dict[str, Tensor]]:
    """The loss of a step and its gradients, which the model then forgets."""
    take = TrainStep(state)
    loss = take.backward(step).item()
    found = copy_gradients(state)
    take.discard_gradients()
    return loss, found


def norm(tensors: dict[str, Tensor]) -> float:
    return torch.cat([tensor.flatten() for tensor in tensors.values()]).norm().item()


def test_a_batch_of_8_accumulated_4_times_is_a_batch_of_32(build: Build) -> None:
    whole = awaken(build(batch_size=32, dropout=0.3))
    parts = awaken(build(batch_size=8, accumulation_steps=4, dropout=0.3))
    assert whole.corpus.steps_per_epoch == parts.corpus.steps_per_epoch == 5
    for step in (0, 4):  # the last one is partly masked: 139 windows are 4 x 32 + 11
        (loss, one), (other_loss, other) = gradients(whole, step), gradients(parts, step)
        assert other_loss == pytest.approx(loss, abs=1e-5)
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mixed", [False, True])
def test_two_threads_compute_half_of_a_batch_each_and_their_gradients_add_up(
    build: Build, monkeypatch: pytest.MonkeyPatch, mixed: bool
) -> None:
    monkeypatch.setattr(device, "_cpu_has_bf16", lambda: True)  # where it has not, torch imitates it
    state = awaken(build(batch_size=5, accumulation_steps=2, dropout=0.3, mixed_precision=mixed))
    assert state.precision.dtype == (torch.bfloat16 if mixed else torch.float32)
    (loss, one), calls, both = gradients(state, 3), [], threading.Barrier(2, timeout=60)

    def watch(_: Any, arguments: tuple[Tensor, ...]) -> None:
        both.wait()  # for the other half, which another thread computes
        calls.append((len(arguments[0]), torch.get_num_threads()))

    state.model.register_forward_pre_hook(watch)
    torch.set_num_threads(2)
    other_loss, other = gradients(state, 3)
    assert torch.get_num_threads() == 2
    assert sorted(calls) == [(2, 1), (2, 1), (3, 1), (3, 1)]
    assert other_loss == pytest.approx(loss, abs=1e-3 if mixed else 1e-6)
    torch.testing.assert_close(other, one, **({"atol": 1e-3, "rtol": 0.02} if mixed else {"atol": 1e-6, "rtol": 1e-4}))
    assert gradients(state, 3)[0] == other_loss and same_tensors(gradients(state, 3)[1], other)


@pytest.mark.parametrize(
    ("rows", "threads", "changes"), [(5, 2, {"halves": False}), (5, 2, {"compiled": True}), (1, 2, {}), (5, 3, {})]
)
def test_otherwise_all_threads_share_each_operation(
    build: Build, rows: int, threads: int, changes: dict[str, Any]
) -> None:
    """Runs that earlier versions began did so; one window has no halves; with three threads nobody has measured it."""
    torch.set_num_threads(threads)
    state, calls = replace(build(batch_size=rows), **changes), []
    state.model.register_forward_pre_hook(lambda _, inputs: calls.append((len(inputs[0]), torch.get_num_threads())))
    gradients(state, 0)
    assert calls == [(rows, threads)]


def test_a_half_that_fails_is_reported_when_the_other_has_ended(build: Build) -> None:
    state, ended = build(batch_size=5), []
    kept = list[weakref.ref[Tensor]]()

    def fail_once(_: Any, arguments: tuple[Tensor, ...]) -> None:
        if len(arguments[0]) == 2:  # the first half
            kept.append(weakref.ref(arguments[0]))
            raise torch.OutOfMemoryError("out of memory")
        time.sleep(0.2)
        ended.append(len(arguments[0]))

    state.model.register_forward_pre_hook(fail_once)
    torch.set_num_threads(2)
    gc.disable()
    try:
        with suppress(torch.OutOfMemoryError):
            TrainStep(state).backward(0)
            pytest.fail("nothing was raised")
        assert kept[0]() is None  # what the half held is free at once
    finally:
        gc.enable()
    assert ended == [3] and torch.get_num_threads() == 2
    assert all(p.grad is None for p in state.model.parameters())


def test_the_loss_is_the_mean_over_real_tokens(build: Build) -> None:
    state = build(dropout=0.2)
    last = state.corpus.steps_per_epoch - 1
    assert 0 < state.corpus.real_rows(last) < 8
    for step in (0, last):
        inputs, targets = state.corpus.batch(step)
        key, layers = fold_in(state.config.seed, step), state.model.num_dropout_sites
        logits = state.model(inputs, DropoutMasks(key, layers, 0, len(inputs), 0.2, inputs.device))
        real = targets != IGNORED
        assert int(real.sum()) == state.corpus.real_rows(step) * 16
        assert gradients(state, step)[0] == pytest.approx(F.cross_entropy(logits[real], targets[real]).item(), abs=1e-6)


def test_the_gradient_is_clipped_and_its_norm_is_measured_before(build: Build) -> None:
    state = build(gradient_clip=0.01)
    raw, clipped = norm(gradients(state, 0)[1]), {}
    state.optimizer.step = lambda *_: clipped.update(copy_gradients(state))  # type: ignore[method-assign]
    assert TrainStep(state)(0).grad_norm.item() == pytest.approx(raw, rel=1e-5) and raw > 0.01
    assert norm(clipped) == pytest.approx(0.01, rel=1e-3)


def test_a_gradient_within_the_clip_and_one_without_a_clip_stay_as_they_are(build: Build) -> None:
    unclipped, within = build(gradient_clip=0), build(gradient_clip=1e6)
    for state in (unclipped, within):
        TrainStep(state)(0)
    assert same_tensors(unclipped.model.state_dict(), within.model.state_dict())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_before_the_weights_move(build: Build, value: float) -> None:
    state = build()
    take = TrainStep(state)
    take(0)
    with torch.no_grad():
        state.model.embedding.weight[0] = value

    def snapshot() -> dict[str, Tensor]:
        tensors = {**state.model.state_dict(), **state.optimizer.state_dict()}
        return {name: tensor.nan_to_num(7) for name, tensor in tensors.items()}

    before = snapshot()
    with pytest.raises(NotFinite):
        take(1)
    assert same_tensors(snapshot(), before) and not copy_gradients(state)


def test_a_changed_setting_counts_from_the_next_step_on(build: Build) -> None:
    state = build(lr_schedule="constant", warmup_steps=0)
    take = TrainStep(state)
    assert take(0).learning_rate == 0.003
    state.change("learning_rate", 0.001)
    assert take(1).learning_rate == 0.001
    before = gradients(state, 2)[0]
    state.change("dropout", 0.5)
    assert gradients(state, 2)[0] != before
