"""The thread between a run and the screen: it reads what the run says and hands it over in batches."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from textual.message import Message

from fundamentallm.process.session import RunHandle
from fundamentallm.run.commands import Command
from fundamentallm.run.events import Event
from fundamentallm.run.spec import RunSpec

WAIT = 0.1  # seconds that reading waits for news
LOOK = 0.5  # seconds between two looks whether somebody goes on with a run that rests
REST = 0.08  # seconds between two batches: one message carries all that came meanwhile


Starter = Callable[[RunSpec], RunHandle]


@dataclass
class EventsReceived(Message):
    """Events of a run, oldest first."""

    link: "RunReader"
    events: list[Event]


@dataclass
class RunDisconnected(Message):
    """The run's process has ended, and all that it said was handed over."""

    link: "RunReader"
    end: str
    tail: list[str]


class RunReader:
    """A session and the thread that reads it."""

    def __init__(self, session: RunHandle, post: Callable[[Message], object]) -> None:
        self.session = session
        self._post = post
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._read, name="run reader", daemon=True)
        self._thread.start()

    def send(self, command: Command) -> None:
        self.session.send(command)

    @property
    def alive(self) -> bool:
        return not self._left.is_set() and self.session.alive

    def leave(self) -> None:
        """Listen no more. A run that has ended lets its process go."""
        if not self._left.is_set():
            self._left.set()
            self.session.close()

    def _read(self) -> None:
        while not self._left.is_set():
            gone = not self.session.alive
            if events := self.session.events(WAIT):
                self._post(EventsReceived(self, events))
                time.sleep(REST)
            elif gone:
                self._post(RunDisconnected(self, self.session.exit_reason, self.session.log_tail()))
                while self.session.may_return and not self.session.alive and not self._left.wait(LOOK):
                    pass
                if not self.session.may_return:
                    return
