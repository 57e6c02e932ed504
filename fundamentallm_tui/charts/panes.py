"""The console's chart panes: which curves each shows, and when it is redrawn."""

import time

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from fundamentallm.config.format import format_loss
from fundamentallm_tui.charts.chart import GUTTER, Chart, Line, draw
from fundamentallm_tui.charts.series import Series
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.theme import Styles
from fundamentallm_tui.throttle import RedrawThrottle

CPU_SHARE = 0.003  # of one core, for each chart; showing the cells costs as much again as drawing them
MIN_INTERVAL = 0.5  # seconds between two drawings


class ChartView(Widget):
    """Shows a `Chart`; give it the next one with `show`."""

    DEFAULT_CSS = "ChartView { width: 1fr; height: 1fr; }"
    ALLOW_SELECT = False

    def __init__(self, chart: Chart, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.cost = 0.0  # seconds that the last drawing took
        self._chart = chart
        self._drawn: list[Strip] = []
        self._drawn_for: Size | None = None
        self._styles = Styles(self)

    @property
    def columns(self) -> int:
        """How many columns to reduce a series to before it is shown here: two dots fit in a cell."""
        return 2 * max(1, self.size.width - GUTTER - 1)

    def show(self, chart: Chart) -> None:
        """Show this chart from now on; one that equals the last costs nothing."""
        if chart != self._chart:
            self._chart = chart
            self._redraw()

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._redraw)

    def _redraw(self, _theme: object = None) -> None:
        self._drawn_for = None
        self.refresh()

    def render_line(self, y: int) -> Strip:
        start = time.perf_counter()
        # Textual asks only for rows on the screen, so a chart on a hidden tab is never drawn
        if self._drawn_for != self.size:
            self._drawn_for = self.size
            rows = draw(self._chart, self.size.width, self.size.height, self._styles)
            self._drawn = [Strip(row).simplify() for row in rows]
        strip = self._drawn[y] if y < len(self._drawn) else Strip([])
        # without a base style under the cells, light themes would show dark boxes
        strip = strip.adjust_cell_length(self.size.width).apply_style(self.rich_style)
        seconds = time.perf_counter() - start
        self.cost = seconds if y == 0 else self.cost + seconds  # the first row asked for draws all of them
        return strip


class ChartPane(Vertical):
    """A frame with a chart in it; its title carries the last values."""

    NAME = ""

    def __init__(self, store: Store, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.store = store
        self.border_title = self.NAME
        self.view = ChartView(Chart(empty="no steps yet"))
        self.throttle = RedrawThrottle(self, self._draw, min_interval=MIN_INTERVAL, cpu_share=CPU_SHARE)

    def compose(self) -> ComposeResult:
        yield self.view

    def on_resize(self) -> None:
        self.throttle.request(now=True)

    def on_show(self) -> None:
        self.throttle.request(now=True)

    def _draw(self) -> float:
        start = time.perf_counter()
        title, lines = self.curves()
        self.border_title = Content.assemble(self.NAME, *title)
        self.view.show(Chart(lines=lines, x_label="step", empty="no steps yet"))
        return self.view.cost + time.perf_counter() - start

    def curves(self) -> tuple[list[tuple[str, str]], list[Line]]:
        """Return the title's pieces with their styles, and the lines."""
        raise NotImplementedError

    def line(self, series: Series, colour: str, strength: float = 1.0, mark: str = "") -> Line:
        """Return a series as a line, reduced to what this width can show."""
        return Line(*series.reduced(self.view.columns), colour, strength, mark)


class LossChart(ChartPane):
    """Training loss of every step, faint, and the points of validation over it."""

    NAME = "Loss"

    def curves(self) -> tuple[list[tuple[str, str]], list[Line]]:
        train, val = self.store.train, self.store.val
        title = [(f"  train {format_loss(train.last[1])}", "$foreground 60%")] if train.last else []
        if val.last:
            title.append((f"  val {format_loss(val.last[1])}", "$text-accent"))
        # a cell shows the last line in it: validation is seen by its marks, training only by its dots
        return title, [self.line(val, "text-accent", mark="•"), self.line(train, "foreground", 0.5)]


class RateChart(ChartPane):
    """The learning rate of every step."""

    NAME = "Learning rate"

    def curves(self) -> tuple[list[tuple[str, str]], list[Line]]:
        rate = self.store.rate
        title = [(f"  {rate.last[1]:.2e}", "$text-primary")] if rate.last else []
        return title, [self.line(rate, "text-primary")]
