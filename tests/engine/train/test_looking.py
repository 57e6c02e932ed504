"""Looking does not touch: whatever a run is asked, shown or told to save or wait for, its weights are the same bits."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.files import to_yaml
from fundamentallm.process.session import AttachedRun, WorkerRun
from fundamentallm.run import events
from fundamentallm.run.commands import Command, Pause, Resume, Sample, Save
from fundamentallm.run.journal import read_journal
from fundamentallm.run.locks import is_held
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.checkpoint import Checkpoint, load
from tests.conftest import PATIENCE, until
from tests.engine.seen import EPOCH, steps_in
from tests.engine.train.conftest import Equal, Small, Train, counters_of

SETTINGS: dict[str, Any] = {"dropout": 0.2, "augment": "casing=0.1", "accumulation_steps": 2, "batch_size": 4}


def ends(folder: Path) -> tuple[Checkpoint, dict[str, Any]]:
    return load(folder / "final_model.pt"), counters_of(folder / "final_model.pt")


@pytest.fixture
def same(train: Train, small: Small, equal: Equal) -> Callable[..., None]:
    """Asserts that a run came to the same as one that nobody looked at."""
    plain = train(small(**SETTINGS), "plain").folder

    def check(folder: Path, *, gains: bool = True) -> None:
        (ours, our_counters), (theirs, their_counters) = ends(folder), ends(plain)
        assert equal(ours.model, theirs.model) and equal(ours.optimizer, theirs.optimizer)
        if gains:  # which evaluation was the best depends on how many there are
            assert our_counters == their_counters
        assert our_counters["step"] == 2 * EPOCH == len(steps_in(folder))
        assert steps_in(folder) == steps_in(plain)

    return check


# ---- in this process ----

SAMPLES = [Sample(prompt="the ", max_tokens=30, seed=1), Sample(prompt="", max_tokens=7, temperature=0)]
LOOKS: dict[str, tuple[dict[str, Any], dict[int, list[Command]]]] = {
    "evaluated at every step": ({"eval_every": 1}, {}),
    "evaluated every 7 steps": ({"eval_every": 7}, {}),
    "saved at every step": ({"save_every": 1}, {}),
    "saved and evaluated at every step": ({"save_every": 1, "eval_every": 1}, {}),
    "asked for samples": ({}, {step: list(SAMPLES) for step in (1, 5, 17, 18, 19, 30)}),
    "saved by hand": ({"keep_checkpoints": 1}, {step: [Save(), Save()] for step in (1, 2, 18, 35)}),
    "paused and resumed": ({}, {step: [Pause(), Save(), *SAMPLES, Resume()] for step in (1, 6, 18, 33)}),
    "shown on TensorBoard": ({"tensorboard": True}, {4: list(SAMPLES)}),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_run_that_is_looked_at_comes_to_the_same_bits(
    train: Train, small: Small, same: Callable[..., None], tmp_path: Path, look: str
) -> None:
    settings, script = LOOKS[look]
    changes = {**SETTINGS, **settings, **({"log_dir": str(tmp_path / "logs")} if "tensorboard" in settings else {})}
    ran = train(small(**changes), "looked", script=dict(script))
    asked = sum(map(len, script.values()))
    assert sum(event.ok for event in ran.of(events.Answered)) == asked
    same(ran.folder, gains="eval_every" not in settings)


def test_standing_still_for_real_changes_nothing(train: Train, small: Small, same: Callable[..., None]) -> None:
    left: list[list[Command]] = [[Pause()], [], [], list(SAMPLES), [], [Resume()], [Pause()], [Save()], [Resume()]]
    ran = train(small(**SETTINGS), "slow", script=lambda run: left.pop(0) if run.state.step >= 3 and left else [])
    assert [event.phase for event in ran.of(events.Phase)].count("paused") >= 2 and not left
    same(ran.folder)


# ---- watched by a console, in a process of its own ----


@pytest.fixture
def start(tmp_path: Path, small: Small) -> Iterator[Callable[..., WorkerRun]]:
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


def test_a_console_that_reads_everything_and_one_that_never_reads_change_nothing(
    start: Callable[..., WorkerRun], same: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start()
    seen: list[events.Event] = []
    while not (seen and isinstance(seen[-1], events.Finished)):
        seen += session.events(0.1)
    assert seen == list(read_journal(tmp_path / "run"))
    same(tmp_path / "run")
    session.close()
    assert session.wait(PATIENCE)
    (tmp_path / "run").rename(tmp_path / "watched")

    monkeypatch.setattr("fundamentallm.process.session.QUEUE_SIZE", 2)
    session = start(save_every=1)
    until(lambda: ended(tmp_path / "run"))
    assert session.alive
    same(tmp_path / "run")


def test_two_attached_consoles_that_sample_save_and_pause_change_nothing(
    start: Callable[..., WorkerRun], same: Callable[..., None], tmp_path: Path
) -> None:
    session = start()
    folder = tmp_path / "run"
    session.send(Pause())  # held at its first step until both are there
    until(lambda: any(isinstance(event, events.Answered) for event in read_journal(folder)))
    received: list[list[events.Event]] = [[], []]
    all_sent = threading.Barrier(2)

    def watch(n: int) -> None:
        console = AttachedRun(folder)
        for command in (Sample(prompt="the ", max_tokens=20, seed=n), Save(), Pause(), Sample(prompt="", max_tokens=3)):
            console.send(command)
        all_sent.wait(PATIENCE)
        if n == 0:
            console.send(Resume())
        while not (received[n] and isinstance(received[n][-1], events.Finished)):
            received[n] += console.events(0.1)

    consoles = [threading.Thread(target=watch, args=(n,), daemon=True) for n in (0, 1)]
    for console in consoles:
        console.start()
    for console in consoles:
        console.join(PATIENCE)
    assert received[0] == received[1] == list(read_journal(folder))
    answers = [event for event in received[0] if isinstance(event, events.Answered)]
    assert len(answers) == 1 + 2 * 4 + 1 and all(event.ok for event in answers)
    same(folder)


CONSOLE = """
import sys
from pathlib import Path
from fundamentallm.config.config import resolve
from fundamentallm.run.spec import RunSpec
from fundamentallm.config.files import load_config
from fundamentallm.process.session import WorkerRun

if __name__ == "__main__":
    session = WorkerRun(RunSpec(resolve(load_config(Path(sys.argv[1]))), Path(sys.argv[2])))
    count = 0
    while True:
        for event in session.events(0.05):
            count += 1
            if count == 8: print("enough", flush=True)
"""


def test_a_console_that_dies_changes_nothing(
    small: Small, same: Callable[..., None], tmp_path: Path, kill_leftovers: None
) -> None:
    (tmp_path / "console.py").write_text(CONSOLE)
    (tmp_path / "settings.yaml").write_text(to_yaml(small(**SETTINGS)))
    command = [sys.executable, tmp_path / "console.py", tmp_path / "settings.yaml", tmp_path / "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as console:
        assert console.stdout is not None and console.stdout.readline() == "enough\n"
        console.kill()
    until(lambda: ended(tmp_path / "run"))
    same(tmp_path / "run")
