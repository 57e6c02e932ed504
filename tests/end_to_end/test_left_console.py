"""Start in a console, close the terminal, attach in a new one: everything is as it was left. Real terminals."""

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run.commands import Stop
from fundamentallm.run.events import Finished, RunStarted
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import read_journal, send_command
from fundamentallm.run.locks import is_held
from fundamentallm.train.checkpoint import load
from tests.conftest import until

if not hasattr(os, "fork"):
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

KEYS = {"F6": "\x1b[17~", "F8": "\x1b[19~", "ctrl+q": "\x11"}
CONSOLE = (sys.executable, "-m", "fundamentallm_tui")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_leftovers: None) -> Path:
    """Where the run will be; the settings of quick steps are in quick.yaml."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("the sea is deep, the night is long, and the lamp is lit.\n" * 200)
    Path("quick.yaml").write_text(
        "data: text.txt\nmodel_dim: 16\nnum_layers: 1\nmax_seq_len: 32\nbatch_size: 8\nepochs: 10000\n"
    )
    return tmp_path / "runs" / "far"


@pytest.fixture
def shell(screen: Callable[..., Any], folder: Path) -> Any:
    """A shell that has started a console, in which a run is under way."""
    console = shlex.join([*CONSOLE, "--config=quick.yaml", "--output-dir=runs/far", "--start"])
    seen = screen("sh", "-c", f"echo $$; {console}; echo back with $?; exec sleep 600")
    seen.see(lambda _: step_of(seen) > 5)
    return seen


def step_of(seen: Any) -> int:
    found = re.search(r"step +(\d+)/", seen.screen)
    return int(found[1]) if found else 0


def steps(folder: Path) -> int:
    return read_history(folder).steps[-1]


def trains(folder: Path) -> None:
    before = steps(folder)
    until(lambda: steps(folder) > before + 5)


def stop(folder: Path) -> None:
    send_command(folder, Stop())
    until(lambda: not is_held(folder))
    time.sleep(1.5)  # the processes beside the worker need a moment


def test_a_run_that_was_left_running_goes_on_and_its_end_is_not_said_on_the_terminal(shell: Any, folder: Path) -> None:
    shell.press(KEYS["ctrl+q"])
    shell.see("Leave it running")
    shell.press("l")
    shell.see("back with 0")
    assert "The run continues; fllm-tui attach runs/far shows it again." in shell.screen
    trains(folder)
    shown = shell.screen
    stop(folder)
    assert shell.screen == shown


def test_a_killed_console_leaves_the_terminal_in_peace(shell: Any, folder: Path) -> None:
    (console,) = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
    os.kill(int(console), signal.SIGKILL)
    shell.see("back with 137")
    trains(folder)
    stop(folder)
    assert "resource_tracker" not in shell.screen and "Warning" not in shell.screen


def test_a_run_whose_terminal_was_closed_is_attached_to_paused_resumed_and_stopped(
    shell: Any, folder: Path, screen: Callable[..., Any]
) -> None:
    os.close(shell._file)  # what closing a window does: the kernel hangs up
    until(lambda: not Path(f"/proc/{shell.pid}/task").exists() or "Z" in state(shell.pid))
    trains(folder)
    assert len([event for event in read_journal(folder) if isinstance(event, RunStarted)]) == 1

    seen = screen(*CONSOLE, "attach")  # the only run under way
    seen.see("TRAINING")
    seen.see(lambda _: step_of(seen) > 5)
    seen.press(KEYS["F6"])
    seen.see("PAUSED")
    until(lambda: step_of(seen) == steps(folder))
    at = steps(folder)
    seen.press(KEYS["F6"])
    seen.see("TRAINING")
    until(lambda: steps(folder) > at)
    seen.press(KEYS["F8"])
    seen.see("STOPPED")
    seen.press(KEYS["ctrl+q"])
    assert seen.status() == 0
    (finished,) = (event for event in read_journal(folder) if isinstance(event, Finished))
    assert finished.reason == "stopped" and load(folder / "last.pt").progress().step == finished.step
    assert list(read_history(folder).steps) == list(range(1, finished.step + 1))


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"
