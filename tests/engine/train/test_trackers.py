"""What TensorBoard and Weights & Biases are told, read back with their own means."""

import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.summary.writer import event_file_writer

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.run import commands
from fundamentallm.run.events import Evaluated, Notice, Progress, RunStarted
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.train import trackers
from tests.engine.seen import EPOCH

Train = Callable[..., Any]
Small = Callable[..., Config]
CURVES = {"loss/train", "learning_rate", "grad_norm", "tokens_per_second", "loss/val", "perplexity"}


@pytest.fixture(autouse=True)
def ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the same second are read by their number, as text: let all have as many digits."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))


@pytest.fixture
def watched(small: Small, tmp_path: Path) -> Callable[..., Config]:
    return lambda **changes: small(tensorboard=True, log_dir=str(tmp_path / "logs"), **changes)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def curve(board: EventAccumulator, name: str) -> dict[int, float]:
    points = [(point.step, point.value) for point in board.Scalars(name)]
    assert len(dict(points)) == len(points), "a step twice"
    assert points == sorted(points)
    return dict(points)


def told(folder: Path) -> dict[str, dict[int, float]]:
    """The curves as the journal has them; a start at step n takes back what was said of later steps."""
    curves: dict[str, dict[int, float]] = {name: {} for name in CURVES}
    for event in read_journal(folder):
        if isinstance(event, RunStarted):
            curves = {n: {s: v for s, v in points.items() if s <= event.step} for n, points in curves.items()}
        for step, row in trackers.scalars(event):
            for name, value in row.items():
                curves[name][step] = value
    return curves


# ---- TensorBoard ----


def test_tensorboards_own_reader_finds_every_curve_of_the_run(
    train: Train, watched: Small, small: Small, tmp_path: Path, equal: Callable[..., bool]
) -> None:
    script = {4: [commands.Sample(id="a", prompt="the ", max_tokens=8, seed=1)]}
    ran = train(watched(eval_every=10), script=script)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["run"]
    board = read(tmp_path / "logs" / "run")
    assert set(board.Tags()["scalars"]) == CURVES
    for name, points in told(ran.folder).items():
        assert curve(board, name) == pytest.approx(points, rel=1e-6), name
    assert curve(board, "loss/train") == pytest.approx(ran.losses, rel=1e-6)
    assert sorted(curve(board, "learning_rate")) == sorted(curve(board, "grad_norm")) == list(range(1, 2 * EPOCH + 1))
    assert sorted(curve(board, "loss/val")) == sorted(curve(board, "perplexity")) == [10, 18, 20, 30, 36]
    assert curve(board, "perplexity")[36] == pytest.approx(
        ran.result.best_val_loss and ran.of(Evaluated)[-1].perplexity
    )
    assert set(curve(board, "tokens_per_second")) == {event.step[-1] for event in ran.of(Progress)}
    assert equal(ran.weights, train(small(), "plain").weights)


def test_samples_and_settings_are_shown_as_text_and_as_hyperparameters(
    train: Train, watched: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fundamentallm.run.events import Sampled
    from fundamentallm.train import control as sampler

    monkeypatch.setattr(sampler, "PIECE_SECONDS", 0.0)  # in many pieces
    ran = train(watched(), script={4: [commands.Sample(id="a", prompt="the ", max_tokens=20, seed=1)]})
    board = read(tmp_path / "logs" / "run")
    (sample,) = board.Tensors("sample/text_summary")
    text = "".join(event.text for event in ran.of(Sampled))
    assert (sample.step, sample.tensor_proto.string_val[0].decode()) == (4, f"the {text}")
    (settings,) = board.Tensors("settings/text_summary")
    words = settings.tensor_proto.string_val[0].decode()
    assert "| learning_rate | 0.003 |" in words and "| model_dim | 16 |" in words
    data = plugin_data_pb2.HParamsPluginData.FromString(
        board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    )
    values = data.session_start_info.hparams
    assert values["learning_rate"].number_value == 0.003 and values["optimizer"].string_value == "muon"


@pytest.mark.parametrize("at", [5, EPOCH, 25])
def test_a_resumed_run_continues_its_curves_without_a_step_twice(
    train: Train, watched: Small, tmp_path: Path, at: int
) -> None:
    first = train(watched(eval_every=6), script={at: [commands.Stop()]})
    second = train(watched(), resume_from=first.folder / "last.pt")
    board = read(tmp_path / "logs" / "run")
    assert curve(board, "loss/train") == pytest.approx({**first.losses, **second.losses}, rel=1e-6)
    assert sorted(curve(board, "loss/train")) == list(range(1, 2 * EPOCH + 1))
    assert curve(board, "loss/val") == pytest.approx(told(second.folder)["loss/val"], rel=1e-6)


@pytest.mark.parametrize("name", ["checkpoint_epoch_1.pt", "checkpoint_step_0.pt"])
def test_a_run_that_went_back_takes_back_its_curves(train: Train, watched: Small, tmp_path: Path, name: str) -> None:
    first = train(watched())
    if name == "checkpoint_step_0.pt":  # all that a run has that was killed early
        (first.folder / name).write_bytes(start_of(train, watched, tmp_path))
    second = train(watched(), resume_from=first.folder / name, learning_rate=0.001)
    board = read(tmp_path / "logs" / "run")
    assert curve(board, "loss/train") == pytest.approx(told(second.folder)["loss/train"], rel=1e-6)
    assert curve(board, "loss/val") == pytest.approx(told(second.folder)["loss/val"], rel=1e-6)


def start_of(train: Train, watched: Small, tmp_path: Path) -> bytes:
    """last.pt of a run that has not taken a step."""
    from fundamentallm.run.spec import RunSpec
    from fundamentallm.train.checkpoint import save
    from fundamentallm.train.state import build_state

    (tmp_path / "start").mkdir()
    save(build_state(RunSpec(watched(), tmp_path / "run")).checkpoint(), tmp_path / "start", ["last.pt"])
    return (tmp_path / "start" / "last.pt").read_bytes()


def test_a_new_run_of_an_old_name_starts_its_curves_anew(train: Train, watched: Small, tmp_path: Path) -> None:
    old = train(watched(epochs=3))
    old.folder.rename(tmp_path / "aside")
    new = train(watched(seed=5))
    board = read(tmp_path / "logs" / "run")
    assert curve(board, "loss/train") == pytest.approx(new.losses, rel=1e-6)


def test_the_curves_of_a_run_that_somebody_else_is_writing_are_not_touched(
    train: Train, watched: Small, tmp_path: Path
) -> None:
    first = train(watched(), script={9: [commands.Stop()]})
    before = {path: path.read_bytes() for path in (tmp_path / "logs").rglob("*") if path.is_file()}
    with RunLock(first.folder), pytest.raises(UserError, match="is being written by process"):
        train(watched(), resume_from=first.folder / "last.pt")
    assert {path: path.read_bytes() for path in (tmp_path / "logs").rglob("*") if path.is_file()} == before


def test_a_log_folder_that_cannot_be_written_to_is_refused_before_anything_is_held(
    train: Train, watched: Small, tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(UserError, match=f"^--log-dir {tmp_path}/logs: {tmp_path}/logs cannot be written to$"):
        train(watched())
    assert list((tmp_path / "run").iterdir()) == []
    RunLock(tmp_path / "run").release()


def test_without_the_flag_neither_package_is_imported() -> None:
    code = (
        "import sys; from fundamentallm.cli import main; status = main(sys.argv[1:]);"
        "sys.exit(status or 10 * bool({'tensorboard', 'wandb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, "train", "--help"], capture_output=True)
    assert done.returncode == 0
    probe = "import sys, fundamentallm.train.trainer; sys.exit(bool({'tensorboard', 'wandb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe]).returncode == 0


def notices(ran: Any) -> list[str]:
    return [event.text for event in ran.of(Notice) if "windows of" not in event.text]


def test_a_tracker_that_breaks_is_dropped_with_one_notice_and_training_goes_on(
    train: Train, watched: Small, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, heard = trackers.TensorBoard.on_event, [0]

    def breaks(self: Any, event: Any) -> None:
        heard[0] += 1
        if heard[0] > 5:
            raise OSError(28, "No space left on device")
        real(self, event)

    monkeypatch.setattr(trackers.TensorBoard, "on_event", breaks)
    ran = train(watched())
    assert notices(ran) == ["TensorBoard is off, training continues: [Errno 28] No space left on device"]
    assert ran.result.reason == "completed" and ran.losses == train(small(), "plain").losses


# ---- Weights & Biases ----


def test_without_the_package_one_line_says_so_and_training_goes_on(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    ran = train(small(wandb=True))
    assert notices(ran) == ["wandb is not installed (pip install wandb); training continues without it"]
    assert ran.result.reason == "completed"


class FakeRun:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.summary: dict[str, str] = {}
        self.finished = False

    def log(self, row: dict[str, float], step: int) -> None:
        self.rows.append((step, row))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Something like wandb 0.31."""
    module: Any = ModuleType("wandb")
    module.mode, module.keys, module.run, module.asked, module.torn_down = "online", True, FakeRun(), [], 0

    def init(**how: Any) -> FakeRun:
        module.asked.append(how)
        run: FakeRun = module.run
        return run

    def login(*, prompt: bool) -> bool:
        assert not prompt
        return bool(module.keys)

    def teardown() -> None:
        module.torn_down += 1

    module.Settings = lambda **how: how
    module.setup = lambda settings: SimpleNamespace(settings=SimpleNamespace(mode=module.mode))
    module.init, module.login, module.teardown = init, login, teardown
    monkeypatch.setitem(sys.modules, "wandb", module)
    yield module


def test_it_is_told_every_step_under_the_names_of_project_and_run(train: Train, small: Small, fake: Any) -> None:
    ran = train(small(wandb=True, project="mine"))
    (how,) = fake.asked
    assert (how["project"], how["name"], how["dir"]) == ("mine", "run", ran.folder)
    assert how["settings"] == {"silent": True, "console": "off"} and how["config"]["model_dim"] == 16
    assert {step: row["loss/train"] for step, row in fake.run.rows if "loss/train" in row} == ran.losses
    assert [step for step, _ in fake.run.rows] == sorted(step for step, _ in fake.run.rows)  # it takes no step back
    assert {s: r["loss/val"] for s, r in fake.run.rows if "loss/val" in r}[36] == ran.result.val_loss
    assert fake.run.finished and fake.torn_down == 1 and fake.run.summary == {"outcome": "completed"}
    assert not notices(ran)


def test_without_a_login_one_line_says_so_nothing_is_asked_and_training_goes_on(
    train: Train, small: Small, fake: Any
) -> None:
    fake.keys = False
    ran = train(small(wandb=True))
    assert notices(ran) == [
        "Weights & Biases is off, training continues: nobody is logged in; run `wandb login`, or set WANDB_MODE=offline"
    ]
    assert ran.result.reason == "completed" and not fake.asked and fake.torn_down == 1
    fake.mode = "offline"
    assert not notices(train(small(wandb=True), "offline")) and len(fake.asked) == 1


def test_a_service_that_fails_at_the_start_or_later_is_one_line(train: Train, small: Small, fake: Any) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("the server\n said  no")

    fake.run.log = fails
    ran = train(small(wandb=True))
    assert len(notices(ran)) == 1 and notices(ran)[0].startswith(
        "WeightsAndBiases is off, training continues: the server"
    )
    fake.init = fails
    ran = train(small(wandb=True), "again")
    assert notices(ran) == ["Weights & Biases is off, training continues: the server said no"]
    assert ran.result.reason == "completed" and fake.torn_down >= 1


def records(path: Path) -> Iterator[bytes]:
    """The records of a .wandb file: a log as LevelDB writes it, in blocks of 32 KiB, after a header of 7 bytes."""
    raw, place, whole = path.read_bytes(), 7, b""
    assert raw[:4] == b":W&B"
    while place < len(raw):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", raw[place : place + 7])
        whole += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield whole
            whole = b""


def test_an_offline_run_can_be_read_back_and_leaves_no_process_behind(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    (tmp_path / "text.txt").write_text("".join(random.Random(1).choices(["the ", "sea ", "old\n"], k=750)))
    arguments = [
        "train", "text.txt", "--output-dir=run", "--wandb", "--project=mine", "--epochs=2", "--model-dim=16",
        "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=16", "--learning-rate=0.01", "--quiet",
    ]  # fmt: skip
    code = (
        "import os, sys; from fundamentallm.cli import main; status = main(sys.argv[1:])\n"
        "left = os.path.exists(f'/proc/{os.getpid()}/task') and"
        " open(f'/proc/{os.getpid()}/task/{os.getpid()}/children').read().split()\n"
        "print('children', left or 0); os._exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        stdin=subprocess.DEVNULL, env={**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "children 0\n")
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    losses, values, projects, ended = {}, {}, set(), False
    for raw in records(file):
        record = Record.FromString(raw)
        if record.HasField("run"):
            projects.add((record.run.project, record.run.display_name))
        ended |= record.HasField("exit")
        if record.HasField("history"):
            row = {item.key or ".".join(item.nested_key): float(item.value_json) for item in record.history.item}
            losses |= {int(row["_step"]): row["loss/train"]} if "loss/train" in row else {}
            values |= {int(row["_step"]): row["loss/val"]} if "loss/val" in row else {}
    journal = told(tmp_path / "run")
    journal_steps = next(read_journal(tmp_path / "run")).steps_per_epoch
    assert losses == pytest.approx(journal["loss/train"]) and len(losses) == 2 * journal_steps
    assert values == pytest.approx(journal["loss/val"]) and ended
    assert projects == {("mine", "run")}
