"""The widget that shows a `Chart`, drawn once for each chart, size and theme."""

import time

from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from fundamentallm_tui.charts.chart import GUTTER, Chart, Plot, draw, lay_out
from fundamentallm_tui.theme import Styles


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
        """How many columns to reduce a series to before it is shown here: each keeps its lowest and highest point."""
        return max(1, self.size.width - GUTTER - 1)

    @property
    def plot(self) -> Plot | None:
        """Where the curves lie; None while there are none."""
        return lay_out(self._chart, self.size.width, self.size.height)

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
            # without a base style under the cells, light themes would show dark boxes
            style = self.rich_style
            self._drawn = [Strip(row, self.size.width).simplify().apply_style(style) for row in rows]
        strip = self._drawn[y] if y < len(self._drawn) else Strip.blank(self.size.width, self.rich_style)
        seconds = time.perf_counter() - start
        self.cost = seconds if y == 0 else self.cost + seconds  # the first row asked for draws all of them
        return strip
