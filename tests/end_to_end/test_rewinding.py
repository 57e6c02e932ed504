"""A run that was resumed from an earlier checkpoint shows no step twice and nothing superseded, wherever one looks."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest

from fundamentallm.cli import main
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import read_journal
from fundamentallm.run.summary import summarize
from fundamentallm.train.checkpoint import load
from fundamentallm_tui.charts import chart
from fundamentallm_tui.state.store import Store
from tests.end_to_end.conftest import EPOCH, TEXT, TINY

STEPS = list(range(1, 3 * EPOCH + 1))
EVALUATED = [5, 10, 11, 15, 20, 22, 25, 30, 33]
Column = dict[int, float]  # by step


@dataclass
class Rewound:
    """A run of three epochs that was resumed from its first with another learning rate; the numbers that count."""

    folder: Path
    loss: Column
    rate: Column
    val: Column
    epoch_loss: float  # the mean of the last epoch


def columns(folder: Path, after: int = 0) -> tuple[Column, Column, Column]:
    """Losses, learning rates and validation losses as one process wrote them, after event `after`."""
    loss, rate, val = Column(), Column(), Column()
    for event in read_journal(folder):
        if event.seq > after and isinstance(event, events.Progress):
            loss |= dict(zip(event.step, event.train_loss, strict=True))
            rate |= dict(zip(event.step, event.learning_rate, strict=True))
        if event.seq > after and isinstance(event, events.Evaluated):
            val[event.step] = event.val_loss
    return loss, rate, val


@pytest.fixture(scope="module")
def rewound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rewound]:
    folder = tmp_path_factory.mktemp("rewound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("text.txt").write_text(TEXT)
        assert main(["train", "text.txt", *TINY, "--eval-every=5", "--epochs=3", "--output-dir=run", "--quiet"]) == 0
        old, seq = columns(Path("run")), list(read_journal(Path("run")))[-1].seq
        assert main(["train", "--resume-from=run/checkpoint_epoch_1.pt", "--learning-rate=0.0001", "--quiet"]) == 0
        new = columns(Path("run"), seq)
        assert sorted(old[0]) == STEPS and sorted(new[0]) == STEPS[EPOCH:] and sorted(old[2]) == EVALUATED
        assert all(old[0][step] != new[0][step] for step in STEPS[EPOCH + 1 :])
        kept = [{step: value for step, value in column.items() if step <= EPOCH} for column in old]
        *_, last = (event for event in read_journal(Path("run")) if isinstance(event, events.Evaluated))
        assert last.train_loss == pytest.approx(mean(new[0][step] for step in STEPS[2 * EPOCH :]), abs=0.01)
        yield Rewound(Path("run"), *({**a, **b} for a, b in zip(kept, new, strict=True)), last.train_loss)


def test_the_history_and_the_summary(rewound: Rewound) -> None:
    history = read_history(rewound.folder)
    assert list(history.steps) == STEPS
    assert dict(zip(history.steps, history.train_loss, strict=True)) == rewound.loss
    assert dict(zip(history.steps, history.learning_rate, strict=True)) == rewound.rate
    assert [(event.step, event.val_loss) for event in history.evaluations] == sorted(rewound.val.items())
    found = summarize(rewound.folder)
    assert (found.state, found.steps) == ("finished", STEPS[-1])
    assert (found.train_loss, found.val_loss) == (rewound.epoch_loss, rewound.val[STEPS[-1]])
    assert found.best is not None and found.best.val_loss == load(Path("run/best.pt")).progress().best_val_loss


def test_runs_export_show_and_list(rewound: Rewound, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "export", "run", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [int(row["step"]) for row in rows] == STEPS
    assert {int(row["step"]): float(row["train_loss"]) for row in rows} == rewound.loss
    assert {int(row["step"]): float(row["learning_rate"]) for row in rows} == rewound.rate
    assert {int(row["step"]): float(row["val_loss"]) for row in rows if row["val_loss"]} == rewound.val
    assert main(["runs", "show", "run"]) == 0
    table = [line.split() for line in capsys.readouterr().out.split("\n\n")[2].splitlines()[2:]]
    assert [(int(row[1]), row[3]) for row in table] == [(step, f"{v:.4f}") for step, v in sorted(rewound.val.items())]
    assert main(["runs", "list", "--json", "run"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["steps"], listed["train_loss"]) == (STEPS[-1], rewound.epoch_loss)


def test_runs_plot(rewound: Rewound, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[chart.Chart] = []
    monkeypatch.setattr(chart, "text_lines", lambda found, *rest, **more: drawn.append(found) or ["a picture"])
    assert main(["runs", "plot", "run"]) == 0
    val, train, smoothed = drawn[0].lines
    assert list(train.x) == list(smoothed.x) == STEPS
    assert dict(zip(train.x, train.y, strict=True)) == rewound.loss
    assert list(val.x) == EVALUATED and dict(zip(val.x, val.y, strict=True)) == rewound.val


@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_the_consoles_curves_however_many_events_come_at_once(rewound: Rewound, batch: int) -> None:
    run, journal, store = AttachedRun(rewound.folder), list[events.Event](), Store()
    while some := run.events(0):
        journal += some
    store.attach(rewound.folder, "run")
    for start in range(0, len(journal), batch):
        store.apply(journal[start : start + batch])
    for series, wanted in ((store.train, rewound.loss), (store.rate, rewound.rate), (store.val, rewound.val)):
        xs, ys = series.reduced(1000)
        assert list(map(int, xs)) == sorted(wanted)
        assert dict(zip(map(int, xs), ys, strict=True)) == wanted
    assert store.step == STEPS[-1]


def test_a_run_that_is_taken_back_once_more_has_one_history_of_three_processes(
    rewound: Rewound, tmp_path: Path
) -> None:
    shutil.copytree(rewound.folder, tmp_path / "run")
    assert main(["train", f"--resume-from={tmp_path}/run/checkpoint_epoch_2.pt", "--epochs=4", "--quiet"]) == 0
    history = read_history(tmp_path / "run")
    assert list(history.steps) == list(range(1, 4 * EPOCH + 1))
    assert dict(zip(history.steps[: 2 * EPOCH], history.train_loss, strict=False)) == {
        step: rewound.loss[step] for step in STEPS[: 2 * EPOCH]
    }
