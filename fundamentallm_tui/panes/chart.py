"""A pane with a chart of curves: what keys and mouse do to it, what its title says, and when it is redrawn."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Self

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.events import MouseDown, MouseEvent, MouseMove, MouseScrollDown, MouseScrollUp, MouseUp
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Static

from fundamentallm.config.format import format_loss
from fundamentallm.errors import describe_error
from fundamentallm_tui import keys
from fundamentallm_tui.background import in_thread
from fundamentallm_tui.charts.chart import Chart, Line, Rule
from fundamentallm_tui.charts.curves import Curve
from fundamentallm_tui.charts.palette import RunStyle
from fundamentallm_tui.charts.runs import Entry
from fundamentallm_tui.charts.series import MAX_POINTS
from fundamentallm_tui.charts.view import SETTLED, X_AXES, Ruler, View, fitting_height, with_room
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.chart_view import ChartView
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.throttle import RedrawThrottle

CPU_SHARE = 0.001  # of one core, for each chart; showing the cells costs twice as much again as drawing them
MIN_INTERVAL, SLOW_INTERVAL = 0.5, 10.0  # seconds between two drawings; on a slow line, where one has kilobytes
EPOCH_DISTANCE = 5  # columns at least between two rules of epochs
EMPTY = "no steps yet"  # what it says without curves
MOST_CHANGES = 100  # markers of live changes, the newest of those in sight


class ChartPane(Vertical, can_focus=True):
    """A frame with a chart in it; its title carries the last values. Keys and mouse replace its `view`.

    A pane that is linked to another shows the same steps and has the same crosshair.
    """

    BINDINGS = keys.bindings(keys.CHART)
    commands: tuple[keys.Command, ...] = keys.CHART
    legend: Static  # below the chart
    _titling = False  # whether only the title changes

    def __init__(self, store: Store, heading: str, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.store = store
        self.heading = heading  # which the title begins with
        self.fits = True  # whether the height may leave something out
        self.format: Callable[[float], str] = format_loss  # writes a value
        self.empty = EMPTY
        self.view = View()
        self.linked: ChartPane | None = None
        self.border_title = heading
        self.canvas = ChartView(self._make)
        self.throttle = RedrawThrottle(
            self, self._draw, min_interval=MIN_INTERVAL, cpu_share=CPU_SHARE, slow_interval=SLOW_INTERVAL
        )
        self._titles = Content(heading), ""
        self._grabbed: tuple[int, View] | None = None  # the column where the mouse went down, and the view at that time

    def compose(self) -> ComposeResult:
        yield self.canvas
        yield self.legend

    def refresh(self, *regions: Region, repaint: bool = True, layout: bool = False, recompose: bool = False) -> Self:
        """As Textual does, but another title changes only the frame's first and last row, not what is within."""
        if self._titling:
            width, height = self.content_size
            regions = tuple(Region(-2, y, width + 4, 1) for y in (-1, height))
        return super().refresh(*regions, repaint=repaint, layout=layout, recompose=recompose)

    def show_view(self, view: View) -> None:
        """Show the curves so from now on; a linked pane keeps only its own height."""
        self.take_view(view)
        if (other := self.linked) is not None:
            other.take_view(replace(view, log=other.view.log, fit=other.view.fit))

    def take_view(self, view: View) -> None:
        """Draw this view, in this pane alone."""
        self.view = view
        self.throttle.request(now=True)

    # What is drawn

    @property
    def extent(self) -> tuple[float, float]:
        """The first and the last step that there is something to see of."""
        first, last = self.store.train.start, self.store.train.end
        return (0.0 if first <= last / 10 else first, last) if len(self.store.train) else (0.0, 1.0)

    @property
    def window(self) -> tuple[float, float]:
        """The first and the last step that are shown; of a run under way, seen whole, a little more than there is."""
        low, high = self.view.window(*self.extent)
        growing = self.view.span is None and self.store.under_way and len(self.store.train)
        return low, with_room(high, self.store.total_steps) if growing else high

    def curves(self) -> list[Curve]:
        """Return what is drawn, later ones over earlier ones."""
        raise NotImplementedError

    def remarks(self) -> list[tuple[str, str]]:
        """Return what the title adds to the newest values, with styles."""
        return []

    def lines(self, count: int) -> list[Line]:
        """Return the curves as lines, reduced to so many columns."""
        lines = []
        for curve in self.curves():
            ruler, low, high = self._range(curve)
            steps, ys = curve.series.reduced(count, low, high)
            ys = [curve.scale(y) for y in ys]
            lines.append(Line([ruler.x(step) for step in steps], ys, curve.colour, curve.strength, curve.mark))
        return lines

    def _range(self, curve: Curve) -> tuple[Ruler, float, float]:
        """The ruler of a curve, and the first and the last of its own steps that are shown."""
        own, (low, high) = self.ruler(), self.window
        if curve.ruler is None:
            return own, low, high
        return curve.ruler, curve.ruler.step(own.x(low)), curve.ruler.step(own.x(high))

    def ruler(self, store: Store | None = None) -> Ruler:
        """Return what turns the steps of a run, this one if None, into what x counts."""
        store = store or self.store
        match self.view.x_by:
            case "epoch" if store.history.started is not None:
                return Ruler((store.history.started.steps_per_epoch,), (1.0,))
            case "tokens":
                return Ruler(*store.tokens.points)
            case "time":
                return Ruler(*store.seconds.points)
        return Ruler((1.0,), (1.0,))

    def chart(self, count: int | None = None) -> Chart:
        """Return what is to be drawn now, with lines for so many columns; None: for those on the screen."""
        view, ruler, lines = self.view, self.ruler(), self.lines(count or self.canvas.columns)
        low, high = (ruler.x(step) for step in self.window)
        first, last = (self.store.train.start, self.store.train.end) if len(self.store.train) else self.extent
        settled = ruler.x(first + SETTLED * (last - first))
        fits = view.fit and self.fits and settled < high
        y_range = None
        if fits:
            count = sum(curve.ruler is not None for curve in self.curves())  # the other runs' come first
            y_range = fitting_height(lines[count:], max(low, settled), lines[:count])
        if view.crosshair is not None:
            for curve, point in reversed(self.readings()):
                if point is not None:
                    x = (curve.ruler or ruler).x(point[0])
                    lines.append(Line([x], [curve.scale(point[1])], curve.colour, mark="●"))
        return Chart(
            [*lines, *self.points(ruler)], view.log, (low, high), y_range, self._rules(ruler),
            None if view.crosshair is None else ruler.x(view.crosshair), view.x_by, self.empty,
        )  # fmt: skip

    def points(self, ruler: Ruler) -> list[Line]:
        """Return single points to mark over all curves."""
        ends = [(curve, curve.series.last) for curve in self.curves() if curve.sign]
        return [Line([ruler.x(end[0])], [end[1]], curve.colour, mark=curve.sign) for curve, end in ends if end]

    def readings(self) -> list[tuple[Curve, tuple[float, float] | None]]:
        """Return the curves with a name, the uppermost first: with the point at the crosshair, or the newest."""
        own, step = self.ruler(), self.view.crosshair
        named = [curve for curve in reversed(self.curves()) if curve.name is not None]
        if step is None:
            return [(curve, curve.series.last) for curve in named if curve.series.last is not None]
        return [(curve, curve.at(curve.ruler.step(own.x(step)) if curve.ruler else step)) for curve in named]

    def _rules(self, ruler: Ruler) -> list[Rule]:
        """The ends of epochs, and what was changed and saved."""
        store, (low, high) = self.store, self.window
        rules = []
        if (started := store.history.started) is not None and len(store.train):  # before a run, only its schedule
            length, columns = max(1, started.steps_per_epoch), self.canvas.columns
            crowded = (high - low) / length * EPOCH_DISTANCE / columns  # epochs for each that there is room for
            every = next(n * 10**k for k in range(20) for n in (1, 2, 3, 5) if n * 10**k >= crowded)
            first = int(low / length / every) + 1
            rules = [Rule(ruler.x(n * every * length)) for n in range(first, int(high / length / every) + 1)]
        for step, by_hand in zip(*store.saves.reduced(self.canvas.columns, low, high), strict=True):
            mark, strength = ("▲", 1.0) if by_hand else ("▴", 0.6)
            rules.append(Rule(ruler.x(step), "foreground", strength, mark, line=""))
        changes = store.history.interventions_from(ceil(low))[-MOST_CHANGES:]
        resumed = [
            start for start in store.history.starts[1:]
            if start.changes and start.step >= low and not store.history.left_behind(start.step, start.seq)
        ]  # fmt: skip
        at = [start.step for start in resumed] + [change.step for change in changes]
        return rules + [Rule(ruler.x(step), "text-warning", 0.6, "◆", "┊") for step in at]

    def _show_legend(self) -> None:
        raise NotImplementedError

    def on_resize(self) -> None:
        self._show_legend()

    def on_show(self) -> None:
        self._show_legend()

    def _draw(self) -> None:
        self._show_legend()
        self.canvas.redraw()

    def _make(self) -> Chart:
        """Return what is to be drawn now, and write its title."""
        titles = self._title(), self._subtitle()
        if titles != self._titles:
            self._titles, self._titling = titles, True
            self.border_title, self.border_subtitle = titles
            self._titling = False
        return self.chart()

    def _title(self) -> Content:
        """The newest values, or those at the crosshair; the last are left out where there is no room."""
        step = self.view.crosshair
        pieces = [] if step is None else [(f"step {step:.0f}", "$foreground")]
        for curve, point in self.readings():
            if curve.sign:
                continue
            style = "$foreground" if curve.ruler is not None else f"${curve.colour}"  # other runs' are weak for text
            pieces.append((curve.reading(point, self.format), style))
        pieces += self.remarks() if step is None else []
        room = self.size.width - 4 - len(self.heading)
        while sum(len(text) + 2 for text, _ in pieces) > room and len(pieces) > 1:
            pieces.pop(-1 if len(pieces) > 2 else 0)
        return Content.assemble(self.heading, *((f"  {text}", style) for text, style in pieces))

    def _subtitle(self) -> str:
        """How the view differs from that of a new chart."""
        view, (low, high) = self.view, self.window
        parts = [f"steps {low:.0f} to {high:.0f}"] if view.span is not None else []
        parts += ["staying"] if view.end is not None else []
        parts += ["log"] if view.log else []
        parts += ["all heights"] if self.fits and not view.fit else []
        return " · ".join(parts)

    # Keys

    def action_zoom(self, factor: float, at: float | None = None) -> None:
        self.show_view(self.view.zoomed(factor, *self.extent, at=at))

    def action_walk(self, by: int) -> None:
        """Move the crosshair by a column, to a point of validation if there is one; without it, show what is beside."""
        view, (low, high) = self.view, self.window
        if view.crosshair is None:
            return self.show_view(view.panned(by / 4, *self.extent))
        column = max(1.0, (high - low) / self.canvas.columns)
        target = view.crosshair + by * column
        near = [point[0] for series in (self.store.val, self.store.train) if (point := series.at(target))]
        ahead = [step for step in near if abs(step - target) < column and (step - view.crosshair) * by > 0]
        self._point_at(ahead[0] if ahead else target)

    def _point_at(self, step: float) -> None:
        low, high = self.window
        self.show_view(replace(self.view, crosshair=min(max(step, low), high)))

    def action_crosshair(self) -> None:
        if self.view.crosshair is not None:
            self.action_hide_crosshair()
        elif len(self.store.train):
            self._point_at(self.store.train.end)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without a crosshair to hide, escape leaves the chart."""
        return action != "hide_crosshair" or self.view.crosshair is not None

    def action_hide_crosshair(self) -> None:
        self.show_view(replace(self.view, crosshair=None))

    def action_follow(self) -> None:
        self.show_view(self.view.toggled_following(*self.extent))

    def action_reset(self) -> None:
        self.show_view(replace(self.view, span=None, end=None, crosshair=None))

    def action_log_scale(self) -> None:
        self.show_view(replace(self.view, log=not self.view.log))

    def action_x_axis(self) -> None:
        following = X_AXES.index(self.view.x_by) + 1
        self.show_view(replace(self.view, x_by=X_AXES[following % len(X_AXES)]))

    def action_fit(self) -> None:
        self.show_view(replace(self.view, fit=not self.view.fit))

    def action_smooth(self, by: int) -> None:
        self.show_view(self.view.smoothed(by))

    # Files

    @dataclass
    class Exported(Message):
        """What is seen was written into files; `text` says so."""

        text: str

    def entries(self) -> list[Entry]:
        """Return the legend of a picture: the curves of this run that the title names."""
        return [
            Entry(RunStyle(curve.colour, curve.sign or curve.mark), self._run, curve.reading(point, self.format))
            for curve, point in self.readings() if curve.ruler is None
        ]  # fmt: skip

    @property
    def _run(self) -> str:
        return clean(self.store.folder.name) if self.store.folder is not None else ""

    def action_export(self) -> None:
        """Write what is seen into files in the run's folder."""
        if self.store.folder is None or not len(self.store.train):
            self.notify("There is nothing to export yet.", severity="warning")
            return
        from fundamentallm_tui.charts.svg import POINTS, export  # here: the first picture does not need it

        at = "" if self.view.crosshair is None else f", step {self.view.crosshair:.0f}"
        path = self.store.folder / self.heading.lower().replace(" ", "-")
        title = f"{self.heading} of {self._run}{at}"
        numbers = list(self._numbers())
        write = partial(export, path, title, self.chart(POINTS), self.entries(), self.canvas.size, numbers)
        in_thread(self, write, self._exported, self._not_exported)  # a long run has many numbers

    def _exported(self, paths: list[Path]) -> None:
        text = clean(f"Exported {paths[0]}, and the same as {' and '.join(path.suffix for path in paths[1:])}")
        self.notify(text, markup=False)
        self.post_message(self.Exported(text))

    def _not_exported(self, error: Exception) -> None:
        text = clean(f"{self.store.folder}: the chart could not be exported: {describe_error(error)}")
        self.notify(text, severity="error", markup=False)

    def _numbers(self) -> Iterator[tuple[str, str, float, float, float]]:
        """Every point that is kept of what is seen: run, curve, step, x, value."""
        for curve in reversed(self.curves()):
            if curve.column:
                ruler, low, high = self._range(curve)
                for step, y in zip(*curve.series.reduced(MAX_POINTS, low, high), strict=True):
                    if low <= step <= high:
                        yield curve.run or self._run, curve.column, step, ruler.x(step), curve.scale(y)

    # Mouse

    def _step_at(self, event: MouseEvent) -> float | None:
        """The step under the mouse; None beside the curves."""
        plot, (column, row) = self.canvas.plot, event.screen_offset - self.canvas.region.offset
        if plot is None or not (plot.left <= column < plot.left + plot.columns and 0 <= row < self.canvas.size.height):
            return None
        return self.ruler().step(plot.x_at(column))

    @on(MouseScrollUp)
    @on(MouseScrollDown)
    def _scrolled(self, event: MouseScrollUp | MouseScrollDown) -> None:
        event.stop()
        self.action_zoom(0.5 if isinstance(event, MouseScrollUp) else 2.0, self._step_at(event))

    def on_mouse_down(self, event: MouseDown) -> None:
        if self._step_at(event) is not None:
            self._grabbed = event.screen_x, self.view
            self.capture_mouse()

    def on_mouse_move(self, event: MouseMove) -> None:
        if self._grabbed is not None and (moved := self._grabbed[0] - event.screen_x):
            self.show_view(self._grabbed[1].panned(moved / self.canvas.columns, *self.extent))

    def on_mouse_up(self, event: MouseUp) -> None:
        if self._grabbed is not None:
            self.release_mouse()
            column, self._grabbed = self._grabbed[0], None
            if event.screen_x == column and (step := self._step_at(event)) is not None:
                self._point_at(round(step))
