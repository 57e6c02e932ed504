"""Work in threads: its result comes once, a fault is reported, and nothing waits for it."""

import subprocess
import sys
import threading
from typing import Any

import pytest

from fundamentallm_tui.background import Newest, in_thread

HANGS = """
import threading
from textual.app import App
from fundamentallm_tui.background import in_thread

class Hanging(App):
    def on_mount(self):
        begun = threading.Event()
        def hang():
            begun.set()
            threading.Event().wait()
        in_thread(self, hang, print)
        begun.wait()
        self.exit()

Hanging().run(headless=True)
"""


def test_a_quit_waits_for_no_thread() -> None:
    assert subprocess.run([sys.executable, "-c", HANGS], timeout=60).returncode == 0


async def test_the_result_of_older_work_is_dropped_and_it_is_told(seen: Any) -> None:
    newest, may_end, told = Newest(seen.app), threading.Event(), list[str]()

    def slow(wanted: Any) -> str:
        assert may_end.wait(60)
        return f"old, wanted: {wanted()}"

    ended: list[str] = []
    newest.run(lambda wanted: ended.append(slow(wanted)), told.append)
    newest.run(lambda wanted: "new" if wanted() else "", told.append)
    await seen.until(lambda: told)
    may_end.set()
    await seen.until(lambda: ended)
    await seen.pilot.pause(0.1)
    assert (told, ended) == (["new"], ["old, wanted: False"])


async def test_a_fault_in_a_thread_is_the_consoles(workshop: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        async with workshop.console() as seen:
            in_thread(seen.main, lambda: 1 / 0, print)
            await seen.until(lambda: not seen.app.is_running)
