"""A step is a pure function of weights, optimizer state, settings, seed and step number. It can be compiled."""

import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fundamentallm.data.corpus import IGNORED
from fundamentallm.model.dropout import DropoutMasks, fold_in
from fundamentallm.run import events
from fundamentallm.run.commands import Stop
from fundamentallm.train.checkpoint import load, save
from fundamentallm.train.state import TrainState
from fundamentallm.train.step import NotFinite, TrainStep
from tests.engine.conftest import notices, same_tensors
from tests.engine.train.conftest import Build, Train, Trained


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
    whole = build(batch_size=32, dropout=0.3)
    parts = build(batch_size=8, accumulation_steps=4, dropout=0.3)
    for model in (whole.model, parts.model):  # so that every weight has a gradient
        torch.manual_seed(5)
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.2)
    assert whole.corpus.steps_per_epoch == parts.corpus.steps_per_epoch == 5
    for step in (0, 4):  # the last one is partly masked: 139 windows are 4 x 32 + 11
        (loss, one), (other_loss, other) = gradients(whole, step), gradients(parts, step)
        assert other_loss == pytest.approx(loss, abs=1e-5)
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-4)


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


def test_nothing_that_happens_between_two_steps_changes_them(build: Build) -> None:
    plain, disturbed = build(dropout=0.3), build(dropout=0.3)
    for step in range(6):
        TrainStep(plain)(step)
        # anybody's randomness, and steps whose loss was computed but that were not taken
        torch.manual_seed(step)
        torch.randn(step)
        gradients(disturbed, step + 3)
        TrainStep(disturbed)(step)
    assert same_tensors(plain.model.state_dict(), disturbed.model.state_dict())


def test_a_changed_setting_counts_from_the_next_step_on(build: Build) -> None:
    state = build(lr_schedule="constant", warmup_steps=0)
    take = TrainStep(state)
    assert take(0).learning_rate == 0.003
    state.change("learning_rate", 0.001)
    assert take(1).learning_rate == 0.001
    before = gradients(state, 2)[0]
    state.change("dropout", 0.5)
    assert gradients(state, 2)[0] != before


# ---- a compiled loss: tried before it is trusted, and the same bits after a restart ----


def about(ran: Any, topic: str) -> list[str]:
    return [text for text in notices(ran) if topic in text]


@pytest.mark.parametrize(("compile", "compiled"), [("auto", False), ("always", True), ("never", False)])
def test_only_those_who_ask_for_it_get_a_compiled_model(build: Build, compile: str, compiled: bool) -> None:
    assert build(compile=compile).compiled is compiled


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_a_compiled_run_that_was_stopped_resumes_to_the_same_bits(train: Train) -> None:
    settings: dict[str, Any] = {"compile": "always", "dropout": 0.2, "accumulation_steps": 2, "batch_size": 4}
    plain, whole = train(**{**settings, "compile": "never"}, name="plain"), train(**settings, name="whole")
    assert [event.phase for event in whole.of(events.Phase)][:4] == ["saving", "loading", "compiling", "training"]
    assert not about(whole, "compiled")
    assert list(whole.losses.values()) == pytest.approx(list(plain.losses.values()), rel=1e-3)
    assert whole.losses != plain.losses  # else it was not compiled at all
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # the last batch of an epoch is no other shape
    first = train(**settings, script={7: [Stop()]})
    assert load(first.last).compiled
    torch.compiler.reset()  # as in another process
    second = train(resume_from=first.last)
    assert {**first.losses, **second.losses} == whole.losses and same_tensors(second.weights, whole.weights)
    assert not about(second, "not to the same bits")
    other = train(resume_from=first.folder / "checkpoint_epoch_1.pt", compile="never")
    assert about(other, "not to the same bits") == [
        "the run resumes, but not to the same bits: compiled True then, False now"
    ]


def fail_to_compile(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no C++ compiler was found\nand much more")


def compile_wrongly(loss: Any, **_: Any) -> Any:
    return lambda *arguments: loss(*arguments) * 1.1


@pytest.mark.parametrize(
    ("compiler", "why"), [(fail_to_compile, "no C++ compiler was found"), (compile_wrongly, "computed ")]
)
def test_code_that_cannot_be_made_or_is_wrong_is_not_used(
    train: Train, trained: Trained, monkeypatch: pytest.MonkeyPatch, compiler: Any, why: str
) -> None:
    plain = trained()
    monkeypatch.setattr(torch, "compile", compiler)
    run = train(compile="always")
    assert len(run.warnings) == 1 and run.warnings[0].startswith(f"the model is not compiled: {why}")
    assert run.losses == plain.losses and same_tensors(run.weights, plain.weights)
    saved = load(run.last)
    assert not saved.compiled
    save(replace(saved, compiled=True), run.folder, ["last.pt"])
    again = train(resume_from=run.last, epochs=3)
    assert len(again.warnings) == 1 and again.warnings[0].endswith("; the run resumes, but not to the same bits")


def test_it_asks_for_no_option_that_the_oldest_torch_lacks(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda loss, **_: loss)
    monkeypatch.setattr(torch._dynamo, "config", SimpleNamespace(cache_size_limit=8))  # all that torch 2.6 has of it
    assert not about(train(compile="always"), "compiled")
    assert vars(torch._dynamo.config).keys() == {"cache_size_limit"}
