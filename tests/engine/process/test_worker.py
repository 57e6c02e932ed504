"""The worker process and the session that watches it: real processes, few of them."""

import os
import queue
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import sleep
from typing import Any
from unittest.mock import Mock

import pytest

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.process import session
from fundamentallm.process.session import AttachedRun, RateTest, SamplerRun, WorkerRun
from fundamentallm.process.worker import CommandQueue
from fundamentallm.run import events
from fundamentallm.run.commands import CancelSample, Pause, Resume, Sample, Save, Stop
from fundamentallm.run.journal import Journal, read_journal
from fundamentallm.run.locks import RunLock, holder
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.checkpoint import load
from tests.conftest import PATIENCE, Listener, delete_folder, file_contents, until
from tests.engine.conftest import Ran, assert_same_end
from tests.engine.run.conftest import progress, started, write_journal

LONG = 200_000  # epochs: the run ends only when it is stopped


class Watch(Listener):
    """Listens to a worker, and makes it sample and exit."""

    def sample(self) -> str:
        command = Sample(prompt="the ", max_tokens=20, seed=3)
        assert self.answer(command).ok
        return "".join(event.text for event in self.of(events.Sampled) if event.id == command.id)

    def close(self) -> str:
        """Leave the run alone; why its process ended."""
        self.run.close()
        assert self.run.wait(PATIENCE)
        return str(self.run.exit_reason)


def is_free(folder: Path) -> bool:
    """Whether no process holds the lock of a run."""
    try:
        RunLock(folder).release()
    except UserError:
        return False
    return True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def start(folder: Path, small: Callable[..., Config]) -> Iterator[Callable[..., Watch]]:
    running: list[WorkerRun] = []

    def go(resume_from: Path | None = None, changes: dict[str, Any] | None = None, **settings: Any) -> Watch:
        running.append(WorkerRun(RunSpec(small(**settings), folder, resume_from, changes or {})))
        return Watch(running[-1])

    yield go
    for one in running:
        if one.alive:
            one.kill()


def test_a_run_whose_process_cannot_be_started_leaves_no_folder(folder: Path, start: Callable[..., Watch]) -> None:
    start(max_steps=1).run.kill()  # everything is imported
    shutil.rmtree(folder)
    free, (soft, hard) = os.dup(0), resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3, hard))
    try:
        with pytest.raises(UserError, match="^no other process can be started .*: Too many open files$"):
            start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not folder.exists()


def seqs(found: list[Any]) -> list[int]:
    return [event.seq for event in found]


def test_a_worker_starts_obeys_answers_after_the_end_and_exits(start: Callable[..., Watch], folder: Path) -> None:
    watch = start(epochs=LONG)
    assert watch.until_type(events.RunStarted).pid == watch.run.pid != os.getpid()
    assert events.last_step(watch.until_type(events.Progress)) < events.last_step(watch.until_type(events.Progress))

    assert watch.answer(Pause()).ok
    at = watch.until(lambda event: isinstance(event, events.Phase) and event.phase == "paused").step
    watch.received += watch.run.events(0.5) + watch.run.events(0.5)
    assert {events.last_step(event) for event in watch.received if events.last_step(event) >= at} == {
        at
    }  # stands still

    assert watch.answer(Save()).ok
    assert load(folder / f"checkpoint_step_{at}.pt").progress().step == at
    assert len(watch.sample()) == 20

    assert watch.answer(Resume()).ok
    assert events.last_step(watch.until_type(events.Progress)) > at
    assert f"process {watch.run.pid} on " in holder(folder)
    with pytest.raises(UserError, match=f"process {watch.run.pid}"):
        RunLock(folder)

    watch.run.send(Stop())
    finished = watch.until_type(events.Finished)
    assert finished.reason == "stopped" and load(folder / "last.pt").progress().step == finished.step
    until(lambda: is_free(folder))  # the lock, while the model is still there
    assert watch.run.alive
    assert len(watch.sample()) == 20 and not watch.answer(Save()).ok

    assert seqs(watch.received) == list(range(1, len(watch.received) + 1))
    assert watch.close() == "ended with status 0" and not watch.run.alive
    journal = list(read_journal(folder))
    assert journal == watch.received[: len(journal)] and isinstance(journal[-1], events.Finished)
    assert (folder / "engine.log").read_text() == ""  # it printed nothing


def test_a_killed_worker_leaves_a_run_that_resumes(start: Callable[..., Watch], folder: Path) -> None:
    watch = start(epochs=LONG, save_every=7)
    watch.until(lambda event: isinstance(event, events.CheckpointSaved) and event.step >= 14)
    os.kill(watch.run.pid, signal.SIGKILL)
    assert watch.run.wait(PATIENCE) and watch.run.exit_reason == "killed by SIGKILL"
    watch.received += watch.run.events(0)
    assert watch.run.events(0.1) == []
    assert watch.received == list(read_journal(folder))
    step = load(folder / "last.pt").progress().step
    epochs = step // 18 + 2
    snapshot = folder.with_name("snapshot")
    shutil.copytree(folder, snapshot, copy_function=os.link)  # cp -al, as some backups are
    second = start(resume_from=folder / "last.pt", changes={"epochs": epochs})
    finished = second.until_type(events.Finished)
    assert (finished.reason, finished.step) == ("completed", 18 * epochs)
    assert second.received[0].step == step and second.received[0].seq > watch.received[-1].seq
    assert seqs(second.received) == list(range(second.received[0].seq, second.received[-1].seq + 1))
    assert not any((folder / name).samefile(snapshot / name) for name in ("journal.jsonl", "engine.log"))
    assert watch.run.events(0) == []  # the first watcher does not take the second run for its own
    second.close()


@pytest.mark.parametrize(("size", "reads"), [(session.QUEUE_SIZE, True), (1, True), (2, False)])
def test_what_a_console_reads_or_not_changes_nothing_and_all_of_it_comes_in_order_and_once(
    start: Callable[..., Watch], folder: Path, train: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch,
    size: int, reads: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(session, "QUEUE_SIZE", size)
    settings: dict[str, Any] = {"augment": "casing=0.1", "accumulation_steps": 2, "batch_size": 4}
    watch = start(**settings, save_every=1)
    if not reads:
        until(lambda: (folder / "final_model.pt").exists() and is_free(folder))
        assert watch.run.alive  # still there for questions
    watch.until_type(events.Finished)
    assert watch.received == list(read_journal(folder)) and len(watch.received) > 100
    assert_same_end(folder, train(**settings, name="plain").folder)


def test_a_long_journal_comes_in_parts_and_after_the_last_nothing_is_waited_for(tmp_path: Path) -> None:
    write_journal(tmp_path, started(), *(progress(step, step) for step in range(1, 200)))
    run, parts = AttachedRun(tmp_path), list[list[events.Event]]()
    while part := run.events(3600):
        parts.append(part)
    assert [event for part in parts for event in part] == list(read_journal(tmp_path)) and len(parts) > 1


@pytest.mark.parametrize(("setting", "leaves", "stops"), [
    ("stop", False, True), ("continue", False, False), ("stop", True, False),
])  # fmt: skip
def test_a_run_whose_console_dies_is_stopped_once_if_that_is_set_and_the_user_did_not_leave_it(
    monkeypatch: pytest.MonkeyPatch, setting: str, leaves: bool, stops: bool
) -> None:
    console, sent = Mock(), queue.Queue[Any]()
    monkeypatch.setattr("multiprocessing.parent_process", lambda: console)
    inbox = CommandQueue(sent)  # type: ignore[arg-type]
    inbox.trainer = Mock()
    inbox.trainer.state.config = Config(on_console_loss=setting)
    assert inbox.poll() == [] and inbox.open
    if leaves:
        sent.put(None)
    console.is_alive.return_value = False
    assert [(type(command), command.who) for command in inbox.poll()] == [(Stop, "its lost console")] * stops
    assert inbox.poll() == [] and not inbox.open  # another console may watch the run from now on


def test_after_its_end_a_worker_is_read_and_another_writer_of_the_run_is_not(
    start: Callable[..., Watch], folder: Path
) -> None:
    watch = start(epochs=1)
    finished = watch.until_type(events.Finished)
    until(lambda: is_free(folder))
    journal = Journal(folder)
    for n in range(50):
        assert journal.append(events.Phase(step=n, phase="training")).seq == finished.seq + 1 + n
    journal.close()
    assert not [event for _ in range(3) for event in watch.run.events(0.1)]
    assert len(watch.sample()) == 20


def test_a_job_that_cannot_be_done_is_refused_and_leaves_no_run(start: Callable[..., Watch], folder: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        start(data="none.txt")
    assert not folder.exists()
    watch = start(device="cuda:99")
    failed = watch.until_type(events.Failed)
    assert "--device cuda:99" in failed.error and "Traceback" not in failed.error
    assert watch.run.wait(PATIENCE) and watch.run.exit_reason == "ended with status 1"
    assert not (folder / "journal.jsonl").exists()


def test_a_checkpoint_is_sampled_without_its_run_and_nothing_in_its_folder_changes(
    start: Callable[..., Watch], folder: Path
) -> None:
    run = start(epochs=1)
    run.until_type(events.Finished)
    live = run.sample()
    run.close()
    before = file_contents(folder)
    sampler = Watch(SamplerRun(folder / "last.pt"))
    assert sampler.sample() == live, "the same seed gives the text that the run's own process wrote"
    step = load(folder / "last.pt").progress().step
    assert {event.step for event in sampler.of(events.Sampled)} == {step}
    endless = Sample(prompt="the ", max_tokens=50_000)
    sampler.run.send(endless)
    sampler.until(lambda event: isinstance(event, events.Sampled) and event.id == endless.id)
    assert sampler.answer(CancelSample(sample=endless.id)).ok
    assert not sampler.answer(Save()).ok
    assert sampler.close() == "killed by SIGKILL"
    assert file_contents(folder) == before


def test_a_sampler_that_is_closed_at_once_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = SamplerRun(tmp_path / "best.pt")
    pid = run.pid
    run.close()
    assert run.wait(PATIENCE)
    del run
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert capfd.readouterr() == ("", "")


def test_a_checkpoint_that_cannot_be_sampled_says_why(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(b"weights")
    sampler = Watch(SamplerRun(path))
    assert str(path) in sampler.until_type(events.Failed).error
    assert sampler.run.wait(PATIENCE) and sampler.run.status == 1
    assert os.listdir(tmp_path) == ["best.pt"]


def test_a_range_test_that_cannot_begin_says_why(small: Callable[..., Config], tmp_path: Path) -> None:
    test = RateTest(replace(small(), data=(str(tmp_path / "nowhere.txt"),)))
    received: list[object] = []
    until(lambda: received.extend(test.read()) or received)
    [failed] = received
    assert isinstance(failed, events.Failed) and failed.error.startswith(f"{tmp_path}/nowhere.txt: ")
    assert test.wait(PATIENCE) and test.status == 1
    test.close()


def test_a_worker_that_cannot_open_its_log_says_so_in_one_line(
    small: Callable[..., Config], folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir()
    os.mkfifo(folder / "engine.log")
    worker = Watch(WorkerRun(RunSpec(small(), folder), prepared=True))
    assert worker.until_type(events.Failed).error == f"{folder}/engine.log: it is not a regular file"
    assert worker.run.wait(PATIENCE) and worker.run.status == 1 and capfd.readouterr() == ("", "")
    assert os.listdir(folder) == ["engine.log"]


def test_a_console_still_pauses_a_run_whose_folder_was_deleted_and_made_again(
    start: Callable[..., Watch], folder: Path
) -> None:
    watch = start(epochs=LONG)
    watch.next_step()
    delete_folder(folder)
    assert watch.answer(Save()).ok and not is_free(folder)
    assert watch.answer(Pause(stays=True)).ok
    watch.until(lambda event: isinstance(event, events.Phase) and event.phase == "paused")
    sleep(0.5)  # ten looks whether the console is still there
    assert watch.answer(Resume()).ok
    watch.next_step()
    assert not [event for event in watch.of(events.Phase) if event.phase == "stopping"]
    assert watch.answer(Stop()).ok
    assert watch.until_type(events.Finished).unsaved == "" and seqs(watch.received) == sorted(seqs(watch.received))
