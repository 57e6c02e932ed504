"""The rows of the list of runs, drawn by one widget: a hundred runs cost only what the screen shows of them."""

from pathlib import Path

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import Binding
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fundamentallm.config.format import format_loss
from fundamentallm.run.summary import RunSummary, why_incomparable
from fundamentallm_tui.charts.palette import RunStyle
from fundamentallm_tui.format import clean, fit
from fundamentallm_tui.screens.run_table import short_age, short_count, sparkline, text_of
from fundamentallm_tui.theme import Styles

COLOURS = {
    "finished": "text-success",
    "stopped": "foreground",
    "failed": "text-error",
    "interrupted": "text-warning",
    "paused": "text-warning",
    "training": "text-primary",
}
WIDTHS = {"state": 11, "age": 6, "preset": 8, "steps": 12, "best": 6}  # between the name and the curve
DROPPED = ("preset", "age")  # where the terminal is narrow
NARROWEST, WIDEST_CURVE = 24, 40  # the name and the curve together; the curve


class RunList(ScrollView, can_focus=True):
    """Shows runs; posts `Moved` when another one is under the cursor."""

    BINDINGS = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "move(-10)", show=False),
        Binding("pagedown", "move(10)", show=False),
        Binding("home", "move(-1000000)", show=False),
        Binding("end", "move(1000000)", show=False),
    ]

    class Moved(Message):
        """Another run is under the cursor."""

    class Opened(Message):
        """The run under the cursor was clicked again."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.runs: list[RunSummary] = []
        self.marks: dict[Path, RunStyle] = {}  # of the runs that are marked
        self.column = ""  # the setting or number that has a column instead of the preset's name
        self._cursor: Path | None = None  # a folder, because the order of the runs changes
        self._styles = Styles(self)

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        found = next((run for run in self.runs if run.folder == self._cursor), None)
        return found or (self.runs[0] if self.runs else None)

    def show(self, runs: list[RunSummary]) -> None:
        """Show these runs; the cursor stays on its run, or where that was."""
        before = self.current
        place = self.runs.index(before) if before is not None else 0
        self.runs = runs
        if runs and self._cursor not in [run.folder for run in runs]:
            self._cursor = runs[min(place, len(runs) - 1)].folder
        self.on_resize()
        self.refresh()
        self.post_message(self.Moved())

    def rename(self, old: Path, new: Path) -> None:
        """Keep the cursor on a run whose folder has another name now."""
        self._cursor = new if self._cursor == old else self._cursor

    def on_resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self.runs))

    def show_marks(self, marks: dict[Path, RunStyle]) -> None:
        """Mark the runs in these folders."""
        self.marks = marks
        self.refresh()

    def action_move(self, by: int) -> None:
        if (run := self.current) is not None:
            self._move_to(max(0, min(len(self.runs) - 1, self.runs.index(run) + by)))

    def on_click(self, event: Click) -> None:
        offset = event.get_content_offset(self)
        if offset is None or (row := offset.y + self.scroll_offset.y) >= len(self.runs):
            return
        again = self.runs[row] is self.current
        self._move_to(row)
        if again:
            self.post_message(self.Opened())

    def _move_to(self, row: int) -> None:
        self._cursor = self.runs[row].folder
        self.scroll_to_region(Region(0, row, 1, 1), animate=False)
        self.refresh()
        self.post_message(self.Moved())

    def head(self) -> str:
        """Return the columns' names, each above its column."""
        heads = {"preset": self.column} if self.column else {}
        return "  " + " ".join(fit(heads.get(name, name), width) for name, width in self._columns().items())

    def _columns(self) -> dict[str, int]:
        """Return the columns and their widths; the name and the curve share what the others leave."""
        fixed = {**WIDTHS, "preset": max(WIDTHS["preset"], len(self.column))}
        for name in (*DROPPED[bool(self.column) :], ""):
            room = self.scrollable_content_region.width - 3 - sum(width + 1 for width in fixed.values())
            if room < NARROWEST:
                fixed.pop(name, None)
        curve = min(WIDEST_CURVE, max(room, NARROWEST) * 2 // 5)
        return {"run": max(room, NARROWEST) - curve, **fixed, "val loss": curve}

    def render_line(self, y: int) -> Strip:
        width, row = self.scrollable_content_region.width, y + self.scroll_offset.y
        if row >= len(self.runs):
            return Strip.blank(width, self.rich_style)
        run = self.runs[row]
        paper = "panel" if run is self.current else ""
        style = self.marks.get(run.folder)
        ink = self._styles(style.colour if style else "foreground", 1.0, paper)
        segments = [Segment(f"{style.mark} " if style else "  ", ink)]
        columns = self._columns()
        comparable = self.current is None or not why_incomparable(self.current, run)
        for name, (text, colour, strength) in _cells(run, columns, self.column, comparable).items():
            if name in columns:
                segments.append(Segment(fit(text, columns[name]) + " ", self._styles(colour, strength, paper)))
        strip = Strip(segments).adjust_cell_length(width, self._styles("foreground", 1.0, paper))
        return strip.apply_style(self.rich_style)


def _cells(
    run: RunSummary, columns: dict[str, int], column: str, comparable: bool
) -> dict[str, tuple[str, str, float]]:
    """Return each column's text, its colour and the colour's strength.

    `comparable`: whether its losses compare with those of the run under the cursor.
    """
    best = format_loss(run.best.val_loss) if run.best else "–"
    tags = "".join(f" #{tag}" for tag in run.tags)
    name = str(run.folder) if cell_len(f"{run.folder}{tags}") <= columns["run"] else run.folder.name
    return {
        "run": (clean(name + tags), "foreground", 1.0),
        "state": ("NOT SAVED" if run.unsaved else run.state, COLOURS["failed" if run.unsaved else run.state], 1.0),
        "age": (short_age(run), "foreground", 0.6),
        "preset": (clean(text_of(run, column) if column else run.preset) or "–", "foreground", 0.6),
        "steps": (f"{short_count(run.steps)}/{short_count(run.total_steps)}", "foreground", 0.6),
        "best": (best, "text-accent", 1.0) if comparable or run.best is None else (f"≠{best}", "foreground", 0.6),
        "val loss": (sparkline(run.val_losses, columns["val loss"]), "text-primary", 1.0),
    }
