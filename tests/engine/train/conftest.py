"""What the tests of training share: types of fixtures, undisturbed runs, forged checkpoints, a disk that is full."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.errors import UserError
from fundamentallm.run.journal import Journal
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import trainer
from fundamentallm.train.checkpoint import FORMAT, Checkpoint, load
from fundamentallm.train.state import TrainState
from tests.engine.conftest import SMALL, Ran, run_here

Train = Callable[..., Ran]
Trained = Callable[..., Ran]
Small = Callable[..., Config]
Build = Callable[..., TrainState]
Breaks = Callable[..., None]
Judged = Callable[[Sequence[float]], None]
Full = Callable[[Callable[[], Any]], None]
Forge = Callable[..., Path]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, text: str) -> str:
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, data: str) -> Trained:
    """A run with these settings that nothing disturbed: trained once, shared by all tests, changed by none.

    Ask for it before anything is patched.
    """
    runs: dict[str, Ran] = {}

    def find(**settings: Any) -> Ran:
        key = str(sorted(settings.items()))
        if key not in runs:
            torch.set_num_threads(1)
            config = resolve(Layer({**SMALL, "data": data, **settings}))
            runs[key] = run_here(RunSpec(config, tmp_path_factory.mktemp("trained") / "run"))
        return runs[key]

    return find


def awaken(state: TrainState) -> TrainState:
    """Let every weight carry something, so that each has a gradient."""
    for seed, p in enumerate(state.model.parameters()):
        torch.nn.init.normal_(p, std=0.2, generator=torch.Generator().manual_seed(seed))
    return state


def refusal(path: Path) -> str:
    """The one line that says why a file is not loaded, without the path that it begins with."""
    with pytest.raises(UserError) as caught:
        load(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and len(line.splitlines()) == 1 and len(line) < len(str(path)) + 300
    return line.removeprefix(f"{path}: ")


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Breaks:
    """Let the n-th call of a function fail with an error, counted from 1, and only that one."""

    def set_error(owner: Any, name: str, call: int, error: Exception) -> None:
        real, calls = getattr(owner, name), count(1)

        def fail_once(*arguments: Any, **named: Any) -> Any:
            if next(calls) == call:
                raise error
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, fail_once)

    return set_error


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Judged:
    """Make the validation losses these, in this order."""
    real = trainer.evaluate

    def set_losses(losses: Sequence[float]) -> None:
        left = list(losses)
        monkeypatch.setattr(trainer, "evaluate", lambda *_: replace(real(*_), loss=left.pop(0)))

    return set_losses


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Full:
    """Let the disk refuse the journal while a condition holds."""

    def set_condition(is_full: Callable[[], Any]) -> None:
        sync = Journal.sync

        def refuse(self: Journal) -> None:
            if is_full():
                raise OSError(28, "No space left on device")
            sync(self)

        monkeypatch.setattr(Journal, "sync", refuse)

    return set_condition


@pytest.fixture
def state(build: Build) -> Checkpoint:
    """A state in which every tensor is different, and nothing is as it starts."""
    built = build(dropout=0.2, output_dir="é/x")
    built.counters.step, built.counters.best_val_loss = 7, 1.5
    for n, tensor in enumerate((*built.model.state_dict().values(), *built.optimizer.state_dict().values())):
        torch.nn.init.normal_(tensor, generator=torch.Generator().manual_seed(n)) if tensor.ndim else tensor.fill_(7)
    return built.checkpoint()


@pytest.fixture
def forge(state: Checkpoint, tmp_path: Path) -> Forge:
    """Write the state with changes, as somebody with torch could, unchecked; None leaves a part out."""

    def write(name: str = "x.pt", **changes: Any) -> Path:
        content = {"format": FORMAT, **vars(state), **changes}
        torch.save({name: part for name, part in content.items() if part is not None}, tmp_path / name)
        return tmp_path / name

    return write
