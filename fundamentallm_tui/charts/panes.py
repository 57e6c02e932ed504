"""Which curves each chart shows, and when they are drawn anew."""

import time

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.strip import Strip

from fundamentallm_tui.charts.chart import Chart, ChartView, Line
from fundamentallm_tui.charts.series import Series
from fundamentallm_tui.format import loss
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.throttle import RedrawThrottle

SHARE = 0.003  # of one core, for each chart; showing the cells costs as much again as drawing them
LEAST = 0.5  # seconds between two drawings


class TimedChart(ChartView):
    """A chart that knows what it costs."""

    cost = 0.0  # seconds that the last picture took

    def render_line(self, y: int) -> Strip:
        start = time.perf_counter()
        strip = super().render_line(y)
        took = time.perf_counter() - start
        self.cost = took if y == 0 else self.cost + took  # the first row asked for draws all of them
        return strip


class ChartPane(Vertical):
    """A frame with a chart in it; its title carries the last values."""

    NAME = ""

    def __init__(self, store: Store, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.store = store
        self.border_title = self.NAME
        self.view = TimedChart(Chart(empty="no steps yet"))
        self.pace = RedrawThrottle(self, self._draw, least=LEAST, share=SHARE)

    def compose(self) -> ComposeResult:
        yield self.view

    def on_resize(self) -> None:
        self.pace.ask(now=True)

    def on_show(self) -> None:
        self.pace.ask(now=True)

    def _draw(self) -> float:
        start = time.perf_counter()
        title, lines = self.curves()
        self.border_title = Content.assemble(self.NAME, *title)
        self.view.show(Chart(lines=lines, x_label="step", empty="no steps yet"))
        return self.view.cost + time.perf_counter() - start

    def curves(self) -> tuple[list[tuple[str, str]], list[Line]]:
        """The title's pieces with their styles, and the lines."""
        raise NotImplementedError

    def line(self, series: Series, colour: str, strength: float = 1.0, *, points: bool = False) -> Line:
        """A series, reduced to what this width can show."""
        xs, ys = series.reduced(self.view.columns)
        return Line(xs, ys, colour, strength, points)


class LossChart(ChartPane):
    """Training loss of every step, faint, and the points of validation over it."""

    NAME = "Loss"

    def curves(self) -> tuple[list[tuple[str, str]], list[Line]]:
        train, val = self.store.train, self.store.val
        title = [(f"  train {loss(train.last[1])}", "$foreground 60%")] if train.last else []
        if val.last:
            title.append((f"  val {loss(val.last[1])}", "$text-accent"))
        # a cell shows the last line in it: validation is seen by its points, training only by its dots
        return title, [self.line(val, "text-accent", points=True), self.line(train, "foreground", 0.5)]


class RateChart(ChartPane):
    """The learning rate of every step."""

    NAME = "Learning rate"

    def curves(self) -> tuple[list[tuple[str, str]], list[Line]]:
        rate = self.store.rate
        title = [(f"  {rate.last[1]:.2e}", "$text-primary")] if rate.last else []
        return title, [self.line(rate, "text-primary")]
