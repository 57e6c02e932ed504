"""Who writes a run and who watches it, and when a paused run has lost its last console."""

import fcntl
import os
from pathlib import Path

import pytest

from fundamentallm.errors import UserError
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import locks
from fundamentallm.run.commands import Pause
from fundamentallm.run.folder import move_aside, write_atomic
from fundamentallm.run.locks import ConsoleLock, RunLock, holder, is_held, is_watched
from tests.engine.run.conftest import full, write_journal


def test_a_lock_is_free_after_release_and_counts_also_where_a_full_disk_keeps_its_text_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner in (f"process {os.getpid()}", f"process {os.getpid()}", "another process"):
        if owner == "another process":
            monkeypatch.setattr(os, "write", full)
        lock = RunLock(tmp_path)
        with pytest.raises(UserError, match=f"is being written by {owner}"):
            RunLock(tmp_path)
        assert is_held(tmp_path)
        lock.release()
        lock.release()  # twice does no harm
        assert not is_held(tmp_path) and holder(tmp_path) == ""


@pytest.mark.parametrize("how", ["removed", "moved aside", "another"])
def test_a_lock_on_a_file_that_was_moved_or_deleted_is_refused(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last holder may have moved or deleted the folder while we waited."""
    folder, real = tmp_path / "run", fcntl.flock
    folder.mkdir()
    changes = {
        "removed": (folder / "lock").unlink,
        "moved aside": lambda: folder.rename(tmp_path / "run.old-1"),
        "another": lambda: write_atomic(folder / "lock", b""),
    }

    def lock(file: int, kind: int) -> None:
        changes[how]()
        real(file, kind)

    with monkeypatch.context() as patched:
        patched.setattr(locks.fcntl, "flock", lock)
        with pytest.raises(UserError, match="run: was moved or deleted during start-up; run the command again"):
            RunLock(folder)
    folder.mkdir(exist_ok=True)
    RunLock(folder).release()


# ---- consoles ----


def test_a_run_is_watched_until_its_last_console_disconnects(tmp_path: Path) -> None:
    assert is_watched(tmp_path), "no journal, as on a mount that is gone: nobody can tell"
    assert list(tmp_path.iterdir()) == []
    write_journal(tmp_path)
    assert not is_watched(tmp_path)
    ada, bob = ConsoleLock(tmp_path), ConsoleLock(tmp_path)
    for console in (ada, bob):
        assert is_watched(tmp_path)
        console.close()
    assert not is_watched(tmp_path)
    ada.renew()  # a command, or the first event of a run, at the moment when the console goes
    assert not is_watched(tmp_path)


def test_a_console_neither_waits_for_a_pipe_in_place_of_the_journal_nor_locks_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "journal.jsonl")
    pipe = os.open(tmp_path / "journal.jsonl", os.O_RDWR)
    console = ConsoleLock(tmp_path)
    fcntl.flock(pipe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    console.close()
    os.close(pipe)


def test_a_console_watches_the_run_that_is_in_the_folder_now(tmp_path: Path) -> None:
    """Otherwise a run that replaced the one it attached to would end when that console pauses it."""
    folder = tmp_path / "run"
    write_journal(folder)
    console = AttachedRun(folder, stays=True)
    move_aside(folder)
    write_journal(folder)
    assert not is_watched(folder)
    console.send(Pause(stays=True))
    assert is_watched(folder)
    console.close()
    assert not is_watched(folder)
