"""A run's folder: which one a run may use, and what moving, deleting and writing leave behind."""

from pathlib import Path

import pytest

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.run.folder import check_folder, choose_folder, delete_run, move_aside, write_atomic
from fundamentallm.run.locks import RunLock


def test_folders_are_numbered_by_what_they_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_folder(Config(("x/poems.txt",))) == Path("runs/poems-1")
    Path("runs/tiny-1").mkdir(parents=True)
    assert choose_folder(Config(("x/poems.txt",)), "tiny") == Path("runs/tiny-2")
    assert choose_folder(Config(output_dir="here"), "tiny") == Path("here")
    with pytest.raises(UserError, match="cannot be looked up: embedded null byte"):
        choose_folder(Config(data=("a\0b",)))


def test_a_folder_that_holds_a_run_is_never_overwritten(tmp_path: Path) -> None:
    check_folder(tmp_path, may_hold_run=False)
    journal = tmp_path / "journal.jsonl"
    journal.write_text("{}\n")
    check_folder(tmp_path, may_hold_run=True)
    refused = {
        tmp_path: "holds a run already; resume it with --resume auto",
        journal: "is a file; name a folder",
        journal / "below": "cannot be written to",
    }
    for folder, text in refused.items():
        with pytest.raises(UserError, match=text):
            check_folder(folder, may_hold_run=False)
    assert [path.name for path in tmp_path.iterdir()] == ["journal.jsonl"]


def test_overwriting_moves_the_old_run_aside_with_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for n in (1, 2):
        folder.mkdir()
        (folder / "journal.jsonl").write_text(f"{n}")
        (folder / "last.pt").write_text("x")
        aside = move_aside(folder)
        assert aside == tmp_path / f"run.old-{n}" and not folder.exists()
        contents = {path.name: path.read_text() for path in aside.iterdir()}
        assert contents == {"journal.jsonl": f"{n}", "last.pt": "x", "lock": ""}
    assert move_aside(folder) is None


def test_deleting_a_run_takes_its_own_files_only_and_never_while_it_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(UserError, match="holds no run"):
        delete_run(folder)
    for name in ("journal.jsonl", "last.pt", ".last.pt.7.tmp", "config.yaml", "mine.txt"):
        (folder / name).write_text("x")
    with RunLock(folder), pytest.raises(UserError, match="is being written"):
        delete_run(folder)
    assert delete_run(folder) == ["mine.txt"] and [path.name for path in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    (folder / "journal.jsonl").touch()
    assert delete_run(folder) == [] and not folder.exists()


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.yaml"
    write_atomic(path, "é\r\n")
    assert path.read_bytes() == "é\r\n".encode()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == "é\r\n".encode() and [*tmp_path.iterdir()] == [path]
