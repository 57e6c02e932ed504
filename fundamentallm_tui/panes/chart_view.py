"""The widget that shows a `Chart`, drawn once for each chart, size and theme."""

from collections.abc import Callable

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from fundamentallm_tui.charts.chart import GUTTER, Chart, Plot, draw, lay_out
from fundamentallm_tui.theme import Styles


class ChartView(Widget):
    """Shows a `Chart`; `make` returns the one to show now."""

    DEFAULT_CSS = "ChartView { width: 1fr; height: 1fr; }"
    ALLOW_SELECT = False

    def __init__(self, make: Callable[[], Chart]) -> None:
        super().__init__()
        self._make = make
        self._chart = Chart()
        self._rows: list[list[Segment]] = []
        self._drawn_for: Size | None = None  # None: the chart may be another now
        self._styles = Styles(self)

    @property
    def columns(self) -> int:
        """How many columns to reduce a series to before it is shown here: each keeps its lowest and highest point."""
        return max(1, self.size.width - GUTTER - 1)

    @property
    def plot(self) -> Plot | None:
        """Where the curves lie; None while there are none."""
        return lay_out(self._chart, self.size.width, self.size.height)

    def redraw(self) -> None:
        """Show what `make` returns now. What did not change is not written to the terminal again."""
        before, drawn_for = self._rows, self._drawn_for
        self._draw()
        if drawn_for == self.size:
            pairs = enumerate(zip(before, self._rows, strict=True))
            changed = [Region(0, y, self.size.width, 1) for y, (old, new) in pairs if old != new]
        else:
            changed = [self.size.region]
        if changed:
            self.refresh(*changed)

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, self._change_theme)

    def _change_theme(self, _theme: object) -> None:
        self._drawn_for = None
        self.refresh()

    def on_hide(self) -> None:
        self._drawn_for = None  # nothing is drawn until it is shown again

    def on_show(self) -> None:
        if self._drawn_for is None:  # shown again before it was told that it was hidden
            self.refresh()

    def _draw(self) -> None:
        chart, size = self._make(), self.size
        if chart != self._chart or size != self._drawn_for:
            self._chart, self._drawn_for = chart, size
            paper = self.rich_style  # without which, under the cells, light themes would show dark boxes

            def ink(colour: str, strength: float = 1.0) -> Style:
                return paper + self._styles(colour, strength)

            self._rows = draw(chart, size.width, size.height, ink, paper)

    def render_line(self, y: int) -> Strip:
        if self._drawn_for != self.size:
            self._draw()
        if y >= len(self._rows):
            return Strip.blank(self.size.width, self.rich_style)
        return Strip(self._rows[y], self.size.width)
