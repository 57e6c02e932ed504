"""Labelled values that can be edited, drawn by one widget: thirty input widgets would take half a second to appear.

- A cell is text, or one of a few words. Typing replaces what was there when one came; arrows edit it.
- Arrows and tab go from cell to cell; what is wrong with a value stands below its row.
- Knows nothing of settings.
"""

from dataclasses import dataclass

from rich.segment import Segment
from textual.binding import Binding
from textual.events import Click, Key, Paste
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fundamentallm_tui.format import clean, clip, fit, wrap
from fundamentallm_tui.theme import Styles

VALUE_WIDTH = 9  # what labels leave to a value before they are abbreviated less


@dataclass
class Cell:
    """One value. `places` is how far the cursor is from the start; `whole`: the next character replaces everything."""

    name: str
    label: str
    value: str
    choices: tuple[str, ...] = ()
    empty: str = ""  # shown in place of an empty value
    disabled: bool = False
    problem: str = ""
    cursor: int = 0
    whole: bool = False


@dataclass
class Row:
    """Cells that share a line in `columns` equal parts, or a heading."""

    cells: list[Cell]
    columns: int = 1
    labels: tuple[int, int] = (0, 0)  # narrowest and widest that labels may be; zeros: each as wide as its words
    heading: str = ""

    def spans(self, width: int) -> list[tuple[Cell, int, int, int]]:
        """Each cell with where it begins, where its value does, and where it ends."""
        spans = []
        least, most = self.labels
        wide = min(most, max(least, width // 2 - VALUE_WIDTH))  # as in a row of two, so that all rows align
        for n, cell in enumerate(self.cells):
            start, end = n * width // self.columns, (n + 1) * width // self.columns - (n + 1 < self.columns)
            spans.append((cell, start, start + (wide or len(cell.label) + 1), end))
        return spans


class Fields(ScrollView, can_focus=True):
    """Shows rows of cells; says `Edited` after a change, `Entered` when another cell is in focus."""

    BINDINGS = [
        Binding("up", "row(-1)", show=False),
        Binding("down", "row(1)", show=False),
        Binding("tab", "step(1)", show=False),
        Binding("shift+tab", "step(-1)", show=False),
        Binding("left", "move(-1)", show=False),
        Binding("right", "move(1)", show=False),
        Binding("home,ctrl+a", "move(-1000000)", show=False),
        Binding("end,ctrl+e", "move(1000000)", show=False),
        Binding("backspace", "delete(-1)", show=False),
        Binding("delete", "delete(0)", show=False),
        Binding("ctrl+u", "clear", show=False),
        Binding("ctrl+k", "cut", show=False),
        Binding("enter", "enter", show=False),
    ]

    @dataclass
    class Edited(Message):
        fields: "Fields"
        name: str

        @property
        def control(self) -> "Fields":
            return self.fields

    @dataclass
    class Entered(Message):
        name: str  # empty: no cell is in focus

    @dataclass
    class Submitted(Message):
        """Enter, where it has nothing else to do."""

    def __init__(self, rows: list[Row], *, id: str, submits: bool = False) -> None:
        super().__init__(id=id)
        self.cells = {cell.name: cell for row in rows for cell in row.cells}
        self.at = next(iter(self.cells))
        self._rows, self._submits = rows, submits
        self._lines: list[Row | str] = []  # what stands on each line; a note is its text
        self._styles = Styles(self)

    # From outside

    def show_values(self, values: dict[str, str]) -> None:
        """Show these values, without saying `Edited`."""
        for name, value in values.items():
            cell = self.cells[name]
            if cell.value != value:
                cell.value, cell.cursor = value, len(value)
        self.refresh()

    def set_problems(self, problems: dict[str, str]) -> None:
        """Put these words below their cells, and no others."""
        for name, cell in self.cells.items():
            cell.problem = clean(problems.get(name, ""))
        self._arrange_lines()

    def set_disabled(self, names: set[str]) -> None:
        """Make these cells read-only, and no others."""
        for name, cell in self.cells.items():
            cell.disabled = name in names
        self.can_focus = bool(self._open)  # neither tab nor a click enters a form without an editable field
        if self.has_focus and not self._open:
            self.screen.set_focus(None)
        elif self.cells[self.at].disabled and self._open:
            self.at = self._open[0].name
        self.refresh()

    def enter(self, name: str = "") -> None:
        """Give the focus to a cell, or to the one that had it last."""
        if name and not self.cells[name].disabled:
            self._go(self.cells[name])
        if self._open:
            self.focus()

    # Drawing

    @property
    def room(self) -> int:
        """Columns beside the scroll bar."""
        return self.scrollable_content_region.width

    def on_resize(self) -> None:
        self._arrange_lines()

    def on_focus(self) -> None:
        if not self._open:  # every field was locked after the focus was requested
            self.screen.set_focus(None)
            return
        self._go(self.cells[self.at] if not self.cells[self.at].disabled else self._open[0])

    def on_blur(self) -> None:
        self.post_message(self.Entered(""))

    def _arrange_lines(self) -> None:
        lines: list[Row | str] = []
        for row in self._rows:
            lines.append(row)
            for cell in row.cells:
                if cell.problem:
                    words = cell.problem if cell.problem.startswith(cell.name) else f"{cell.name}: {cell.problem}"
                    lines += wrap(words, max(10, self.room - 2))
        self._lines = lines
        self.virtual_size = Size(self.room, len(lines))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        width, n = self.room, y + self.scroll_offset.y
        line = self._lines[n] if n < len(self._lines) else ""
        if isinstance(line, str):
            segments = [Segment(f"  {line}", self._styles("text-error"))]
        elif line.heading:
            segments = [Segment(line.heading, self._styles("foreground", 0.5))]
        else:
            segments, at = [], 0
            for cell, start, value, end in line.spans(width):
                label = fit(clip(cell.label, value - start - 1), value - start)
                segments += [Segment(" " * (start - at)), Segment(label, self._styles("foreground", 0.7))]
                segments += self._value(cell, end - value)
                at = end
        return Strip(segments).adjust_cell_length(width).apply_style(self.rich_style)

    def _value(self, cell: Cell, width: int) -> list[Segment]:
        """The value in exactly `width` columns, with the cursor if it is in focus."""
        value = clean(cell.value)
        ink = ("text-error", 1.0) if cell.problem else ("foreground", 0.45 if cell.disabled else 1.0)
        if not (self.has_focus and self.at == cell.name):
            shown = (value, *ink) if value else (cell.empty, "foreground", 0.4)
            return [Segment(fit(shown[0], width), self._styles(shown[1], shown[2], "" if cell.disabled else "surface"))]
        if cell.choices:
            arrows = f"{clip(value, width - 3)} ◂▸" if width > 5 else value
            return [Segment(fit(arrows, width), self._styles(*ink, "panel"))]
        first = max(0, cell.cursor - width + 1)
        text = fit(value[first : first + width], width)
        if cell.whole and value:
            end = min(len(value), width)
            return [
                Segment(text[:end], self._styles(*ink, "secondary")),
                Segment(text[end:], self._styles(*ink, "panel")),
            ]
        place = cell.cursor - first
        plain, cursor = self._styles(*ink, "panel"), self._styles("background", 1.0, "foreground")
        return [
            Segment(text[:place], plain),
            Segment(text[place : place + 1], cursor),
            Segment(text[place + 1 :], plain),
        ]

    # Moving

    @property
    def _open(self) -> list[Cell]:
        return [cell for cell in self.cells.values() if not cell.disabled]

    def _go(self, cell: Cell) -> None:
        self.at, cell.cursor, cell.whole = cell.name, len(cell.value), not cell.choices
        line = next((n for n, row in enumerate(self._lines) if isinstance(row, Row) and cell in row.cells), 0)
        notes = len(wrap(cell.problem, max(10, self.room - 2))) if cell.problem else 0
        self.scroll_to_region(Region(0, line, 1, 1 + notes), animate=False)
        self.post_message(self.Entered(cell.name))
        self.refresh()

    def action_step(self, by: int) -> None:
        names = [cell.name for cell in self._open]
        if self.at not in names:
            return
        place = names.index(self.at) + by
        if 0 <= place < len(names):
            self._go(self.cells[names[place]])
        elif by > 0:
            self.screen.focus_next()
        else:
            self.screen.focus_previous()

    def action_row(self, by: int) -> None:
        """To the nearest cell of the next row that has one."""
        rows = [row for row in self._rows if any(not cell.disabled for cell in row.cells)]
        if self.cells[self.at].disabled:
            return
        here = next(n for n, row in enumerate(rows) if self.cells[self.at] in row.cells)
        if not 0 <= here + by < len(rows):
            return
        middle = next(start + end for cell, start, _, end in rows[here].spans(self.room) if cell.name == self.at)
        near = [span for span in rows[here + by].spans(self.room) if not span[0].disabled]
        self._go(min(near, key=lambda span: abs(span[1] + span[3] - middle))[0])

    def on_click(self, event: Click) -> None:
        place = event.get_content_offset(self)
        if place is None:
            return
        n = place.y + self.scroll_offset.y
        row = self._lines[n] if n < len(self._lines) else ""
        if isinstance(row, Row):
            for cell, start, value, end in row.spans(self.room):
                if start <= place.x < end and not cell.disabled:
                    again = self.has_focus and self.at == cell.name
                    self._go(cell)
                    if cell.choices and again:
                        self.action_move(1)
                    elif not cell.choices:
                        cell.cursor, cell.whole = max(0, min(len(cell.value), place.x - value)), not again

    # Editing

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Letters are text here, and no commands."""
        return character is not None and character.isprintable()

    def on_key(self, event: Key) -> None:
        if event.character is not None and event.is_printable:
            event.stop()
            event.prevent_default()
            self._type(event.character)

    def on_paste(self, event: Paste) -> None:
        event.stop()
        self._type(clean("".join(event.text.splitlines()[:1])))

    def action_move(self, by: int) -> None:
        cell = self.cells[self.at]
        if cell.choices:
            at = cell.choices.index(cell.value) if cell.value in cell.choices else 0
            self._put(cell, cell.choices[(at + max(-1, min(1, by))) % len(cell.choices)])
            return
        start = (0 if by < 0 else len(cell.value)) if cell.whole else cell.cursor + by
        cell.cursor, cell.whole = max(0, min(len(cell.value), start)), False
        self.refresh()

    def action_delete(self, by: int) -> None:
        cell = self.cells[self.at]
        at = cell.cursor + by
        if cell.choices:
            return
        if cell.whole:
            self._put(cell, "")
        elif 0 <= at < len(cell.value):
            self._put(cell, cell.value[:at] + cell.value[at + 1 :], at)

    def action_clear(self) -> None:
        if not self.cells[self.at].choices:
            self._put(self.cells[self.at], "")

    def action_cut(self) -> None:
        """Delete from the cursor to the end."""
        cell = self.cells[self.at]
        if not cell.choices:
            self._put(cell, "" if cell.whole else cell.value[: cell.cursor])

    def action_enter(self) -> None:
        if self._submits:
            self.post_message(self.Submitted())
        elif self.cells[self.at].choices:
            self.action_move(1)
        else:
            self.action_step(1)

    def _type(self, text: str) -> None:
        cell = self.cells[self.at]
        if cell.choices:
            found = [word for word in cell.choices if word.startswith(text)]
            if text == " ":
                self.action_move(1)
            elif found:
                self._put(cell, found[0])
            return
        before, after = ("", "") if cell.whole else (cell.value[: cell.cursor], cell.value[cell.cursor :])
        self._put(cell, before + text + after, len(before + text))

    def _put(self, cell: Cell, value: str, cursor: int | None = None) -> None:
        changed = value != cell.value
        cell.value, cell.whole = value, False
        cell.cursor = len(value) if cursor is None else cursor
        self.refresh()
        if changed:
            self.post_message(self.Edited(self, cell.name))
