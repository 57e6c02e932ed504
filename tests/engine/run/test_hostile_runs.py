"""Someone else's runs: what is resumed, commanded or watched reaches nothing outside of its folder."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.config.files import load_config, to_yaml
from fundamentallm.run.events import CheckpointSaved, Failed, Intervention, Notice, RunStarted
from fundamentallm.run.journal import Journal, read_journal
from fundamentallm.run.locks import RunLock
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import trackers
from fundamentallm.train.checkpoint import Checkpoint, load, save
from fundamentallm.train.trainer import Trainer
from tests.engine.run.conftest import evaluated, finished, started

WRITTEN = ("journal.jsonl", "config.yaml", "tokenizer.json", "engine.log", "lock", "commands.jsonl", "wandb")
EVIL = "\x1b]52;c;AAAA\x07\x1b[2J\x9b31m\u202e\u200b\u2028\ufeff\r\x00\U000e0041"
Train = Callable[..., Any]
Small = Callable[..., Config]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the user works; all else is beside it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def theirs(here: Path, train: Train, small: Small) -> Path:
    """The folder of someone else's run, stopped half-way."""
    ran = train(small(epochs=1), "here/theirs")
    state = load(ran.folder / "last.pt")
    for path in ran.folder.glob("*.pt"):
        if path.name != "last.pt":
            path.unlink()
    return change(ran.folder, state, epochs=2)


def change(folder: Path, state: Checkpoint | None = None, **settings: Any) -> Path:
    state = state or load(folder / "last.pt")
    save(Checkpoint(**{**vars(state), "config": {**state.config, **settings}}), folder, ["last.pt"])
    return folder


def notices(folder: Path) -> list[str]:
    return [event.text for event in read_journal(folder) if isinstance(event, Notice)]


def everything(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in folder.rglob("*")}


@pytest.fixture
def contacted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The projects at Weights & Biases that a run tried to reach; each attempt fails."""
    projects: list[str] = []
    monkeypatch.setattr(trackers, "WeightsAndBiases", lambda project, *_: projects.append(project) or 1 / 0)
    return projects


# ---- resumed ----


def test_someone_elses_run_writes_below_its_own_folder_only_and_contacts_nobody(
    here: Path, theirs: Path, tmp_path: Path, contacted: list[str]
) -> None:
    logs = str(tmp_path / "logs")
    change(theirs, output_dir=str(tmp_path / "out"), log_dir=logs, tensorboard=True, wandb=True, project="../../x")
    before = {path: seen for path, seen in everything(tmp_path).items() if "theirs" not in path}
    assert main(["train", "--resume-from", str(theirs)]) == 0
    after = {path: seen for path, seen in everything(tmp_path).items() if "theirs" not in path}
    new = after.keys() - before.keys()
    assert new == {str(here / "runs")}  # TensorBoard's place where nobody says another; the curves are in runs/theirs
    assert list(here.glob("runs/theirs/events.out.*")) and not Path(logs).exists() and contacted == []
    told = notices(theirs)
    assert f"TensorBoard's files go to runs; the run had {logs}, which" in " ".join(told)
    assert any("--wandb turns it on" in text for text in told)
    start = [event for event in read_journal(theirs) if isinstance(event, RunStarted)][-1]
    assert (start.config["output_dir"], start.config["wandb"]) == (str(theirs), False)


def test_what_the_command_itself_asks_for_is_done(
    here: Path, theirs: Path, tmp_path: Path, contacted: list[str]
) -> None:
    logs = str(tmp_path / "logs")
    change(theirs, log_dir=logs, tensorboard=True, wandb=True, project="mine")
    assert main(["train", "--resume-from", str(theirs), "--log-dir", logs, "--wandb"]) == 0
    assert list(Path(logs).glob("theirs/events.out.*")) and contacted == ["mine"]
    assert not any("turns it on" in text or "--log-dir" in text for text in notices(theirs))


@pytest.mark.parametrize("checkpoints", [True, False])
def test_the_configuration_in_the_folder_has_no_more_rights(
    checkpoints: bool,
    here: Path,
    theirs: Path,
    tmp_path: Path,
    contacted: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs = str(tmp_path / "logs")
    changes = {"log_dir": logs, "tensorboard": True, "wandb": True}
    config = load_config(change(theirs, **changes) / "config.yaml").values
    (theirs / "config.yaml").write_text(to_yaml(resolve(Layer({**config, **changes}))))
    if not checkpoints:
        (theirs / "last.pt").unlink()
    assert main(["train", "--resume", "auto", "--output-dir", str(theirs)]) == 0
    told = capsys.readouterr().err
    assert f"TensorBoard's files go to runs; the run had {logs}, which" in told
    assert told.count("Weights & Biases is off: the run had it on") == told.count("TensorBoard's") == 1
    assert not Path(logs).exists()
    again = ["--resume", "auto", "--output-dir", str(theirs), "--wandb", "--log-dir", logs, "--epochs", "3"]
    assert contacted == [] and main(["train", *again]) == 0
    assert contacted and set(contacted) == {"fundamentallm"} and list(Path(logs).glob("theirs/events.out.*"))


@pytest.mark.parametrize("log_dir", ["logs", "here/../logs", "theirs/logs"])
def test_a_log_folder_near_the_run_stays(log_dir: str, here: Path, theirs: Path) -> None:
    change(theirs, log_dir=log_dir, tensorboard=True)
    assert main(["train", "--resume-from", str(theirs)]) == 0
    assert list(Path(log_dir).resolve().glob("theirs/events.out.*")) or log_dir.startswith("here")


def test_the_same_command_typed_again_means_the_same_trackers(
    here: Path, tmp_path: Path, small: Small, contacted: list[str]
) -> None:
    config = small(tensorboard=True, log_dir=str(tmp_path / "logs"), wandb=True)
    for first in (True, False):
        spec = RunSpec(config, here / "mine", auto=True)
        spec.folder.mkdir(exist_ok=True)
        trainer = Trainer(spec, lambda event: None, lambda: ())
        if first:
            trainer.stop()
        trainer.run()
        trainer.close()
    assert contacted == ["fundamentallm"] * 2 and not Path("runs").exists()


@pytest.mark.parametrize(
    ("named", "words"),
    [("/dev/zero", "not a regular file"), ("pipe", "not a regular file"), ("/etc/hostname", ""), ("~nobody-x/a", "")],
)
def test_data_that_someone_else_names_is_neither_waited_for_nor_trained_on(
    named: str, words: str, here: Path, theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    change(theirs, data=[named])
    before = everything(theirs)
    for rest in ([], ["--dry-run"]):
        assert main(["train", "--resume-from", str(theirs), *rest]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and words in lines[0]
    assert everything(theirs) == before


def test_live_changes_that_no_run_can_have_made_are_not_repeated(here: Path, theirs: Path) -> None:
    journal = Journal(theirs)
    step = load(theirs / "last.pt").counters["step"]
    made = [
        ("output_dir", "/tmp/x"), ("model_dim", 4), ("__class__", "x"), ("unknown", 1), ("learning_rate", "0.5"),
        ("learning_rate", 7.0), ("learning_rate", None), ("epochs", True), ("dropout", [0.1]), ("eval_every", 10**30),
        ("wandb", True), ("log_dir", "/tmp"), ("gradient_clip", 0.25),
    ]  # fmt: skip
    for setting, new in made:
        journal.append(Intervention(step=step, setting=setting, old=None, new=new, who="eve"))
    journal.close()
    known = len(list(read_journal(theirs)))
    text = load(theirs / "last.pt").settings().data[0]
    assert main(["train", text, "--output-dir", str(theirs), "--resume", "auto", "--quiet"]) == 0
    again = [event for event in list(read_journal(theirs))[known:] if isinstance(event, Intervention)]
    assert [(event.setting, event.new) for event in again if event.setting != "eval_every"] == [("gradient_clip", 0.25)]


def test_checkpoints_that_are_no_files_are_skipped(here: Path, theirs: Path) -> None:
    (theirs / "gone.pt").symlink_to("/nowhere/at/all")
    (theirs / "folder.pt").mkdir()
    os.mkfifo(theirs / "pipe.pt")
    text = load(theirs / "last.pt").settings().data[0]
    assert main(["train", text, "--output-dir", str(theirs), "--resume", "auto", "--quiet", "--epochs", "2"]) == 0


# ---- links ----


@pytest.mark.parametrize("name", WRITTEN)
def test_no_link_in_someone_elses_folder_leads_a_run_out_of_it(
    name: str, here: Path, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    (theirs / name).unlink(missing_ok=True)
    (theirs / name).symlink_to(precious)
    text = load(theirs / "last.pt").settings().data[0]
    for words in (["train", "--resume-from", str(theirs)], ["train", text, "--output-dir", "theirs", "--overwrite"],
                  ["train", text, "--output-dir", "theirs", "--resume", "auto"], ["pause", "theirs"],
                  ["train", "--resume-from", str(theirs), "--detach"]):  # fmt: skip
        assert main(words) in (1, 2), words
        assert len(capsys.readouterr().err.splitlines()) == 1, words
    assert precious.read_text() == "mine\n" and (theirs / name).is_symlink()


def test_a_lock_that_is_a_link_is_never_written(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(Exception, match="cannot be opened"):
        RunLock(tmp_path)
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["config.yaml", "tokenizer.json", "best.pt"])
def test_a_configuration_leads_into_no_folder_whose_files_a_run_would_replace(
    name: str, here: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a project of another program, which a theirs's `output_dir` names."""
    Path("project").mkdir()
    Path("project", name).write_text("precious")
    Path("c.yaml").write_text(f"output_dir: project\ndata: {data}\n")
    assert main(["train", "--config", "c.yaml"]) == 2
    assert f"holds a {name} that belongs to no run" in capsys.readouterr().err
    assert Path("project", name).read_text() == "precious"


# ---- watched ----


def hostile(folder: Path) -> Path:
    """A run each of whose texts steers terminals."""
    folder.mkdir()
    config = {"data": [EVIL, "/etc/passwd"], "device": EVIL, "epochs": EVIL, "project": [EVIL], EVIL: EVIL}
    journal = Journal(folder)
    texts = dict.fromkeys(("version", "device", "torch", "host", "resumed_from"), EVIL)
    journal.append(started(config=config, **texts))
    journal.append(Notice(step=1, level=EVIL, text=EVIL))
    journal.append(evaluated(1, 1.0))
    journal.append(CheckpointSaved(step=1, path=f"../../{EVIL}", kind="last", bytes=1, seconds=0.0))
    journal.append(Failed(step=1, error=EVIL, advice=EVIL, saved=f"/etc/{EVIL}"))
    journal.append(finished(1, EVIL, path="../../etc/passwd", unsaved=EVIL))
    journal.close()
    (folder / "lock").write_text(json.dumps({"pid": 7, "host": EVIL}))
    (folder / f"file{EVIL}".replace("\x00", "")).touch()
    return folder


def test_no_text_of_a_run_reaches_the_terminal_as_a_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"run{EVIL}".replace("\x00", "").replace("\n", "")
    folder = hostile(here / name)
    for words in (["runs", "list"], ["runs", "list", "."], ["runs", "show", name], ["runs", "compare", name, name],
                  ["runs", "plot", name], ["watch", name], ["pause", name], ["stop", name],
                  ["runs", "show", f"{name}x"], ["runs", "export", name, "--csv", f"{name}/no/x"],
                  ["train", EVIL], ["train", "--preset", EVIL], ["generate", name], ["generate", f"{name}/last.pt"],
                  ["data", "inspect", name], [EVIL], ["train", f"--{EVIL}"], ["set", name, EVIL]):  # fmt: skip
        main(words)
        out, err = capsys.readouterr()
        assert not set(out + err) & set(EVIL) - {"C", "A", *"]52;c[J31m"}, words
    main(["watch", str(folder)])
    told = "".join(capsys.readouterr())
    assert f"{folder}/passwd".replace(EVIL, "") and "../" not in told and "/etc/" not in told


@pytest.mark.parametrize("config", [{}, {"data": 7, "epochs": None}, {"data": [["x"]], "epochs": {"a": 1}}])
def test_a_run_whose_configuration_is_nonsense_can_be_watched(
    config: dict[str, Any], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile(here / "run")
    lines = (here / "run/journal.jsonl").read_text().splitlines()
    values = json.loads(lines[0])
    (here / "run/journal.jsonl").write_text("\n".join([json.dumps(values | {"config": config}), *lines[1:], ""]))
    for words in (["watch", "run"], ["runs", "list"], ["runs", "show", "run"], ["runs", "compare", "run", "run"]):
        assert main(words) == 0, words


def test_a_watcher_opens_no_file_that_a_journal_names(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.txt").write_text("hunter2 is the word")
    hostile(here / "run")
    path = here / "run/journal.jsonl"
    path.write_text(path.read_text().replace("/etc/passwd", str(tmp_path / "secret.txt")))
    (here / "run/best.pt").touch()
    assert main(["watch", "run"]) == 0
    assert "hunter2" not in "".join(capsys.readouterr())
