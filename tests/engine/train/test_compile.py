"""A compiled loss: used where the user asks for it, tried before it is trusted, and the same bits after a restart."""

import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fundamentallm.run import events
from fundamentallm.run.commands import Stop
from fundamentallm.train.checkpoint import load, save
from tests.engine.conftest import notices, same_tensors
from tests.engine.train.conftest import Build, Train, Trained


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


def fail_without_a_reason(*_: Any, **__: Any) -> Any:
    raise RuntimeError(" \n")


def compile_wrongly(loss: Any, **_: Any) -> Any:
    return lambda *arguments: loss(*arguments) * 1.1


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        (fail_to_compile, "no C++ compiler was found"),
        (fail_without_a_reason, "RuntimeError"),
        (compile_wrongly, "computed "),
    ],
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
