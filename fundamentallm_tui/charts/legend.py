"""The legend of the runs that lie over another one: a row for each, under the chart."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.segment import Segment
from textual.events import Click
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from fundamentallm_tui.charts.runs import Entry, widths
from fundamentallm_tui.format import fit, truncate
from fundamentallm_tui.theme import Styles

MIN_NOTE = 40  # columns that the longest note should have
BEST = "best 1.234"  # what stays of the best where it is narrow


class Legend(Widget):
    """Shows entries; posts `Chosen` when a row is clicked."""

    DEFAULT_CSS = "Legend { width: 1fr; height: auto; display: none; }"
    ALLOW_SELECT = False

    @dataclass
    class Chosen(Message):
        """A row was clicked."""

        row: int

    def __init__(self) -> None:
        super().__init__()
        self._entries: list[Entry] = []
        self._styles = Styles(self)

    def show(self, entries: Sequence[Entry], most: int) -> None:
        """Show these from now on, in at most so many rows: of more, the last row has the marks and names."""
        shown = list(entries) if most > 0 else []
        if shown != self._entries or self.styles.height is None:
            self._entries = shown
            self.display = bool(shown)
            self.styles.height = min(len(shown), most)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y >= len(self._entries):
            return Strip.blank(width, self.rich_style)
        rest = self._entries[y:] if y == self.size.height - 1 else []
        segments = self._names(rest) if len(rest) > 1 else self._row(self._entries[y])
        return Strip(segments).adjust_cell_length(width).apply_style(self.rich_style)

    def _row(self, entry: Entry) -> list[Segment]:
        text, faint = self._styles("foreground"), self._styles("foreground", 0.6)
        name, last, best, _ = widths(self._entries)
        room = self.size.width - 2 - sum(width + 2 for width in (name, last, best))
        wanted = min(MIN_NOTE, max(len(entry.note) for entry in self._entries))
        if room < wanted:  # what differs says more than the epoch of the best, and that more than the best
            room, best = room + best - len(BEST), len(BEST)
        if room < wanted:
            room, best = room + best + 2, 0
        segments = [Segment(f"{entry.style.mark} ", self._styles(entry.style.colour))]
        for cell, width, style in (entry.name, name, text), (entry.last, last, text), (entry.best[:best], best, faint):
            segments += [Segment(fit(cell, width) + "  ", style)] if width else []
        style = self._styles("text-warning") if entry.warns else faint
        return [*segments, Segment(truncate(entry.note, max(0, room)), style)]

    def _names(self, entries: Sequence[Entry]) -> list[Segment]:
        segments = []
        for entry in entries:
            segments.append(Segment(f"{entry.style.mark} ", self._styles(entry.style.colour)))
            segments.append(Segment(f"{entry.name}  ", self._styles("foreground", 0.6)))
        return segments

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is not None and offset.y < len(self._entries):
            self.post_message(self.Chosen(offset.y))
