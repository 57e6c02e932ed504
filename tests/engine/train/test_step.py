"""A step is a pure function of weights, optimizer state, settings, seed and step number."""

import pytest
import torch
import torch.nn.functional as F

from fundamentallm.data.corpus import IGNORED
from fundamentallm.model.dropout import DropoutMasks, fold_in
from fundamentallm.train.state import TrainState
from fundamentallm.train.step import NotFinite, TrainStep
from tests.engine.train.conftest import Build


def gradients(state: TrainState, step: int) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a step and its gradients, which the model then forgets."""
    take = TrainStep(state)
    loss = take.backward(step).item()
    found = {name: p.grad.clone() for name, p in state.model.named_parameters() if p.grad is not None}
    take.discard_gradients()
    return loss, found


def norm(tensors: dict[str, torch.Tensor]) -> float:
    return torch.cat([tensor.flatten() for tensor in tensors.values()]).norm().item()


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_batch_of_8_accumulated_4_times_is_a_batch_of_32(build: Build, optimizer: str) -> None:
    whole = build(batch_size=32, dropout=0.3, optimizer=optimizer)
    parts = build(batch_size=8, accumulation_steps=4, dropout=0.3, optimizer=optimizer)
    for model in (whole.model, parts.model):  # so that every weight has a gradient
        torch.manual_seed(5)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.2)
    assert whole.corpus.steps_per_epoch == parts.corpus.steps_per_epoch
    for step in (0, whole.corpus.steps_per_epoch - 1):  # the last one is partly masked
        (loss, one), (other_loss, other) = gradients(whole, step), gradients(parts, step)
        assert other_loss == pytest.approx(loss, abs=1e-5)
        for name in one:
            torch.testing.assert_close(other[name], one[name], atol=1e-5, rtol=1e-4, msg=name)


def test_the_loss_is_the_mean_over_real_tokens(build: Build) -> None:
    state = build(dropout=0.2)
    last = state.corpus.steps_per_epoch - 1
    assert 0 < state.corpus.real_rows(last) < 8
    for step in (0, last):
        inputs, targets = state.corpus.batch(step)
        key, layers = fold_in(state.config.seed, step), state.model.dropout_layers
        logits = state.model(inputs, DropoutMasks(key, layers, 0, len(inputs), 0.2, inputs.device))
        real = targets != IGNORED
        assert int(real.sum()) == state.corpus.real_rows(step) * 16
        assert gradients(state, step)[0] == pytest.approx(F.cross_entropy(logits[real], targets[real]).item(), abs=1e-6)


def test_the_gradient_is_clipped_and_its_norm_is_measured_before(build: Build) -> None:
    state = build(gradient_clip=0.01)
    raw = norm(gradients(state, 0)[1])
    clipped = {}
    state.optimizer.step = lambda *_: clipped.update(  # type: ignore[method-assign]
        {name: p.grad.clone() for name, p in state.model.named_parameters() if p.grad is not None}
    )
    assert TrainStep(state)(0).grad_norm.item() == pytest.approx(raw, rel=1e-5) and raw > 0.01
    assert norm(clipped) == pytest.approx(0.01, rel=1e-3)


def test_a_gradient_within_the_clip_and_one_without_a_clip_stay_as_they_are(build: Build) -> None:
    unclipped, within = build(gradient_clip=0), build(gradient_clip=1e6)
    for state in (unclipped, within):
        TrainStep(state)(0)
    ours, theirs = unclipped.model.state_dict(), within.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_before_the_weights_move(build: Build, value: float) -> None:
    state = build()
    take = TrainStep(state)
    take(0)
    with torch.no_grad():
        state.model.embedding.weight[0] = value
    before = {**state.model.state_dict(), **state.optimizer.state_dict()}
    before = {name: tensor.clone() for name, tensor in before.items()}
    with pytest.raises(NotFinite):
        take(1)
    for name, tensor in {**state.model.state_dict(), **state.optimizer.state_dict()}.items():
        assert torch.equal(tensor.nan_to_num(7), before[name].nan_to_num(7)), name
    assert all(p.grad is None for p in state.model.parameters())


def test_nothing_that_happens_between_two_steps_changes_them(build: Build) -> None:
    ends = []
    for disturb in (False, True):
        state = build(dropout=0.3)
        take = TrainStep(state)
        for step in range(6):
            if disturb:  # anybody's randomness, and steps whose loss was computed but that were not taken
                torch.manual_seed(step)
                torch.randn(step)
                gradients(state, step + 3)
            take(step)
        ends.append(state.model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_a_changed_setting_counts_from_the_next_step_on(build: Build) -> None:
    state = build(lr_schedule="constant", warmup_steps=0)
    take = TrainStep(state)
    assert take(0).learning_rate == 0.003
    state.change("learning_rate", 0.001)
    assert take(1).learning_rate == 0.001
    before = gradients(state, 2)[0]
    state.change("dropout", 0.5)
    assert gradients(state, 2)[0] != before
