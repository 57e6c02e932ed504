"""Work that takes long, in threads that nobody waits for.

Textual's thread workers keep the program until their function has returned; a disk or a server may take minutes.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from textual.message import Message
from textual.message_pump import MessagePump

from fundamentallm.errors import UserError

T = TypeVar("T")

THREAD = "background work"  # the name of such threads


@dataclass
class ThreadFailed(Message):
    """A thread met a fault of this program; the application raises it where the console can report it."""

    error: Exception


def in_thread(
    owner: MessagePump,
    work: Callable[[], T],
    then: Callable[[T], object],
    refused: Callable[[UserError | OSError], object] | None = None,
    *,
    name: str = THREAD,
) -> None:
    """Call `work` in a thread, and `then` with its result in the event loop, if `owner` is still there.

    `refused` is called instead where `work` raises what the user can put right; left out, that is a fault, too.
    """
    app = owner.app

    def run() -> None:
        with suppress(RuntimeError):  # of what hands over the result: the event loop has ended
            try:
                result = work()
            except Exception as error:
                if refused is not None and isinstance(error, (UserError, OSError)):
                    owner.call_later(refused, error)
                else:
                    app.post_message(ThreadFailed(error))
            else:
                owner.call_later(then, result)

    threading.Thread(target=run, name=name, daemon=True).start()


class Newest:
    """Work of which only the newest counts: the results of what was begun before it are dropped."""

    def __init__(self, owner: MessagePump) -> None:
        self._owner, self._number = owner, 0
        self.busy = False

    def run(self, work: Callable[[Callable[[], bool]], T], then: Callable[[T], object]) -> None:
        """Do as `in_thread`; `work` is given a function that returns whether its result is still wanted."""
        self._number += 1
        number, self.busy = self._number, True

        def deliver(result: T) -> None:
            if number == self._number:
                self.busy = False
                then(result)

        in_thread(self._owner, lambda: work(lambda: number == self._number), deliver)
