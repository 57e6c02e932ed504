"""A run's folder: which one a run may use, and what moving, deleting and writing leave behind."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.run.commands import COMMANDS, Stop
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.folder import (
    check_folder,
    choose_folder,
    find_checkpoint,
    free_name,
    move_aside,
    retire_name,
    temporary_path,
    write_atomic,
)
from fundamentallm.run.journal import Journal, send_command
from fundamentallm.run.locks import LOCK, RunLock
from fundamentallm.run.notes import delete_run, rename_run, renamed_to
from fundamentallm.run.spec import find_input
from fundamentallm.run.summary import find_run, find_runs
from tests.conftest import as_a_user, file_contents
from tests.engine.run.conftest import full, started, write_journal


def test_folders_are_numbered_by_what_they_train(here: Path) -> None:
    poems = Config(("x/poems.txt",))
    Path("runs/tiny-1").mkdir(parents=True)
    assert choose_folder(poems) == Path("runs/poems-1") and choose_folder(poems, "tiny") == Path("runs/tiny-2")
    assert choose_folder(Config(output_dir="here"), "tiny") == Path("here")
    for name, why in {"a\0b": "embedded null byte", "x" * 254: "File name too long"}.items():
        with pytest.raises(UserError, match=f"cannot be looked up: {why}$"):
            choose_folder(Config(data=(name,)))


def test_the_name_of_a_deleted_run_is_not_given_again(here: Path) -> None:
    for name in ("runs/poems-1", "runs/poems-2", "elsewhere/poems-3"):
        Path(name).mkdir(parents=True)
        (Path(name) / JOURNAL).touch()
    assert delete_run(Path("runs/poems-2")) == [] and delete_run(here / "elsewhere" / "poems-3") == []
    assert choose_folder(Config(("poems.txt",))) == Path("runs/poems-3")
    assert free_name(Path("runs/poems"), "-", first=2) == Path("runs/poems-3")
    delete_run(here / "runs" / "poems-1")
    assert choose_folder(Config(("poems.txt",))) == Path("runs/poems-3")
    assert Path("runs/.deleted").read_text() == "poems-2\npoems-1\n"


def test_a_folder_that_holds_a_run_or_files_that_a_run_would_replace_is_refused(tmp_path: Path) -> None:
    check_folder(tmp_path, may_hold_run=False)
    journal = tmp_path / "journal.jsonl"
    refused = {
        tmp_path: "holds a run already; resume it with --resume auto",
        journal: "is a file; name a folder",
        journal / "below": "cannot be written to",
    }
    ours = ("config.yaml", "tokenizer.json", "best.pt", "checkpoint_epoch_7.pt", "checkpoint_step_40.pt", "lock")
    for name in ours:  # as a project of another program has them
        project = tmp_path / "projects" / name
        project.mkdir(parents=True)
        (project / name).write_text("mine")
        refused[project] = f"holds a {name} that belongs to no run"
    journal.write_text("{}\n")
    check_folder(tmp_path, may_hold_run=True)
    before = file_contents(tmp_path)
    for folder, text in refused.items():
        with pytest.raises(UserError, match=text):
            check_folder(folder, may_hold_run=False)
    with pytest.raises(UserError, match="holds a lock that belongs to no run"):
        check_folder(tmp_path / "projects" / "lock", may_hold_run=True)  # as it may with --resume auto
    assert file_contents(tmp_path) == before


def test_the_files_of_a_run_are_written_through_no_link_and_into_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    writers: dict[str, Callable[[], Any]] = {
        LOCK: lambda: RunLock(tmp_path),
        JOURNAL: lambda: Journal(tmp_path),
        COMMANDS: lambda: send_command(tmp_path, Stop()),
        temporary_path(tmp_path / "config.yaml").name: lambda: write_atomic(tmp_path / "config.yaml", "x"),
        "runs/.deleted": lambda: retire_name(tmp_path / "runs" / "x"),
    }
    (tmp_path / "runs").mkdir()
    for name, write in writers.items():
        (tmp_path / name).symlink_to(tmp_path / "precious")
        with pytest.raises((UserError, OSError), match="symbolic link"):
            write()
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
        with pytest.raises((UserError, OSError), match="it is not a regular file"):
            write()
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("raw", [b"", b"\0" * 40, b'{"pid": 4711, "host": "gpu-3"}'])
def test_a_lock_that_a_killed_run_left_is_no_obstacle(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "lock").write_bytes(raw)
    check_folder(tmp_path, may_hold_run=False)


@pytest.mark.parametrize(("inside", "name"), [(".", "."), ("a", "..")])
def test_the_current_folder_is_not_moved_aside_under_a_name_that_would_still_mean_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str, name: str
) -> None:
    (tmp_path / "run" / inside).mkdir(parents=True)
    (tmp_path / "run" / "journal.jsonl").touch()
    monkeypatch.chdir(tmp_path / "run" / inside)
    with pytest.raises(UserError, match=f"cannot be moved aside under this name; write --output-dir {tmp_path}/run$"):
        move_aside(Path(name))


def test_deleting_a_run_takes_its_own_files_only_and_never_while_it_is_written(tmp_path: Path) -> None:
    folder, mine = tmp_path / "run", [".draft.old.tmp", "checkpoint_of_mine.pt", "embedding.pt", "mine.txt"]
    folder.mkdir()
    with pytest.raises(UserError, match="holds no run"):
        delete_run(folder)
    for name in ("journal.jsonl", "last.pt", "checkpoint_epoch_12.pt", ".last.pt.7.tmp", "config.yaml", *mine):
        (folder / name).write_text("x")
    with RunLock(folder), pytest.raises(UserError, match="is being written"):
        delete_run(folder)
    assert delete_run(folder) == mine == sorted(path.name for path in folder.iterdir())
    for name in mine:
        (folder / name).unlink()
    (folder / "journal.jsonl").touch()
    assert delete_run(folder) == [] and not folder.exists()


@as_a_user
def test_a_run_in_a_folder_of_runs_that_is_another_users_is_deleted_without_an_error(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (folder := runs / "mine-1").mkdir(parents=True)
    (folder / "journal.jsonl").touch()
    (runs / ".deleted").touch(mode=0o444)  # another user's
    runs.chmod(0o555)
    assert delete_run(folder) == [] == list(folder.iterdir())
    runs.chmod(0o755)


def locked(folder: Path) -> Path:
    """A folder that nobody may look into."""
    folder.mkdir(mode=0)
    assert not os.access(folder, os.X_OK)
    return folder


@as_a_user
def test_a_kept_text_is_found_in_the_folder_whatever_is_where_it_was(tmp_path: Path) -> None:
    before = "x" * 300 + "/input.txt"
    assert find_input(Config((before,)), tmp_path).data == (before,)
    (tmp_path / "input.txt").write_text("the sea")
    assert find_input(Config((before,)), tmp_path).data == (str(tmp_path / "input.txt"),)
    before = str(locked(tmp_path / "locked") / "input.txt")
    assert find_input(Config((before,)), tmp_path).data == (str(tmp_path / "input.txt"),)


@as_a_user
def test_a_folder_that_may_not_be_looked_into_does_not_hide_the_others(here: Path) -> None:
    write_journal(here / "runs" / "prose", started())
    night = rename_run(here / "runs" / "prose", "prose at night")
    locked(here / "runs" / "a")
    locked(here / "prose at night")
    assert renamed_to(here / "runs" / "prose") == night and renamed_to(here / "runs" / "a" / "x") is None
    assert find_run("prose at night") == Path("runs/prose at night")


@as_a_user
def test_a_folder_that_may_not_be_looked_into_is_called_that(here: Path) -> None:
    write_journal(here / "runs" / "prose", started())
    locked(here / "runs" / "a")
    why = "a: cannot be read: Permission denied"
    for ask in (lambda: find_run("a"), lambda: find_checkpoint("runs/a", "best.pt")):
        with pytest.raises(UserError, match=why):
            ask()
    with pytest.raises(UserError, match=why):
        check_folder(here / "runs" / "a", may_hold_run=True)
    told: list[str] = []
    assert [run.folder.name for run in find_runs(unread=told.append)] == ["prose"]
    assert told == ["runs/a: cannot be looked into, so a run there is not listed"]


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    write_atomic(path, "é\r\n")
    assert path.read_bytes() == "é\r\n".encode()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == "é\r\n".encode() and [*tmp_path.iterdir()] == [path]
