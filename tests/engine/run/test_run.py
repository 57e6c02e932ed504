"""A run's directory: journal, lock, folders."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.process.prepare import prepared_folder
from fundamentallm.run import folder as run
from fundamentallm.run import locks
from fundamentallm.run.events import Event, Notice, encode
from fundamentallm.run.folder import check_folder, choose_folder, move_aside
from fundamentallm.run.journal import Journal, JournalReader, read_journal
from fundamentallm.run.locks import RunLock, holder, is_held
from fundamentallm.run.spec import RunSpec


def notice(text: Any) -> Notice:
    return Notice(step=0, level="info", text=str(text))


def texts(found: Any) -> list[str]:
    return [event.text for event in found]


# ---- journal ----


def test_the_journal_numbers_and_dates_what_is_said(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    said = [journal.append(notice(n)) for n in range(3)]
    assert [event.seq for event in said] == [1, 2, 3]
    assert all(event.time > 1.7e9 for event in said)
    assert list(read_journal(tmp_path)) == said
    assert (tmp_path / "journal.jsonl").read_text() == "".join(encode(event) + "\n" for event in said)


def test_one_write_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []
    monkeypatch.setattr(run.os, "write", lambda file, block: writes.append(block) or len(block))
    journal = Journal(tmp_path)
    journal.append(notice("a"))
    journal.append(notice("b"))
    assert [block.count(b"\n") for block in writes] == [1, 1]


@given(said=st.lists(st.text(), max_size=5), rest=st.binary(max_size=30))
def test_a_journal_is_read_back_as_it_was_said_whatever_stands_between(
    said: list[str], rest: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    for text in said:
        journal = Journal(folder)
        journal.append(notice(text))
        journal.close()
        with (folder / "journal.jsonl").open("ab") as file:
            file.write(rest)  # a line that something else left
    assert texts(read_journal(folder)) == said


def test_a_journal_torn_at_any_byte_reads_all_before_it_and_goes_on_counting(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for text in ("first", "second ☃", "third and last"):
        journal.append(notice(text))
    journal.close()
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes()
    third = whole.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(third, len(whole) + 1):
        path.write_bytes(whole[:end])
        lost = end < len(whole) - 1  # without its newline only, the line is still whole
        assert len(list(read_journal(tmp_path))) == (3 if end == len(whole) else 2)
        again = Journal(tmp_path)
        said = again.append(notice("more"))
        again.close()
        assert said.seq == (3 if lost else 4), end
        assert texts(read_journal(tmp_path)) == ["first", "second ☃", *([] if lost else ["third and last"]), "more"]


def test_the_last_number_is_found_behind_a_very_long_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(notice("x" * 300_000))
    journal.close()
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b"{torn" * 30_000)
    assert Journal(tmp_path).append(notice("y")).seq == 2


def test_a_reader_returns_whole_lines_only_and_each_once(tmp_path: Path) -> None:
    reader = JournalReader(tmp_path)
    assert reader.read() == []
    line = encode(notice("☃")).encode() + b"\n"
    with (tmp_path / "journal.jsonl").open("ab", buffering=0) as file:
        for n in range(len(line)):
            assert reader.read() == []
            file.write(line[n : n + 1])
        assert texts(reader.read()) == ["☃"]
        file.write(line + line[:9])
        assert texts(reader.read()) == ["☃"]
        file.write(line[9:])
        assert texts(reader.read()) == ["☃"]
    assert reader.read() == []


def test_a_full_disk_stops_neither_the_run_nor_the_order_of_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path)
    journal.append(notice("a"))
    write, room = os.write, [7, 0, 0]

    def tight(file: int, block: bytes) -> int:
        if not room:
            return write(file, block)
        if left := room.pop(0):
            return write(file, block[:left])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.os, "write", tight)
    assert journal.append(notice("b")).seq == 2
    with pytest.raises(OSError, match="No space"):
        journal.sync()
    assert texts(read_journal(tmp_path)) == ["a"]
    assert journal.append(notice("c")).seq == 3
    journal.sync()
    assert texts(read_journal(tmp_path)) == ["a", "b", "c"]


def test_sync_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, synced = Journal(tmp_path), []
    monkeypatch.setattr(run.os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    journal.append(notice("a"))
    journal.sync()
    assert synced == [(tmp_path / "journal.jsonl").stat().st_size] != [0]


def test_a_closed_journal_goes_on_numbering_and_writes_no_more(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(notice("a"))
    journal.close()
    after: Event = journal.append(notice("b"))
    assert after.seq == 2 and texts(read_journal(tmp_path)) == ["a"]


# ---- lock ----

HOLD = "import sys, time; from pathlib import Path; from fundamentallm.run.locks import RunLock; lock = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"  # noqa: E501


def test_a_second_process_is_refused_by_pid_and_let_in_after_a_kill(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            with pytest.raises(UserError, match=rf"is being written by process {process.pid} on "):
                RunLock(tmp_path)
            assert f"process {process.pid} on" in holder(tmp_path)
            (tmp_path / "journal.jsonl").touch()
            with pytest.raises(UserError, match=str(process.pid)):
                move_aside(tmp_path)
        finally:
            process.send_signal(signal.SIGKILL)
    with RunLock(tmp_path):
        assert f"process {os.getpid()} on" in holder(tmp_path)
    assert holder(tmp_path) == ""


def test_a_lock_is_free_after_release(tmp_path: Path) -> None:
    for _ in range(3):
        lock = RunLock(tmp_path)
        with pytest.raises(UserError, match=f"process {os.getpid()}"):
            RunLock(tmp_path)
        lock.release()
        lock.release()  # twice does no harm


# ---- folders ----


def test_folders_are_numbered_by_what_they_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_folder(Config(("x/poems.txt",))) == Path("runs/poems-1")
    Path("runs/tiny-1").mkdir(parents=True)
    assert choose_folder(Config(("x/poems.txt",)), "tiny") == Path("runs/tiny-2")
    assert choose_folder(Config(output_dir="here"), "tiny") == Path("here")


def test_a_folder_that_holds_a_run_is_never_written_over(tmp_path: Path) -> None:
    check_folder(tmp_path, may_hold_run=False)
    (tmp_path / "journal.jsonl").write_text("{}\n")
    with pytest.raises(UserError, match="holds a run already; resume it with --resume auto"):
        check_folder(tmp_path, may_hold_run=False)
    check_folder(tmp_path, may_hold_run=True)
    with pytest.raises(UserError, match="is a file; name a folder"):
        check_folder(tmp_path / "journal.jsonl", may_hold_run=False)
    with pytest.raises(UserError, match="cannot be written to"):
        check_folder(tmp_path / "journal.jsonl" / "below", may_hold_run=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal.jsonl"]


def test_overwriting_moves_the_old_run_aside_whole(tmp_path: Path) -> None:
    for n in (1, 2):
        folder = tmp_path / "run"
        folder.mkdir()
        (folder / "journal.jsonl").write_text(f"{n}")
        (folder / "last.pt").write_text("x")
        assert move_aside(folder) == tmp_path / f"run.old-{n}"
        assert not folder.exists()
        assert (tmp_path / f"run.old-{n}" / "journal.jsonl").read_text() == f"{n}"
        assert (tmp_path / f"run.old-{n}" / "last.pt").read_text() == "x"
    assert move_aside(folder) is None


# ---- disks that are full, processes that come at the same time ----


def test_a_lock_without_words_is_still_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.os, "write", full)
    lock = RunLock(tmp_path)
    assert is_held(tmp_path) and holder(tmp_path) == ""
    lock.release()
    assert not is_held(tmp_path)


def test_a_full_disk_is_asked_for_one_line_however_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To offer it everything each time would slow down training more and more."""
    journal, offered, write = Journal(tmp_path), list[int](), os.write
    with monkeypatch.context() as disk:
        disk.setattr(run.os, "write", lambda file, block: (offered.append(len(block)), full()))
        for n in range(100):
            journal.append(notice(n))
    assert len(offered) == 100 and max(offered) < 100
    with monkeypatch.context() as disk:
        disk.setattr(run.os, "write", lambda file, block: write(file, block[:7]))
        journal.append(notice(100))
    journal.close()
    assert texts(read_journal(tmp_path)) == [str(n) for n in range(101)]


def full(*_: Any) -> Any:
    raise OSError(28, "No space left on device")


def test_a_start_that_came_second_leaves_the_files_of_the_first_alone(tmp_path: Path, data: str) -> None:
    job = RunSpec(Config(data=(data,)), tmp_path / "run")
    with pytest.raises(UserError, match="is being written"), prepared_folder(job, False, print):
        first, journal = RunLock(job.folder), Journal(job.folder)  # which has said nothing yet
        RunLock(job.folder)
    journal.append(notice("a"))
    assert texts(read_journal(job.folder)) == ["a"] and is_held(job.folder)
    first.release()
    journal.close()


def test_a_text_whose_name_no_file_can_have_is_refused_in_a_line() -> None:
    with pytest.raises(UserError, match="cannot be looked up: embedded null byte"):
        choose_folder(Config(data=("a\0b",)))


def test_a_journal_that_the_system_could_not_write_out_does_not_count_as_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = [True]

    def fsync(file: int) -> None:
        if failing.pop():  # once; what it forgot then, a second call no longer knows of
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = Journal(tmp_path)
    journal.append(notice("a"))
    monkeypatch.setattr(os, "fsync", fsync)
    assert not journal.close() and not journal.close()


@pytest.mark.parametrize("how", ["removed", "moved aside", "another"])
def test_a_lock_on_a_file_that_is_not_there_any_more_is_none(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever held it took the folder back, or moved it, while we waited."""
    folder, real = tmp_path / "run", fcntl.flock
    folder.mkdir()

    def lock(file: int, kind: int) -> None:
        if how == "moved aside":
            folder.rename(tmp_path / "run.old-1")
        else:
            (folder / "lock").unlink()
        if how == "another":
            (folder / "lock").touch()
        real(file, kind)

    with monkeypatch.context() as patched:
        patched.setattr(locks.fcntl, "flock", lock)
        with pytest.raises(UserError, match="run: was moved or deleted during start-up; run the command again"):
            RunLock(folder)
    folder.mkdir(exist_ok=True)
    RunLock(folder).release()


def test_a_folder_in_which_a_process_left_its_last_words_is_not_taken_back(tmp_path: Path) -> None:
    """The old run is where it was moved, and a person is told so."""
    (tmp_path / "text.txt").write_text("the sea " * 200)
    folder = tmp_path / "run"
    folder.mkdir()
    Journal(folder).close()
    job = RunSpec(Config(data=(str(tmp_path / "text.txt"),)), folder)
    with pytest.raises(ValueError), prepared_folder(job, True, print) as aside:
        (folder / "engine.log").write_text("Traceback")
        raise ValueError
    assert aside == tmp_path / "run.old-1" and aside.is_dir()
    assert (folder / "engine.log").read_text() == "Traceback"
