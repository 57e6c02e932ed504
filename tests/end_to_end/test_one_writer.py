"""One process writes a run, by whatever name its folder is called, and when it is gone another may: real processes."""

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run import events
from fundamentallm.run.locks import RunLock, holder, is_held
from fundamentallm.train.checkpoint import load
from tests.conftest import journal_events
from tests.end_to_end.conftest import EPOCH

Run = Callable[..., Any]


@pytest.fixture
def training(launch: Run, tiny: list[str], tmp_path: Path) -> Any:
    """A run under way in the folder `run`, saved at every step."""
    program = launch(*tiny, "--output-dir=run", "--epochs=200000", "--keep-checkpoints=1", "--save-every=1")
    program.until(lambda: (tmp_path / "run/last.pt").exists() and journal_events(tmp_path / "run", events.Progress))
    return program


def refusal(training: Any, folder: str = "run") -> str:
    return f"{folder}: is being written by process {training.pid} on {socket.gethostname()}\n"


def test_every_way_to_start_a_second_writer_is_refused_with_pid_and_host(
    training: Any, run: Run, tiny: list[str], tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("run")
    second = run(*tiny, "--output-dir=run", "--resume=auto")
    assert (second.status, second.out, second.err) == (2, "", refusal(training))
    training.signal(signal.SIGSTOP)  # a process that is stopped still holds its run
    for folder in ("run", "link", "run/../run", str(tmp_path / "run")):
        for how in (["--resume=auto"], ["--overwrite"]):
            second = run(*tiny, f"--output-dir={folder}", *how)
            assert (second.status, second.out) == (2, ""), (folder, how)
            assert second.err.endswith(refusal(training, str(Path(folder)))), second.err
    for command in (["train", "--resume-from=link/last.pt", "--epochs=300000"], [*tiny, "--output-dir=link"]):
        second = run(*command)
        assert (second.status, second.err) == (2, refusal(training, "link"))
    assert is_held(tmp_path / "run")
    training.signal(signal.SIGCONT)

    assert len(journal_events(tmp_path / "run", events.RunStarted)) == 1 and training.status is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "run", "text.txt"]
    assert holder(tmp_path / "run") == f"process {training.pid} on {socket.gethostname()}"


def test_after_a_kill_the_folder_is_free_at_once(training: Any, run: Run, tiny: list[str], tmp_path: Path) -> None:
    training.signal(signal.SIGKILL)
    assert training.wait() == -9
    assert not is_held(tmp_path / "run") and holder(tmp_path / "run")  # its name stands there, and counts for nothing
    RunLock(tmp_path / "run").release()
    epochs = load(tmp_path / "run/last.pt").progress().step // EPOCH + 2
    again = run(*tiny, "--output-dir=run", f"--epochs={epochs}", "--keep-checkpoints=1", "--resume=auto")
    assert again.status == 0, again.err
    assert load(tmp_path / "run/final_model.pt").progress().step == EPOCH * epochs
