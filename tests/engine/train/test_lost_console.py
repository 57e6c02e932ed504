"""What a run does when its console is killed, detaches, or is lost while the run is paused: real processes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import to_dict
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events
from fundamentallm.run.commands import Pause, Resume, Set, Stop
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import RunLock, is_held
from fundamentallm.train.checkpoint import load
from tests.conftest import journal_events, until
from tests.engine.train.conftest import Small

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

    def events(self, kind: type) -> list[Any]:
        return journal_events(self.folder, kind)

    def trains(self) -> None:
        at = self.events(events.Progress)[-1].step[-1]
        until(lambda: self.events(events.Progress)[-1].step[-1] > at + 20)

    def stops(self) -> None:
        """Wait for an end that was saved."""
        until(lambda: not is_held(self.folder))
        (finished,) = self.events(events.Finished)
        assert finished.reason == "stopped" and not finished.unsaved
        assert load(self.folder / "last.pt").progress().step == finished.step
        RunLock(self.folder).release()


@pytest.fixture
def console(
    tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch, kill_leftovers: None
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


@pytest.mark.parametrize(
    ("settings", "act", "continues"),
    [
        ({"on_console_loss": "continue"}, "pass", True),
        ({"on_console_loss": "stop"}, "pass", False),
        ({}, "ask(Set(setting='on_console_loss', value='stop'))", False),  # it can be changed while the run trains
        ({"on_console_loss": "stop"}, "session.close()", True),  # detaching on purpose does not count as losing it
        ({}, "ask(Pause())", False),  # a paused run would wait forever
    ],
)
def test_a_run_that_loses_its_console_continues_or_saves_and_ends(
    console: Callable[..., Console], settings: dict[str, Any], act: str, continues: bool
) -> None:
    run = console(epochs=LONG, **settings)
    run.do(act)
    if "Pause" in act:
        until(lambda: run.events(events.Phase)[-1].phase == "paused")
        at = run.events(events.Phase)[-1].step
    run.kill()
    if continues:
        run.trains()
        AttachedRun(run.folder).send(Stop(who="ada"))
    run.stops()
    stops = [answer.who for answer in run.events(events.Answered) if answer.command == "stop"]
    assert stops == ["ada" if continues else "its lost console"]
    assert not (run.folder / "final_model.pt").exists()
    if "Pause" in act:
        assert run.events(events.Finished)[0].step == at


def test_a_run_that_lost_its_console_can_be_paused_by_others_and_stays_paused(console: Callable[..., Console]) -> None:
    run = console(epochs=LONG)
    run.kill()
    run.trains()
    ada = AttachedRun(run.folder)
    ada.send(Set(setting="learning_rate", value=0.001))
    ada.send(Pause())
    until(lambda: run.events(events.Phase)[-1].phase == "paused")
    at, journal = run.events(events.Phase)[-1].step, list(read_journal(run.folder))
    time.sleep(0.5)  # some looks at whether the console is there
    assert list(read_journal(run.folder)) == journal and is_held(run.folder)
    ada.send(Resume())
    until(lambda: run.events(events.Progress)[-1].step[-1] > at)
    ada.send(Stop())
    run.stops()
