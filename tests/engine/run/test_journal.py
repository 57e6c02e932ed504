"""The journal and the inbox: what is appended is read once, in order, whatever else their files hold."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.config.config import Config, to_dict
from fundamentallm.run import journal as module
from fundamentallm.run.commands import COMMANDS, Pause, Save, Stop
from fundamentallm.run.commands import encode as encode_command
from fundamentallm.run.events import JOURNAL, Intervention, Notice, Sampled, encode
from fundamentallm.run.journal import Journal, Tail, inbox_reader, journal_reader, read_journal, send_command
from fundamentallm.untrusted import MAX_COMMAND_BYTES
from tests.conftest import PATIENCE, file_contents
from tests.engine.run.conftest import full, write_journal


def notice(text: Any) -> Notice:
    return Notice(step=0, level="info", text=str(text))


def texts(found: Any) -> list[str]:
    return [event.text for event in found]


# ---- writing ----


def test_events_are_numbered_dated_and_written_in_one_piece_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Mock(wraps=os.write)
    monkeypatch.setattr(os, "write", write)
    journal = Journal(tmp_path)
    appended = [journal.append(notice(n)) for n in range(3)]
    assert [event.seq for event in appended] == [1, 2, 3] and all(event.time > 1.7e9 for event in appended)
    assert list(read_journal(tmp_path)) == appended
    assert [call.args[1] for call in write.call_args_list] == [f"{encode(event)}\n".encode() for event in appended]
    journal.close()
    assert journal.append(notice("closed")).seq == 4 and list(read_journal(tmp_path)) == appended


@given(appended=st.lists(st.text(), max_size=5), rest=st.binary(max_size=30))
def test_a_journal_is_read_back_whatever_stands_between_its_lines(
    appended: list[str], rest: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    for text in appended:
        with write_journal(folder, notice(text)).open("ab") as file:
            file.write(rest)  # a line that something else left
    assert texts(read_journal(folder)) == appended


def test_a_journal_truncated_at_any_byte_keeps_all_before_it_and_its_count(tmp_path: Path) -> None:
    path = write_journal(tmp_path, *map(notice, ("first", "second ☃", "third and last")))
    complete = path.read_bytes()
    third = complete.rstrip(b"\n").rfind(b"\n") + 1
    for end in range(third, len(complete) + 1):
        path.write_bytes(complete[:end])
        lost = end < len(complete) - 1  # without only its line end, the line is still valid
        assert len(list(read_journal(tmp_path))) == (3 if end == len(complete) else 2)
        again = Journal(tmp_path)
        assert again.append(notice("more")).seq == (3 if lost else 4), end
        again.close()
        assert texts(read_journal(tmp_path)) == ["first", "second ☃", *([] if lost else ["third and last"]), "more"]


def test_a_run_and_its_copy_by_hard_links_each_have_a_journal_and_an_inbox_of_their_own(tmp_path: Path) -> None:
    run, snapshot = tmp_path / "run", tmp_path / "snapshot"
    run.mkdir()
    Journal(run).append(notice("both"))
    send_command(run, Save())
    shutil.copytree(run, snapshot, copy_function=os.link)  # cp -al
    for folder, other in ((snapshot, run), (run, snapshot)):
        before = file_contents(other)
        Journal(folder).append(notice(folder.name))
        send_command(folder, Stop())
        assert file_contents(other) == before
        assert texts(read_journal(folder)) == ["both", folder.name] and len((folder / COMMANDS).read_bytes()) > 60


def test_the_last_number_is_found_behind_a_very_long_line(tmp_path: Path) -> None:
    with write_journal(tmp_path, notice("x" * 300_000)).open("ab") as file:
        file.write(b"{truncated" * 15_000)
    assert Journal(tmp_path).append(notice("y")).seq == 2


def test_a_full_disk_stops_neither_the_run_nor_the_order_of_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, write, room = Journal(tmp_path), os.write, [1000, 7, 0, 0]

    def tight(file: int, block: bytes) -> int:
        left = room.pop(0)
        return write(file, block[:left]) if left else full()

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", tight)
        assert [journal.append(notice(text)).seq for text in "ab"] == [1, 2]
        with pytest.raises(OSError, match="No space"):
            journal.sync()
    assert texts(read_journal(tmp_path)) == ["a"]
    assert journal.append(notice("c")).seq == 3
    journal.sync()
    assert texts(read_journal(tmp_path)) == ["a", "b", "c"]


def test_a_full_disk_is_offered_one_line_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offering all waiting lines each time would slow training down more and more."""
    journal, offered, write = Journal(tmp_path), list[int](), os.write
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", lambda file, block: (offered.append(len(block)), full()))
        for n in range(100):
            journal.append(notice(n))
    assert len(offered) == 100 and max(offered) < 100
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", lambda file, block: write(file, block[:7]))
        journal.append(notice(100))
    journal.close()
    assert texts(read_journal(tmp_path)) == [str(n) for n in range(101)]


def test_sync_reaches_the_disk_and_close_reports_a_failed_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, synced, failing = Journal(tmp_path), list[int](), [False, True]

    def fsync(file: int) -> None:
        if failing.pop(0):  # once: after that the kernel no longer knows of the lost pages
            full()
        synced.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    journal.append(notice("a"))
    journal.sync()
    assert synced == [(tmp_path / JOURNAL).stat().st_size] != [0]
    assert not journal.close() and not journal.close()


def test_a_disk_that_gives_no_reason_is_described_by_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError("the server is gone\ntraceback")))
    assert Journal(tmp_path).settle() == "journal.jsonl: the server is gone"


def test_what_a_run_writes_is_never_too_long_to_be_read(tmp_path: Path) -> None:
    prompt = "\U0001f600" * 65_536  # each character takes twelve bytes
    paths = tuple("\U0001f600" * 4096 for _ in range(73))  # as many as the settings accept
    write_journal(
        tmp_path,
        Sampled(step=1, id="a", prompt=prompt, text="x" * 100_000, done=True),
        Intervention(step=1, setting="learning_rate", old=to_dict(Config(paths)), new=0, who="ada"),
    )
    assert [type(event) for event in read_journal(tmp_path)] == [Sampled, Intervention]


# ---- reading ----


@given(
    pieces=st.lists(st.binary(max_size=30) | st.sampled_from([b"\n", b"abc\n", b"x" * 25 + b"\n"]), max_size=12),
    block=st.integers(1, 9),
)
def test_a_tail_gives_each_line_once_but_no_long_one_however_the_file_grows(
    pieces: list[bytes], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tail") / "lines"
    path.touch()
    tail, found = Tail(path, 20), []
    before, module.BLOCK = module.BLOCK, block
    try:
        for piece in pieces:
            with path.open("ab") as file:
                file.write(piece)
            found += [*tail.read()]
    finally:
        module.BLOCK = before
    assert found == [line for line in b"".join(pieces).split(b"\n")[:-1] if len(line) <= 20]


def test_a_journal_that_is_not_there_yet_or_was_replaced_is_read_from_its_beginning(tmp_path: Path) -> None:
    reader = journal_reader(tmp_path)
    assert reader.read() == []
    path = write_journal(tmp_path, notice("a"), notice("b"))
    assert texts(reader.read()) == ["a", "b"] and reader.read() == []
    path.write_text(encode(notice("c")) + "\n")  # shorter than before
    assert texts(reader.read()) == ["c"]


# ---- commands ----


def append(folder: Path, raw: bytes) -> None:
    with (folder / COMMANDS).open("ab") as file:
        file.write(raw)


def test_commands_from_before_the_run_are_not_for_it_unless_their_file_was_replaced(tmp_path: Path) -> None:
    stop = Stop()
    for _ in range(3):
        send_command(tmp_path, Pause())
    inbox = inbox_reader(tmp_path)
    assert inbox.read() == []
    (tmp_path / COMMANDS).unlink()
    for _ in range(2):
        send_command(tmp_path, stop)
        assert inbox.read() == [stop] and inbox.read() == []
        (tmp_path / COMMANDS).write_bytes(b"")
        assert inbox.read() == []


def test_a_truncated_line_does_not_swallow_the_next_command(tmp_path: Path) -> None:
    inbox, stop = inbox_reader(tmp_path), Stop()
    append(tmp_path, encode_command(Pause()).encode()[:-9])
    assert inbox.read() == []
    send_command(tmp_path, stop)
    assert inbox.read() == [stop]
    assert (tmp_path / COMMANDS).read_bytes().count(b"\n") == 2


def test_long_lines_and_garbage_are_skipped(tmp_path: Path) -> None:
    inbox, stop = inbox_reader(tmp_path), Stop()
    hidden = b"x" * MAX_COMMAND_BYTES + encode_command(Save()).encode()  # one line, also where blocks would cut it
    append(tmp_path, hidden + b"\n" + os.urandom(100_000).replace(b"{", b"") + b"\n\0\0\xff{}\n[]\n" + b"[" * 100_000)
    send_command(tmp_path, stop)
    assert [command for _ in range(20) for command in inbox.read()] == [stop]


def test_every_command_of_two_writers_at_once_arrives(tmp_path: Path) -> None:
    def send(writer: str) -> None:
        for n in range(200):
            send_command(tmp_path, Pause(id=f"{writer}{n}", who="x" * (n % 90)))

    inbox, ids = inbox_reader(tmp_path), list[str]()
    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(send, writer) for writer in "ab"]
        deadline = time.monotonic() + PATIENCE
        while not all(writer.done() for writer in writers):  # without a pause: it meets lines that are being written
            assert time.monotonic() < deadline, f"the writers do not end; {len(ids)} commands came"
            ids += [command.id for command in inbox.read()]
    ids += [command.id for command in inbox.read()]
    for writer in "ab":
        assert [id for id in ids if id.startswith(writer)] == [f"{writer}{n}" for n in range(200)]


def test_a_command_that_is_written_in_part_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda file, block: len(block) // 2)
    with pytest.raises(OSError, match="No space"):
        send_command(tmp_path, Stop())
