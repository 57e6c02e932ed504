"""What a user says about a run: its name, a note and tags, kept in its folder."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.process.prepare import prepare_folder
from fundamentallm.run.folder import NOTES, choose_folder
from fundamentallm.run.locks import RunLock
from fundamentallm.run.notes import (
    Notes,
    delete_run,
    keep_former_name,
    parse_tags,
    read_notes,
    rename_run,
    renamed_to,
    write_notes,
)
from fundamentallm.run.spec import RunSpec
from fundamentallm.run.summary import find_run, find_runs, summarize
from fundamentallm.train.checkpoint import load
from tests.conftest import file_contents
from tests.engine.run.conftest import progress, started, write_journal


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("prose-1", "prose-2"):
        write_journal(Path("runs", name), started(), progress(1, 7))
    return Path("runs")


def test_notes_are_kept_shown_by_list_and_show_and_deleted_with_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("runs/prose-1")
    write_notes(folder, note="less dropout, é", tags=parse_tags("good, night good"))
    assert write_notes(folder, note="again") == read_notes(folder) == Notes("again", ("good", "night"))
    assert main(["runs", "list", "--json"]) == main(["runs", "show", "prose-1"]) == 0
    listed, _, shown = capsys.readouterr().out.partition("]\nruns/prose-1\n")
    notes = {run["folder"]: (run["note"], run["tags"]) for run in json.loads(listed + "]")}
    assert notes == {"runs/prose-1": ("again", ["good", "night"]), "runs/prose-2": ("", [])}
    assert "  note        again\n" in shown and "  tags        good, night\n" in shown
    assert delete_run(folder) == [] and not folder.exists()


OURS = '"tags": ["a"], "former_names": []'
FOREIGN: list[bytes] = [
    b"", b"{", b"{}", b"[]", b"null", b"\xff", b'{"note": "mine"}', b'{"chapters": []}', b"[" * 30_000,
    b"{" + b" " * (1 << 19) + b"}", f'{{"note": 7, {OURS}}}'.encode(), f'{{"note": "x", "by": "me", {OURS}}}'.encode(),
]  # fmt: skip


@pytest.mark.parametrize("text", FOREIGN)
def test_notes_of_another_program_break_nothing_and_are_neither_replaced_nor_deleted(runs: Path, text: bytes) -> None:
    folder = runs / "prose-1"
    path = folder / NOTES
    path.write_bytes(text)
    assert read_notes(folder) == Notes() and len(find_runs()) == 2
    before = file_contents(folder)
    way = r"^runs/prose-1/notes.json: was not written by this program and is in the way; give it another name$"
    for change in (lambda: write_notes(folder, note="x"), lambda: rename_run(folder, "night")):
        with pytest.raises(UserError, match=way):
            change()
    assert {name: data for name, data in file_contents(folder).items() if name != "lock"} == before
    assert delete_run(folder) == [NOTES] and file_contents(folder) == {NOTES: text}


def test_the_longest_notes_are_read_back(runs: Path) -> None:
    notes = Notes("\U0001f600" * 1000, tuple(f"{n:040}" for n in range(20)), ("\U0001f600" * 100,) * 100)
    assert write_notes(runs / "prose-1", **vars(notes)) == notes == read_notes(runs / "prose-1")


def test_notes_are_bounded_and_never_written_through_a_link(runs: Path, tmp_path: Path) -> None:
    folder, other = runs / "prose-1", tmp_path / "other"
    other.write_text("mine")
    (folder / NOTES).symlink_to(other)
    with pytest.raises(UserError, match="was not written by this program and is in the way; give it another name$"):
        write_notes(folder, note="x")
    assert other.read_text() == "mine" and delete_run(folder) == [NOTES]
    write_journal(folder, started())
    (folder / NOTES).unlink()
    notes = write_notes(folder, note="x" * 1000, tags=parse_tags(" ".join(f"{n}" * 20 for n in range(20))))
    for tags in ("y" * 41, " ".join(map(str, range(21)))):
        with pytest.raises(UserError, match="^a run has 20 tags at most, each of 40 characters at most$"):
            write_notes(folder, tags=parse_tags(tags))
    with pytest.raises(UserError, match="^a note of 9,000 characters; 1,000 are the most$"):
        write_notes(folder, note="x" * 9000)
    assert read_notes(folder) == notes, "nothing is cut in silence"


def test_a_branch_belongs_to_the_run_that_was_there_before_it(runs: Path) -> None:
    old, branch = runs / "old", runs / "branch"
    write_journal(old, started(), progress(1, 7))
    write_journal(branch, started(5, resumed_from="runs/old/last.pt"), progress(6, 7))
    assert summarize(branch).parent_folder == old
    aside = old.rename(runs / "old.old-1")
    assert summarize(branch).parent_folder == old, "nothing has its name"
    time.sleep(0.01)  # times in a journal are whole milliseconds
    write_journal(old, started(), progress(1, 7))
    assert summarize(branch).parent_folder is None, "another run has its name"
    keep_former_name(aside, "old")
    assert summarize(branch).parent_folder == aside
    time.sleep(0.01)
    later = runs / "another"
    write_journal(later, started(), progress(1, 7))
    keep_former_name(later, "old")
    assert summarize(branch).parent_folder == aside, "the other one had the name after the branch began"


def test_a_renamed_run_is_whole_and_who_names_the_old_folder_is_told_the_new_one(runs: Path) -> None:
    old, before = runs / "prose-1", file_contents(runs / "prose-1")
    night = rename_run(old, "night, less dropout")
    assert night == runs / "night, less dropout" and not old.exists()
    after = file_contents(night)
    assert {name: after[name] for name in before} == before and summarize(night).steps == 7
    assert renamed_to(rename_run(night, "late").with_name("prose-1")) == runs / "late", "renamed twice"
    hint = "that run was renamed to runs/late"
    with pytest.raises(UserError, match="^prose-1: no such run; it was renamed to runs/late$"):
        find_run("prose-1")
    with pytest.raises(UserError, match=f"^runs/prose-1/last.pt: no such checkpoint; {hint}$"):
        load(old / "last.pt")
    with pytest.raises(UserError, match=f"^--resume-from runs/prose-1/last.pt: no such checkpoint; {hint}$"):
        prepare_folder(RunSpec(Config(), old, old / "last.pt"))
    with pytest.raises(UserError, match=f"there is no such run; {hint}; leave out --resume to begin another$"):
        prepare_folder(RunSpec(Config(), old, auto=True))
    assert not old.exists() and choose_folder(Config(("prose.txt",))) == runs / "prose-3", "its name is taken"


REFUSED = {
    "": "is no name for a run", "a/b": "is no name", "..": "is no name", "-x": "is no name",
    "a\x1bb": "'a\\x1bb': is no name", "a\nb": "'a\\nb': is no name", "a\tb": "is no name", "a\n": "is no name",
    "a ": "is no name", " a": "is no name", "a\u3000": "is no name", "a\udce9": "is no name", "~a": "is no name",
    "x" * 101: "is no name", "\U0001f600" * 64: "is no name", "\0": "is no name",
    "prose-2": "there is one already; choose another name", "prose-1": "there is one already",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_cannot_be_is_refused_in_one_line(runs: Path, name: str) -> None:
    before = file_contents(runs)
    with pytest.raises(UserError) as refused:
        rename_run(runs / "prose-1", name)
    assert REFUSED[name] in str(refused.value) and "\n" not in str(refused.value) and file_contents(runs) == before


def test_a_run_under_way_and_a_link_are_not_renamed(runs: Path) -> None:
    with RunLock(runs / "prose-1"), pytest.raises(UserError, match="runs/prose-1: is being written by process"):
        rename_run(runs / "prose-1", "night")
    Path("runs/link").symlink_to("prose-2")
    with pytest.raises(UserError, match="runs/link: is a link to"):
        rename_run(Path("runs/link"), "night")
    assert sorted(path.name for path in runs.iterdir()) == ["link", "prose-1", "prose-2"]


@pytest.mark.parametrize(
    "begun, parent",
    [
        ({"initialised_from": "runs/old/best.pt"}, "runs/old/best.pt"),
        ({"resumed_from": "runs/old/last.pt"}, "runs/old/last.pt"),
        ({"resumed_from": "runs/child/last.pt"}, ""),  # its own journal was lost
        ({}, ""),
    ],
)
def test_the_parent_of_a_run_is_where_its_first_start_came_from(begun: dict[str, Any], parent: str) -> None:
    folder = Path("runs/child")
    write_journal(folder, started(**begun), progress(1, 3), started(3, resumed_from="runs/child/last.pt"))
    assert summarize(folder).parent == parent


def test_a_run_is_not_its_own_parent_however_its_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    write_journal(Path("runs/child"), started(3, resumed_from="runs/child/last.pt"), progress(4, 5))
    Path("best").symlink_to("runs/child")
    monkeypatch.chdir("runs/child")
    assert [summarize(Path(name)).parent for name in (".", "../child", "../../best")] == ["", "", ""]


def test_the_current_folder_is_renamed_by_its_name(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs / "prose-1")
    night = rename_run(Path(), "night")
    assert night == Path.cwd() and night.name == "night" and read_notes(night).former_names == ("prose-1",)
