"""The log: events as lines, or engine.log."""

import os
import re
from functools import lru_cache

from textual.content import Content

from fundamentallm.config.format import format_clock, format_count, wrap
from fundamentallm.errors import describe_error
from fundamentallm.run import describe
from fundamentallm.run.folder import ENGINE_LOG
from fundamentallm.untrusted import open_regular_file
from fundamentallm_tui import keys
from fundamentallm_tui.dialogs import Entry
from fundamentallm_tui.panes.rows import Rows
from fundamentallm_tui.state.event_log import MAX_LINES, EventLog, LogLine, to_lines
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.theme import FAINT

STYLES = {"good": "$text-success", "warn": "$text-warning", "bad": "bold $text-error", describe.FAINT: FAINT}
FILTERS: tuple[tuple[str, tuple[str, ...]], ...] = (  # names, and the levels that each hides
    ("all", ()),
    ("no details", (describe.FAINT,)),
    ("problems", (describe.FAINT, describe.PLAIN, describe.GOOD)),
)
PIECE = 1 << 16  # bytes of engine.log that are read at once
READ_INTERVAL = 1.0  # seconds between two looks at engine.log

_wrap = lru_cache(MAX_LINES)(wrap)


class LogView(Rows):
    """Follows the newest line until the user scrolls or moves up, and again when they are back at the end."""

    commands = keys.LOG
    BINDINGS = keys.bindings(keys.LOG)

    def __init__(self, store: Store, *, id: str) -> None:
        """`store`: of the run whose engine.log can be shown."""
        super().__init__(id=id, classes="pane")
        self._store = store
        self._visible: list[LogLine] = []  # those that are not filtered out
        self.clear()

    @property
    def text(self) -> str:
        """Every event."""
        return "\n".join(map(_plain, self._events.lines))

    def on_mount(self) -> None:
        self.set_interval(READ_INTERVAL, self._read_file)

    def clear(self) -> None:
        """Remove every line: another run is shown."""
        self._events, self._file = EventLog(), EventLog()
        self._shown = self._events  # what is drawn
        self._read_to = -1  # the offset in engine.log; -1: nothing was read yet
        self._filter, self._words = 0, ""
        self._follows, self._unseen = True, 0  # lines that came since the user let go of the end
        self._arrange()

    def write(self, lines: list[LogLine]) -> None:
        """Add events."""
        self._add(self._events, lines)

    def _add(self, log: EventLog, lines: list[LogLine]) -> None:
        changed, before = log.add(lines), len(self._visible)
        if log is self._shown and lines:
            self._arrange(changed=changed)
            self._unseen += max(0, len(self._visible) - before)
            self._follow(self._follows)

    def _arrange(self, *, changed: bool = True) -> None:
        """Draw the lines that are not filtered out, with the cursor on its line, or on the newest."""
        follows, place = self._follows, self.highlighted or 0
        before = self._visible[place] if self._visible else None
        hidden = FILTERS[self._filter][1] if self._shown is self._events else ()
        self._visible = [line for line in self._shown.lines if line.level not in hidden]
        words = self._words.lower()
        self._found = [n for n, line in enumerate(self._visible) if words in _plain(line).lower()] if words else []
        self.draw(len(self._visible), changed=changed)
        if follows:
            self.highlighted = len(self._visible) - 1 if self._visible else None
            self.scroll_to_highlight()
        elif self._visible:
            self.highlighted = next((n for n, line in enumerate(self._visible) if line is before), place)
        self._follow(follows)

    def on_resize(self) -> None:
        self._arrange()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        self._follow(round(new) >= self.max_scroll_y)

    def watch_highlighted(self, highlighted: int | None) -> None:
        super().watch_highlighted(highlighted)
        self._follow(highlighted == len(self._visible) - 1)

    def _follow(self, follows: bool) -> None:
        """Follow the newest line or not, and say in the frame what is shown, and what is not."""
        self._follows = follows
        self._unseen *= not follows
        parts = []
        if self._words:
            place = self._found.index(self.highlighted) + 1 if self.highlighted in self._found else "–"
            parts.append(f"{self._words}: {place}/{len(self._found)}")
        if self._filter and self._shown is self._events:
            parts.append(f"{FILTERS[self._filter][0]}, {len(self._shown.lines) - len(self._visible)} hidden")
        if not follows:
            parts.append(f"{self._unseen} new, end follows" if self._unseen else "end follows")
        self.border_title = "Log" if self._shown is self._events else ENGINE_LOG
        self.border_subtitle = Content(" · ".join(parts))

    def row_height(self, place: int, width: int) -> int:
        return len(self._wrapped(place, width)[1])

    def row(self, place: int, width: int) -> Content:
        stamp, rows = self._wrapped(place, width)
        text = Content.styled(f"\n{' ' * len(stamp)}".join(rows), STYLES.get(self._visible[place].level, ""))
        if place in self._found:
            found = re.compile(re.escape(self._words), re.IGNORECASE)
            text = text.highlight_regex(found, style="not bold $text-accent reverse")
        return Content.styled(stamp, FAINT) + text

    def _wrapped(self, place: int, width: int) -> tuple[str, list[str]]:
        """Return when a line was written, and its text in rows beside that."""
        line = self._visible[place]
        stamp = f"{format_clock(line.time)} " if line.time else ""
        room = max(10, width - len(stamp))
        return stamp, _wrap(line.shown(room), room)

    # What the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave N to the screen where no search is open; the lines of engine.log have no levels."""
        if action == "find":
            return bool(self._words)
        return action != "level" or self._shown is self._events or None

    def action_search(self) -> None:
        self.app.push_screen(Entry("Search the log", self._words, take=self._search))

    def _search(self, words: str) -> None:
        self._words = words.strip()
        self._arrange()
        self.action_find(0)

    def action_find(self, by: int) -> None:
        """Go to what is found next (1), before (-1), or nearest above the cursor (0)."""
        if self._found:
            before = [n for n in self._found if n < (self.highlighted or 0) + (by >= 0)]
            place = len(before) - 1 if by == 0 else len(before) - (by < 0)
            self.highlighted = self._found[place % len(self._found)]

    def action_leave(self) -> None:
        if self._words:
            self._search("")
        else:
            self.screen.set_focus(None)

    def action_level(self) -> None:
        self._filter = (self._filter + 1) % len(FILTERS)
        self._arrange()

    def action_copy(self) -> None:
        """Copy what is found, or the line under the cursor; the terminal puts it into its clipboard (OSC 52)."""
        lines = [self._visible[n] for n in self._found or [self.highlighted or 0] if n < len(self._visible)]
        self.app.copy_to_clipboard("\n".join(map(_plain, lines)))
        self.notify(f"Copied {format_count(len(lines), 'line')}.")

    def action_file(self) -> None:
        self._shown = self._file if self._shown is self._events else self._events
        self._follows = True
        self._read_file()
        self._arrange()
        self.refresh_bindings()

    def _read_file(self) -> None:
        """Read what was appended to engine.log since, its last piece at most."""
        folder = self._store.folder
        if self._shown is self._events or folder is None:
            return
        try:
            with open_regular_file(folder / ENGINE_LOG) as file:
                size = file.seek(0, os.SEEK_END)
                start = max(0, self._read_to if self._read_to <= size else 0, size - PIECE)
                file.seek(start)
                piece, end, _ = file.read(PIECE).rpartition(b"\n")
            nothing = "" if size else f"{ENGINE_LOG} is empty."
        except OSError as error:
            nothing = f"There is no {ENGINE_LOG}: {describe_error(error)}."
        if nothing:
            if self._read_to < 0:
                self._read_to = 0
                self._add(self._file, to_lines(nothing, describe.FAINT, 0))
            return
        if self._read_to <= 0:
            self._file.lines.clear()  # that there was nothing
            self._arrange()
        lines = piece.decode("utf-8", "replace").splitlines() if end else []
        if start > max(0, self._read_to):
            lines = [f"({start - max(0, self._read_to):,} bytes before this are not shown)", *lines[1:]]
        self._read_to = start + len(piece) + len(end)
        self._add(self._file, [line for text in lines for line in to_lines(text, describe.PLAIN, 0)])


def _plain(line: LogLine) -> str:
    return f"{format_clock(line.time)} {line.shown()}" if line.time else line.shown()
