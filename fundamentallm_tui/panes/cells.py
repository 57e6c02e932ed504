"""Labelled values in rows and columns, as data: `Fields` draws and edits them."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from fundamentallm.config.format import wrap
from fundamentallm_tui.format import fit

SHORT_VALUE_WIDTH = 3  # of a value beside a label that is as wide as its text
MIN_VALUE_WIDTH = 9  # labels are abbreviated until this much is left for the value


@dataclass
class Cell:
    """One value; it can be chosen from `choices` where there are any, else typed."""

    name: str
    label: str
    value: str
    choices: tuple[str, ...] = ()
    empty: str = ""  # is shown in place of an empty value
    wide: bool = False  # it has a row of its own
    disabled: bool = False
    marked: bool = False  # a mark before the value says that the user changed it
    pending: str = ""  # a sign before the value that it does not hold yet; empty: it does
    problem: str = ""
    note: tuple[str, Callable[[int], str]] | None = None  # of a line below: its label, and what makes the text so wide

    @property
    def short_width(self) -> int:
        """How many columns it has at least where its label is as wide as its text, with a gap."""
        return len(self.label) + SHORT_VALUE_WIDTH + 2

    def problem_lines(self, width: int) -> list[str]:
        """Return what is wrong with the value in lines of a width, beginning with the cell's name."""
        if not self.problem:
            return []
        named = self.problem.startswith((f"{self.name}: ", f"{self.name} "))
        text = self.problem if named else f"{self.name}: {self.problem}"
        return [row for line in text.splitlines() for row in wrap(line, max(10, width))]


@dataclass
class Row:
    """Cells that share a line in `columns` parts, equal ones where the labels are equally wide."""

    cells: list[Cell]
    columns: int
    label_widths: tuple[int, int]

    def spans(self, width: int) -> list[tuple[Cell, int, int, int]]:
        """Return each cell with the columns where it starts, where its value starts, and where it ends."""
        spans = []
        narrowest, widest = self.label_widths
        shares = [1] * self.columns if widest else [cell.short_width for cell in self.cells]
        label = min(widest, max(narrowest, width // 2 - MIN_VALUE_WIDTH))  # the same in every row, so that they align
        for n, cell in enumerate(self.cells):
            start, end = (sum(shares[:to]) * width // sum(shares) for to in (n, n + 1))
            if n + 1 < len(shares):
                end -= 1  # the gap before the next cell
            spans.append((cell, start, start + (label or len(cell.label) + 1), end))
        return spans


@dataclass
class Line:
    """A line without cells, in a colour of the theme."""

    text: str
    colour: str
    bold: bool = False


@dataclass
class Group:
    """Cells below a heading, in rows of at most `columns`, fewer where a column would be too narrow for a value."""

    cells: list[Cell]
    columns: int = 1
    label_widths: tuple[int, int] = (0, 0)  # narrowest and widest; zeros: each label as wide as its text
    heading: str = ""

    def lines(self, shown: Collection[str], width: int) -> list[Row | Line]:
        """Return what is shown of the cells named `shown`, in lines of a width; the heading stands over all of them."""
        widths = self.label_widths
        if widths[0]:
            columns = max(1, min(self.columns, (width + 1) // (widths[0] + MIN_VALUE_WIDTH)))
        else:
            rows_needed = -(-sum(cell.short_width for cell in self.cells) // max(1, width))
            columns = max(1, -(-self.columns // rows_needed))
        if columns < self.columns:  # beside each value there is room for the whole name
            widths = (max(widths[0], min(widths[1], width - MIN_VALUE_WIDTH)), widths[1])
        rows: list[Row] = []
        for cell in self.cells:
            if cell.name not in shown:
                continue
            if cell.wide or not rows or len(rows[-1].cells) == rows[-1].columns:
                rows.append(Row([], 1 if cell.wide else columns, widths))
            rows[-1].cells.append(cell)
        whole = all(cell.name in shown for cell in self.cells)
        lines: list[Row | Line] = [Line(self.heading, "foreground", bold=True)] if whole and self.heading else []
        for row in rows:
            lines.append(row)
            for cell in row.cells:
                lines += [Line(f"  {text}", "text-error") for text in cell.problem_lines(width - 2)]
            _, _, start, _ = row.spans(width)[0]
            for label, draw in (cell.note for cell in row.cells if cell.note):
                lines.append(Line(fit(label, start) + draw(width - start), "text-primary"))
        return lines
