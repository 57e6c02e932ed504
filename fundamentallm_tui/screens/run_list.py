"""The rows of the list of runs."""

from collections.abc import Callable
from pathlib import Path

from rich.cells import cell_len
from textual.content import Content
from textual.events import Click
from textual.widgets import OptionList

from fundamentallm.config.format import format_loss, format_rate
from fundamentallm.run.summary import RunSummary, why_incomparable
from fundamentallm_tui.charts.palette import RunStyle
from fundamentallm_tui.format import clean, fit, shorten, truncate
from fundamentallm_tui.panes.rows import Rows
from fundamentallm_tui.screens.run_table import short_age, sparkline, text_of
from fundamentallm_tui.theme import FAINT

COLOURS = {
    "finished": "$text-success",
    "stopped": "",
    "failed": "$text-error",
    "interrupted": "$text-warning",
    "paused": "$text-warning",
    "training": "$text-primary",
}
WIDTHS = {"state": 11, "age": 6, "preset": 8, "steps": 12, "best": 6}  # between the name and the curve
DROPPED = ("preset", "age")  # where the terminal is narrow
MOST_INDENTED = 4  # of branches of branches
LEAST_TAG = 4  # columns for a tag: a space, # and two letters
NARROWEST, WIDEST_CURVE = 24, 40  # the name and the curve together; the curve


class RunList(Rows):
    """Shows runs; `OptionHighlighted` says that the cursor has moved."""

    def __init__(self, open: Callable[[], None], *, id: str) -> None:
        """`open` is called when the run under the cursor was clicked twice."""
        super().__init__(id=id, compact=True)
        self._open = open
        self.runs: list[RunSummary] = []
        self.depths: dict[Path, int] = {}  # of the branches, below the runs that they came from
        self.marks: dict[Path, RunStyle] = {}  # of the runs that are marked
        self.column = ""  # the setting or number that has a column instead of the preset's name

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.runs[self.highlighted] if self.runs and self.highlighted is not None else None

    def show(self, runs: list[RunSummary], depths: dict[Path, int]) -> None:
        """Show these runs, indented by their depths; the cursor stays on its run, or where that was."""
        folders, before = [run.folder for run in runs], self.current
        place = self.highlighted or 0
        if before is not None and before.folder in folders:
            place = folders.index(before.folder)
        self.runs, self.depths = runs, depths
        with self.prevent(OptionList.OptionHighlighted):
            self.draw(len(runs))
            self.highlighted = place if runs else None

    def watch_highlighted(self, highlighted: int | None) -> None:
        super().watch_highlighted(highlighted)
        self.draw(len(self.runs))  # whose losses compare depends on the run under the cursor

    def on_click(self, event: Click) -> None:
        if event.chain == 2:
            self._open()

    def head(self) -> str:
        """Return the columns' names, each above its column."""
        heads = {"preset": self.column} if self.column else {}
        columns = self._columns(self.scrollable_content_region.width)
        return "  " + " ".join(fit(heads.get(name, name), width) for name, width in columns.items())

    def _columns(self, width: int) -> dict[str, int]:
        """Return the columns and their widths; the name and the curve share what the others leave."""
        fixed = {**WIDTHS, "preset": max(WIDTHS["preset"], len(self.column))}
        for name in (*DROPPED[bool(self.column) :], ""):
            room = width - 3 - sum(width + 1 for width in fixed.values())
            if room < NARROWEST:
                fixed.pop(name, None)
        curve = min(WIDEST_CURVE, max(room, NARROWEST) * 2 // 5)
        return {"run": max(room, NARROWEST) - curve, **fixed, "val loss": curve}

    def row(self, place: int, width: int) -> Content:
        run, columns = self.runs[place], self._columns(width)
        mark = self.marks.get(run.folder)
        best = (format_loss(run.best.val_loss), "$text-accent") if run.best else ("–", "$text-accent")
        if run.best and self.current is not None and why_incomparable(self.current, run):
            best = f"≠{best[0]}", FAINT
        depth = min(self.depths.get(run.folder, 0), MOST_INDENTED)
        branch = f"{'  ' * (depth - 1)}└ " if depth else ""
        tags = clean("".join(f" #{tag}" for tag in run.tags))
        whole = cell_len(f"{branch}{run.folder}{tags}") <= columns["run"]
        name = shorten(clean(branch + (str(run.folder) if whole else run.folder.name)), columns["run"])
        room = columns["run"] - cell_len(name)
        cells = {
            "run": (name + (truncate(tags, room) if room >= LEAST_TAG else ""), ""),
            "state": ("NOT SAVED" if run.unsaved else run.state, COLOURS["failed" if run.unsaved else run.state]),
            "age": (short_age(run), FAINT),
            "preset": (clean(text_of(run, self.column) if self.column else run.preset) or "–", FAINT),
            "steps": (f"{format_rate(run.steps)}/{format_rate(run.total_steps)}", FAINT),
            "best": best,
            "val loss": (sparkline(run.val_losses, columns["val loss"]), "$text-primary"),
        }
        return Content.assemble(
            (f"{mark.mark} ", mark.colour) if mark else "  ",
            *((fit(cells[name][0], width) + " ", cells[name][1]) for name, width in columns.items()),
        )
