"""Someone else's runs reach nothing outside of their folders, and any journal is read soon and without an error."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.cli import main
from fundamentallm.cli.report import Report
from fundamentallm.config.config import Config, Layer, resolve
from fundamentallm.config.files import load_config, to_yaml
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events, locks
from fundamentallm.run.commands import Stop
from fundamentallm.run.events import JOURNAL, CheckpointSaved, Failed, Notice, RunStarted
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import journal_reader, read_journal
from fundamentallm.run.summary import find_runs, summarize
from fundamentallm.train import trackers
from fundamentallm.train.checkpoint import Checkpoint, latest_valid_checkpoint, load, save
from fundamentallm.untrusted import MAX_EVENT_BYTES, MAX_TIME
from tests.conftest import file_contents, journal_events
from tests.engine.run.conftest import evaluated, finished, progress, started, write_journal
from tests.hostile import lines

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


def notices(folder: Path) -> str:
    return " ".join(event.text for event in journal_events(folder, Notice))


@pytest.fixture
def contacted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The projects at Weights & Biases that a run tried to reach; each attempt fails."""
    projects: list[str] = []
    for name in ("wandb", "mlflow"):
        fake = (name, lambda config, *_: projects.append(config.project) or 1 / 0)
        monkeypatch.setitem(trackers.TRACKERS, name, fake)
    return projects


# ---- resumed ----


def test_someone_elses_run_writes_below_its_own_folder_only_and_contacts_nobody(
    here: Path, theirs: Path, tmp_path: Path, contacted: list[str]
) -> None:
    def outside() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if "theirs" not in path.parts}

    logs, before = str(tmp_path / "logs"), outside()
    change(
        theirs,
        output_dir=str(tmp_path / "out"),
        log_dir=logs,
        tensorboard=True,
        wandb=True,
        track=["mlflow"],
        project="../../x",
    )
    assert main(["train", "--resume-from", str(theirs)]) == 0
    assert outside() - before == {here / "runs"}  # where TensorBoard's files go if nobody names another folder
    assert list(here.glob("runs/theirs/events.out.*")) and contacted == []
    assert f"TensorBoard's files go to runs; the run had {logs}, which" in notices(theirs)
    assert "--wandb turns it on" in notices(theirs) and "not tracked by mlflow as the run was" in notices(theirs)
    start = journal_events(theirs, RunStarted)[-1]
    assert (start.config["output_dir"], start.config["wandb"]) == (str(theirs), False)


@pytest.mark.parametrize(
    ("log_dir", "flags", "projects"),
    [
        ("logs", [], []),
        ("theirs/../logs", [], []),
        ("theirs/logs", [], []),
        ("../logs", ["--log-dir", "../logs", "--wandb"], ["mine"]),
    ],
)
def test_a_log_folder_near_the_run_stays_and_what_the_command_itself_asks_for_is_done(
    log_dir: str, flags: list[str], projects: list[str], theirs: Path, contacted: list[str]
) -> None:
    change(theirs, log_dir=log_dir, tensorboard=True, wandb=True, project="mine")
    assert main(["train", "--resume-from", str(theirs), *flags]) == 0
    assert list(Path(log_dir).glob("theirs/events.out.*")) and contacted == projects
    assert "--log-dir" not in notices(theirs) and ("turns it on" in notices(theirs)) == (not projects)


@pytest.mark.parametrize("checkpoints", [True, False])
def test_the_configuration_in_the_folder_has_no_more_rights(
    checkpoints: bool, theirs: Path, tmp_path: Path, contacted: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    logs = str(tmp_path / "logs")
    changes = {"log_dir": logs, "tensorboard": True, "wandb": True}
    config = load_config(change(theirs, **changes) / "config.yaml").values
    (theirs / "config.yaml").write_text(to_yaml(resolve(Layer({**config, **changes}))))
    if not checkpoints:
        (theirs / "last.pt").unlink()
    command = ["train", "--resume", "auto", "--output-dir", str(theirs)]
    assert main(command) == 0
    printed = capsys.readouterr().err
    assert f"TensorBoard's files go to runs; the run had {logs}, which" in printed
    assert printed.count("Weights & Biases is off: the run had it on") == printed.count("TensorBoard's") == 1
    assert not Path(logs).exists()
    assert contacted == [] and main([*command, "--wandb", "--log-dir", logs, "--epochs", "3"]) == 0
    assert set(contacted) == {"fundamentallm"} and list(Path(logs).glob("theirs/events.out.*"))


def test_the_same_command_typed_again_means_the_same_trackers(
    here: Path, tmp_path: Path, train: Train, small: Small, contacted: list[str]
) -> None:
    config = small(tensorboard=True, log_dir=str(tmp_path / "logs"), wandb=True)
    for script in ({5: [Stop()]}, {}):
        train(config, "here/mine", script, auto=True)
    assert contacted == ["fundamentallm"] * 2 and not Path("runs").exists()


@pytest.mark.parametrize(
    ("named", "words"),
    [("/dev/zero", "not a regular file"), ("pipe", "not a regular file"), ("/etc/hostname", ""), ("~nobody-x/a", "")],
)
def test_data_that_someone_else_names_is_neither_waited_for_nor_trained_on(
    named: str, words: str, theirs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo("pipe")
    change(theirs, data=[named])
    before = file_contents(theirs)
    for rest in ([], ["--dry-run"]):
        assert main(["train", "--resume-from", str(theirs), *rest]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and words in lines[0]
    assert file_contents(theirs) == before


def test_checkpoints_that_are_no_files_are_skipped(theirs: Path) -> None:
    (theirs / "gone.pt").symlink_to("/nowhere/at/all")
    (theirs / "folder.pt").mkdir()
    os.mkfifo(theirs / "pipe.pt")
    assert latest_valid_checkpoint(theirs)[::2] == (theirs / "last.pt", [])


@pytest.mark.parametrize("name", WRITTEN)
def test_no_link_in_someone_elses_folder_leads_a_run_out_of_it(
    name: str, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


# ---- watched ----


def hostile(folder: Path, secret: str, **config: Any) -> Path:
    """A run each of whose texts steers terminals, and which names a file outside of its folder."""
    texts = dict.fromkeys(("version", "device", "torch", "host", "resumed_from"), EVIL)
    write_journal(
        folder,
        started(config={"data": [EVIL, secret], "device": EVIL, "epochs": EVIL, EVIL: EVIL, **config}, **texts),
        Notice(step=1, level=EVIL, text=EVIL),
        evaluated(1, 1.0),
        CheckpointSaved(step=1, path=f"../../{EVIL}", kind="last", bytes=1, seconds=0.0),
        Failed(step=1, error=EVIL, advice=EVIL, saved=f"/etc/{EVIL}"),
        finished(1, EVIL, path=f"../..{secret}", unsaved=EVIL),
    )
    (folder / "lock").write_text(json.dumps({"pid": 7, "host": EVIL}))
    (folder / f"file{EVIL}".replace("\x00", "")).touch()
    return folder


def test_no_text_of_a_run_reaches_the_terminal_as_a_command(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"run{EVIL}".replace("\x00", "").replace("\n", "")
    folder = hostile(here / name, "/etc/passwd", project=[EVIL], data=[f"a\n{EVIL}"])
    for words in (["runs", "list"], ["runs", "list", "."], ["runs", "show", name], ["runs", "compare", name, name],
                  ["runs", "plot", name], ["watch", name], ["pause", name], ["stop", name],
                  ["runs", "show", f"{name}x"], ["runs", "export", name, "--csv", f"{name}/no/x"],
                  ["runs", "report", name], ["runs", "report", name, "--output", EVIL],
                  ["train", EVIL], ["train", "--preset", EVIL], ["generate", name], ["generate", f"{name}/last.pt"],
                  ["data", "inspect", name], [EVIL], ["train", f"--{EVIL}"], ["set", name, EVIL]):  # fmt: skip
        main(words)
        out, err = capsys.readouterr()
        assert not set(out + err) & set(EVIL) - {"C", "A", *"]52;c[J31m"}, words
    assert main(["runs", "list", "."]) == 0 and capsys.readouterr().out.count("\n") == 2, "a row is one line"
    main(["watch", str(folder)])
    printed = "".join(capsys.readouterr())
    assert f"{folder}/passwd".replace(EVIL, "") and "../" not in printed and "/etc/" not in printed


@pytest.mark.parametrize("config", [{}, {"data": 7, "epochs": None}, {"data": [["x"]], "epochs": {"a": 1}}])
def test_a_run_of_nonsense_can_be_watched_and_no_file_that_its_journal_names_is_opened(
    config: dict[str, Any], here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.txt").write_text("hunter2 is the word")
    folder = hostile(here / "run", str(tmp_path / "secret.txt"), **config)
    (folder / "best.pt").touch()
    for words in (["watch", "run"], ["runs", "list"], ["runs", "show", "run"], ["runs", "compare", "run", "run"]):
        assert main(words) == 0, words
    assert "hunter2" not in "".join(capsys.readouterr())


# ---- journals ----

STARTED, PROGRESS, FINISHED = started(), progress(1, 3), finished(3)


@given(found=st.lists(lines(), max_size=8))
def test_any_journal_can_be_listed_shown_compared_drawn_exported_and_watched(
    found: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    with write_journal(folder, STARTED).open("ab") as file:
        file.writelines(line + b"\n" for line in found)
    summary, history = summarize(folder), read_history(folder)
    assert summary.steps >= 0 and 0 <= summary.started <= MAX_TIME
    assert list(history.steps) == sorted(set(history.steps))
    columns = (history.steps, history.train_loss, history.learning_rate, history.grad_norm)
    assert len({len(column) for column in columns}) == 1
    commands = (
        f"list {folder}", f"list --json {folder}", f"show {folder}", f"compare {folder} {folder}", f"plot {folder}",
        f"plot --log {folder}", f"export {folder} --csv {folder / 'x.csv'}",
        f"report {folder}",
    )  # fmt: skip
    for command in commands:
        assert main(["runs", *command.split()]) == 0 or command.startswith("plot"), command  # nothing may be to draw
    report = Report(folder, ours=False)
    for event in read_journal(folder):
        report.on_event(event)


READ = """
import resource, sys
from pathlib import Path
from fundamentallm.run.history import read_history
from fundamentallm.run.summary import find_runs, summarize
from fundamentallm.run.journal import Journal, journal_reader
from fundamentallm.process.session import AttachedRun
folder = Path(sys.argv[1])
limit = 300 << 20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
attached = AttachedRun(folder)
print(len(journal_reader(folder).read()), len(attached.events(0.0)), len(attached.events(0.0)), summarize(folder).steps)
print(list(read_history(folder).steps), [run.steps for run in find_runs(folder)], Journal(folder).events_written)
"""


def test_a_gigabyte_without_a_line_end_is_skipped_in_little_memory(tmp_path: Path) -> None:
    with write_journal(tmp_path, STARTED).open("ab") as file:
        file.write(b'{"event":"progress","step":[' + b"1," * MAX_EVENT_BYTES + b"\n")
    with write_journal(tmp_path, PROGRESS).open("ab") as file:
        file.truncate(file.tell() + 2**29)  # zeros that take no room on the disk
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + events.encode(FINISHED).encode().replace(b'"seq":0', b'"seq":7') + b"\n")
        file.truncate(file.tell() + 2**29)
    result = subprocess.run([sys.executable, "-c", READ, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert result.stderr == "" and result.stdout.splitlines() == ["3 3 0 3", "[1, 2, 3] [3] 7"]


def test_a_pipe_or_a_device_in_place_of_a_file_is_not_waited_for(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    for name, make in (("pipe", os.mkfifo), ("zero", lambda path: os.symlink("/dev/zero", path))):
        refused = [
            f"train {name}/text.txt", f"train --config {name}/config.yaml", f"train --resume-from {name}/x.pt",
            f"generate {name}/x.pt", f"evaluate {name}/x.pt {name}/text.txt", f"data inspect {name}/text.txt",
            f"runs report {name}",
        ]  # fmt: skip
        folder = here / name
        folder.mkdir()
        make(folder / JOURNAL)
        assert find_runs(folder) == [] and journal_reader(folder).read() == []
        for command in (f"runs show {name}", f"runs export {name}"):
            assert main(command.split()) == 2
        (folder / JOURNAL).unlink()
        write_journal(folder, STARTED)
        for other in (
            "engine.log", "lock", "commands.jsonl", "tokenizer.json", "config.yaml", "text.txt", "x.pt", "notes.json",
            "report.md",
        ):  # fmt: skip
            make(folder / other)
        attached = AttachedRun(folder)
        assert attached.log_tail() == [] and not attached.alive and locks.holder(folder) == ""
        assert main(["runs", "show", name]) == 0
        for command in refused:
            capsys.readouterr()
            assert main(command.split()) == 2
            assert len(capsys.readouterr().err.splitlines()) == 1, command
