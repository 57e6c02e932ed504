"""A learning rate for the form, by a range test in a process of its own: its curve as it is measured, and what it says.

The test trains a new model with the form's settings at a rate that rises; nothing of it is kept.
"""

from collections.abc import Callable

from textual.app import ComposeResult
from textual.content import Content

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError
from fundamentallm.process.session import RateTest
from fundamentallm.run.events import Failed
from fundamentallm.run.range_test import STEPS, Point, Suggestion
from fundamentallm_tui import keys
from fundamentallm_tui.charts.chart import Chart
from fundamentallm_tui.charts.runs import range_test_chart
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.chart_view import ChartView
from fundamentallm_tui.screens.base import Page
from fundamentallm_tui.theme import FAINT

READ_INTERVAL = 0.25  # seconds between two looks at what the test reports
ABOUT = (
    "The model trains for a moment while its learning rate rises: first it is too low, and the loss hardly moves; then "
    "the loss falls; at last it diverges. Nothing of this is kept, and the rate to take is below the one that diverges."
)
FOUND = (
    "The loss (smoothed: bright) fell fastest at {:.2g}, the steepest descent ▴, where a step gains most; it was "
    "lowest at {:.2g}, beyond which it diverges. The suggestion ▲, {:g}, is {:.2g} times below that: a long run "
    "nearer to it may diverge."
)


class FindRate(Page[None]):
    """Finds a rate for a configuration."""

    table = keys.FIND_RATE
    BINDINGS = keys.bindings(keys.FIND_RATE)

    def __init__(self, config: Config, take: Callable[[dict[str, float]], None]) -> None:
        """`take` takes over the setting."""
        super().__init__(id="find_rate")
        self._config, self._take = config, take
        self._points: list[Point] = []
        self._suggestion: Suggestion | None = None
        self._problem = ""
        self._test: RateTest | None = None
        self.canvas = ChartView(self._chart)

    def compose_body(self) -> ComposeResult:
        yield self.canvas
        yield self.explanation

    def on_mount(self) -> None:
        try:
            self._test = RateTest(self._config)
        except UserError as error:
            self._problem = f"the test did not start: {error}"
        self.set_interval(READ_INTERVAL, self._read)
        self.show()

    def on_unmount(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._test is not None:
            self._test.close()
            self._test = None

    def _read(self) -> None:
        if self._test is None:
            return
        alive, received = self._test.alive, self._test.read()
        for what in received:
            match what:
                case Point():
                    self._points.append(what)
                case Suggestion():
                    self._suggestion = what
                case Failed():
                    self._problem = what.error
        if not (alive or received):
            self._problem = f"the process of the test is gone: {self._test.exit_reason}"
        if self._suggestion is not None or self._problem:
            self._end()
        if received or self._problem:
            self.show()

    def show(self) -> None:
        found, last = self._suggestion, self._points[-1] if self._points else None
        names = ", ".join(path.rpartition("/")[2] for path in self._config.data)
        about = f"{clean(names)} with {self._config.optimizer}"
        if found is not None:
            state = f"{found.learning_rate:g} is suggested for {about}"
        elif self._problem:
            state = "no suggestion"
        elif last is None:
            state = f"loading {about}"
        else:
            state = f"step {len(self._points)} of {STEPS}, rate {last.learning_rate:.2g}, loss {last.smoothed:.3f}"
        self.show_head("Learning rate", state, FAINT if found is None else "$text-success")
        text = ABOUT if found is None else FOUND.format(*vars(found).values(), found.margin)
        content = Content.styled(text, FAINT)
        if self._problem:
            content = Content.styled(f"{clean(self._problem)}.\n", "$text-error") + content
        self.explanation.update(content)
        self.canvas.redraw()
        self.refresh_bindings()

    def _chart(self) -> Chart:
        return range_test_chart(self._points, self._suggestion, ("text-primary", "text-success"))

    # What the keys do

    def possible(self) -> dict[str, object]:
        return {"take": self._suggestion}

    def action_take(self) -> None:
        if self._suggestion is not None:
            self.dismiss()
            self._take({"learning_rate": self._suggestion.learning_rate})
