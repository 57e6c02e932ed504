"""What the engine's tests share: a small text, small configurations, and runs in this process."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.data import text_stats
from fundamentallm.run import events
from fundamentallm.run.commands import Command
from fundamentallm.run.history import read_history
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.checkpoint import load
from fundamentallm.train.state import TrainState, build_state
from fundamentallm.train.trainer import Trainer

SMALL: dict[str, Any] = {
    "model_dim": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 16, "stride": 16, "batch_size": 8, "epochs": 2,
    "device": "cpu", "dropout": 0.1, "learning_rate": 0.003,
}  # fmt: skip


EPOCH = 18  # steps of the small configuration: 139 windows, 8 at a time


def steps_in(folder: Path) -> dict[int, float]:
    """Losses by step as the journal has them."""
    history = read_history(folder)
    return dict(zip(history.steps, history.train_loss, strict=True))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def notices(ran: Any) -> list[str]:
    return [event.text for event in ran.of(events.Notice)]


def same_tensors(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def counters_of(path: Path) -> dict[str, Any]:
    """The counters in a checkpoint, but those that two runs with the same bits may have different."""
    return {**load(path).counters, "seconds": 0, "said": 0}


def assert_same_end(folder: Path, reference: Path, *, gains: bool = True) -> None:
    """Assert that two runs took the same steps to the same state; `gains`: and evaluated it as often."""
    ours, theirs = (load(each / "final_model.pt") for each in (folder, reference))
    assert same_tensors(ours.model, theirs.model) and same_tensors(ours.optimizer, theirs.optimizer)
    if gains:  # which evaluation was the best depends on how many there are
        assert counters_of(folder / "final_model.pt") == counters_of(reference / "final_model.pt")
    assert steps_in(folder) == steps_in(reference) and len(steps_in(folder)) == ours.progress().step == 2 * EPOCH


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A test may have changed the number of threads, which changes the bits of a matrix product."""
    torch.set_num_threads(1)
    yield


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text of these tests is tiny: that is not worth a warning in each."""
    monkeypatch.setattr(text_stats, "FEW_HELD_OUT", 0)


@pytest.fixture(scope="session")
def text() -> str:
    """2,500 characters of words that repeat enough to be learnt a little."""
    rng = random.Random(7)
    words = sorted(
        {*"thesea", "sea, ", "boat ", "and ", "her ", "old ", "crew ", "went ", "out at dawn; ", "who ", "why "}
    )
    lines = ("".join(rng.choice(words) for _ in range(12)) for _ in range(200))
    return "\n".join(lines)[:2500]


@pytest.fixture
def data(tmp_path: Path, text: str) -> str:
    path = tmp_path / "text.txt"
    path.write_text(text)
    return str(path)


@pytest.fixture
def small(data: str) -> Callable[..., Config]:
    """Makes a configuration that trains in a tenth of a second, with changes."""

    def make(**changes: Any) -> Config:
        return resolve(Layer({**SMALL, "data": data, **changes}))

    return make


@pytest.fixture
def build(tmp_path: Path, small: Callable[..., Config]) -> Callable[..., TrainState]:
    """Everything that a run needs, built but not run."""
    return lambda **changes: build_state(RunSpec(small(**changes), tmp_path / "unused"))


@dataclass
class Ran:
    """A run that is over: how it ended, all events that it emitted, and the trainer."""

    folder: Path
    result: Any  # events.Finished or events.Failed
    events: list[Any]
    trainer: Trainer

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def losses(self) -> dict[int, float]:
        """By step; each step once."""
        pairs = [pair for event in self.of(events.Progress) for pair in zip(event.step, event.train_loss, strict=True)]
        assert len(dict(pairs)) == len(pairs), "a step was reported twice"
        return dict(pairs)

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.of(events.Notice) if event.level == "warning"]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {name: p.detach() for name, p in self.trainer.state.model.named_parameters()}

    @property
    def last(self) -> Path:
        return self.folder / "last.pt"

    def step_of(self, name: str) -> int:
        """How many steps the state in a checkpoint has."""
        return load(self.folder / name).progress().step


Script = dict[int, list[Command]] | Callable[[Trainer], Sequence[Command]]


def run_here(spec: RunSpec, script: Script | None = None) -> Ran:
    """Train a run in this process. `script` maps a step to the commands that arrive after it."""
    spec.folder.mkdir(exist_ok=True)
    emitted: list[events.Event] = []
    waiting = dict(script) if isinstance(script, dict) else {}

    def listen() -> Sequence[Command]:
        if callable(script):
            return script(trainer)
        return waiting.pop(trainer.state.step, [])

    trainer = Trainer(spec, emitted.append, listen)
    try:
        result = trainer.run()
    finally:
        trainer.close()
    return Ran(spec.folder, result, emitted, trainer)


@pytest.fixture
def train(tmp_path: Path, small: Callable[..., Config]) -> Callable[..., Ran]:
    """Train in the folder `name`: a new run with these settings, or one that is resumed with these changes."""

    def go(
        config: Config | None = None,
        name: str = "run",
        script: Script | None = None,
        resume_from: Path | None = None,
        auto: bool = False,
        **changes: Any,
    ) -> Ran:
        resumes = auto or resume_from is not None
        if config is None:
            config = small(**({} if resumes else changes))
        return run_here(RunSpec(config, tmp_path / name, resume_from, changes if resumes else {}, auto), script)

    return go
