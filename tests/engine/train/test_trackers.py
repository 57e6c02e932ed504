"""What TensorBoard and Weights & Biases get, read back with their own means."""

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
from fundamentallm.run.events import Evaluated, Notice, Progress, RunStarted, Sampled
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import samples, trackers
from fundamentallm.train.checkpoint import save
from fundamentallm.train.state import build_state
from tests.conftest import file_contents
from tests.engine.seen import EPOCH

Train = Callable[..., Any]
Small = Callable[..., Config]
Board = Callable[[], EventAccumulator]
CURVES = {"loss/train", "learning_rate", "grad_norm", "tokens_per_second", "loss/val", "perplexity"}


@pytest.fixture(autouse=True)
def ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of the same second are read by their number, as text: let all have as many digits."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(1000))


@pytest.fixture
def watched(small: Small, tmp_path: Path) -> Callable[..., Config]:
    return lambda **changes: small(tensorboard=True, log_dir=str(tmp_path / "logs"), **changes)


@pytest.fixture
def board(tmp_path: Path) -> Callable[[], EventAccumulator]:
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
    """A start at step n supersedes what was reported of later steps."""
    curves: dict[str, dict[int, float]] = {name: {} for name in CURVES}
    for event in read_journal(folder):
        if isinstance(event, RunStarted):
            curves = {n: {s: v for s, v in points.items() if s <= event.step} for n, points in curves.items()}
        for step, row in trackers.scalars(event):
            for name, value in row.items():
                curves[name][step] = value
    return curves


def notices(ran: Any) -> list[str]:
    return [event.text for event in ran.of(Notice) if "windows of" not in event.text]


# ---- TensorBoard ----


def test_tensorboards_own_reader_finds_every_curve_of_the_run(
    train: Train, watched: Small, small: Small, tmp_path: Path, board: Board, equal: Callable[..., bool]
) -> None:
    script = {4: [commands.Sample(id="a", prompt="the ", max_tokens=8, seed=1)]}
    ran = train(watched(eval_every=10), script=script)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["run"]
    found = board()
    assert set(found.Tags()["scalars"]) == CURVES
    for name, points in curves_in_journal(ran.folder).items():
        assert curve(found, name) == pytest.approx(points, rel=1e-6), name
    assert curve(found, "loss/train") == pytest.approx(ran.losses, rel=1e-6)
    assert sorted(curve(found, "learning_rate")) == sorted(curve(found, "grad_norm")) == list(range(1, 2 * EPOCH + 1))
    assert sorted(curve(found, "loss/val")) == sorted(curve(found, "perplexity")) == [10, 18, 20, 30, 36]
    assert curve(found, "perplexity")[36] == pytest.approx(ran.of(Evaluated)[-1].perplexity)
    assert set(curve(found, "tokens_per_second")) == {event.step[-1] for event in ran.of(Progress)}
    assert equal(ran.weights, train(small(), "plain").weights)


def test_samples_and_settings_are_shown_as_text_and_as_hyperparameters(
    train: Train, watched: Small, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "PIECE_SECONDS", 0.0)  # in many pieces
    script: dict[int, list[commands.Command]] = {
        4: [commands.Sample(id="a", prompt="the ", max_tokens=20, seed=1)],
        9: [commands.Set(setting="learning_rate", value=0.002)],
    }
    ran = train(watched(), script=script)
    assert texts(board(), "sample") == {4: "the " + "".join(event.text for event in ran.of(Sampled))}
    settings = texts(board(), "settings")
    assert "| learning_rate | 0.003 |" in settings[0] and "| learning_rate | 0.002 |" in settings[9]
    assert len(settings) == 2 and all("| model_dim | 16 |" in text for text in settings.values())
    metadata = board().SummaryMetadata("_hparams_/session_start_info")
    values = plugin_data_pb2.HParamsPluginData.FromString(metadata.plugin_data.content).session_start_info.hparams
    assert values["learning_rate"].number_value == 0.003 and values["optimizer"].string_value == "muon"


@pytest.mark.parametrize("at", [5, EPOCH, 25])
def test_a_resumed_run_continues_its_curves_without_a_step_twice(
    train: Train, watched: Small, board: Board, at: int
) -> None:
    first = train(watched(eval_every=6), script={at: [commands.Stop()]})
    second = train(watched(), resume_from=first.folder / "last.pt")
    found = board()
    assert curve(found, "loss/train") == pytest.approx({**first.losses, **second.losses}, rel=1e-6)
    assert sorted(curve(found, "loss/train")) == list(range(1, 2 * EPOCH + 1))
    assert curve(found, "loss/val") == pytest.approx(curves_in_journal(second.folder)["loss/val"], rel=1e-6)


@pytest.mark.parametrize("step", [EPOCH, 0])
def test_a_run_that_went_back_takes_back_its_curves(train: Train, watched: Small, board: Board, step: int) -> None:
    first = train(watched())
    path = first.folder / "checkpoint_epoch_1.pt"
    if step == 0:  # all that a run has that was killed early
        save(build_state(RunSpec(watched(), first.folder)).checkpoint(), first.folder, ["start.pt"])
        path = first.folder / "start.pt"
    second = train(watched(), resume_from=path, learning_rate=0.001)
    assert min(second.losses) == step + 1
    expected = curves_in_journal(second.folder)
    for name in ("loss/train", "loss/val"):
        assert curve(board(), name) == pytest.approx(expected[name], rel=1e-6)


def test_a_new_run_of_an_old_name_starts_its_curves_anew(
    train: Train, watched: Small, tmp_path: Path, board: Board
) -> None:
    old = train(watched(epochs=3))
    old.folder.rename(tmp_path / "aside")
    new = train(watched(seed=5))
    assert curve(board(), "loss/train") == pytest.approx(new.losses, rel=1e-6)


def test_the_curves_of_a_run_that_another_process_is_writing_are_not_touched(
    train: Train, watched: Small, tmp_path: Path
) -> None:
    first = train(watched(), script={9: [commands.Stop()]})
    before = file_contents(tmp_path / "logs")
    with RunLock(first.folder), pytest.raises(UserError, match="is being written by process"):
        train(watched(), resume_from=first.folder / "last.pt")
    assert before and file_contents(tmp_path / "logs") == before


def test_a_log_folder_that_cannot_be_written_to_is_refused_before_anything_is_held(
    train: Train, watched: Small, tmp_path: Path
) -> None:
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(UserError, match=f"^--log-dir {tmp_path}/logs: {tmp_path}/logs cannot be written to$"):
        train(watched())
    assert list((tmp_path / "run").iterdir()) == []
    RunLock(tmp_path / "run").release()


@pytest.mark.parametrize(
    "code", ["from fundamentallm.cli import main; main(['train', '--help'])", "import fundamentallm.train.trainer"]
)
def test_without_the_flag_neither_package_is_imported(code: str) -> None:
    probe = f"import sys; {code}; sys.exit(bool({{'tensorboard', 'wandb'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", probe], stdout=subprocess.DEVNULL).returncode == 0


def test_a_tracker_that_breaks_is_dropped_with_one_notice_and_training_continues(
    train: Train, watched: Small, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = trackers.TensorBoard.on_event, [0]

    def breaks(self: Any, event: Any) -> None:
        seen[0] += 1
        if seen[0] > 5:
            raise OSError(28, "No space left on device")
        real(self, event)

    monkeypatch.setattr(trackers.TensorBoard, "on_event", breaks)
    ran = train(watched())
    assert notices(ran) == ["TensorBoard is off, training continues: [Errno 28] No space left on device"]
    assert ran.result.reason == "completed" and ran.losses == train(small(), "plain").losses


# ---- Weights & Biases ----


class FakeWandb(ModuleType):
    """Something like wandb 0.31, and its one run."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.mode, self.logged_in, self.asked, self.torn_down = "online", True, list[dict[str, Any]](), 0
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.summary: dict[str, str] = {}
        self.changes: list[dict[str, Any]] = []
        self.config = SimpleNamespace(update=lambda change, allow_val_change: self.changes.append(change))
        self.finished = False
        self.Settings = dict
        self.setup = lambda settings: SimpleNamespace(settings=SimpleNamespace(mode=self.mode))

    def init(self, **how: Any) -> "FakeWandb":
        self.asked.append(how)
        return self

    def login(self, *, prompt: bool) -> bool:
        assert not prompt
        return self.logged_in

    def log(self, row: dict[str, float], step: int) -> None:
        self.rows.append((step, row))

    def finish(self) -> None:
        self.finished = True

    def teardown(self) -> None:
        self.torn_down += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_without_the_package_one_line_says_so_and_training_continues(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    ran = train(small(wandb=True))
    assert notices(ran) == ["wandb is not installed (pip install wandb); training continues without it"]
    assert ran.result.reason == "completed"


def test_wandb_gets_every_step_and_change_under_the_names_of_project_and_run(
    train: Train, small: Small, fake: FakeWandb
) -> None:
    script = {9: [commands.Set(setting="learning_rate", value=0.002)]}
    ran = train(small(wandb=True, project="mine"), script=script)
    (how,) = fake.asked
    assert (how["project"], how["name"], how["dir"]) == ("mine", "run", ran.folder)
    assert how["settings"] == {"silent": True, "console": "off"} and how["config"]["model_dim"] == 16
    assert {step: row["loss/train"] for step, row in fake.rows if "loss/train" in row} == ran.losses
    assert [step for step, _ in fake.rows] == sorted(step for step, _ in fake.rows)  # wandb ignores a step back
    assert {step: row["loss/val"] for step, row in fake.rows if "loss/val" in row}[36] == ran.result.val_loss
    assert fake.changes == [{"learning_rate": 0.002}]
    assert fake.finished and fake.torn_down == 1 and fake.summary == {"outcome": "completed"}
    assert not notices(ran)


def test_wandb_gets_the_new_history_of_a_run_that_went_back(train: Train, small: Small, fake: FakeWandb) -> None:
    """It takes no step back: the new history is another run there, which begins where the old one was left."""
    old = train(small(epochs=3, wandb=True))
    fake.rows.clear()
    again = train(small(wandb=True), resume_from=old.folder / "checkpoint_epoch_1.pt", learning_rate=0.001)
    assert len(fake.asked) == 2 and sorted(again.losses) == list(range(EPOCH + 1, 3 * EPOCH + 1))
    assert [(step, row["loss/train"]) for step, row in fake.rows if "loss/train" in row] == [*again.losses.items()]
    val = [(event.step, event.val_loss) for event in again.of(Evaluated)]
    assert [(step, row["loss/val"]) for step, row in fake.rows if "loss/val" in row] == val


def test_without_a_login_one_line_says_so_nothing_is_asked_and_training_continues(
    train: Train, small: Small, fake: FakeWandb
) -> None:
    fake.logged_in = False
    ran = train(small(wandb=True))
    assert notices(ran) == [
        "Weights & Biases is off, training continues: nobody is logged in; run `wandb login`, or set WANDB_MODE=offline"
    ]
    assert ran.result.reason == "completed" and not fake.asked and fake.torn_down == 1
    fake.mode = "offline"
    assert not notices(train(small(wandb=True), "offline")) and len(fake.asked) == 1


@pytest.mark.parametrize(("method", "end"), [("log", ": the server\n said  no"), ("init", ": the server said no")])
def test_a_service_that_fails_at_the_start_or_later_is_one_notice(
    method: str, end: str, train: Train, small: Small, fake: FakeWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("the server\n said  no")

    monkeypatch.setattr(fake, method, fails)
    ran = train(small(wandb=True))
    (notice,) = notices(ran)
    assert " is off, training continues" in notice and notice.endswith(end)
    assert ran.result.reason == "completed" and fake.torn_down == (method == "init")


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
    journal = curves_in_journal(tmp_path / "run")
    journal_steps = next(read_journal(tmp_path / "run")).steps_per_epoch
    assert losses == pytest.approx(journal["loss/train"]) and len(losses) == 2 * journal_steps
    assert values == pytest.approx(journal["loss/val"]) and ended
    assert projects == {("mine", "run")}
