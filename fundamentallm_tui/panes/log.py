"""The log: lines with the time of day, drawn one by one, so that a long log costs no more than a short one."""

from dataclasses import replace

from rich.segment import Segment
from textual.binding import Binding
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fundamentallm.config.format import format_clock
from fundamentallm.run.describe import BAD, FAINT, GOOD, WARN
from fundamentallm_tui.format import wrap
from fundamentallm_tui.state.event_log import LogLine
from fundamentallm_tui.theme import Styles

MOST_LINES = 5000
INDENT = 9  # "14:33:01 "
FAINT_STRENGTH = 0.5
COLOURS = {GOOD: "text-success", WARN: "text-warning", BAD: "text-error"}


class LogView(ScrollView, can_focus=True):
    """Follows the newest line until a person scrolls up, and again when they are back at the end."""

    BINDINGS = [Binding("j", "scroll_down", show=False), Binding("k", "scroll_up", show=False)]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, classes="pane")
        self._lines: list[LogLine] = []
        self._rows: list[tuple[LogLine, str, bool]] = []  # a line's rows at this width; True for its first
        self._styles = Styles(self)
        self._wide = 0
        self._follows = True

    @property
    def text(self) -> str:
        """All that was logged."""
        return "\n".join(f"{format_clock(line.time)} {line.shown}" for line in self._lines)

    def on_mount(self) -> None:
        self.border_title = "Log"

    def on_resize(self) -> None:
        room = self.scrollable_content_region.width  # beside the scroll bar
        if room != self._wide and room:
            self._wide = room
            self._rows = [row for line in self._lines for row in self._wrapped(line)]
        self._grown()

    def write(self, lines: list[LogLine]) -> None:
        """Add lines, all at once."""
        if not lines:
            return
        old = last = self._lines[-1] if self._lines else None
        drawn = stay = len(self._lines)  # the latter: as they are now
        for line in lines:
            if last is not None and line.repeats and (line.level, line.text) == (last.level, last.text):
                last = self._lines[-1] = replace(line, times=last.times + 1)
                stay = min(stay, len(self._lines) - 1)
            else:
                self._lines.append(last := line)
        if len(self._lines) > MOST_LINES:
            del self._lines[: len(self._lines) - MOST_LINES * 9 // 10]
            self._rows, stay = [], 0
        while stay < drawn and self._rows and self._rows[-1][0] is old:
            self._rows.pop()
        self._rows += (row for line in self._lines[stay:] for row in self._wrapped(line))
        self._grown()

    def clear(self) -> None:
        """Forget everything: another run is shown."""
        self._lines, self._rows, self._follows = [], [], True
        self._grown()

    def watch_scroll_y(self, old: float, new: float) -> None:
        super().watch_scroll_y(old, new)
        self._follows = round(new) >= self.max_scroll_y

    def _grown(self) -> None:
        follows = self._follows  # a smaller window moves the place, which is not a person's scrolling
        self.virtual_size = Size(self._wide, len(self._rows))
        if follows:
            self.scroll_target_y = self.scroll_y = self.max_scroll_y  # scroll_end would wait for a layout
            self._follows = True
        self.refresh()

    def _wrapped(self, line: LogLine) -> list[tuple[LogLine, str, bool]]:
        room = max(10, (self._wide or 80) - INDENT)
        return [(line, row, n == 0) for n, row in enumerate(wrap(line.shown, room))]

    def render_line(self, y: int) -> Strip:
        n = self.scroll_offset.y + y
        if n >= len(self._rows):
            return Strip.blank(self._wide, self.rich_style)
        line, text, first = self._rows[n]
        stamp = f"{format_clock(line.time)} " if first else " " * INDENT
        strength = FAINT_STRENGTH if line.level == FAINT else 1.0
        style = self._styles(COLOURS.get(line.level, "foreground"), strength, bold=line.level == BAD)
        strip = Strip([Segment(stamp, self._styles("foreground", FAINT_STRENGTH)), Segment(text, style)])
        return strip.adjust_cell_length(self._wide).apply_style(self.rich_style)
