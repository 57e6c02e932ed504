"""A run's journal played back: a handle whose events come as they came then, only faster. Writes nothing."""

import threading
import time
from collections import deque
from pathlib import Path

from fundamentallm.process.session import RunHandle
from fundamentallm.run.commands import Command, Pause, Resume
from fundamentallm.run.events import Event, Phase, last_step
from fundamentallm.run.journal import read_journal

MAX_SILENCE = 2.0  # seconds; a longer silence in the journal, such as a night between two starts, is cut to this
POLL_INTERVAL = 0.05  # seconds


class Replay(RunHandle):
    """Takes only the commands pause and resume, which hold the playback."""

    may_return = False
    exit_reason = ""

    def __init__(self, folder: Path, speed: float) -> None:
        """Play the run in a folder `speed` times as fast as it was."""
        self.folder = folder
        self.speed = speed
        self._waiting: deque[Event] | None = None  # None until the reader's thread has read the journal
        self._hold = threading.Event()  # what the user wants
        self._holds = False  # what was reported as an event
        self._phase = Phase(step=0, phase="training")  # the last one in the journal
        self._step = 0
        self._position = self._asked = 0.0  # the moment of the run that is played; when events were asked for last

    @property
    def alive(self) -> bool:
        return self._waiting is None or bool(self._waiting)

    def send(self, command: Command) -> None:
        if isinstance(command, Pause):
            self._hold.set()
        elif isinstance(command, Resume):
            self._hold.clear()

    def events(self, timeout: float) -> list[Event]:
        now = time.monotonic()
        if self._waiting is None:
            self._waiting = deque(read_journal(self.folder))
            self._position, self._asked = (self._waiting[0].time if self._waiting else 0.0), now
        passed, self._asked = now - self._asked, now
        if self._hold.is_set() != self._holds:
            self._holds = self._hold.is_set()
            return [Phase(step=self._step, phase="paused") if self._holds else self._phase]
        due: list[Event] = []
        if not self._holds and self._waiting:
            next_time = self._waiting[0].time
            self._position = max(self._position + passed * self.speed, next_time - MAX_SILENCE * self.speed)
            while self._waiting and self._waiting[0].time <= self._position:
                due.append(self._waiting.popleft())
        for event in due:
            self._step = last_step(event)
            if isinstance(event, Phase):
                self._phase = event
        if not due:
            time.sleep(timeout if self._holds else min(timeout, POLL_INTERVAL))
        return due

    def log_tail(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing is open."""
