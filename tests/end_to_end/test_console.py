"""The console with a real engine in a real terminal: every control, and what is left when one of them is killed."""

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fundamentallm.run.commands import Stop
from fundamentallm.run.events import Answered, Finished, Progress, RunStarted, Sampled
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import send_command
from fundamentallm.run.locks import RunLock, is_held
from fundamentallm.train.checkpoint import load
from tests.benchmarks.terminal import Terminal
from tests.conftest import FAULTY_CONSOLE, is_gone, journal_events, until
from tests.end_to_end.conftest import CONSOLE, KEYS, step_of

LEAVES_THE_OTHER_SCREEN = b"\x1b[?1049l"
OPEN = (*CONSOLE, "--config=quick.yaml", "--output-dir=run")
Screen = Callable[..., Terminal]


@pytest.fixture
def folder(quick: Path) -> Path:
    """Where the run will be."""
    return quick / "run"


@pytest.fixture
def seen(screen: Screen, folder: Path) -> Terminal:
    """A console in which a run is under way."""
    found = screen(*OPEN, "--start")
    found.see(lambda _: step_of(found) > 5)
    return found


def press(seen: Terminal, key: str, then: str | Callable[[str], bool]) -> None:
    seen.press(KEYS.get(key, key))
    seen.see(then)


def stop_and_quit(seen: Terminal) -> None:
    press(seen, "F8", "STOPPED")
    seen.press(KEYS["ctrl+q"])
    assert seen.status() == 0


def steps(folder: Path) -> int:
    return int(journal_events(folder, Progress)[-1].step[-1])


def settled_step(seen: Terminal) -> int:
    """The step on the screen, once it has caught up with a run that takes no step."""
    before = -1
    while before != step_of(seen):
        before = step_of(seen)
        time.sleep(1.2)
    return before


def until_trains(folder: Path) -> None:
    before = steps(folder)
    until(lambda: steps(folder) > before + 5)


def worker(folder: Path) -> int:
    return int(journal_events(folder, RunStarted)[-1].pid)


def test_start_pause_resume_save_sample_stop_quit(screen: Screen, folder: Path) -> None:
    seen = screen(*OPEN, columns=80, rows=24)
    seen.see("IDLE")
    press(seen, "F5", "TRAINING")
    seen.see(lambda _: step_of(seen) > 5)
    first = step_of(seen)
    seen.see(lambda _: step_of(seen) > first)

    press(seen, "F6", "PAUSED")
    paused = settled_step(seen)
    assert steps(folder) == paused
    time.sleep(1)
    assert step_of(seen) == paused

    saved = folder / f"checkpoint_step_{paused}.pt"
    press(seen, "F7", lambda _: saved.exists())
    assert load(saved).progress().step == paused

    seen.press(KEYS["ctrl+g"])
    press(seen, "the lamp\r", lambda _: any(event.done for event in journal_events(folder, Sampled)))
    assert journal_events(folder, Sampled)[0].prompt == "the lamp"
    seen.press("\x1b")
    time.sleep(0.5)

    press(seen, "F6", "TRAINING")
    seen.see(lambda _: step_of(seen) > paused)
    press(seen, "F8", "STOPPED")
    assert load(folder / "last.pt").progress().step == settled_step(seen) > paused

    pid = worker(folder)
    seen.press(KEYS["ctrl+q"])
    assert seen.status() == 0 and LEAVES_THE_OTHER_SCREEN in seen.bytes
    until(lambda: is_gone(pid))
    RunLock(folder).release()


# ---- one of the two is killed, stopped or interrupted ----


def test_a_killed_engine_leaves_a_console_that_shows_why_and_can_resume(seen: Terminal, folder: Path) -> None:
    os.kill(worker(folder), signal.SIGKILL)
    seen.see("INTERRUPTED")
    seen.see("SIGKILL")
    press(seen, "F5", "TRAINING")
    seen.see(lambda _: len(journal_events(folder, RunStarted)) == 2)
    assert journal_events(folder, RunStarted)[1].resumed_from.endswith("last.pt")
    stop_and_quit(seen)


def test_an_editor_that_fails_gives_the_terminal_back(
    screen: Screen, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    for editor, key, said in (
        ("no-such-editor", "", "no-such-editor: cannot be started"),
        ("sh -c 'echo; echo asking; read line'", "\x03", "ended with status"),  # ctrl+c is the editor's
    ):
        monkeypatch.setenv("EDITOR", editor)
        seen = screen(*OPEN)
        seen.see("IDLE")
        seen.press("e")
        if key:
            seen.see("asking")
            seen.press(key)
        seen.see(said)
        press(seen, "F5", "TRAINING")
        stop_and_quit(seen)
        shutil.rmtree(folder)


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


def test_a_console_that_is_continued_while_it_draws_still_works(screen: Screen, folder: Path) -> None:
    seen = screen(sys.executable, "-c", CONTINUED, "--config=quick.yaml")
    seen.see("IDLE")
    time.sleep(0.5)  # the keyboard is taken anew
    press(seen, "F5", "TRAINING")
    stop_and_quit(seen)


def test_a_signal_restores_the_terminal(screen: Screen, folder: Path) -> None:
    seen = screen(*OPEN)
    seen.see("IDLE")
    os.kill(seen.pid, signal.SIGTERM)
    assert seen.status() == 128 + signal.SIGTERM
    time.sleep(0.3)
    assert LEAVES_THE_OTHER_SCREEN in seen.bytes


# ---- a run that outlives its console, in a shell ----


@pytest.fixture
def shell(screen: Screen, folder: Path) -> Terminal:
    """A shell that has started a console, in which a run is under way."""
    found = screen("sh", "-c", f"echo $$; {shlex.join([*OPEN, '--start'])}; echo back with $?; exec sleep 600")
    found.see(lambda _: step_of(found) > 5)
    return found


def stop(folder: Path) -> None:
    send_command(folder, Stop())
    until(lambda: not is_held(folder))
    time.sleep(1.5)  # the processes beside the worker need a moment


def test_a_run_that_was_left_running_continues_and_its_end_prints_nothing(shell: Terminal, folder: Path) -> None:
    press(shell, "ctrl+q", "Leave it running")
    press(shell, "l", "back with 0")
    assert "The run continues; fllm-tui attach run shows it again." in shell.screen
    until_trains(folder)
    shown = shell.screen
    stop(folder)
    assert shell.screen == shown


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the console in /proc")
def test_a_killed_console_leaves_the_terminal_in_peace_and_a_run_that_continues_and_saves_on_a_signal(
    shell: Terminal, folder: Path
) -> None:
    pid = worker(folder)
    (console,) = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
    os.kill(int(console), signal.SIGKILL)
    shell.see("back with 137")
    until_trains(folder)
    os.kill(pid, signal.SIGTERM)
    until(lambda: is_gone(pid))
    assert load(folder / "last.pt").progress().step > 5
    RunLock(folder).release()
    time.sleep(1.5)  # the processes beside the worker need a moment
    assert "resource_tracker" not in shell.screen and "Warning" not in shell.screen


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP, "close", signal.SIGKILL])
def test_a_run_that_is_to_stop_without_its_console_or_that_it_paused_does_so(
    screen: Screen, folder: Path, end: signal.Signals | str
) -> None:
    with Path("quick.yaml").open("a") as config:
        config.write("on_console_loss: stop\n" if end != signal.SIGKILL else "")
    seen = screen(*OPEN, "--start")
    seen.see(lambda _: step_of(seen) > 5)
    if end == signal.SIGKILL:
        press(seen, "F6", "PAUSED")
    if isinstance(end, signal.Signals):
        os.kill(seen.pid, end)
    else:
        seen.hang_up()
    until(lambda: bool(journal_events(folder, Finished)) and not is_held(folder))
    stops = [answer.who for answer in journal_events(folder, Answered) if answer.command == "stop"]
    assert stops == ["its lost console"]
    assert load(folder / "last.pt").progress().step == steps(folder)


def test_a_run_whose_terminal_was_closed_is_attached_to_paused_resumed_and_stopped(
    shell: Terminal, folder: Path, screen: Screen
) -> None:
    shell.hang_up()
    until(lambda: is_gone(shell.pid))
    until_trains(folder)
    assert len(journal_events(folder, RunStarted)) == 1

    seen = screen(*CONSOLE, "attach")  # the only run under way
    seen.see("TRAINING")
    seen.see(lambda _: step_of(seen) > 5)
    press(seen, "F6", "PAUSED")
    until(lambda: step_of(seen) == steps(folder))
    at = steps(folder)
    press(seen, "F6", "TRAINING")
    until(lambda: steps(folder) > at)
    stop_and_quit(seen)
    (finished,) = journal_events(folder, Finished)
    assert finished.reason == "stopped" and load(folder / "last.pt").progress().step == finished.step
    assert list(read_history(folder).steps) == list(range(1, finished.step + 1))


# ---- keys that arrive together, a fault of the console ----


def test_escape_and_a_digit_that_arrive_together_leave_the_prompt_and_type_nothing(screen: Screen, quick: Path) -> None:
    seen = screen(*CONSOLE, "--config=quick.yaml", columns=80, rows=24)
    seen.see("IDLE")
    seen.press(KEYS["ctrl+g"])
    press(seen, "lamp", "lamp")
    press(seen, "\x1b2", "╭─ Log")
    press(seen, "5", "╭─ Sample")
    assert "lamp " in seen.screen and "™" not in seen.screen and "lamp2" not in seen.screen
    seen.press(KEYS["ctrl+q"])
    assert seen.status() == 0


def test_a_console_that_ends_by_an_error_restores_the_terminal_and_says_what_becomes_of_the_run(
    screen: Screen, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    seen = screen(sys.executable, "-c", FAULTY_CONSOLE, *OPEN[len(CONSOLE) :], "--start")
    seen.see(lambda _: step_of(seen) > 5)
    seen.press(KEYS["F7"])
    assert seen.status() == 1
    time.sleep(0.3)
    _, restored, after = seen.bytes.rpartition(LEAVES_THE_OTHER_SCREEN)
    assert restored
    shown = "".join(after.decode().split("\n")).replace("\r", "")
    (report,) = (tmp_path / "state").rglob("console-*.log")
    assert f"ended by an error of its own: ZeroDivisionError: division by zero (its traceback is in {report})" in shown
    assert after.decode().rstrip().endswith("The run continues; fllm-tui attach run shows it again.")
    assert "Traceback" not in shown and "Traceback" in report.read_text() and "1 / 0" not in shown
    until_trains(folder)
    stop(folder)
