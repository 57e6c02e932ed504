"""What becomes of a run whose console is killed, leaves, or was lost while it stood still: real processes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config, to_dict
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events
from fundamentallm.run.commands import Pause, Resume, Set, Stop
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock, is_held
from fundamentallm.train.checkpoint import load
from tests.conftest import journal_events, until

LONG = 200_000  # epochs: it ends only when it is told to

# A console that does what it is told on its standard input, and says when it is done.
CONSOLE = """
import json, sys
from pathlib import Path
from fundamentallm.run import events
from fundamentallm.run.commands import Pause, Set
from fundamentallm.config.config import Layer, resolve
from fundamentallm.run.spec import RunSpec
from fundamentallm.process.session import WorkerRun

def ask(command):
    session.send(command)
    while not any(isinstance(e, events.Answered) and e.id == command.id and e.ok for e in session.events(1.0)):
        pass

if __name__ == "__main__":
    session = WorkerRun(RunSpec(resolve(Layer(json.loads(sys.argv[2]))), Path(sys.argv[1])))
    while not any(isinstance(event, events.Progress) for event in session.events(1.0)):
        pass
    for line in sys.stdin:
        exec(line)
        print("done", flush=True)
"""


class Console:
    """The console's process, and the run that it started."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process, self.folder = process, folder

    def do(self, line: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def told(self, kind: type) -> list[Any]:
        return journal_events(self.folder, kind)

    def trains(self) -> None:
        at = self.told(events.Progress)[-1].step[-1]
        until(lambda: self.told(events.Progress)[-1].step[-1] > at + 20)

    def stops(self) -> None:
        """Wait for an end that was saved."""
        until(lambda: not is_held(self.folder))
        (finished,) = self.told(events.Finished)
        assert finished.reason == "stopped" and not finished.unsaved
        assert load(self.folder / "last.pt").progress().step == finished.step
        RunLock(self.folder).release()


@pytest.fixture
def console(
    tmp_path: Path, small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch, kill_leftovers: None
) -> Callable[..., Console]:
    (tmp_path / "console.py").write_text(CONSOLE)

    def go(**settings: Any) -> Console:
        values = json.dumps(to_dict(small(**settings, keep_checkpoints=1)))
        process = subprocess.Popen(
            [sys.executable, str(tmp_path / "console.py"), str(tmp_path / "run"), values],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        console = Console(process, tmp_path / "run")
        console.do("pass")
        return console

    return go


def test_continue_goes_on_and_can_be_told_to_stop(console: Callable[..., Console]) -> None:
    it = console(epochs=LONG, on_console_loss="continue")
    it.kill()
    it.trains()
    AttachedRun(it.folder).send(Stop(who="ada"))
    it.stops()
    assert [(answer.command, answer.who) for answer in it.told(events.Answered)] == [("stop", "ada")]


def test_stop_saves_and_ends_and_says_why(console: Callable[..., Console]) -> None:
    it = console(epochs=LONG, on_console_loss="stop")
    it.kill()
    it.stops()
    assert [(answer.command, answer.who) for answer in it.told(events.Answered)] == [("stop", "its lost console")]
    assert not (it.folder / "final_model.pt").exists()


def test_what_is_to_happen_can_be_changed_while_it_trains(console: Callable[..., Console]) -> None:
    it = console(epochs=LONG)
    it.do("ask(Set(setting='on_console_loss', value='stop'))")
    it.kill()
    it.stops()


def test_to_go_is_not_to_be_lost(console: Callable[..., Console]) -> None:
    """ctrl+q, "leave it running": the console says so before it goes."""
    it = console(epochs=LONG, on_console_loss="stop")
    it.do("session.close()")
    it.kill()
    it.trains()


def test_a_run_that_stands_still_ends_with_its_console(console: Callable[..., Console]) -> None:
    it = console(epochs=LONG)
    it.do("ask(Pause())")
    until(lambda: it.told(events.Phase)[-1].phase == "paused")
    at = it.told(events.Phase)[-1].step
    it.kill()
    it.stops()
    assert it.told(events.Finished)[0].step == at


def test_a_run_that_lost_its_console_can_be_paused_by_others_and_stays_paused(console: Callable[..., Console]) -> None:
    it = console(epochs=LONG)
    it.kill()
    it.trains()
    ada = AttachedRun(it.folder)
    ada.send(Set(setting="learning_rate", value=0.001))
    ada.send(Pause())
    until(lambda: it.told(events.Phase)[-1].phase == "paused")
    at, told = it.told(events.Phase)[-1].step, list(read_journal(it.folder))
    time.sleep(0.5)  # some looks at whether the console is there
    assert list(read_journal(it.folder)) == told and is_held(it.folder)
    ada.send(Resume())
    until(lambda: it.told(events.Progress)[-1].step[-1] > at)
    ada.send(Stop())
    it.stops()
