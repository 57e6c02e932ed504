"""Labelled values that can be edited, drawn by one widget: thirty input widgets would take half a second to appear.

- A cell is text, or one of a few choices. The first character typed replaces the value; after an arrow key, text is
  inserted.
- Arrows and tab move from cell to cell; a problem with a value is shown below its row.
- Knows nothing of settings.
"""

from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.binding import Binding
from textual.events import Click, Key, Paste
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fundamentallm.config.format import wrap
from fundamentallm_tui.format import clean, fit, truncate
from fundamentallm_tui.theme import Styles

MIN_VALUE_WIDTH = 9  # labels are abbreviated until this much is left for the value
FAR = 1_000_000  # farther than any text is long


@dataclass
class Cell:
    """One value; it can be chosen from `choices` where there are any, else typed.

    Attributes:
        empty: is shown in place of an empty value.
        marked: a mark before the value says that the user changed it.
        cursor: how many characters are before it.
        selected: the next character replaces the value.
    """

    name: str
    label: str
    value: str
    choices: tuple[str, ...] = ()
    empty: str = ""
    disabled: bool = False
    marked: bool = False
    problem: str = ""
    cursor: int = 0
    selected: bool = False


@dataclass
class Row:
    """Cells that share a line in `columns` equal parts, or a heading."""

    cells: list[Cell]
    columns: int = 1
    label_widths: tuple[int, int] = (0, 0)  # narrowest and widest; zeros: each label as wide as its text
    heading: str = ""

    def spans(self, width: int) -> list[tuple[Cell, int, int, int]]:
        """Return each cell with the columns where it starts, where its value starts, and where it ends."""
        spans = []
        narrowest, widest = self.label_widths
        label = min(widest, max(narrowest, width // 2 - MIN_VALUE_WIDTH))  # the same in every row, so that they align
        for n, cell in enumerate(self.cells):
            start = n * width // self.columns
            end = (n + 1) * width // self.columns
            if n + 1 < self.columns:
                end -= 1  # the gap before the next cell
            spans.append((cell, start, start + (label or len(cell.label) + 1), end))
        return spans


class Fields(ScrollView, can_focus=True):
    """Shows rows of cells; posts `Edited` after a change, and `Entered` when another cell gets the focus."""

    BINDINGS = [
        Binding("up", "row(-1)", show=False),
        Binding("down", "row(1)", show=False),
        Binding("tab", "step(1)", show=False),
        Binding("shift+tab", "step(-1)", show=False),
        Binding("left", "move(-1)", show=False),
        Binding("right", "move(1)", show=False),
        Binding("home,ctrl+a", f"move(-{FAR})", show=False),
        Binding("end,ctrl+e", f"move({FAR})", show=False),
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
        name: str  # empty: no cell has the focus

    @dataclass
    class Submitted(Message):
        """The user pressed enter where it has nothing else to do."""

    def __init__(self, rows: list[Row], *, id: str, submits: bool = False) -> None:
        """
        Args:
            submits: enter posts `Submitted`, instead of going to the next cell or choice.
        """
        super().__init__(id=id)
        self.cells = {cell.name: cell for row in rows for cell in row.cells}
        self.current = next(iter(self.cells.values()))
        self._rows, self._submits = rows, submits
        self._lines: list[Row | str] = []  # what each line shows; a problem is a string
        self._styles = Styles(self)

    def show_values(self, values: dict[str, str]) -> None:
        """Show these values, without posting `Edited`."""
        for name, value in values.items():
            cell = self.cells[name]
            if cell.value != value:
                cell.value, cell.cursor = value, len(value)
        self.refresh()

    def offer(self, name: str, choice: str) -> None:
        """Show this choice of a cell, and add it to the others where it is not among them; empty: none."""
        cell = self.cells[name]
        cell.value = choice
        if choice and choice not in cell.choices:
            cell.choices += (choice,)
        self.refresh()

    def set_problems(self, problems: dict[str, str]) -> None:
        """Show these problems below their cells, and no others."""
        for name, cell in self.cells.items():
            cell.problem = clean(problems.get(name, ""), newlines=True)
        self._arrange_lines()

    def set_disabled(self, names: set[str]) -> None:
        """Make these cells read-only, and no others."""
        for name, cell in self.cells.items():
            cell.disabled = name in names
        self.can_focus = bool(self._enabled)  # neither tab nor a click enters a form without an editable field
        if self.has_focus and not self._enabled:
            self.screen.set_focus(None)
        elif self.current.disabled and self._enabled:
            self.current = self._enabled[0]
        self.refresh()

    def enter(self, name: str = "") -> None:
        """Give the focus to a cell, or to the one that had it last."""
        if name and not self.cells[name].disabled:
            self._move_to(self.cells[name])
        if self._enabled:
            self.focus()

    # Drawing

    @property
    def room(self) -> int:
        """Columns beside the scroll bar."""
        return self.scrollable_content_region.width

    def on_resize(self) -> None:
        self._arrange_lines()

    def on_focus(self) -> None:
        if not self._enabled:  # every field was locked after the focus was requested
            self.screen.set_focus(None)
            return
        self._move_to(self._enabled[0] if self.current.disabled else self.current)

    def on_blur(self) -> None:
        self.post_message(self.Entered(""))

    def _arrange_lines(self) -> None:
        self._lines = []
        for row in self._rows:
            self._lines += [row, *(line for cell in row.cells for line in self._problem_lines(cell))]
        self.virtual_size = Size(self.room, len(self._lines))
        self.refresh()

    def _problem_lines(self, cell: Cell) -> list[str]:
        if not cell.problem:
            return []
        text = cell.problem if cell.problem.startswith(cell.name) else f"{cell.name}: {cell.problem}"
        return [row for line in text.splitlines() for row in wrap(line, max(10, self.room - 2))]

    def _line(self, y: int) -> Row | str:
        y += self.scroll_offset.y
        return self._lines[y] if y < len(self._lines) else ""

    def render_line(self, y: int) -> Strip:
        line, segments = self._line(y), []
        if isinstance(line, str):
            segments.append(Segment(f"  {line}", self._styles("text-error")))
        elif line.heading:
            segments.append(Segment(line.heading, self._styles("foreground", 0.5)))
        else:
            previous_end = 0
            for cell, start, value, end in line.spans(self.room):
                label = fit(cell.label, value - start - 1)
                mark = Segment("*" if cell.marked else " ", self._styles("text-accent"))
                colour = ("text-accent", 1.0) if cell.marked else ("foreground", 0.7)
                segments += [Segment(" " * (start - previous_end)), Segment(label, self._styles(*colour)), mark]
                segments += self._value_segments(cell, end - value)
                previous_end = end
        return Strip(segments).adjust_cell_length(self.room).apply_style(self.rich_style)

    def _value_segments(self, cell: Cell, width: int) -> list[Segment]:
        """Draw a value in exactly `width` columns, with the cursor if it has the focus."""
        value = clean(cell.value)
        ink = ("text-error", 1.0) if cell.problem else ("foreground", 0.45 if cell.disabled else 1.0)
        if not (self.has_focus and cell is self.current):
            if not value:
                value, ink = cell.empty, ("foreground", 0.4)
            return [Segment(fit(value, width), self._styles(*ink, "" if cell.disabled else "surface"))]
        plain = self._styles(*ink, "panel")
        if cell.choices:
            return [Segment(fit(f"{truncate(value, width - 3)} ◂▸" if width > 5 else value, width), plain)]
        first = _first_shown(cell, width)
        text = set_cell_size(value[first:], width)
        if cell.selected and value:
            end = min(len(value) - first, len(text))
            return [Segment(text[:end], self._styles(*ink, "secondary")), Segment(text[end:], plain)]
        cursor = cell.cursor - first
        return [
            Segment(text[:cursor], plain),
            Segment(text[cursor : cursor + 1], self._styles("background", 1.0, "foreground")),
            Segment(text[cursor + 1 :], plain),
        ]

    # Moving

    @property
    def _enabled(self) -> list[Cell]:
        return [cell for cell in self.cells.values() if not cell.disabled]

    def _move_to(self, cell: Cell) -> None:
        self.current, cell.cursor, cell.selected = cell, len(cell.value), not cell.choices
        y = next((n for n, row in enumerate(self._lines) if isinstance(row, Row) and cell in row.cells), 0)
        self.scroll_to_region(Region(0, y, 1, 1 + len(self._problem_lines(cell))), animate=False)
        self.post_message(self.Entered(cell.name))
        self.refresh()

    def action_step(self, by: int) -> None:
        """Move to the next or previous cell, beyond the last and the first out of the form."""
        cells = self._enabled
        if self.current.disabled:
            return
        place = cells.index(self.current) + by
        if 0 <= place < len(cells):
            self._move_to(cells[place])
        elif by > 0:
            self.screen.focus_next()
        else:
            self.screen.focus_previous()

    def action_row(self, by: int) -> None:
        """Move to the nearest cell of the next or previous row that has one."""
        rows = [row for row in self._rows if any(not cell.disabled for cell in row.cells)]
        if self.current.disabled:
            return
        place = next(n for n, row in enumerate(rows) if self.current in row.cells)
        if not 0 <= place + by < len(rows):
            return
        middle = next(start + end for cell, start, _, end in rows[place].spans(self.room) if cell is self.current)
        spans = [span for span in rows[place + by].spans(self.room) if not span[0].disabled]
        self._move_to(min(spans, key=lambda span: abs(span[1] + span[3] - middle))[0])

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        line = self._line(offset.y) if offset is not None else ""
        if offset is None or isinstance(line, str):
            return
        for cell, start, value, end in line.spans(self.room):
            if start <= offset.x < end and not cell.disabled:
                again = self.has_focus and cell is self.current
                self._move_to(cell)
                if cell.choices and again:
                    self.action_move(1)
                elif not cell.choices:
                    first = _first_shown(cell, end - value) if again else 0
                    before = set_cell_size(cell.value[first:], max(0, offset.x - value))
                    cell.cursor = min(len(cell.value), first + len(before))
                    cell.selected = not again

    # Editing

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Take letters as text, not as commands."""
        return character is not None and character.isprintable()

    def on_key(self, event: Key) -> None:
        if event.character is not None and event.is_printable:
            event.stop()
            event.prevent_default()
            self._type(event.character)

    def on_paste(self, event: Paste) -> None:
        event.stop()
        self._type(clean("".join(event.text.splitlines()[:1])))

    def _type(self, text: str) -> None:
        cell = self.current
        if cell.choices:
            matching = [choice for choice in cell.choices if choice.startswith(text)]
            if text == " ":
                self.action_move(1)
            elif matching:
                self._change(cell, matching[0])
            return
        before, after = ("", "") if cell.selected else (cell.value[: cell.cursor], cell.value[cell.cursor :])
        self._change(cell, before + text + after, len(before + text))

    def action_move(self, by: int) -> None:
        """Move the cursor, or change a choice."""
        cell = self.current
        if cell.choices:
            place = cell.choices.index(cell.value) if cell.value in cell.choices else 0
            self._change(cell, cell.choices[(place + max(-1, min(1, by))) % len(cell.choices)])
            return
        cursor = cell.cursor + by
        if cell.selected:
            cursor = 0 if by < 0 else len(cell.value)
        cell.cursor, cell.selected = max(0, min(len(cell.value), cursor)), False
        self.refresh()

    def action_delete(self, by: int) -> None:
        """Delete the character before (-1) or after (0) the cursor, or the selected value."""
        cell = self.current
        place = cell.cursor + by
        if cell.selected:
            self.action_clear()
        elif 0 <= place < len(cell.value) and not cell.choices:
            self._change(cell, cell.value[:place] + cell.value[place + 1 :], place)

    def action_clear(self) -> None:
        if not self.current.choices:
            self._change(self.current, "")

    def action_cut(self) -> None:
        """Delete from the cursor to the end."""
        cell = self.current
        if not cell.choices:
            self._change(cell, "" if cell.selected else cell.value[: cell.cursor])

    def action_enter(self) -> None:
        if self._submits:
            self.post_message(self.Submitted())
        elif self.current.choices:
            self.action_move(1)
        else:
            self.action_step(1)

    def _change(self, cell: Cell, value: str, cursor: int | None = None) -> None:
        changed = value != cell.value
        cell.value, cell.selected = value, False
        cell.cursor = len(value) if cursor is None else cursor
        self.refresh()
        if changed:
            self.post_message(self.Edited(self, cell.name))


def _first_shown(cell: Cell, width: int) -> int:
    """Return the first character of a value that is shown, so that the cursor is within `width` cells."""
    first = 0
    while cell_len(cell.value[first : cell.cursor]) >= width:
        first += 1
    return first
