"""What is announced of a run to a user who looks elsewhere: its end, a new best loss, another verdict.

Also the terminal's title and notifications of the desktop, as sequences. Knows no screen.
"""

import os
import time
from dataclasses import dataclass
from typing import Literal

from fundamentallm.config.format import format_loss
from fundamentallm.run.events import Failed
from fundamentallm.run.health import BAD, GOOD, WARNING, assess_run
from fundamentallm_tui.format import clean, truncate
from fundamentallm_tui.state.store import FAILED, FINISHED, INTERRUPTED, Store

BEST_INTERVAL = 30.0  # seconds between two notices of a new best
VERDICT_INTERVAL, VERDICT_REPEATS = 10.0, 300.0  # between two looks at the verdict, and two notices of the same one
LONGEST = 200  # cells of a notice
PUSH_TITLE, POP_TITLE = "\x1b[22;0t", "\x1b[23;0t"  # the terminal keeps its titles on a stack
SET_TITLE = "\x1b]2;{}\x1b\\"
PRINTS = ("", "dumb", "linux", "unknown")  # terminals (TERM) that might print such sequences


Severity = Literal["information", "warning", "error"]
SEVERITIES: dict[str, Severity] = {INTERRUPTED: "warning", FAILED: "error", FINISHED: "information"}  # of ends


@dataclass(frozen=True)
class Notice:
    """What has happened; `severity` is one of Textual's."""

    title: str
    text: str
    severity: Severity = "information"


class Notices:
    """Finds what is new in a store. The past of a run that is attached to is not new, and a replay has nothing new."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._start()

    def _start(self) -> None:
        store = self._store
        self._history, self._since = store.history, time.time() if store.attached else 0.0
        self._phase, self._best_step = store.phase, -1
        self._best_shown_at, self._verdict_seen = -1e9, time.monotonic()
        self._verdict = GOOD
        self._shown_at: dict[str, float] = {}  # when each verdict was shown last

    def take(self, *, typing: bool = False) -> list[Notice]:
        """Return what has happened since the last call; while the user is typing, only how the run ended."""
        store = self._store
        if store.history is not self._history:
            self._start()
        past = store.replayed or store.history.last_event < self._since
        found = [self._end(), self._best(typing or past), *([] if typing or past else [self._health()])]
        return [] if past else [notice for notice in found if notice is not None]

    def _end(self) -> Notice | None:
        store, best, end = self._store, self._store.history.best, self._store.history.end
        before, self._phase = self._phase, store.phase
        if store.phase == before or store.phase not in SEVERITIES:
            return None
        text = "its process is gone"
        if store.phase == FINISHED:
            text = f"best validation loss {format_loss(best.val_loss if best else None)}"
        elif store.phase == FAILED and isinstance(end, Failed):
            text = end.error
        return Notice(store.phase.capitalize(), _one_line(f"{_name(store)}: {text}"), SEVERITIES[store.phase])

    def _best(self, silent: bool) -> Notice | None:
        """A new best loss; the first does not count, because there is always one."""
        best, before, now = self._store.history.best, self._best_step, time.monotonic()
        if best is None or best.step == before:
            return None
        self._best_step = best.step
        if silent or before < 0 or not self._store.under_way or now - self._best_shown_at < BEST_INTERVAL:
            return None
        self._best_shown_at = now
        return Notice("New best", _one_line(f"{_name(self._store)}: validation loss {format_loss(best.val_loss)}"))

    def _health(self) -> Notice | None:
        """A verdict that got bad, or good again."""
        now = time.monotonic()
        if now - self._verdict_seen < VERDICT_INTERVAL or not self._store.under_way:
            return None
        self._verdict_seen = now
        verdict = assess_run(self._store.history)
        if verdict is None or verdict.level not in (BAD, WARNING, GOOD):
            return None
        before, self._verdict = self._verdict, verdict.kind if verdict.level != GOOD else GOOD
        if self._verdict == before or now - self._shown_at.get(verdict.kind, -1e9) < VERDICT_REPEATS:
            return None
        self._shown_at[verdict.kind] = now
        text = _one_line(f"{_name(self._store)}: {verdict.evidence}")
        return Notice(verdict.headline.capitalize(), text, "information" if verdict.level == GOOD else "warning")


def window_title(store: Store) -> str:
    """Return what the terminal's title says of a run; empty where there is none, or a replay."""
    if store.folder is None or store.replayed:
        return ""
    share = f" {100 * store.step // store.total_steps}%" if store.total_steps else ""
    val = f" val {format_loss(store.val.last[1])}" if store.val.last else ""
    return _one_line(f"{store.status()}{share}{val} · {_name(store)}")


def desktop_notification(notice: Notice) -> str:
    """Return what lets a terminal show a notification: OSC 777 where that is its way, else OSC 9; never both."""
    if os.environ.get("TERM", "").startswith(("rxvt", "foot")) or "VTE_VERSION" in os.environ:
        return f"\x1b]777;notify;{notice.title};{notice.text.replace(';', ',')}\x1b\\"
    return f"\x1b]9;{notice.title}: {notice.text}\x1b\\"


def _name(store: Store) -> str:
    return store.folder.name if store.folder is not None else store.name


def _one_line(text: str) -> str:
    return truncate(clean(text), LONGEST)
