"""The one thread between a run and the screen: it reads the run's events and posts them in batches."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from textual.message import Message
from textual.message_pump import MessagePump

from fundamentallm.process.session import RunHandle
from fundamentallm.run.events import Event, Progress
from fundamentallm.run.journal import BATCH
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.background import in_thread
from fundamentallm_tui.throttle import user_is_active

READ_TIMEOUT = 0.3  # seconds that one read waits for events
BATCH_PAUSE = 0.2  # seconds between two batches: one message carries all that came in between
STEPS_PAUSES = 4  # so many after steps alone, while nobody is at the keyboard: a quarter less of the processor at rest
RESUME_CHECK_INTERVAL = 0.5  # seconds between two checks whether another process resumed a run that had ended

Starter = Callable[[RunSpec], RunHandle]


@dataclass
class EventsReceived(Message):
    """Events of a run, oldest first; who has taken them in sets `taken`."""

    reader: "RunReader"
    events: list[Event]
    taken: threading.Event = field(default_factory=threading.Event)


@dataclass
class RunDisconnected(Message):
    """The run's process has ended, and all of its events were posted."""

    reader: "RunReader"
    exit_reason: str
    log_tail: list[str]


class RunReader:
    """A run's handle and the thread that reads it."""

    def __init__(self, handle: RunHandle, owner: MessagePump) -> None:
        """Start to read; `owner` gets the messages."""
        self.handle = handle
        self._post = owner.post_message
        self._closed = threading.Event()
        in_thread(owner, self._read, lambda _: None, name="run reader")

    @property
    def alive(self) -> bool:
        """Whether a process writes the run, and its events are read."""
        return not self._closed.is_set() and self.handle.alive

    def close(self) -> None:
        """Stop reading. A run under way continues; the process of a run that has ended exits."""
        if not self._closed.is_set():
            self._closed.set()
            self.handle.close()

    def _read(self) -> None:
        while not self._closed.is_set():
            ended = not self.handle.alive  # asked first: what was written before the end is read below
            if events := self.handle.events(READ_TIMEOUT):
                message = EventsReceived(self, events)
                self._post(message)
                if len(events) < BATCH:  # there is no more
                    time.sleep(BATCH_PAUSE)
                    for _ in range(STEPS_PAUSES - 1 if all(isinstance(event, Progress) for event in events) else 0):
                        if not user_is_active():
                            time.sleep(BATCH_PAUSE)
                else:  # or all of a long journal would wait in memory
                    while not (message.taken.wait(BATCH_PAUSE) or self._closed.is_set()):
                        pass
            elif ended:
                self._post(RunDisconnected(self, self.handle.exit_reason, self.handle.log_tail()))
                if not self.handle.may_return:
                    return
                while not self.handle.alive and not self._closed.wait(RESUME_CHECK_INTERVAL):
                    pass
