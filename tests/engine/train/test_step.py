"""A step is a pure function of weights, state, configuration, seed and number."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from fundamentallm.config.config import Config
from fundamentallm.data.corpus import IGNORED
from fundamentallm.model.dropout import DropoutMasks, fold_in
from fundamentallm.train.state import TrainState
from fundamentallm.train.step import NotFinite, TrainStep


def stepper(parts: TrainState) -> TrainStep:
    return TrainStep(parts.model, parts.optimizer, parts.corpus, parts.config, parts.precision)


def gradients(parts: TrainState, step: int) -> tuple[float, dict[str, torch.Tensor]]:
    loss = stepper(parts).backward(step)
    return loss.item(), {name: p.grad.clone() for name, p in parts.model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_batch_of_8_accumulated_4_times_is_a_batch_of_32(build: Callable[..., TrainState], optimizer: str) -> None:
    whole = build(batch_size=32, dropout=0.3, optimizer=optimizer)
    pieces = build(batch_size=8, accumulation_steps=4, dropout=0.3, optimizer=optimizer)
    for model in (whole.model, pieces.model):  # so that every weight has a gradient
        torch.manual_seed(5)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.2)
    assert whole.corpus.steps_per_epoch == pieces.corpus.steps_per_epoch
    for step in (0, whole.corpus.steps_per_epoch - 1):  # the last one is partly masked
        loss, one = gradients(whole, step)
        other_loss, other = gradients(pieces, step)
        assert other_loss == pytest.approx(loss, abs=1e-5)
        for name in one:
            torch.testing.assert_close(other[name], one[name], atol=1e-5, rtol=1e-4, msg=name)
        stepper(whole).forget_gradients()
        stepper(pieces).forget_gradients()


def test_the_loss_is_the_mean_over_real_tokens(build: Callable[..., TrainState]) -> None:
    built = build(dropout=0.2)
    last = built.corpus.steps_per_epoch - 1
    assert 0 < built.corpus.real_rows(last) < 8
    for step in (0, last):
        inputs, targets = built.corpus.batch(step)
        key = fold_in(built.config.seed, step)
        logits = built.model(inputs, DropoutMasks(key, built.model.dropout_layers, 0, len(inputs), 0.2, inputs.device))
        real = targets != IGNORED
        assert int(real.sum()) == built.corpus.real_rows(step) * 16
        assert gradients(built, step)[0] == pytest.approx(F.cross_entropy(logits[real], targets[real]).item(), abs=1e-6)


def test_the_gradient_is_clipped_and_its_norm_told_before(build: Callable[..., TrainState]) -> None:
    built = build(gradient_clip=0.01)
    _, raw = gradients(built, 0)
    stepper(built).forget_gradients()
    seen = {}
    built.optimizer.step = lambda *_: seen.update(  # type: ignore[method-assign]
        {name: p.grad.clone() for name, p in built.model.named_parameters() if p.grad is not None}
    )
    _, norm = stepper(built)(0, 0.001)
    whole = torch.cat([grad.flatten() for grad in raw.values()]).norm()
    assert norm.item() == pytest.approx(whole.item(), rel=1e-5) and whole > 0.01
    assert torch.cat([grad.flatten() for grad in seen.values()]).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_gradient_within_the_clip_and_one_without_a_clip_stay_as_they_are(
    build: Callable[..., TrainState],
) -> None:
    weights = []
    for clip in (0, 1e6):
        built = build(gradient_clip=clip)
        stepper(built)(0, 0.001)
        weights.append(built.model.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused_before_the_weights_move(
    build: Callable[..., TrainState], value: float
) -> None:
    built = build()
    take = stepper(built)
    take(0, 0.001)
    with torch.no_grad():
        built.model.embedding.weight[0] = value
    weights = {name: p.clone() for name, p in built.model.named_parameters()}
    state = {name: tensor.clone() for name, tensor in built.optimizer.state_dict().items()}
    with pytest.raises(NotFinite):
        take(1, 0.001)
    for name, p in built.model.named_parameters():
        assert torch.equal(p.nan_to_num(7), weights[name].nan_to_num(7)) and p.grad is None
    assert all(torch.equal(tensor, state[name]) for name, tensor in built.optimizer.state_dict().items())


def test_a_step_is_a_function_of_state_and_number(
    build: Callable[..., TrainState], small: Callable[..., Config]
) -> None:
    ends = []
    for disturb in (False, True):
        built = build(dropout=0.3)
        take = stepper(built)
        for step in range(6):
            if disturb:  # anybody's randomness, and steps that were looked at but not taken
                torch.manual_seed(step)
                torch.randn(step)
                take.backward(step + 3)
                take.forget_gradients()
            take(step, 0.003)
        ends.append(built.model.state_dict())
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
