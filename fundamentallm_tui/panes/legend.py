"""The legends under a chart: of the runs that lie over another one, a row for each, and of the layers of a model."""

from collections.abc import Callable, Sequence

from rich.cells import cell_len
from textual.content import Content
from textual.events import Click
from textual.widgets import Static

from fundamentallm_tui.charts.curves import Curve
from fundamentallm_tui.charts.runs import Entry, widths
from fundamentallm_tui.format import fit, truncate
from fundamentallm_tui.theme import FAINT

MIN_NOTE = 40  # columns that the longest note should have
GAP = 2  # columns between two layers
BEST = "best 1.234"  # what stays of the best where it is narrow


class Legend(Static):
    """Shows entries."""

    DEFAULT_CSS = "Legend { height: auto; display: none; text-wrap: nowrap; text-overflow: ellipsis; }"
    ALLOW_SELECT = False
    _shown: object = None

    def __init__(self, choose: Callable[[int], None]) -> None:
        """`choose` is called with the row that is clicked."""
        super().__init__()
        self._choose = choose

    def show(self, entries: Sequence[Entry], hidden: Sequence[Entry], columns: int, rows: int) -> None:
        """Show these from now on in so much room: the last row names the hidden ones, and what is left."""
        before, self._shown = self._shown, (list(entries), list(hidden), columns, rows)
        self.display = bool(entries or hidden) and rows > 0
        if not self.display or self._shown == before:
            return
        seen = entries[: rows - 1] if len(entries) + bool(hidden) > rows else entries
        *widest, note = widths(seen or [*entries, *hidden])
        name, last, best = widest
        room, wanted = columns - 2 - sum(width + 2 for width in widest), min(MIN_NOTE, note)
        if room < wanted:  # what differs says more than the epoch of the best, and that more than the best
            room, best = room + best - len(BEST), len(BEST)
        if room < wanted:
            room, best = room + best + 2, 0
        lines = [
            Content.assemble(
                _marked(entry, fit(entry.name, name)), f"  {fit(entry.last, last)}",
                (f"  {fit(entry.best[:best], best)}" if best else "", FAINT),
                (f"  {_differences(entry, room)}", "$text-warning" if entry.note else FAINT),
            )
            for entry in seen
        ]  # fmt: skip
        more = entries[len(seen) :]
        if more or hidden:
            label = ", ".join([f"and {len(more)} more"] * bool(more) + [f"{len(hidden)} hidden"] * bool(hidden))
            names = [_marked(entry, entry.name) for entry in more]
            faint = [Content.styled(f"{entry.style.mark} {entry.name}", FAINT) for entry in hidden]
            lines.append(Content("  ").join([Content.styled(label, FAINT), *names, *faint]))
        self.update(Content("\n").join(lines))

    def on_click(self, event: Click) -> None:
        if (offset := event.get_content_offset(self)) is not None:
            self._choose(offset.y)


def _marked(entry: Entry, name: str) -> Content:
    return Content.assemble((f"{entry.style.mark} ", entry.style.colour), name)


def _differences(entry: Entry, room: int) -> str:
    """As many of a run's differences as have room, and how many more there are."""
    parts = [*([entry.note] if entry.note else []), *entry.changes]
    for count in range(len(parts), 0, -1):
        text = ", ".join(parts[:count]) + (f" +{len(parts) - count}" if count < len(parts) else "")
        if cell_len(text) <= room:
            return text
    return truncate(parts[0].replace("does not compare:", "≠"), room) if parts else ""  # as in the list of runs


def layer_legend(entries: Sequence[tuple[Curve, str]], width: int, height: int) -> Content:
    """Return the curves with their readings in columns, with short names where the whole ones take too many rows.

    Where even these do, it says how many curves are left out.
    """
    for short in (False, True):
        items = [
            Content.assemble((f"{curve.sign} ", curve.colour), _shortened(text) if short else text)
            for curve, text in entries
        ]
        column = max((item.cell_length for item in items), default=0) + GAP
        beside = max(1, (width + GAP) // column)
        if short and len(items) > (room := beside * height):
            items[room - 1 :] = [Content.styled(f"and {len(items) - room + 1} more", FAINT)]
        padded = [item.pad_right(column - item.cell_length) for item in items]
        rows = [Content("").join(padded[at : at + beside]).rstrip() for at in range(0, len(items), beside)]
        if len(rows) <= height:
            break
    return Content("\n").join(rows[:height])


def _shortened(text: str) -> str:
    return text.replace("embedding", "emb").replace("attention", "att").replace("feed-forward", "ff")
