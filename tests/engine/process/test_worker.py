"""The worker process and the session that watches it: real processes, few of them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.process import session
from fundamentallm.process.session import WorkerRun
from fundamentallm.run import events
from fundamentallm.run.commands import Pause, Resume, Sample, Save, Stop
from fundamentallm.run.journal import Journal, read_journal
from fundamentallm.run.locks import RunLock, holder
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.checkpoint import load

LONG = 200_000  # epochs: it ends only when it is told to
PATIENCE = 60.0  # seconds until a test gives up on a process


class Watch:
    """Collects what a session hears."""

    def __init__(self, session: WorkerRun) -> None:
        self.session, self.heard, self._looked = session, list[Any](), 0

    def until(self, found: Callable[[Any], bool]) -> Any:
        """The first event that was not looked at before for which `found` holds."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            while self._looked < len(self.heard):
                self._looked += 1
                if found(self.heard[self._looked - 1]):
                    return self.heard[self._looked - 1]
            alive = self.session.alive
            self.heard += self.session.events(0.2)
            assert alive or self._looked < len(self.heard), self.session.log_tail()
        raise AssertionError(f"not heard; the last: {self.heard[-3:]}")

    def answer(self, command: Any) -> events.Answered:
        self.session.send(command)
        found = self.until(lambda event: isinstance(event, events.Answered) and event.id == command.id)
        assert isinstance(found, events.Answered)
        return found

    def progress(self) -> int:
        return events.last_step(self.until(lambda event: isinstance(event, events.Progress)))


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def free(folder: Path) -> bool:
    """Whether nobody holds a run's lock."""
    try:
        RunLock(folder).release()
    except UserError:
        return False
    return True


@pytest.fixture(autouse=True)
def tiny_steps_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine two threads that wait for each other take fifty times as long."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def start(tmp_path: Path, small: Callable[..., Config]) -> Iterator[Callable[..., Watch]]:
    started: list[WorkerRun] = []

    def go(resume_from: Path | None = None, changes: dict[str, Any] | None = None, **settings: Any) -> Watch:
        started.append(WorkerRun(RunSpec(small(**settings), tmp_path / "run", resume_from, changes or {})))
        return Watch(started[-1])

    yield go
    for one in started:
        if one.alive:
            one.kill()


def seqs(heard: list[Any]) -> list[int]:
    return [event.seq for event in heard]


def test_a_worker_starts_obeys_answers_after_the_end_and_leaves(start: Callable[..., Watch], tmp_path: Path) -> None:
    watch = start(epochs=LONG)
    started = watch.until(lambda event: isinstance(event, events.RunStarted))
    assert started.pid == watch.session._process.pid != os.getpid()
    assert watch.progress() < watch.progress()

    assert watch.answer(Pause()).ok
    at = watch.until(lambda event: isinstance(event, events.Phase) and event.phase == "paused").step
    watch.heard += watch.session.events(0.5) + watch.session.events(0.5)
    assert {events.last_step(event) for event in watch.heard if events.last_step(event) >= at} == {at}  # stands still

    assert watch.answer(Save()).ok
    assert load(tmp_path / "run" / f"checkpoint_step_{at}.pt").progress().step == at
    sample = Sample(prompt="the ", max_tokens=20, seed=3)
    assert watch.answer(sample).ok
    text = "".join(event.text for event in watch.heard if isinstance(event, events.Sampled))
    assert len(text) == 20

    assert watch.answer(Resume()).ok
    assert watch.progress() > at
    assert f"process {started.pid} on " in holder(tmp_path / "run")
    with pytest.raises(UserError, match=f"process {started.pid}"):
        RunLock(tmp_path / "run")

    watch.session.send(Stop())
    finished = watch.until(lambda event: isinstance(event, events.Finished))
    assert finished.reason == "stopped" and load(tmp_path / "run" / "last.pt").progress().step == finished.step
    wait_for(lambda: free(tmp_path / "run"))  # the lock, while the model is still there
    assert watch.session.alive
    again = Sample(prompt="the ", max_tokens=20, seed=3)
    assert watch.answer(again).ok and not watch.answer(Save()).ok
    late = "".join(event.text for event in watch.heard if isinstance(event, events.Sampled) and event.id == again.id)
    assert len(late) == 20

    assert seqs(watch.heard) == list(range(1, len(watch.heard) + 1))
    watch.session.leave()
    assert watch.session.wait(PATIENCE)
    assert watch.session.end == "ended with status 0" and not watch.session.alive
    journal = list(read_journal(tmp_path / "run"))
    assert journal == watch.heard[: len(journal)] and isinstance(journal[-1], events.Finished)
    assert (tmp_path / "run" / "engine.log").read_text() == ""  # it printed nothing


def test_a_killed_worker_leaves_a_run_that_goes_on(start: Callable[..., Watch], tmp_path: Path) -> None:
    watch = start(epochs=LONG, save_every=7)
    watch.until(lambda event: isinstance(event, events.CheckpointSaved) and event.step >= 14)
    os.kill(watch.session._process.pid or 0, signal.SIGKILL)
    assert watch.session.wait(PATIENCE) and watch.session.end == "killed by SIGKILL"
    watch.heard += watch.session.events(0)
    assert watch.session.events(0.1) == []
    assert watch.heard == list(read_journal(tmp_path / "run"))
    step = load(tmp_path / "run" / "last.pt").progress().step
    epochs = step // 18 + 2
    second = start(resume_from=tmp_path / "run" / "last.pt", changes={"epochs": epochs})
    finished = second.until(lambda event: isinstance(event, events.Finished))
    assert (finished.reason, finished.step) == ("completed", 18 * epochs)
    assert second.heard[0].step == step and second.heard[0].seq > watch.heard[-1].seq
    assert seqs(second.heard) == list(range(second.heard[0].seq, second.heard[-1].seq + 1))
    second.session.leave()
    assert second.session.wait(PATIENCE)


def test_a_run_that_nobody_listens_to_ends_and_is_heard_whole_afterwards(
    start: Callable[..., Watch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "QUEUE_SIZE", 3)
    receive = WorkerRun._receive
    monkeypatch.setattr(WorkerRun, "_receive", lambda self: None)
    watch = start(epochs=4)
    path = tmp_path / "run"
    wait_for(lambda: (path / "final_model.pt").exists() and (path / "lock").exists() and holder(path) == "")
    journal = list(read_journal(path))
    assert isinstance(journal[-1], events.Finished) and seqs(journal) == list(range(1, len(journal) + 1))
    assert watch.session.alive  # still there to be asked
    threading.Thread(target=receive, args=(watch.session,), daemon=True).start()
    watch.until(lambda event: isinstance(event, events.Finished))  # the queue had dropped it
    assert watch.heard == journal
    watch.session.leave()
    assert watch.session.wait(PATIENCE) and watch.session.end == "ended with status 0"


def test_what_does_not_fit_the_queue_is_read_from_the_journal_in_order_and_once(
    start: Callable[..., Watch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "QUEUE_SIZE", 1)
    watch = start(epochs=3, save_every=1)
    watch.until(lambda event: isinstance(event, events.Finished))
    journal = list(read_journal(tmp_path / "run"))
    assert watch.heard == journal and len(journal) > 150


def test_after_its_end_a_worker_is_heard_and_another_writer_of_the_run_is_not(
    start: Callable[..., Watch], tmp_path: Path
) -> None:
    watch = start(epochs=1)
    finished = watch.until(lambda event: isinstance(event, events.Finished))
    wait_for(lambda: free(tmp_path / "run"))
    journal = Journal(tmp_path / "run")
    for n in range(50):
        assert journal.say(events.Phase(step=n, phase="training")).seq == finished.seq + 1 + n
    journal.close()
    assert not [event for _ in range(3) for event in watch.session.events(0.1)]
    sample = Sample(prompt="the ", max_tokens=20, seed=3)
    assert watch.answer(sample).ok
    assert len("".join(event.text for event in watch.heard if isinstance(event, events.Sampled))) == 20


def test_a_job_that_cannot_be_done_is_refused_in_words(start: Callable[..., Watch], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        start(data="none.txt")
    assert not (tmp_path / "run").exists()
    watch = start(device="cuda:99")
    failed = watch.until(lambda event: isinstance(event, events.Failed))
    assert "--device cuda:99" in failed.error and "Traceback" not in failed.error
    assert watch.session.wait(PATIENCE) and watch.session.end == "ended with status 1"
    assert not (tmp_path / "run" / "journal.jsonl").exists()


# ---- a console that dies ----

CONSOLE = """
import json, os, sys, time
from pathlib import Path
from fundamentallm.run.commands import Pause, Sample
from fundamentallm.config.config import Layer, resolve
from fundamentallm.run.spec import RunSpec
from fundamentallm.process.session import WorkerRun

if __name__ == "__main__":
    sys.modules["textual"] = sys.modules["fundamentallm_tui"] = sys  # as if the console were loaded here
    values = json.loads(sys.argv[2])
    session = WorkerRun(RunSpec(resolve(Layer(values)), Path(sys.argv[1])))
    print(session._process.pid, flush=True)
    while "progress" not in [type(event).__name__.lower() for event in session.events(1.0)]:
        pass
    if sys.argv[3] == "pause":
        session.send(Pause())
        while "paused" not in [getattr(event, "phase", "") for event in session.events(1.0)]:
            pass
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def console(tmp_path: Path, small: Callable[..., Config]) -> Iterator[Callable[..., tuple[Any, int]]]:
    """Start a console of another process; returns it and its worker's pid."""
    pids: list[int] = []

    def go(act: str, **settings: Any) -> tuple[Any, int]:
        from fundamentallm.config.config import to_dict

        script = tmp_path / "console.py"
        script.write_text(CONSOLE)
        values = json.dumps(to_dict(small(**settings)))
        process = subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / "run"), values, act], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        pids.extend([process.pid, int(process.stdout.readline())])
        assert process.stdout.readline() == "ready\n"
        return process, pids[-1]

    yield go
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    """Whether a process has ended, also where nobody has buried it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")


@needs_proc
def test_a_run_outlives_its_console_to_its_own_end(console: Callable[..., tuple[Any, int]], tmp_path: Path) -> None:
    process, worker = console("train", epochs=40)
    loaded = Path(f"/proc/{worker}/maps").read_text()
    assert "torch" in loaded and "textual" not in loaded
    process.kill()
    process.wait()
    told = len(list(read_journal(tmp_path / "run")))
    wait_for(lambda: gone(worker))
    journal = list(read_journal(tmp_path / "run"))
    assert isinstance(journal[-1], events.Finished) and journal[-1].reason == "completed" and len(journal) > told
    assert load(tmp_path / "run" / "final_model.pt").progress().step == 40 * 18
    RunLock(tmp_path / "run").release()
    assert "Traceback" not in (tmp_path / "run" / "engine.log").read_text()


@needs_proc
def test_a_paused_run_whose_console_dies_saves_and_ends(
    console: Callable[..., tuple[Any, int]], tmp_path: Path
) -> None:
    process, worker = console("pause", epochs=LONG)
    assert not gone(worker)
    process.kill()
    process.wait()
    wait_for(lambda: gone(worker))
    journal = list(read_journal(tmp_path / "run"))
    finished = journal[-1]
    assert isinstance(finished, events.Finished) and finished.reason == "stopped"
    assert load(tmp_path / "run" / "last.pt").progress().step == finished.step
    RunLock(tmp_path / "run").release()


IMPORTS = """
import sys
from multiprocessing import get_context

def ask(queue):
    from fundamentallm.process import worker
    from fundamentallm.train import trainer
    queue.put([name for name in sys.modules if name.split(".")[0] in ("textual", "fundamentallm_tui", "plotext")])

if __name__ == "__main__":
    import textual, fundamentallm_tui
    spawn = get_context("spawn")
    queue = spawn.Queue()
    process = spawn.Process(target=ask, args=(queue,))
    process.start()
    print(queue.get(timeout=60))
    process.join()
"""


def test_a_worker_started_by_a_console_never_imports_one(tmp_path: Path) -> None:
    script = tmp_path / "ask.py"
    script.write_text(IMPORTS)
    done = subprocess.run([sys.executable, str(script)], check=True, capture_output=True, text=True, timeout=120)
    assert done.stdout == "[]\n"
