"""The log: lines with the time of day, drawn one by one, so that a long log costs no more than a short one."""

from dataclasses import replace

from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fundamentallm.config.format import format_clock, wrap
from fundamentallm_tui import keys
from fundamentallm_tui.state.event_log import LogLine
from fundamentallm_tui.theme import Styles

MAX_LINES = 5000
INDENT = 9  # "14:33:01 "
COLOURS = {"good": "text-success", "warn": "text-warning", "bad": "text-error"}
FAINT_STRENGTH = 0.5


class LogView(ScrollView, can_focus=True):
    """Follows the newest line until the user scrolls up, and again when they are back at the end."""

    commands = keys.LOG
    BINDINGS = keys.bindings(keys.LOG)

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.border_title = "Log"
        self._lines: list[LogLine] = []
        self._rows: list[tuple[LogLine, str, bool]] = []  # the lines, wrapped to the width; True: a line's first row
        self._styles = Styles(self)
        self._width = 0
        self._follows = True

    @property
    def text(self) -> str:
        """The whole log."""
        return "\n".join(f"{format_clock(line.time)} {line.shown}" for line in self._lines)

    def on_resize(self) -> None:
        width = self.scrollable_content_region.width  # without the scroll bar
        if width and width != self._width:
            self._width = width
            self._rows = [row for line in self._lines for row in self._wrap(line)]
        self._show_rows()

    def write(self, lines: list[LogLine]) -> None:
        """Add lines; one that repeats the last line replaces it."""
        if not lines:
            return
        before = unchanged = len(self._lines)  # the latter: those that stay as they are
        last = self._lines[-1] if self._lines else None
        for line in lines:
            previous = self._lines[-1] if self._lines else None
            if previous is not None and line.repeats and (line.level, line.text) == (previous.level, previous.text):
                self._lines[-1] = replace(line, times=previous.times + 1)
                unchanged = min(unchanged, len(self._lines) - 1)
            else:
                self._lines.append(line)
        if len(self._lines) > MAX_LINES:
            del self._lines[: len(self._lines) - MAX_LINES * 9 // 10]
            self._rows, unchanged = [], 0
        while unchanged < before and self._rows and self._rows[-1][0] is last:
            self._rows.pop()
        self._rows += (row for line in self._lines[unchanged:] for row in self._wrap(line))
        self._show_rows()

    def clear(self) -> None:
        """Remove every line: another run is shown."""
        self._lines, self._rows, self._follows = [], [], True
        self._show_rows()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        self._follows = round(new) >= self.max_scroll_y

    def _show_rows(self) -> None:
        follows = self._follows  # a smaller window scrolls, too, but not because the user wants it
        self.virtual_size = Size(self._width, len(self._rows))
        if follows:
            self.scroll_target_y = self.scroll_y = self.max_scroll_y  # scroll_end would wait for a layout
            self._follows = True
        self.refresh()

    def _wrap(self, line: LogLine) -> list[tuple[LogLine, str, bool]]:
        room = max(10, (self._width or 80) - INDENT)
        return [(line, row, n == 0) for n, row in enumerate(wrap(line.shown, room))]

    def render_line(self, y: int) -> Strip:
        n = self.scroll_offset.y + y
        if n >= len(self._rows):
            return Strip.blank(self._width, self.rich_style)
        line, text, first = self._rows[n]
        stamp = f"{format_clock(line.time)} " if first else " " * INDENT
        strength = FAINT_STRENGTH if line.level == "faint" else 1.0
        style = self._styles(COLOURS.get(line.level, "foreground"), strength, bold=line.level == "bad")
        strip = Strip([Segment(stamp, self._styles("foreground", FAINT_STRENGTH)), Segment(text, style)])
        return strip.adjust_cell_length(self._width).apply_style(self.rich_style)
