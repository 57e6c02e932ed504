"""The console with a real engine in a real terminal, from the first key to the last."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run.locks import RunLock
from fundamentallm.train.checkpoint import load

if not hasattr(os, "fork"):
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

KEYS = {"F5": "\x1b[15~", "F6": "\x1b[17~", "F7": "\x1b[18~", "F8": "\x1b[19~", "ctrl+g": "\x07", "ctrl+q": "\x11"}
CONSOLE = (sys.executable, "-m", "fundamentallm_tui")
LEAVES_THE_OTHER_SCREEN = b"\x1b[?1049l"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run that would take minutes, of quick steps; its process does not outlive the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    Path("text.txt").write_text("the sea is deep, the night is long, and the lamp is lit.\n" * 200)
    path = tmp_path / "quick.yaml"
    path.write_text("data: text.txt\nmodel_dim: 16\nnum_layers: 1\nmax_seq_len: 32\nbatch_size: 8\nepochs: 10000\n")
    yield path
    if (tmp_path / "run" / "journal.jsonl").exists():
        for event in events(tmp_path / "run"):
            if event["event"] == "run_started":
                with suppress(ProcessLookupError):
                    os.kill(event["pid"], signal.SIGKILL)


def step_of(seen: Any) -> int:
    found = re.search(r"step +(\d+)/", seen.screen)
    return int(found[1]) if found else 0


def standing(seen: Any) -> int:
    """The step, once the screen has caught up with a run that stands still."""
    before = -1
    while before != step_of(seen):
        before = step_of(seen)
        time.sleep(1.2)
    return before


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def worker(folder: Path) -> int:
    return int(events(folder)[0]["pid"])


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("size", [(120, 36), (80, 24)], ids=["120x36", "80x24"])
def test_start_pause_resume_save_sample_stop_quit(
    screen: Callable[..., Any], config: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    folder = tmp_path / "run"
    seen = screen(*CONSOLE, "--config", str(config), "--output-dir", str(folder), columns=size[0], rows=size[1])
    seen.see("IDLE")
    seen.press(KEYS["F5"])
    seen.see("TRAINING")
    seen.see(lambda _: step_of(seen) > 5)
    first = step_of(seen)
    seen.see(lambda _: step_of(seen) > first)

    seen.press(KEYS["F6"])
    seen.see("PAUSED")
    paused = standing(seen)
    steps = [event["step"][-1] for event in events(folder) if event["event"] == "progress"]
    assert steps[-1] == paused
    time.sleep(1)
    assert step_of(seen) == paused

    seen.press(KEYS["F7"])
    saved = folder / f"checkpoint_step_{paused}.pt"
    seen.see(lambda _: saved.exists())
    assert load(saved).progress().step == paused

    seen.press(KEYS["ctrl+g"])
    seen.press("the lamp\r")
    done = lambda: [event for event in events(folder) if event["event"] == "sample" and event["done"]]  # noqa: E731
    seen.see(lambda _: bool(done()))
    assert done()[0]["prompt"] == "the lamp"
    seen.press("\x1b")
    time.sleep(0.5)

    seen.press(KEYS["F6"])
    seen.see("TRAINING")
    seen.see(lambda _: step_of(seen) > paused)
    seen.press(KEYS["F8"])
    seen.see("STOPPED")
    assert load(folder / "last.pt").progress().step == standing(seen) > paused

    pid = worker(folder)
    seen.press(KEYS["ctrl+q"])
    assert seen.status() == 0
    assert LEAVES_THE_OTHER_SCREEN in seen.bytes
    assert gone(pid)
    RunLock(folder).release()


def test_a_killed_console_leaves_a_run_that_goes_on_and_can_be_resumed(
    screen: Callable[..., Any], config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    seen = screen(*CONSOLE, "--config", str(config), "--output-dir", str(folder), "--start")
    seen.see(lambda _: step_of(seen) > 5)
    pid = worker(folder)
    seen.kill()
    before = len(events(folder))
    for _ in range(100):
        if len(events(folder)) > before + 3:
            break
        time.sleep(0.1)
    assert len(events(folder)) > before + 3
    os.kill(pid, signal.SIGTERM)
    assert gone(pid)
    assert load(folder / "last.pt").progress().step > 5
    RunLock(folder).release()


def test_a_killed_engine_leaves_a_console_that_says_why_and_goes_on(
    screen: Callable[..., Any], config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    seen = screen(*CONSOLE, "--config", str(config), "--output-dir", str(folder), "--start")
    seen.see(lambda _: step_of(seen) > 5)
    os.kill(worker(folder), signal.SIGKILL)
    seen.see("FAILED")
    seen.see("SIGKILL")
    seen.press(KEYS["F5"])
    seen.see("TRAINING")
    seen.see(lambda _: sum(event["event"] == "run_started" for event in events(folder)) == 2)
    again = [event for event in events(folder) if event["event"] == "run_started"][1]
    assert again["resumed_from"].endswith("last.pt")
    seen.press(KEYS["F8"])
    seen.see("STOPPED")
    seen.press(KEYS["ctrl+q"])
    assert seen.status() == 0


def test_training_does_not_wait_for_a_console_that_is_stopped(
    screen: Callable[..., Any], config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    config.write_text(config.read_text().replace("10000", "40"))
    seen = screen(*CONSOLE, "--config", str(config), "--output-dir", str(folder), "--start")
    seen.see(lambda _: step_of(seen) > 5)
    os.kill(seen.pid, signal.SIGSTOP)
    for _ in range(600):
        if events(folder)[-1]["event"] == "finished":
            break
        time.sleep(0.1)
    assert events(folder)[-1]["event"] == "finished" and events(folder)[-1]["reason"] == "completed"
    for _ in range(50):  # the lock is free while the worker waits for the console's questions
        if not (folder / "lock").read_text():
            break
        time.sleep(0.1)
    RunLock(folder).release()
    os.kill(seen.pid, signal.SIGCONT)
    seen.see("FINISHED")
    assert step_of(seen) == events(folder)[-1]["step"]
    seen.press(KEYS["ctrl+q"])
    assert seen.status() == 0


CONTINUED = """
import os, signal, sys
from textual.drivers._writer_thread import WriterThread
from fundamentallm_tui.__main__ import main
write = WriterThread.write
def interrupted(self, text):
    write(self, text)
    with self._queue.mutex:
        if b"IDLE" in text.encode() and not done:
            done.append(os.kill(os.getpid(), signal.SIGCONT))
done = []
WriterThread.write = interrupted
sys.exit(main() or not done)
"""


def test_a_console_that_is_continued_in_the_midst_of_drawing_goes_on(screen: Callable[..., Any], config: Path) -> None:
    seen = screen(sys.executable, "-c", CONTINUED, "--config", str(config))
    seen.see("IDLE")
    time.sleep(0.5)  # the keyboard is taken anew
    seen.press(KEYS["F5"])
    seen.see("TRAINING")
    seen.press(KEYS["F8"])
    seen.see("STOPPED")
    seen.press(KEYS["ctrl+q"])
    assert seen.status() == 0


def test_a_signal_restores_the_terminal(screen: Callable[..., Any], config: Path, tmp_path: Path) -> None:
    seen = screen(*CONSOLE, "--config", str(config), "--output-dir", str(tmp_path / "run"))
    seen.see("IDLE")
    os.kill(seen.pid, signal.SIGTERM)
    assert seen.status() == 128 + signal.SIGTERM
    time.sleep(0.3)
    assert LEAVES_THE_OTHER_SCREEN in seen.bytes
