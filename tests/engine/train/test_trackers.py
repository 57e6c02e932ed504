"""What trackers get, read back with their own means where they are here."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, Mock

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary.writer import event_file_writer

from fundamentallm.errors import UserError
from fundamentallm.run.commands import Sample, Set, Stop
from fundamentallm.run.events import Evaluated, Progress, Sampled
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import samples, trackers
from fundamentallm.train.checkpoint import save
from fundamentallm.train.state import build_state
from tests.conftest import file_contents
from tests.engine.conftest import EPOCH, notices, same_tensors
from tests.engine.train.conftest import Train, Trained

Board = Callable[[], EventAccumulator]
Settings = dict[str, Any]
CURVES = {"loss/train", "learning_rate", "grad_norm", "tokens_per_second", "loss/val", "perplexity"}


@pytest.fixture
def tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of a run that TensorBoard shows."""
    # Files of the same second are read by their number, as text: let all have as many digits.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))
    return {"tensorboard": True, "log_dir": str(tmp_path / "logs")}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """What TensorBoard's own reader finds of the run."""
    return lambda: EventAccumulator(str(tmp_path / "logs" / "run"), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def curve(board: EventAccumulator, name: str) -> dict[int, float]:
    points = [(point.step, point.value) for point in board.Scalars(name)]
    assert len(dict(points)) == len(points), "a step twice"
    assert points == sorted(points)
    return dict(points)


def texts(board: EventAccumulator, name: str) -> dict[int, str]:
    tensors = board.Tensors(f"{name}/text_summary")
    return {tensor.step: tensor.tensor_proto.string_val[0].decode() for tensor in tensors}


def curves_in_journal(folder: Path) -> dict[str, dict[int, float]]:
    history = read_history(folder)
    columns = {"loss/train": history.train_loss, "learning_rate": history.learning_rate, "grad_norm": history.grad_norm}
    curves = {name: dict(zip(history.steps, column, strict=True)) for name, column in columns.items()}
    evaluated = [(event.step, event.val_loss, event.perplexity) for event in history.evaluations]
    curves["loss/val"] = {step: loss for step, loss, _ in evaluated}
    curves["perplexity"] = {step: perplexity for step, _, perplexity in evaluated}
    return curves


def about_trackers(ran: Any) -> list[str]:
    return [text for text in notices(ran) if "windows of" not in text]


# ---- TensorBoard ----


def test_tensorboards_own_reader_finds_every_curve_of_the_run(
    train: Train, trained: Trained, tensorboard: Settings, tmp_path: Path, board: Board
) -> None:
    script = {4: [Sample(id="a", prompt="the ", max_tokens=8, seed=1)]}
    ran = train(**tensorboard, eval_every=10, script=script)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["run"]
    found = board()
    assert set(found.Tags()["scalars"]) == CURVES
    for name, points in curves_in_journal(ran.folder).items():
        assert curve(found, name) == pytest.approx(points, rel=1e-6), name
    assert sorted(curve(found, "learning_rate")) == sorted(curve(found, "grad_norm")) == list(range(1, 2 * EPOCH + 1))
    assert sorted(curve(found, "loss/val")) == sorted(curve(found, "perplexity")) == [10, 18, 20, 30, 36]
    speeds = {event.step[-1]: event.tokens_per_second for event in ran.of(Progress)}
    assert curve(found, "tokens_per_second") == pytest.approx(speeds, rel=1e-6)
    assert same_tensors(ran.weights, trained().weights)


def test_samples_and_settings_are_shown_as_text_and_as_hyperparameters(
    train: Train, tensorboard: Settings, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "PIECE_SECONDS", 0.0)  # in many pieces
    sample = Sample(id="a", prompt="the ", max_tokens=20, num_samples=2, seed=1)
    change = Set(setting="learning_rate", value=0.002)
    ran = train(**tensorboard, script={4: [sample], 9: [change]})
    shown = [(seen.step, seen.tensor_proto.string_val[0].decode()) for seen in board().Tensors("sample/text_summary")]
    pieces = [[event.text for event in ran.of(Sampled) if event.number == number] for number in (0, 1)]
    assert shown == [(4, "the " + "".join(pieces[0])), (4, "the " + "".join(pieces[1]))] and pieces[0] != pieces[1]
    settings = texts(board(), "settings")
    assert "| learning_rate | 0.003 |" in settings[0] and "| learning_rate | 0.002 |" in settings[9]
    assert len(settings) == 2 and all("| model_dim | 16 |" in text for text in settings.values())
    metadata = board().SummaryMetadata("_hparams_/session_start_info")
    values = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert values["learning_rate"].number_value == 0.003 and values["optimizer"].string_value == "muon"


@pytest.mark.parametrize(
    ("stop", "source", "step"),
    [
        (5, "last.pt", 5), (EPOCH, "last.pt", EPOCH), (25, "last.pt", 25), (None, "checkpoint_epoch_1.pt", EPOCH),
        (None, "start.pt", 0),  # all that a run has that was killed early
        (None, None, 0),  # a new run of the name of an old one
    ],
)  # fmt: skip
def test_a_run_that_resumes_goes_back_or_begins_anew_shows_each_step_once_as_it_counts_now(
    train: Train, tensorboard: Settings, board: Board, tmp_path: Path,
    stop: int | None, source: str | None, step: int,
) -> None:  # fmt: skip
    first = train(**tensorboard, eval_every=6, script={stop: [Stop()]} if stop else None)
    if source == "start.pt":
        start = build_state(RunSpec(first.trainer.state.config, first.folder))
        save(start.checkpoint(), first.folder, [source])
    if source is None:
        first.folder.rename(tmp_path / "aside")
        second = train(**tensorboard, seed=5, epochs=1)
    else:
        second = train(first.trainer.state.config, resume_from=first.folder / source, learning_rate=0.001)
    assert min(second.losses) == step + 1
    expected = curves_in_journal(second.folder)
    assert list(expected["loss/train"]) == list(range(1, second.result.step + 1))
    for name in ("loss/train", "loss/val"):
        assert curve(board(), name) == pytest.approx(expected[name], rel=1e-6)


def test_the_curves_of_another_process_are_not_touched(train: Train, tensorboard: Settings, tmp_path: Path) -> None:
    first = train(**tensorboard, script={9: [Stop()]})
    before = file_contents(tmp_path / "logs")
    with RunLock(first.folder), pytest.raises(UserError, match="is being written by process"):
        train(first.trainer.state.config, resume_from=first.last)
    assert before and file_contents(tmp_path / "logs") == before


# ---- Weights & Biases ----


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Something like wandb 0.31; its one run is `fake.init.return_value`."""
    fake = Mock(Settings=dict, login=lambda *, prompt: not prompt)
    fake.setup.return_value.settings.mode = "online"
    fake.init.return_value.summary = {}
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def logged(run: Mock, name: str) -> list[tuple[int, float]]:
    rows = [(call.kwargs["step"], call.args[0]) for call in run.log.mock_calls]
    assert [step for step, _ in rows] == sorted(step for step, _ in rows)  # wandb ignores a step back
    return [(step, row[name]) for step, row in rows if name in row]


def test_wandb_gets_every_step_and_change_under_the_names_of_project_and_run(train: Train, fake: Mock) -> None:
    ran = train(wandb=True, project="mine", script={9: [Set(setting="learning_rate", value=0.002)]})
    how, run = fake.init.call_args.kwargs, fake.init.return_value
    assert (how["project"], how["name"], how["dir"]) == ("mine", "run", ran.folder)
    assert how["settings"] == {"silent": True, "console": "off"} and how["config"]["model_dim"] == 16
    assert dict(logged(run, "loss/train")) == ran.losses
    assert dict(logged(run, "loss/val"))[36] == ran.result.val_loss
    run.config.update.assert_called_once_with({"learning_rate": 0.002}, allow_val_change=True)
    run.finish.assert_called_once()
    fake.teardown.assert_called_once()
    assert run.summary == {"outcome": "completed"}
    assert not about_trackers(ran)


def test_wandb_gets_the_new_history_of_a_run_that_went_back(train: Train, fake: Mock) -> None:
    """It takes no step back: the new history is another run there, which begins where the old one was left."""
    old = train(epochs=3, wandb=True)
    fake.init.return_value.log.reset_mock()
    source = old.folder / "checkpoint_epoch_1.pt"
    again = train(old.trainer.state.config, resume_from=source, learning_rate=0.001)
    assert fake.init.call_count == 2 and sorted(again.losses) == list(range(EPOCH + 1, 3 * EPOCH + 1))
    assert logged(fake.init.return_value, "loss/train") == [*again.losses.items()]
    assert logged(fake.init.return_value, "loss/val") == [(event.step, event.val_loss) for event in again.of(Evaluated)]


# ---- MLflow, Trackio, and what a package offers ----


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> dict[str, Mock]:
    """Something like MLflow and like Trackio, which prints; and "ours", a tracker that a package offers."""
    others = {name: Mock() for name in ("mlflow", "trackio", "ours")}
    for name, module in others.items():
        monkeypatch.setitem(sys.modules, name, module)
    offered = EntryPoints([EntryPoint("ours", "ours:Tracker", trackers.GROUP)])
    monkeypatch.setattr(trackers, "entry_points", lambda group: offered.select(group=group))
    others["mlflow"].MlflowClient.return_value.get_experiment_by_name.return_value = None
    for printing in (others["trackio"].init, others["trackio"].finish):
        printing.side_effect = lambda **_: print("what it prints") or DEFAULT
    return others


def test_every_tracker_gets_settings_steps_and_the_end(
    train: Train, others: dict[str, Mock], capsys: pytest.CaptureFixture[str]
) -> None:
    change = {9: [Set(setting="learning_rate", value=0.002)]}
    ran = train(track=[*others], project="mine", script=change)
    assert not about_trackers(ran) and capsys.readouterr().out == ""
    mlflow, trackio, ours = others.values()

    client = mlflow.MlflowClient.return_value
    client.create_experiment.assert_called_once_with("mine")
    client.create_run.assert_called_once_with(client.create_experiment.return_value, run_name="run")
    run = client.create_run.return_value.info.run_id
    client.log_param.assert_any_call(run, "model_dim", 16)
    rows = {(name, step): value for name, value, _, step in (call.args for call in mlflow.entities.Metric.mock_calls)}
    assert {step: value for (name, step), value in rows.items() if name == "loss/train"} == ran.losses
    assert rows["loss/val", 36] == ran.result.val_loss
    assert all(0 < len(call.args[1]) <= 1000 for call in client.log_batch.mock_calls)
    tags = [call.args[1:] for call in client.set_tag.mock_calls]
    assert tags == [("learning_rate after step 9", 0.002), ("outcome", "completed")]
    client.set_terminated.assert_called_once_with(run, "FINISHED")

    how = trackio.init.call_args.kwargs
    assert (how["project"], how["name"], how["config"]["model_dim"]) == ("mine", "run", 16)
    assert dict(logged(trackio.init.return_value, "loss/train")) == ran.losses
    trackio.finish.assert_called_once()
    trackio.init.return_value.finish.assert_not_called()  # or it would finish the run again when the process ends

    assert ours.Tracker.call_args.args[1:] == (ran.folder, 0)
    received = [call.args[0] for call in ours.Tracker.return_value.on_event.mock_calls]
    assert received == list(read_journal(ran.folder))
    ours.Tracker.return_value.close.assert_called_once()


def test_a_tracker_that_is_not_there_is_an_error_and_one_that_is_not_installed_a_notice(
    train: Train, others: dict[str, Mock], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="^--track mlfow: no such tracker; did you mean mlflow\\?$"):
        train(track=["mlfow"])
    assert not (tmp_path / "run" / "journal.jsonl").exists()
    monkeypatch.setitem(sys.modules, "mlflow", None)
    ran = train(track=["mlflow"], epochs=1)
    assert about_trackers(ran) == ["mlflow is not installed (pip install mlflow); training continues without it"]


def fail(*_: Any, **__: Any) -> None:
    raise RuntimeError("the server\n said  no")


@pytest.mark.parametrize(
    ("fault", "notice", "torn_down"),
    [
        ("package", "wandb is not installed (pip install wandb); training continues without it", 0),
        ("login", "Weights & Biases is off, training continues: nobody is logged in; run `wandb login`, or set "
                  "WANDB_MODE=offline", 1),
        ("init", "Weights & Biases is off, training continues: the server said no", 1),
        ("log", "Weights & Biases is off, training continues: the server\n said  no", 1),
        ("TensorBoard", "TensorBoard is off, training continues: the server\n said  no", 1),
    ],
)  # fmt: skip
def test_a_tracker_that_fails_at_the_start_or_later_is_one_notice_and_training_continues(
    train: Train, trained: Trained, tensorboard: Settings, fake: Mock, monkeypatch: pytest.MonkeyPatch,
    fault: str, notice: str, torn_down: int,
) -> None:  # fmt: skip
    plain = trained()
    if fault == "package":
        monkeypatch.setitem(sys.modules, "wandb", None)
    elif fault == "login":
        fake.login = lambda *, prompt: False
    elif fault == "TensorBoard":
        monkeypatch.setattr(trackers.TensorBoard, "on_event", fail)
    else:
        (fake if fault == "init" else fake.init.return_value).configure_mock(**{f"{fault}.side_effect": fail})
    ran = train(**tensorboard, wandb=True)
    assert about_trackers(ran) == [notice]
    assert ran.result.reason == "completed" and ran.losses == plain.losses
    assert fake.teardown.call_count == torn_down and fake.init.called == (fault in ("init", "log", "TensorBoard"))


def test_an_offline_run_is_kept_in_its_folder_and_leaves_no_process_behind(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    (tmp_path / "text.txt").write_text("".join(random.Random(1).choices(["the ", "sea ", "old\n"], k=750)))
    arguments = [
        "train", "text.txt", "--output-dir=run", "--wandb", "--project=mine", "--epochs=2", "--model-dim=16",
        "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=16", "--learning-rate=0.01", "--quiet",
    ]  # fmt: skip
    code = (
        "import os, sys; from fundamentallm.cli import main; status = main(sys.argv[1:])\n"
        "left = os.path.exists(f'/proc/{os.getpid()}/task') and"
        " open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read().split()\n"
        "print('children', left or 0, flush=True); os._exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, env={**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    printed = [line for line in done.stderr.splitlines() if "are held out" not in line]  # the text is tiny
    assert (done.returncode, printed, done.stdout) == (0, [], "children 0\n")
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    raw, blocks = file.read_bytes(), file.stat().st_size // 32768  # a number may be divided between two blocks
    curves = curves_in_journal(tmp_path / "run")
    values = [*curves["loss/train"].values(), *curves["loss/val"].values()]
    assert len(values) > 20 and sum(str(value).encode() not in raw for value in values) <= blocks
    assert b"mine" in raw
