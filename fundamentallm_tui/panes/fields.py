"""Labelled values, drawn by one widget, and typed into one `Input` that lies over the value in focus.

- Thirty input widgets would take half a second to appear.
- A cell is text, or one of a few choices. The first character typed replaces the value; after an arrow key, text is
  inserted.
- Arrows and tab move from cell to cell; a problem with a value is shown below its row.
- Knows nothing of settings.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import takewhile

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Click, Key, Paste
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input

from fundamentallm_tui.format import clean, fit, truncate
from fundamentallm_tui.panes.cells import Cell, Group, Line, Row
from fundamentallm_tui.theme import Styles


class CellInput(Input):
    """Text that is typed or pasted into a cell."""

    def on_paste(self, event: Paste) -> None:
        event.text = clean(event.text, newlines=True)  # a file name may try to steer the terminal


class Fields(ScrollView, can_focus=True):
    """Shows groups of cells; posts `Edited` after a change, and `Entered` when another cell gets the focus."""

    BINDINGS = [
        Binding("up", "row(-1)", show=False),
        Binding("down", "row(1)", show=False),
        Binding("tab", "step(1)", show=False),
        Binding("shift+tab", "step(-1)", show=False),
        Binding("left", "choose(-1)", show=False),
        Binding("right", "choose(1)", show=False),
        Binding("enter", "submit", show=False),
    ]

    @dataclass
    class Edited(Message):
        name: str

    @dataclass
    class Entered(Message):
        name: str  # empty: no cell has the focus

    @dataclass
    class Submitted(Message):
        """The user pressed enter where it has nothing else to do."""

    def __init__(self, groups: list[Group], *, id: str, submits: bool = False) -> None:
        """`submits`: enter posts `Submitted`, instead of going to the next cell or choice."""
        super().__init__(id=id)
        self.cells = {cell.name: cell for group in groups for cell in group.cells}
        self.current = next(iter(self.cells.values()))
        self.submits = submits
        self.input = CellInput(compact=True, select_on_focus=True)
        self.input.cursor_blink = False  # or an idle console would draw twice a second
        self.input.display = False
        self._groups = groups
        self._shown: Collection[str] = self.cells
        self._lines: list[Row | Line] = []
        self._styles = Styles(self)

    def compose(self) -> ComposeResult:
        yield self.input

    @property
    def is_container(self) -> bool:
        """Other scroll views have no children."""
        return True

    @property
    def entered(self) -> bool:
        """Whether one of the cells has the focus."""
        return self.screen.focused in (self, self.input)

    def show_values(self, values: dict[str, str]) -> None:
        """Show these values, without posting `Edited`."""
        for name, value in values.items():
            self.cells[name].value = value
        if self.current.name in values and clean(self.current.value) != self.input.value:
            self._fill_input()
        self.refresh()

    def offer(self, name: str, choice: str) -> None:
        """Show this choice of a cell, and add it to the others where it is not among them; empty: none."""
        cell = self.cells[name]
        cell.value = choice
        if choice and choice not in cell.choices:
            cell.choices += (choice,)
        self.refresh()

    def show_only(self, names: Collection[str] | None) -> None:
        """Show these cells and no others; None: all."""
        self._shown = self.cells if names is None else names
        self._adapt_focus()
        self.arrange_lines()

    def set_problems(self, problems: dict[str, str]) -> None:
        """Show these problems below their cells, and no others."""
        for name, cell in self.cells.items():
            cell.problem = clean(problems.get(name, ""), newlines=True)
        self.arrange_lines()

    def set_disabled(self, names: Collection[str]) -> None:
        """Make these cells read-only, and no others."""
        for name, cell in self.cells.items():
            cell.disabled = name in names
        self._adapt_focus()
        self.refresh()

    def _adapt_focus(self) -> None:
        enabled = self._enabled
        if not self.input.display:
            self.can_focus = bool(enabled)  # neither tab nor a click enters a form without an editable field
        if self.current in enabled:
            return
        entered = self.is_attached and self.entered
        if enabled:
            self.current = enabled[0]
        if entered:
            self.screen.set_focus(None)

    def enter(self, name: str = "") -> None:
        """Give the focus to a cell, or to the one that had it last."""
        cell = self.cells[name] if name else self.current
        if self._enabled:
            self._move_to(cell if cell in self._enabled else self._enabled[0])

    # Drawing

    @property
    def room(self) -> int:
        """Columns beside the scroll bar."""
        return self.scrollable_content_region.width

    def on_resize(self) -> None:
        self.arrange_lines()
        if self.entered:
            self.scroll_to_current()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self.input.refresh(layout=True)

    def arrange_lines(self) -> None:
        """Lay out the rows again: other cells are shown, or what is below them has changed."""
        self._lines = [line for group in self._groups for line in group.lines(self._shown, self.room)]
        if len(self._lines) != self.virtual_size.height:
            self.refresh(layout=True)  # it may be as high as its lines
        self.virtual_size = Size(self.room, len(self._lines))
        self._place_input()
        self.refresh()

    def _line(self, y: int) -> Row | Line:
        y += self.scroll_offset.y
        return self._lines[y] if y < len(self._lines) else Line("", "foreground")

    def render_line(self, y: int) -> Strip:
        line, segments = self._line(y), []
        if isinstance(line, Line):
            segments.append(Segment(line.text, self._styles(line.colour) + Style(bold=line.bold)))
        else:
            previous_end = 0
            for cell, start, value, end in line.spans(self.room):
                label = fit(cell.label, value - start - 1)
                changed = "text-warning" if cell.pending else "text-accent" if cell.marked else ""
                mark = Segment(cell.pending or "*" if changed else " ", self._styles(changed or "foreground"))
                colour = (changed, 1.0) if changed else ("foreground", 0.7)
                segments += [Segment(" " * (start - previous_end)), Segment(label, self._styles(*colour)), mark]
                segments.append(self._value_segment(cell, end - value))
                previous_end = end
        return Strip(segments).adjust_cell_length(self.room).apply_style(self.rich_style)

    def _value_segment(self, cell: Cell, width: int) -> Segment:
        """Draw a value in exactly `width` columns."""
        value = clean(cell.value)
        colour = "text-error" if cell.problem else "text-warning" if cell.pending else "foreground"
        if cell is self.current and self.has_focus:
            text = f"{truncate(value, width - 3)} ◂▸" if width > 5 else value
            return Segment(fit(text, width), self._styles(colour, 1.0, "panel"))
        strength, paper = 1.0 if value and not cell.disabled else 0.6, "" if cell.disabled else "surface"
        return Segment(fit(value or cell.empty, width), self._styles(colour, strength, paper))

    # Moving

    @property
    def _enabled(self) -> list[Cell]:
        return [cell for cell in self.cells.values() if not cell.disabled and cell.name in self._shown]

    def _move_to(self, cell: Cell) -> None:
        """Give the focus to a cell: to the widget itself where it is a choice, else to the input over its value."""
        self.current = cell
        self.can_focus = bool(cell.choices)  # or shift+tab would lead from the input to the widget around it
        if not cell.choices:
            self.input.display = True
            self._place_input()
            self._fill_input()
        self.screen.set_focus(self if cell.choices else self.input, scroll_visible=False)
        self.scroll_to_current()
        self.post_message(self.Entered(cell.name))
        self.refresh()

    def reveal(self, name: str) -> None:
        """Show a cell, and go to it with the next enter."""
        self.current = self.cells[name]
        self.call_after_refresh(self.scroll_to_current)

    def scroll_to_current(self) -> None:
        """Scroll to the current cell, and to what stands below its row."""
        if (y := self.row_of(self.current)) is not None:
            below = takewhile(lambda line: isinstance(line, Line), self._lines[y + 1 :])
            self.scroll_to_region(Region(0, y, 1, 1 + len(list(below))), animate=False)

    def row_of(self, cell: Cell) -> int | None:
        return next((y for y, row in enumerate(self._lines) if isinstance(row, Row) and cell in row.cells), None)

    def _place_input(self) -> None:
        y = self.row_of(self.current)
        if y is None or not self.input.display:
            return
        row = self._lines[y]
        assert isinstance(row, Row)
        start, end = next((start, end) for cell, _, start, end in row.spans(self.room) if cell is self.current)
        full = cell_len(clean(self.current.value)) >= end - start  # then the cursor needs a column of the gap
        self.input.styles.offset, self.input.styles.width = (start, y), min(self.room - start, end - start + full)
        self.input.set_class(bool(self.current.problem), "-wrong")

    def _fill_input(self) -> None:
        with self.input.prevent(Input.Changed):
            self.input.value = clean(self.current.value)
        self.input.select_all()

    def on_focus(self) -> None:
        self.enter()
        if not self._enabled:  # every field was locked after the focus was requested
            self.screen.set_focus(None)

    def on_blur(self) -> None:
        """The focus has gone elsewhere, or to another cell."""
        if self.screen.focused is not self.input:
            self.input.display = False
            self.can_focus = bool(self._enabled)
        if not self.entered:
            self.post_message(self.Entered(""))
        self.refresh()

    on_descendant_blur = on_blur

    def action_step(self, by: int) -> None:
        """Move to the next or previous cell, beyond the last and the first out of the form."""
        cells = self._enabled
        if self.current not in cells:
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
        enabled = self._enabled
        rows = [row for row in self._lines if isinstance(row, Row) and any(cell in enabled for cell in row.cells)]
        place = next((n for n, row in enumerate(rows) if self.current in row.cells), None)
        if place is None or not 0 <= place + by < len(rows):
            return
        middle = next(start + end for cell, start, _, end in rows[place].spans(self.room) if cell is self.current)
        spans = [span for span in rows[place + by].spans(self.room) if span[0] in enabled]
        self._move_to(min(spans, key=lambda span: abs(span[1] + span[3] - middle))[0])

    async def on_click(self, event: Click) -> None:
        inside = self.input.display and self.input.region.contains_point(event.screen_offset)
        x, y = event.screen_offset - self.content_region.offset
        if inside or not self.content_region.contains_point(event.screen_offset):
            return  # the input has moved its cursor already
        line = self._line(y)
        for cell, start, _, end in line.spans(self.room) if isinstance(line, Row) else ():
            if start <= x < end and cell.disabled:
                self.screen.set_focus(None)  # or what is typed would go into another cell
                await self.run_action("screen.refuse('')")
            elif start <= x < end:
                again = self.has_focus and cell is self.current
                self._move_to(cell)
                if again:
                    self.action_choose(1)

    # Editing

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        if event.value != clean(self.current.value):
            self._change(self.current, event.value)

    @on(Input.Submitted)
    def _input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.action_submit()

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Take letters as the first ones of a choice, not as commands."""
        return character is not None and character.isprintable()

    def on_key(self, event: Key) -> None:
        if self.has_focus and event.character is not None and event.is_printable:
            event.stop()
            event.prevent_default()
            matching = [choice for choice in self.current.choices if choice.startswith(event.character)]
            if event.character == " ":
                self.action_choose(1)
            elif matching:
                self._change(self.current, matching[0])

    def on_paste(self, event: Paste) -> None:
        event.stop()

    def action_choose(self, by: int) -> None:
        cell = self.current
        if cell.choices:
            place = cell.choices.index(cell.value) if cell.value in cell.choices else 0
            self._change(cell, cell.choices[(place + by) % len(cell.choices)])

    def action_submit(self) -> None:
        if self.submits:
            self.post_message(self.Submitted())
        elif self.current.choices:
            self.action_choose(1)
        else:
            self.action_step(1)

    def _change(self, cell: Cell, value: str) -> None:
        changed = value != cell.value
        cell.value = value
        self.refresh()
        if changed:
            self.post_message(self.Edited(cell.name))
