"""The thread between a run and the screen hands a long journal over in pieces, each event once and in order."""

import queue
import time
from types import SimpleNamespace
from typing import Any

import pytest
from textual.message import Message

from fundamentallm.process.session import AttachedRun
from fundamentallm.run.events import Answered, Event
from fundamentallm.run.journal import BATCH
from fundamentallm_tui.state import reader as reader_module
from fundamentallm_tui.state.reader import EventsReceived, RunDisconnected, RunReader
from fundamentallm_tui.throttle import RedrawThrottle
from tests.tui.others import alive


def owner(posted: "queue.Queue[Message]") -> Any:
    """Takes the place of a screen."""
    return SimpleNamespace(app=None, post_message=posted.put, call_later=lambda *call: None)


def test_a_long_journal_arrives_in_pieces_and_what_follows_at_once(make: Any, workshop: Any) -> None:
    folder = make("long", *(workshop.progress(step, step) for step in range(41, 441)))
    posted: queue.Queue[Message] = queue.Queue()
    found: list[Event] = []

    def take(count: int) -> None:
        while len(found) < count:
            message = posted.get(timeout=20)
            assert isinstance(message, EventsReceived) and 0 < len(message.events) <= BATCH
            found.extend(message.events)
            message.taken.set()

    with alive(folder) as journal:
        reader = RunReader(AttachedRun(folder), owner(posted))
        take(404)
        journal.append(workshop.progress(441, 450))
        take(405)
    assert [event.seq for event in found] == list(range(1, 406))
    assert isinstance(posted.get(timeout=20), RunDisconnected), "its process is gone"
    reader.close()


def test_of_a_long_journal_the_next_piece_waits_until_the_last_is_taken(make: Any, workshop: Any) -> None:
    folder = make("long", *(workshop.progress(step, step) for step in range(41, 41 + 3 * BATCH)))
    posted: queue.Queue[Message] = queue.Queue()
    reader = RunReader(AttachedRun(folder), owner(posted))
    first = posted.get(timeout=60)
    assert isinstance(first, EventsReceived)
    with pytest.raises(queue.Empty):
        posted.get(timeout=0.5)
    first.taken.set()
    assert isinstance(posted.get(timeout=60), EventsReceived)
    reader.close()


@pytest.mark.parametrize(("seconds", "pauses"), [(1.0, 3), (11.0, 6)])
def test_steps_alone_come_less_often_where_nobody_is_at_the_keyboard(
    workshop: Any, monkeypatch: pytest.MonkeyPatch, seconds: float, pauses: int
) -> None:
    steps, answer = workshop.progress(1, 40), Answered(step=40, id="1", command="save", ok=True)
    batches, slept = iter([[steps], [steps, answer], [answer]]), list[float]()
    monkeypatch.setattr(RedrawThrottle, "last_input", time.monotonic() - seconds)
    monkeypatch.setattr(reader_module, "time", SimpleNamespace(sleep=slept.append))
    ended: Any = SimpleNamespace(
        alive=False, may_return=False, exit_reason="", log_tail=list, events=lambda timeout: next(batches, [])
    )
    posted: queue.Queue[Message] = queue.Queue()
    RunReader(ended, owner(posted))
    while not isinstance(posted.get(timeout=60), RunDisconnected):
        pass
    assert slept == [0.2] * pauses
