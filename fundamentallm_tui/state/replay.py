"""A journal played back: a session whose events come as they came then, only faster. Writes nothing."""

import threading
import time
from collections import deque
from pathlib import Path

from fundamentallm.run.commands import Command, Pause, Resume
from fundamentallm.run.events import Event, Phase, last_step
from fundamentallm.run.journal import read_journal

LONGEST = 2.0  # seconds; a silence of a night is not waited for


class Replay:
    """Has a session's interface. Pause and resume hold the playing, all else is not heard."""

    may_return = False

    def __init__(self, folder: Path, speed: float) -> None:
        self.folder, self.exit_reason = folder, ""
        self._speed = speed
        self._waiting: deque[Event] | None = None  # until the journal was read, by the thread that asks for events
        self._held = threading.Event()
        self._said = Phase(step=0, phase="training")  # the last that the run said of itself
        self._step = 0
        self._told_held = False
        self._moment = self._looked = 0.0  # where the playing is, in the run's time; when that was

    @property
    def alive(self) -> bool:
        return self._waiting is None or bool(self._waiting)

    def send(self, command: Command) -> None:
        if isinstance(command, Pause):
            self._held.set()
        elif isinstance(command, Resume):
            self._held.clear()

    def events(self, timeout: float) -> list[Event]:
        """What happened up to the moment at which the playing is."""
        if self._waiting is None:
            self._waiting = deque(read_journal(self.folder))
            self._moment, self._looked = (self._waiting[0].time if self._waiting else 0.0), time.monotonic()
        now = time.monotonic()
        passed, self._looked = now - self._looked, now
        if self._held.is_set() != self._told_held:
            self._told_held = self._held.is_set()
            return [Phase(step=self._step, phase="paused") if self._told_held else self._said]
        if self._told_held:
            time.sleep(timeout)
            return []
        self._moment += passed * self._speed
        if self._waiting:
            self._moment = max(self._moment, self._waiting[0].time - LONGEST * self._speed)
        due: list[Event] = []
        while self._waiting and self._waiting[0].time <= self._moment:
            event = self._waiting.popleft()
            self._step = last_step(event)
            if isinstance(event, Phase):
                self._said = event
            due.append(event)
        if not due:
            time.sleep(min(timeout, 0.05))
        return due

    def log_tail(self, lines: int = 10) -> list[str]:
        return []

    def close(self) -> None:
        """Nobody is there to be told."""
