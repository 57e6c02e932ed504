"""Consoles that start, watch or attach to a run in its own process change nothing.

A run that loses its console continues, or saves and ends.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config, to_dict
from fundamentallm.process.session import AttachedRun, WorkerRun
from fundamentallm.run import events
from fundamentallm.run.commands import Pause, Resume, Set, Stop
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock, is_held
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.checkpoint import load
from tests.conftest import PATIENCE, Listener, is_gone, journal_events, until
from tests.engine.conftest import Ran, assert_same_end
from tests.engine.run.conftest import progress, started, write_journal

Same = Callable[..., None]
Start = Callable[..., WorkerRun]
SETTINGS: dict[str, Any] = {"dropout": 0.2, "augment": "casing=0.1", "accumulation_steps": 2, "batch_size": 4}


@pytest.fixture
def same(train: Callable[..., Ran]) -> Same:
    """Asserts that a run came to the same as one that nobody looked at."""
    plain = train(**SETTINGS, name="plain").folder
    return lambda folder: assert_same_end(folder, plain)


@pytest.fixture
def start(tmp_path: Path, small: Callable[..., Config]) -> Iterator[Start]:
    started: list[WorkerRun] = []

    def go(**settings: Any) -> WorkerRun:
        started.append(WorkerRun(RunSpec(small(**SETTINGS, **settings), tmp_path / "run")))
        return started[-1]

    yield go
    for one in started:
        if one.alive:
            one.kill()


def ended(folder: Path) -> bool:
    return (folder / "final_model.pt").exists() and not is_held(folder)


def all_events(run: WorkerRun) -> list[events.Event]:
    listener = Listener(run)
    listener.until_type(events.Finished)
    return listener.received


def test_a_console_that_reads_everything_and_one_that_never_reads_change_nothing(
    start: Start, same: Same, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start()
    assert all_events(run) == list(read_journal(tmp_path / "run"))
    same(tmp_path / "run")
    run.close()
    assert run.wait(PATIENCE)
    (tmp_path / "run").rename(tmp_path / "watched")

    monkeypatch.setattr("fundamentallm.process.session.QUEUE_SIZE", 2)
    run = start(save_every=1)
    until(lambda: ended(tmp_path / "run"))
    assert run.alive  # still there for questions
    assert all_events(run) == list(read_journal(tmp_path / "run")), "the queue had dropped most of them"
    same(tmp_path / "run")


def test_a_long_journal_comes_in_parts_and_after_the_last_nothing_is_waited_for(tmp_path: Path) -> None:
    write_journal(tmp_path, started(), *(progress(step, step) for step in range(1, 200)))
    run, parts = AttachedRun(tmp_path), list[list[events.Event]]()
    while part := run.events(3600):
        parts.append(part)
    assert [event for part in parts for event in part] == list(read_journal(tmp_path)) and len(parts) > 1


# ---- the console is lost ----

LONG = 200_000  # epochs: it ends only when it is stopped

# A console that starts a run, executes a line when that trains, prints when it is done, and waits to be killed.
CONSOLE = """
import json, sys, time
from pathlib import Path
from fundamentallm.run import events
from fundamentallm.run.commands import Pause, Set
from fundamentallm.config.config import Layer, resolve
from fundamentallm.run.spec import RunSpec
from fundamentallm.process.session import WorkerRun

def wait_for(matches):
    deadline = time.monotonic() + 60
    while not any(map(matches, session.events(1.0))):
        assert time.monotonic() < deadline, f"waited a minute in vain; {session.exit_reason} {session.log_tail()}"

def ask(command):
    session.send(command)
    wait_for(lambda event: isinstance(event, events.Answered) and event.id == command.id and event.ok)

if __name__ == "__main__":
    import textual, fundamentallm_tui
    session = WorkerRun(RunSpec(resolve(Layer(json.loads(sys.argv[2]))), Path(sys.argv[1])))
    wait_for(lambda event: isinstance(event, events.Progress))
    exec(sys.argv[3])
    print("done", flush=True)
    time.sleep(600)
"""


class Console:
    """The console's process, and the run that it started."""

    def __init__(self, folder: Path, values: dict[str, Any], act: str) -> None:
        script, log = folder.with_name("console.py"), folder.with_name("console.err")
        script.write_text(CONSOLE)
        command = [sys.executable, script, folder, json.dumps(values), act]
        with log.open("w") as errors:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self._process.stdout is not None and self._process.stdout.readline() == "done\n", log.read_text()
        self.folder = folder
        self.worker: int = self.events(events.RunStarted)[0].pid

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def events(self, kind: type) -> list[Any]:
        return journal_events(self.folder, kind)

    def until_paused(self) -> int:
        """Wait for the pause, and return its step."""
        until(lambda: self.events(events.Phase)[-1].phase == "paused")
        return int(self.events(events.Phase)[-1].step)

    def until_trained(self) -> None:
        at = self.events(events.Progress)[-1].step[-1]
        until(lambda: self.events(events.Progress)[-1].step[-1] > at + 20)

    def until_stopped(self) -> int:
        """Wait for an end that was saved, and return its step."""
        until(lambda: not is_held(self.folder))
        (finished,) = self.events(events.Finished)
        assert finished.reason == "stopped" and not finished.unsaved
        assert load(self.folder / "last.pt").progress().step == finished.step
        assert not (self.folder / "final_model.pt").exists()
        assert "Traceback" not in (self.folder / "engine.log").read_text()
        RunLock(self.folder).release()
        return int(finished.step)


@pytest.fixture
def console(tmp_path: Path, small: Callable[..., Config], kill_leftovers: None) -> Callable[..., Console]:
    def start(act: str = "pass", **settings: Any) -> Console:
        return Console(tmp_path / "run", to_dict(small(**settings, keep_checkpoints=1)), act)

    return start


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks /proc")
def test_a_console_that_dies_changes_nothing(console: Callable[..., Console], same: Same) -> None:
    run = console(**SETTINGS)
    assert "torch" in Path(f"/proc/{run.worker}/maps").read_text() and not is_gone(run.worker)
    run.kill()
    until(lambda: is_gone(run.worker))
    same(run.folder)
    RunLock(run.folder).release()


@pytest.mark.parametrize(
    ("settings", "act", "continues"),
    [
        ({}, "ask(Set(setting='on_console_loss', value='stop'))", False),  # it can be changed while the run trains
        ({"on_console_loss": "stop"}, "session.close()", True),  # detaching on purpose does not count as losing it
        ({}, "ask(Pause())", False),  # a paused run would wait forever
    ],
)
def test_a_run_that_loses_its_console_continues_or_saves_and_ends(
    console: Callable[..., Console], settings: dict[str, Any], act: str, continues: bool
) -> None:
    run = console(act, epochs=LONG, **settings)
    paused_at = run.until_paused() if "Pause" in act else None
    run.kill()
    if continues:
        run.until_trained()
        AttachedRun(run.folder).send(Stop(who="ada"))
    stopped_at = run.until_stopped()
    assert paused_at in (None, stopped_at)
    stops = [answer.who for answer in run.events(events.Answered) if answer.command == "stop"]
    assert stops == ["ada" if continues else "its lost console"]


def test_a_run_that_lost_its_console_can_be_paused_by_others_and_stays_paused(console: Callable[..., Console]) -> None:
    run = console(epochs=LONG)
    run.kill()
    run.until_trained()
    ada = AttachedRun(run.folder)
    ada.send(Set(setting="learning_rate", value=0.001))
    ada.send(Pause())
    at, journal = run.until_paused(), list(read_journal(run.folder))
    time.sleep(0.5)  # some looks at whether the console is there
    assert list(read_journal(run.folder)) == journal and is_held(run.folder)
    ada.send(Resume())
    until(lambda: run.events(events.Progress)[-1].step[-1] > at)
    ada.send(Stop())
    run.until_stopped()
