"""The log: events as lines, or engine.log. Drawn row by row, so that a long log costs no more than a short one."""

import os
from bisect import bisect_left
from collections.abc import Callable
from pathlib import Path

from rich.segment import Segment
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fundamentallm.config.format import format_clock, format_count, wrap
from fundamentallm.run.describe import FAINT, GOOD, PLAIN
from fundamentallm.run.folder import ENGINE_LOG
from fundamentallm.untrusted import open_regular_file
from fundamentallm_tui import keys
from fundamentallm_tui.screens.dialogs import Entry
from fundamentallm_tui.state.event_log import EventLog, LogLine, to_lines
from fundamentallm_tui.theme import Styles

INDENT = 9  # "14:33:01 "
COLOURS = {"good": "text-success", "warn": "text-warning", "bad": "text-error"}
FAINT_STRENGTH = 0.6
FILTERS: tuple[tuple[str, tuple[str, ...]], ...] = (  # names, and the levels that each hides
    ("all", ()),
    ("no details", (FAINT,)),
    ("problems", (FAINT, PLAIN, GOOD)),
)
PIECE = 1 << 16  # bytes of engine.log that are read at once
READ_INTERVAL = 1.0  # seconds between two looks at engine.log


class LogView(ScrollView, can_focus=True):
    """Follows the newest line until the user scrolls or moves up, and again when they are back at the end."""

    commands = keys.LOG
    BINDINGS = keys.bindings(keys.LOG)

    def __init__(self, folder: Callable[[], Path | None], *, id: str) -> None:
        """`folder` returns that of the run, whose engine.log can be shown."""
        super().__init__(id=id, classes="pane")
        self._folder = folder
        self._styles = Styles(self)
        self._width = 0
        self._rows: list[tuple[int, str, bool]] = []  # number of the line, its text, whether it is the line's first row
        self.clear()

    @property
    def text(self) -> str:
        """Every event."""
        return "\n".join(map(_plain, self._events.lines))

    def on_mount(self) -> None:
        self.set_interval(READ_INTERVAL, self._read_file)
        self._show_rows()

    def clear(self) -> None:
        """Remove every line: another run is shown."""
        self._events, self._file = EventLog(), EventLog()
        self._shown = self._events  # what is drawn
        self._read_to = -1  # the offset in engine.log; -1: nothing was read yet
        self._filter, self._words = 0, ""
        self._follows, self._unseen = True, 0  # lines that came since the user let go of the end
        self._cursor = 0
        self._arrange(0)

    def write(self, lines: list[LogLine]) -> None:
        """Add events."""
        if lines:
            self._add(self._events, lines)

    def on_resize(self) -> None:
        width = self.scrollable_content_region.width  # without the scroll bar
        if width and width != self._width:
            self._width = width
            self._arrange(0)
        self._show_rows()

    # The lines, and the rows that they take

    def _add(self, log: EventLog, lines: list[LogLine]) -> None:
        dropped = log.dropped
        first = log.add(lines)
        if log is self._shown:
            self._cursor = max(0, self._cursor - log.dropped + dropped)
            self._unseen += 0 if self._follows else len(lines)
            self._arrange(first)

    def _arrange(self, first: int) -> None:
        """Wrap the lines from `first` on, without those that are filtered out, into rows."""
        while self._rows and (first == 0 or self._rows[-1][0] >= first):
            self._rows.pop()
        lines, words = self._shown.lines, self._words.lower()
        hidden = FILTERS[self._filter][1] if self._shown is self._events else ()
        self._visible = [n for n, line in enumerate(lines) if line.level not in hidden]
        for n in self._visible[bisect_left(self._visible, first) :]:
            room = max(10, (self._width or 80) - (INDENT if lines[n].time else 0))
            self._rows += ((n, row, i == 0) for i, row in enumerate(wrap(lines[n].shown(room), room)))
        self._found = [n for n in self._visible if words in _plain(lines[n]).lower()] if words else []
        self._show_rows()

    def _show_rows(self) -> None:
        follows = self._follows  # a smaller window scrolls, too, but not because the user wants it
        self.virtual_size = Size(self._width, len(self._rows))
        if follows:
            self._cursor = self._rows[-1][0] if self._rows else 0
            self.scroll_target_y = self.scroll_y = self.max_scroll_y  # scroll_end would wait for a layout
            self._follow(True)
        self._show_state()
        self.refresh()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        self._follow(round(new) >= self.max_scroll_y)
        self._show_state()

    def _follow(self, follows: bool) -> None:
        self._follows = follows
        self._unseen *= not follows

    def _show_state(self) -> None:
        """Say in the frame what is shown, and what is not."""
        parts = []
        if self._words:
            place = self._found.index(self._cursor) + 1 if self._cursor in self._found else "–"
            parts.append(f"{self._words}: {place}/{len(self._found)}")
        if self._filter and self._shown is self._events:
            parts.append(f"{FILTERS[self._filter][0]}, {len(self._shown.lines) - len(self._visible)} hidden")
        if not self._follows:
            parts.append(f"{self._unseen} new, end follows" if self._unseen else "end follows")
        self.border_title = "Log" if self._shown is self._events else ENGINE_LOG
        self.border_subtitle = Content(" · ".join(parts))

    def render_line(self, y: int) -> Strip:
        row = self.scroll_offset.y + y
        if row >= len(self._rows):
            return Strip.blank(self._width, self.rich_style)
        n, text, first = self._rows[row]
        line = self._shown.lines[n]
        paper = "panel" if n == self._cursor and self.has_focus else ""
        strength = FAINT_STRENGTH if line.level == FAINT else 1.0
        style = self._styles(COLOURS.get(line.level, "foreground"), strength, paper, bold=line.level == "bad")
        stamp = (f"{format_clock(line.time)} " if first else " " * INDENT) if line.time else ""
        segments = [Segment(stamp, self._styles("foreground", FAINT_STRENGTH, paper))]
        found, lower, at = self._words.lower(), text.lower(), 0
        marked = self._styles("text-accent", 1.0, paper) + Style(reverse=True)  # as readable as text in that colour
        while n in self._found and len(lower) == len(text) and (start := lower.find(found, at)) >= 0:
            segments += [Segment(text[at:start], style), Segment(text[start : start + len(found)], marked)]
            at = start + len(found)
        strip = Strip([*segments, Segment(text[at:], style)])
        return strip.adjust_cell_length(self._width, self._styles("foreground", 1.0, paper)).apply_style(
            self.rich_style
        )

    # What the keys do

    def on_focus(self) -> None:
        self.refresh()  # the cursor shows

    on_blur = on_focus

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The lines of engine.log have no levels."""
        return action != "level" or self._shown is self._events or None

    def action_move(self, by: int) -> None:
        """Move the cursor by so many lines of those that are shown."""
        if self._visible:
            place = bisect_left(self._visible, self._cursor) + by
            self._move_to(self._visible[max(0, min(len(self._visible) - 1, place))])

    def _move_to(self, line: int) -> None:
        """Put the cursor on a line and show it; the last one is followed."""
        rows = [row for row, (n, _, _) in enumerate(self._rows) if n == line]
        self._cursor = line
        self._follow(rows[-1] == len(self._rows) - 1)
        self.scroll_to_region(Region(0, rows[0], 1, len(rows)), animate=False)
        self._show_state()
        self.refresh()

    def action_search(self) -> None:
        self.app.push_screen(Entry("Search the log", self._words), self._search)

    def _search(self, words: str | None) -> None:
        if words is not None:
            self._words = words.strip()
            self._arrange(0)
            self.action_find(0)

    def action_find(self, by: int) -> None:
        """Go to what is found next (1), before (-1), or nearest above the cursor (0)."""
        if self._found:
            before = [n for n in self._found if n < self._cursor + (by >= 0)]
            place = len(before) - 1 if by == 0 else len(before) - (by < 0)
            self._move_to(self._found[place % len(self._found)])

    def action_leave(self) -> None:
        """End the search, then leave the log."""
        if self._words:
            self._search("")
        else:
            self.screen.set_focus(None)

    def action_level(self) -> None:
        """Show fewer levels, or again all."""
        self._filter = (self._filter + 1) % len(FILTERS)
        self._arrange(0)

    def action_copy(self) -> None:
        """Copy what is found, or the line under the cursor; the terminal puts it into its clipboard (OSC 52)."""
        lines = [self._shown.lines[n] for n in self._found or [self._cursor] if n < len(self._shown.lines)]
        self.app.copy_to_clipboard("\n".join(map(_plain, lines)))
        self.notify(f"Copied {format_count(len(lines), 'line')}.")

    def action_file(self) -> None:
        """Show engine.log, or again the events."""
        self._shown = self._file if self._shown is self._events else self._events
        self._follow(True)
        self._read_file()
        self._arrange(0)
        self.refresh_bindings()

    def _read_file(self) -> None:
        """Read what was appended to engine.log since, its last piece at most."""
        folder = self._folder()
        if self._shown is self._events or folder is None:
            return
        try:
            with open_regular_file(folder / ENGINE_LOG) as file:
                size = file.seek(0, os.SEEK_END)
                start = max(self._read_to if self._read_to <= size else 0, size - PIECE)
                file.seek(start)
                piece, end, _ = file.read(PIECE).rpartition(b"\n")
        except OSError as error:
            if self._read_to < 0:
                self._read_to = 0
                self._add(self._file, to_lines(f"There is no {ENGINE_LOG}: {error.strerror}.", FAINT, 0))
            return
        lines = piece.decode("utf-8", "replace").splitlines() if end else []
        if start > max(0, self._read_to):
            lines = [f"({start - max(0, self._read_to):,} bytes before this are not shown)", *lines[1:]]
        self._read_to = start + len(piece) + len(end)
        self._add(self._file, [line for text in lines for line in to_lines(text, PLAIN, 0)])


def _plain(line: LogLine) -> str:
    return f"{format_clock(line.time)} {line.shown()}" if line.time else line.shown()
