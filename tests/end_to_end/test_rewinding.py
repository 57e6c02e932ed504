"""History rewinds with the state: of a run that was taken back, nothing shows a step twice, or what did not happen."""

import csv
import io
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from fundamentallm.cli import main
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events
from fundamentallm.run.history import read_history, summarize
from fundamentallm.run.journal import read_journal
from fundamentallm.train.checkpoint import load
from fundamentallm_tui.state.store import Store

EPOCH = 11
STEPS = list(range(1, 3 * EPOCH + 1))
EVALUATED = [5, 10, 11, 15, 20, 22, 25, 30, 33]


@dataclass
class Rewound:
    """The numbers as they happened: three epochs, taken back to the end of the first, and again with another rate."""

    folder: Path
    loss: dict[int, float]
    rate: dict[int, float]
    val: dict[int, float]
    abandoned: dict[int, float]  # losses after the first epoch that are history no more


def numbers(folder: Path, first_seq: int = 0) -> tuple[dict[int, float], dict[int, float], dict[int, float]]:
    """Losses, learning rates and validation losses by step as one process told them."""
    loss: dict[int, float] = {}
    rate: dict[int, float] = {}
    val: dict[int, float] = {}
    for event in read_journal(folder):
        if event.seq < first_seq:
            continue
        if isinstance(event, events.Progress):
            loss |= dict(zip(event.step, event.train_loss, strict=True))
            rate |= dict(zip(event.step, event.learning_rate, strict=True))
        if isinstance(event, events.Evaluated):
            val[event.step] = event.val_loss
    return loss, rate, val


@pytest.fixture(scope="module")
def rewound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rewound]:
    folder = tmp_path_factory.mktemp("rewound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # files of the same second are read by their number, as text: let all have as many digits
        patch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))
        text = "Once upon a time there was an owl that read small books by moonlight.\n"
        Path("text.txt").write_text(text * 43)
        flags = ["--model-dim=16", "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=16", "--quiet"]
        flags += ["--device=cpu", "--eval-every=5", "--tensorboard", "--log-dir=logs", "--learning-rate=0.005"]
        assert main(["train", "text.txt", *flags, "--epochs=3", "--output-dir=run"]) == 0
        old, told = numbers(Path("run")), list(read_journal(Path("run")))[-1].seq
        back = ["--resume-from=run/checkpoint_epoch_1.pt", "--learning-rate=0.0001", "--quiet"]
        assert main(["train", *back]) == 0
        new = numbers(Path("run"), told + 1)
        assert sorted(old[0]) == STEPS and sorted(new[0]) == STEPS[EPOCH:] and sorted(old[2]) == EVALUATED
        kept = [{step: value for step, value in column.items() if step <= EPOCH} for column in old]
        assert all(old[0][step] != new[0][step] for step in STEPS[EPOCH + 1 :])
        yield Rewound(Path("run"), *({**a, **b} for a, b in zip(kept, new, strict=True)), abandoned=old[0])


def test_the_library(rewound: Rewound) -> None:
    history = read_history(rewound.folder)
    assert list(history.steps) == STEPS
    assert dict(zip(history.steps, history.train_loss, strict=True)) == rewound.loss
    assert dict(zip(history.steps, history.learning_rate, strict=True)) == rewound.rate
    assert [(event.step, event.val_loss) for event in history.evaluations] == sorted(rewound.val.items())
    found = summarize(rewound.folder)
    assert (found.state, found.steps, found.train_loss, found.val_loss) == (
        "finished", STEPS[-1], rewound.loss[STEPS[-1]], rewound.val[STEPS[-1]]
    )  # fmt: skip
    assert found.best is not None and found.best.val_loss == load(Path("run/best.pt")).progress().best_val_loss


def test_what_is_exported(rewound: Rewound, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "export", "run", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["step"]) for row in rows] == STEPS
    assert {int(row["step"]): float(row["train_loss"]) for row in rows} == rewound.loss
    assert {int(row["step"]): float(row["learning_rate"]) for row in rows} == rewound.rate
    assert {int(row["step"]): float(row["val_loss"]) for row in rows if row["val_loss"]} == rewound.val


def test_what_is_shown_and_listed(rewound: Rewound, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "run"]) == 0
    table = [line.split() for line in capsys.readouterr().out.split("\n\n")[2].splitlines()[2:]]
    assert [(int(row[1]), row[3]) for row in table] == [(step, f"{v:.4f}") for step, v in sorted(rewound.val.items())]
    assert main(["runs", "list", "--json", "run"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["steps"], listed["train_loss"]) == (STEPS[-1], rewound.loss[STEPS[-1]])


def test_what_is_drawn(rewound: Rewound, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from fundamentallm.cli import curves

    drawn: list[Any] = []
    draw = curves.draw
    monkeypatch.setattr(curves, "draw", lambda lines, *rest, **more: drawn.extend(lines) or draw(lines, *rest, **more))
    assert main(["runs", "plot", "run"]) == 0
    train, val = drawn
    assert list(train.x) == STEPS and dict(zip(train.x, train.y, strict=True)) == rewound.loss
    assert list(val.x) == EVALUATED and dict(zip(val.x, val.y, strict=True)) == rewound.val


@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_the_consoles_curves(rewound: Rewound, batch: int) -> None:
    """However an attached console gets the story: one by one, in handfuls, at once."""
    told, store = AttachedRun(rewound.folder).events(0), Store()
    store.attach(rewound.folder, "run")
    for start in range(0, len(told), batch):
        store.apply(told[start : start + batch], now=1.0)
    for series, wanted in ((store.train, rewound.loss), (store.rate, rewound.rate), (store.val, rewound.val)):
        xs, ys = series.reduced(1000)
        assert list(map(int, xs)) == sorted(wanted)
        assert dict(zip(map(int, xs), ys, strict=True)) == wanted
    assert store.step == STEPS[-1]


def test_tensorboard(rewound: Rewound) -> None:
    board = EventAccumulator("logs/run", size_guidance={"scalars": 0}).Reload()
    wanted = {"loss/train": rewound.loss, "learning_rate": rewound.rate, "loss/val": rewound.val}
    for name, column in wanted.items():
        points = [(point.step, point.value) for point in board.Scalars(name)]
        assert [step for step, _ in points] == sorted(column), name
        assert dict(points) == pytest.approx(column, rel=1e-6), name
    assert [point.step for point in board.Scalars("perplexity")] == EVALUATED
    speed = [point.step for point in board.Scalars("tokens_per_second")]
    assert speed == sorted(set(speed))


class Service:
    """As much of wandb as a run needs; keeps the rows that each of its runs was told."""

    def __init__(self) -> None:
        self.runs: list[list[tuple[int, dict[str, float]]]] = []
        self.summary: dict[str, str] = {}

    def init(self, **_: Any) -> "Service":
        self.runs.append([])
        return self

    def log(self, row: dict[str, float], step: int) -> None:
        self.runs[-1].append((step, row))

    def finish(self) -> None: ...

    teardown = finish

    def Settings(self, **_: Any) -> None: ...

    def setup(self, settings: Any) -> Any:
        return SimpleNamespace(settings=SimpleNamespace(mode="offline"))


def test_weights_and_biases(rewound: Rewound, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes no step back: the new history is another run there, which begins where the old one was left."""
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service)
    shutil.copytree(rewound.folder, tmp_path / "run")
    told = list(read_journal(tmp_path / "run"))[-1].seq
    back = [f"--resume-from={tmp_path}/run/checkpoint_epoch_1.pt", "--quiet", "--no-tensorboard", "--wandb"]
    assert main(["train", *back, "--learning-rate=0.003"]) == 0
    loss, _, val = numbers(tmp_path / "run", told + 1)
    (rows,) = service.runs
    assert [(step, row["loss/train"]) for step, row in rows if "loss/train" in row] == sorted(loss.items())
    assert [(step, row["loss/val"]) for step, row in rows if "loss/val" in row] == sorted(val.items())
    assert sorted(loss) == STEPS[EPOCH:]


def test_a_run_that_goes_on_after_that_goes_on_from_the_new_history(rewound: Rewound, tmp_path: Path) -> None:
    """Taken back once more, and killed: the history of three processes is one."""
    shutil.copytree(rewound.folder, tmp_path / "run")
    assert main(["train", f"--resume-from={tmp_path}/run/checkpoint_epoch_2.pt", "--epochs=4", "--quiet",
                 "--no-tensorboard"]) == 0  # fmt: skip
    history = read_history(tmp_path / "run")
    assert list(history.steps) == list(range(1, 4 * EPOCH + 1))
    assert dict(zip(history.steps[: 2 * EPOCH], history.train_loss, strict=False)) == {
        step: rewound.loss[step] for step in STEPS[: 2 * EPOCH]
    }
