"""`max_steps`: a run ends at it or after its epochs, whichever comes first, and everybody knows that end."""

from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.cli.report import Report
from fundamentallm.config.schedule import configured_rate
from fundamentallm.errors import NothingToDo, UserError
from fundamentallm.run import events
from fundamentallm.run.commands import Set
from fundamentallm.run.history import read_history
from fundamentallm.run.summary import summarize
from fundamentallm.train import trainer
from fundamentallm.train.checkpoint import load
from fundamentallm.train.evaluate import evaluate
from fundamentallm.train.metrics import Metrics
from tests.compare_runs import difference
from tests.engine.conftest import EPOCH, files
from tests.engine.train.conftest import Breaks, Small, Train
from tests.texts import estimate

END = EPOCH + 7  # in the middle of the second epoch


def rates(ran: Any) -> list[float]:
    return [rate for event in ran.of(events.Progress) for rate in event.learning_rate]


def evaluated(ran: Any) -> list[tuple[int, bool]]:
    return [(event.step, event.epoch_ended) for event in ran.of(events.Evaluated)]


@pytest.mark.parametrize(("max_steps", "end"), [(None, 3 * EPOCH), (1, 1), (END, END), (1000, 3 * EPOCH)])
def test_a_run_ends_at_the_smaller_of_epochs_and_max_steps(
    train: Train, small: Small, text: str, max_steps: int | None, end: int
) -> None:
    config = small(epochs=3, max_steps=max_steps)
    ran = train(config)
    assert (ran.result.step, ran.result.reason, ran.events[0].total_steps) == (end, "completed", end)
    assert estimate(config, [text]).total_steps == end
    summary = summarize(ran.folder)
    assert (summary.total_steps, summary.epochs) == (end, -(-end // EPOCH))
    assert load(ran.folder / "final_model.pt").progress().step == end


def test_the_last_step_is_evaluated_and_saved_in_the_middle_of_an_epoch_too(train: Train, small: Small) -> None:
    ran = train(small(epochs=3, max_steps=END))
    assert evaluated(ran) == [(EPOCH, True), (END, False)]
    assert files(ran.folder) == {
        "config.yaml", "journal.jsonl", "lock", "tokenizer.json", "last.pt", "best.pt", "final_model.pt",
        "checkpoint_epoch_1.pt",
    }  # fmt: skip
    saves = [event.path for event in ran.of(events.CheckpointSaved) if event.step == END]
    assert saves == ["last.pt", "best.pt", "final_model.pt"]  # one state, written once
    state = ran.trainer.state
    assert ran.result.val_loss == evaluate(state.model, state.corpus.val, 16, state.precision).loss


def test_schedule_warm_up_and_time_left_are_computed_for_that_end(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "REPORT_INTERVAL", 0.0)
    monkeypatch.setattr(Metrics, "eta", lambda _, steps: float(steps))
    ran = train(small(epochs=30, max_steps=40, warmup_steps=100))
    expected = [
        configured_rate(ran.trainer.state.config, 40, step) for step in range(40)
    ]  # the warm-up: at most a tenth
    assert rates(ran) == expected and expected[3] == 0.003 and expected[-1] == pytest.approx(0.0003)
    assert [event.eta_seconds for event in ran.of(events.Progress)][-3:] == [2.0, 1.0, 0.0]
    assert "warm-up shortened from 100 to 4 steps, a tenth of the run" in [e.text for e in ran.of(events.Notice)]


@pytest.mark.parametrize(
    ("at", "setting", "value", "end"),
    [
        (5, "max_steps", 9, 9),
        (5, "max_steps", 2 * EPOCH + 1, 2 * EPOCH + 1),
        (5, "max_steps", None, 3 * EPOCH),
        (5, "epochs", 1, EPOCH),
        (5, "epochs", 9, END),
        (END, "max_steps", END + 3, END + 3),  # when the last step is done
        (9, "max_steps", 9, END),  # refused: that would end the run without an evaluation
    ],
)
def test_a_live_change_moves_the_end_for_everybody(
    train: Train, small: Small, at: int, setting: str, value: int | None, end: int
) -> None:
    ran = train(small(epochs=3, max_steps=END), script={at: [Set(setting=setting, value=value)]})
    assert ran.result.step == end and evaluated(ran)[-1] == (end, end % EPOCH == 0)
    started = read_history(ran.folder).started
    assert started is not None and (started.total_steps, started.epochs) == (end, -(-end // EPOCH))
    assert rates(ran)[at:] == [configured_rate(ran.trainer.state.config, end, step) for step in range(at, end)]
    answer = ran.of(events.Answered)[0]
    assert (answer.ok, answer.why) == (
        (False, "max_steps: step 9 is done; 10 is the smallest total") if value == at else (True, "")
    )


def test_a_run_at_its_end_continues_only_with_a_larger_total(train: Train, small: Small) -> None:
    folder = train(small(epochs=3, max_steps=END)).folder
    last = folder / "last.pt"
    with pytest.raises(NothingToDo, match=f"step {END} of {END} is done; give a larger total with --max-steps$"):
        train(small(), resume_from=last)
    with pytest.raises(
        UserError, match=f"--max-steps 20: .* is at step {END} already; {END + 1} is the smallest total"
    ):
        train(small(), resume_from=last, max_steps=20)
    longer = train(small(), resume_from=last, max_steps=3 * EPOCH)
    assert (longer.result.step, sorted(longer.losses)) == (3 * EPOCH, list(range(END + 1, 3 * EPOCH + 1)))
    with pytest.raises(NothingToDo, match="give a larger total with --max-steps and --epochs$"):
        train(small(), resume_from=last)
    assert train(small(), resume_from=last, max_steps="none", epochs=4).result.step == 4 * EPOCH


def test_an_end_whose_evaluation_broke_off_is_evaluated_when_resumed(
    train: Train, small: Small, breaks: Breaks
) -> None:
    reference = train(small(max_steps=END), "reference").folder
    breaks(trainer, "evaluate", 2, MemoryError())
    failed = train(small(max_steps=END))
    assert isinstance(failed.result, events.Failed) and load(failed.folder / "last.pt").progress().step == END
    again = train(small(max_steps=END), resume_from=failed.folder / "last.pt")
    assert (again.result.reason, evaluated(again)) == ("completed", [(END, False)])
    assert difference(failed.folder, reference) == ""


def test_the_command_line_says_where_such_a_run_ends(
    train: Train, small: Small, data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(tmp_path / "run")
    for event in train(small(epochs=3, max_steps=END)).events:
        report.on_event(event)
    out, err = capsys.readouterr()
    assert [line.split(" | ")[0] for line in out.splitlines()] == ["Epoch 1/2", f"Step {END}/{END}"]
    assert f"{END} steps (an epoch has {EPOCH})" in err
    assert main(["train", data, "--max-steps", "0", "--output-dir", str(tmp_path / "x")]) == 2
    assert "--max-steps: 0 is out of bounds; it must be at least 1" in capsys.readouterr().err
