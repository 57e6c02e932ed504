"""The console's chart panes: which curves each shows, and when it is redrawn."""

import time
from dataclasses import dataclass, replace

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from fundamentallm.config.format import format_loss
from fundamentallm_tui import keys
from fundamentallm_tui.charts.chart import GUTTER, Chart, Line, draw
from fundamentallm_tui.charts.series import Series
from fundamentallm_tui.charts.view import View
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


@dataclass(frozen=True)
class Curve:
    """A series, and how it is drawn and read off.

    Attributes:
        name: as the crosshair's reading calls it; empty: it is not read.
        colour, strength, mark: as those of a `Line`.
    """

    name: str
    series: Series
    colour: str
    strength: float = 1.0
    mark: str = ""


class ChartPane(Vertical, can_focus=True):
    """A frame with a chart in it; its title carries the last values. Keys and mouse replace its `view`.

    Panes that are linked show the same steps and have one crosshair.
    """

    NAME = ""
    BINDINGS = keys.bindings(keys.CHART)
    commands = keys.CHART

    def __init__(self, store: Store, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.store = store
        self.view = View()
        self.linked: tuple[ChartPane, ...] = ()
        self.border_title = self.NAME
        self.canvas = ChartView(Chart(empty="no steps yet"))
        self.throttle = RedrawThrottle(self, self._draw, min_interval=MIN_INTERVAL, cpu_share=CPU_SHARE)

    def compose(self) -> ComposeResult:
        yield self.canvas

    def on_resize(self) -> None:
        self.throttle.request(now=True)

    def on_show(self) -> None:
        self.throttle.request(now=True)

    def show_view(self, view: View) -> None:
        """Show the curves so from now on; linked panes keep only their own height."""
        for pane in (self, *self.linked):
            pane.view = view if pane is self else replace(view, log=pane.view.log, fit=pane.view.fit)
            pane.throttle.request(now=True)

    # What is drawn

    @property
    def extent(self) -> tuple[float, float]:
        """The first and the last step that there is something to see of."""
        first, last = self.store.train.start, self.store.train.end
        return (0.0 if first <= last / 10 else first, last) if len(self.store.train) else (0.0, 1.0)

    def curves(self) -> list[Curve]:
        """Return what is drawn, later ones over earlier ones."""
        raise NotImplementedError

    def title(self) -> list[tuple[str, str]]:
        """Return the pieces of the title with their styles."""
        raise NotImplementedError

    def lines(self) -> list[Line]:
        """Return the curves as lines, reduced to what this width can show."""
        window = self.view.window(*self.extent)
        return [
            Line(*curve.series.reduced(self.canvas.columns, *window), curve.colour, curve.strength, curve.mark)
            for curve in self.curves()
        ]

    def _draw(self) -> float:
        start = time.perf_counter()
        self.border_title = Content.assemble(self.NAME, *self.title())
        self.canvas.show(Chart(lines=self.lines(), log=self.view.log, x_label="step", empty="no steps yet"))
        return self.canvas.cost + time.perf_counter() - start

    # Keys

    def action_zoom(self, factor: float) -> None:
        self.show_view(self.view.zoomed(factor, *self.extent))

    def action_walk(self, by: int) -> None:
        """Move the crosshair by a column; without one, show what lies beside."""
        view, extent = self.view, self.extent
        if view.crosshair is None:
            return self.show_view(view.panned(by / 4, *extent))
        low, high = view.window(*extent)
        at = view.crosshair + by * (high - low) / (self.canvas.columns / 2)
        self.show_view(replace(view, crosshair=min(max(at, low), high)))

    def action_crosshair(self) -> None:
        _, high = self.view.window(*self.extent)
        self.show_view(replace(self.view, crosshair=high if self.view.crosshair is None else None))

    def action_follow(self) -> None:
        self.show_view(self.view.toggled_following(*self.extent))

    def action_reset(self) -> None:
        self.show_view(replace(self.view, span=None, end=None, crosshair=None))

    def action_log_scale(self) -> None:
        self.show_view(replace(self.view, log=not self.view.log))

    def action_x_axis(self) -> None:
        self.show_view(self.view.by_next_axis())

    def action_fit(self) -> None:
        self.show_view(replace(self.view, fit=not self.view.fit))

    def action_smooth(self, by: int) -> None:
        self.show_view(self.view.smoothed(by))


class LossChart(ChartPane):
    """Training loss of every step, and the points of validation over it."""

    NAME = "Loss"

    def curves(self) -> list[Curve]:
        # a cell shows the last line in it: validation is seen by its marks, training only by its dots
        return [
            Curve("val", self.store.val, "text-accent", mark="•"),
            Curve("train", self.store.train, "foreground", 0.6),
        ]

    def title(self) -> list[tuple[str, str]]:
        train, val = self.store.train, self.store.val
        title = [(f"  train {format_loss(train.last[1])}", "$foreground 60%")] if train.last else []
        if val.last:
            title.append((f"  val {format_loss(val.last[1])}", "$text-accent"))
        return title


class MetricChart(ChartPane):
    """One of the other metrics of every step."""

    NAME = "Learning rate"

    def curves(self) -> list[Curve]:
        return [Curve("learning rate", self.store.rate, "text-primary")]

    def title(self) -> list[tuple[str, str]]:
        rate = self.store.rate
        return [(f"  {rate.last[1]:.2e}", "$text-primary")] if rate.last else []


def link(*panes: ChartPane) -> None:
    """Let these panes show the same steps."""
    for pane in panes:
        pane.linked = tuple(other for other in panes if other is not pane)
