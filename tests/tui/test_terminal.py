"""What the console writes to a real terminal: few bytes on a slow line, the title, notifications."""

import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.run.events import Event, Phase, encode
from fundamentallm.run.spec import RunSpec
from tests.benchmarks.terminal import CONSOLE, Terminal
from tests.conftest import FAULTY_CONSOLE
from tests.events import evaluated
from tests.tui.others import alive

SECONDS = 15


@pytest.fixture
def recorded(make: Any, workshop: Any) -> Path:
    """A run of fifteen seconds with ten reports a second, below `runs`."""
    folder = make("recorded")
    events: list[Event] = [
        workshop.started(RunSpec(Config(), folder), 0, 2 * SECONDS * 10),
        Phase(step=0, phase="training"),
    ]
    for n in range(SECONDS * 10):
        report = workshop.progress(2 * n + 1, 2 * n + 2)
        losses = tuple(4 / (1 + step / 50) + 0.1 * math.sin(step * step) for step in report.step)
        events += [replace(report, train_loss=losses), *([evaluated(2 * n + 2, losses[0])] if n % 20 == 19 else [])]
    lines = [encode(replace(event, seq=n, time=1e9 + n / 10)) for n, event in enumerate(events)]
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n")
    return Path(folder)


def bytes_at(terminal: Terminal, step: int) -> int:
    """How much the console has written when it shows this step or a later one."""
    terminal.see(lambda screen: any(int(found) >= step for found in re.findall(r"step +(\d+)/", screen)))
    return len(terminal.bytes)


def test_a_slow_line_gets_a_fraction_of_the_bytes(recorded: Path, screen: Callable[..., Terminal]) -> None:
    replay = ("replay", str(recorded), "--speed", "1")
    terminals = [screen(CONSOLE, *replay), screen(CONSOLE, "--low-bandwidth", *replay)]
    first, last = ([bytes_at(terminal, step) for terminal in terminals] for step in (30, 270))
    fast, slow = (end - begin for begin, end in zip(first, last, strict=True))
    assert fast > 4 * slow > 0, (fast, slow)


@pytest.mark.parametrize("end", ["\x11", "\x1b[18~"], ids=["quit", "fault"])
def test_title_and_notification_reach_a_real_terminal_and_the_title_is_given_back(
    make: Any, workshop: Any, screen: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.delenv("VTE_VERSION", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(workshop.folder))
    folder = make("prose")
    with alive(workshop.folder / folder) as journal:
        terminal = screen(sys.executable, "-c", FAULTY_CONSOLE, "attach", str(folder))
        terminal.see("TRAINING")
        terminal.press("\x1b[O")  # the terminal says that it is not in front any more
        for step, loss, seen in ((40, 2.0, "best 2.000"), (50, 1.5, "New best")):
            journal.append(evaluated(step, loss))
            journal.append(workshop.saved(step, "best.pt", "best"))
            terminal.see(seen)
        terminal.press(f"\x1b[I{end}")
        if end == "\x11":
            terminal.see("What should happen to it?")
            terminal.press("l")
        terminal.status()
    terminal.see(lambda _: b"\x1b[?1049l" in terminal.bytes)  # the other screen is left
    pushed, notified, popped = (
        terminal.bytes.find(text) for text in (b"\x1b[22;0t\x1b]2;TRAINING", b"\x1b]9;New best: prose", b"\x1b[23;0t")
    )
    assert 0 < pushed < notified < popped


def test_what_becomes_of_a_paused_run_is_said_on_the_terminal(make: Any, workshop: Any, screen: Any) -> None:
    folder = make("prose", Phase(step=40, phase="paused"))
    with alive(workshop.folder / folder):
        terminal = screen(CONSOLE, "attach", str(folder))
        terminal.see("PAUSED")
        terminal.press("\x11")
        terminal.see("What should happen to it?")
        terminal.press("l")
        assert terminal.status() == 0
    terminal.see(lambda _: b"The run is paused, and ends saved if this console paused it" in terminal.bytes)
