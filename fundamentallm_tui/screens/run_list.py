"""The list of runs: one line each, drawn by itself so that a hundred runs cost what the screen shows of them."""

from pathlib import Path

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding
from textual.color import Color
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from fundamentallm.config.format import format_loss
from fundamentallm.run.history import RunSummary
from fundamentallm_tui.format import clean, fit
from fundamentallm_tui.screens.run_table import LIVE, age, count, known_spark, sparkline

COLOURS = {"failed": "text-error", "interrupted": "text-warning", "paused": "text-warning", "training": "text-success"}
STATE, AGE, PRESET, STEPS, BEST, WIDEST = 11, 6, 8, 12, 6, 40
HEADS = ("run", "state", "age", "preset", "steps", "best", "loss")


class RunList(ScrollView, can_focus=True):
    """Shows runs; says `Moved` when another one is under the cursor."""

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
        self.marked: list[Path] = []
        self._at: Path | None = None  # by folder: the list is sorted anew while one looks at it
        self._styles: dict[tuple[str, float, bool], Style] = {}

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        found = next((run for run in self.runs if run.folder == self._at), None)
        return found or (self.runs[0] if self.runs else None)

    def show(self, runs: list[RunSummary]) -> None:
        here = self.current
        place = self.runs.index(here) if here is not None else 0
        self.runs = runs
        if runs and self._at not in [run.folder for run in runs]:
            self._at = runs[min(place, len(runs) - 1)].folder
        self.virtual_size = Size(self.size.width, len(runs))
        self.refresh()
        self.post_message(self.Moved())

    def mark(self) -> None:
        """Mark the run under the cursor, or take its mark away; two are marked at most."""
        if (run := self.current) is not None:
            if run.folder in self.marked:
                self.marked.remove(run.folder)
            else:
                self.marked = [*self.marked[-1:], run.folder]
            self.refresh()

    def action_move(self, by: int) -> None:
        if (run := self.current) is not None:
            self._go(max(0, min(len(self.runs) - 1, self.runs.index(run) + by)))

    def on_click(self, event: Click) -> None:
        place = event.get_content_offset(self)
        if place is None or place.y + self.scroll_offset.y >= len(self.runs):
            return
        again = self.runs[place.y + self.scroll_offset.y] is self.current
        self._go(place.y + self.scroll_offset.y)
        if again:
            self.post_message(self.Opened())

    def _go(self, place: int) -> None:
        self._at = self.runs[place].folder
        self.scroll_to_region(Region(0, place, 1, 1), animate=False)
        self.refresh()
        self.post_message(self.Moved())

    # Drawing

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._styles.clear())

    def on_resize(self) -> None:
        self.virtual_size = Size(self.size.width, len(self.runs))

    def head(self) -> str:
        """The names of the columns, where they stand."""
        texts = [fit(text, width) for text, width in zip(HEADS, self._widths(), strict=True)]
        return "  " + " ".join(texts)

    def _widths(self) -> list[int]:
        """Of each column; what the others leave is shared by the name and the curve."""
        fixed = [STATE, AGE, PRESET, STEPS, BEST]
        room = max(24, self.scrollable_content_region.width - 2 - len(HEADS) + 1 - sum(fixed))
        spark = min(WIDEST, room * 2 // 5)
        return [room - spark, *fixed, spark]

    def render_line(self, y: int) -> Strip:
        width, n = self.scrollable_content_region.width, y + self.scroll_offset.y
        if n >= len(self.runs):
            return Strip.blank(width, self.rich_style)
        run = self.runs[n]
        chosen = run is self.current
        best = format_loss(run.best.val_loss) if run.best else "–"
        texts = (
            clean(str(run.folder)) if len(str(run.folder)) <= self._widths()[0] else clean(run.folder.name),
            run.state,
            age(run.last_heard if run.state not in LIVE else run.started),
            clean(run.preset) or "–",
            f"{count(run.steps)}/{count(run.total_steps)}",
            best,
            sparkline(known_spark(run.folder), self._widths()[-1]),
        )
        state = (COLOURS.get(run.state, "foreground"), 1.0)
        inks = (("foreground", 1.0), state, *[("foreground", 0.6)] * 3, ("text-accent", 1.0), ("text-primary", 1.0))
        segments = [Segment("● " if run.folder in self.marked else "  ", self._style("text-accent", 1.0, chosen))]
        for text, ink, wide in zip(texts, inks, self._widths(), strict=True):
            segments.append(Segment(fit(text, wide) + " ", self._style(*ink, chosen)))
        strip = Strip(segments).adjust_cell_length(width, self._style("foreground", 1.0, chosen))
        return strip.apply_style(self.rich_style)

    def _style(self, ink: str, strength: float, chosen: bool) -> Style:
        key = (ink, strength, chosen)
        if key not in self._styles:
            theme = self.app.theme_variables
            ground = Color.parse(theme["panel"]) if chosen else self.background_colors[1]
            colour = ground.blend(Color.parse(theme[ink]), strength)
            self._styles[key] = Style(color=colour.rich_color, bgcolor=ground.rich_color if chosen else None)
        return self._styles[key]
