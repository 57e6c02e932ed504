"""A compiled loss: used where the user asks for it, tried before it is trusted, and the same bits after a restart."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from fundamentallm.run import events
from fundamentallm.run.commands import Stop
from fundamentallm.train.checkpoint import load
from fundamentallm.train.checkpoint import save as save_checkpoint
from tests.engine.train.conftest import Build, Equal, Small, Train

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")


@pytest.mark.parametrize(("compile", "compiled"), [("auto", False), ("always", True), ("never", False)])
def test_only_those_who_ask_for_it_get_a_compiled_model(build: Build, compile: str, compiled: bool) -> None:
    assert build(compile=compile).compiled is compiled


@needs_compiler
def test_a_compiled_run_that_was_stopped_goes_on_to_the_same_bits(train: Train, small: Small, equal: Equal) -> None:
    config = small(compile="always", dropout=0.2, accumulation_steps=2, batch_size=4)
    plain, whole = train(replace(config, compile="never"), "plain"), train(config, "whole")
    assert [event.phase for event in whole.of(events.Phase)][:4] == ["saving", "loading", "compiling", "training"]
    assert not [event for event in whole.of(events.Notice) if "compiled" in event.text]
    assert list(whole.losses.values()) == pytest.approx(list(plain.losses.values()), rel=1e-3)
    assert whole.losses != plain.losses  # else it was not compiled at all
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # the last batch of an epoch is no other shape
    first = train(config, "run", {7: [Stop()]})
    assert load(first.folder / "last.pt").compiled
    torch.compiler.reset()  # as in another process
    second = train(config, "run", resume_from=first.folder / "last.pt")
    assert {**first.losses, **second.losses} == whole.losses
    assert equal(second.weights, whole.weights)
    assert not [event for event in second.of(events.Notice) if "not to the same bits" in event.text]
    other = train(config, "run", resume_from=first.folder / "checkpoint_epoch_1.pt", compile="never")
    assert [n.text for n in other.of(events.Notice) if "not to the same bits" in n.text] == [
        "the run resumes, but not to the same bits: compiled True then, False now"
    ]


def refuses(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no C++ compiler was found\nand much more")


def lies(loss: Callable[..., torch.Tensor], **_: Any) -> Any:
    return lambda *arguments: loss(*arguments) * 1.1


@pytest.mark.parametrize(("compiler", "why"), [(refuses, "no C++ compiler was found"), (lies, "computed ")])
def test_code_that_cannot_be_made_or_is_wrong_is_not_used(
    train: Train,
    small: Small,
    equal: Equal,
    monkeypatch: pytest.MonkeyPatch,
    compiler: Any,
    why: str,
) -> None:
    plain = train(small(), "plain")
    monkeypatch.setattr(torch, "compile", compiler)
    run = train(small(compile="always"))
    warnings = [event.text for event in run.of(events.Notice) if event.level == "warning"]
    assert len(warnings) == 1 and warnings[0].startswith(f"the model is not compiled: {why}")
    assert run.losses == plain.losses and equal(run.weights, plain.weights)
    saved = load(run.folder / "last.pt")
    assert not saved.compiled
    save_checkpoint(replace(saved, compiled=True), run.folder, ["last.pt"])
    again = train(small(), resume_from=run.folder / "last.pt", epochs=3)
    warnings = [event.text for event in again.of(events.Notice) if event.level == "warning"]
    assert len(warnings) == 1 and warnings[0].endswith("; the run resumes, but not to the same bits")


class OldOptions:
    """What torch 2.6 knows of torch.compile."""

    __slots__ = ("cache_size_limit",)


def test_it_asks_for_no_option_that_the_oldest_torch_lacks(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda loss, **_: loss)
    monkeypatch.setattr(torch._dynamo, "config", OldOptions())
    assert not [event for event in train(small(compile="always")).of(events.Notice) if "compiled" in event.text]
