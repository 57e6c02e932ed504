"""The loss chart, and the chart of one other metric at a time: which curves each shows."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import exp, isfinite

from textual.content import Content
from textual.widgets import Static

from fundamentallm.config.format import format_digits, format_loss, format_memory, format_norm, format_rate, wrap
from fundamentallm.config.schedule import configured_rate
from fundamentallm.run.describe import describe_best
from fundamentallm_tui import keys
from fundamentallm_tui.charts.chart import Chart, Line
from fundamentallm_tui.charts.curves import Curve, inspection_cost, layer_curves
from fundamentallm_tui.charts.runs import Entry, run_entry
from fundamentallm_tui.charts.view import Ruler, View
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.chart import EMPTY, ChartPane
from fundamentallm_tui.panes.legend import Legend, layer_legend
from fundamentallm_tui.state.overlays import Overlay, Overlays
from fundamentallm_tui.state.store import FINISHED, Store
from fundamentallm_tui.theme import FAINT
from fundamentallm_tui.throttle import is_visible

LEAST_HEIGHT = 10  # rows that a legend leaves the chart


class LossChart(ChartPane):
    """Training loss of every step and smoothed, and the points of validation over it, of which the best is marked."""

    BINDINGS = keys.bindings(keys.LOSS)
    commands = keys.LOSS
    legend: Legend

    def __init__(
        self, store: Store, overlays: Overlays, drawn: Callable[[], None], rewind: Callable[[int], None], *, id: str
    ) -> None:
        """`drawn` is called when the title has newer values, `rewind` with the step that the user wants back."""
        super().__init__(store, "Loss", id=id)
        self._overlays, self._drawn, self._rewind = overlays, drawn, rewind
        self.legend = Legend(self.hide_row)
        self._newest = ""

    @property
    def newest(self) -> str:
        """The newest training loss as the title writes it, which changes only when the chart is drawn."""
        if self.view.crosshair is not None or not is_visible(self):
            self._read_newest()
        return self._newest

    def _read_newest(self) -> bool:
        """Read it anew; return whether it is another one."""
        curve, before = loss_curves(self.store, replace(self.view, crosshair=None))[-1], self._newest
        self._newest = curve.reading(curve.series.last, format_loss)
        return self._newest != before

    def beside(self) -> list[Overlay]:
        """Return the runs that lie over this one, hidden ones included."""
        return self._overlays.beside(self.store.folder)

    @property
    def extent(self) -> tuple[float, float]:
        """From where the first run begins, and as far as the longest goes; a part that follows, as far as this one."""
        first, last = super().extent
        if self.view.span is None or self.view.end is not None:
            own = self.ruler()
            stores = [run.store for run in self.beside() if not run.hidden and len(run.store.train)]
            last = max([last, *(own.step(self.ruler(store).x(store.train.end)) for store in stores)])
            first = min([first, *(own.step(self.ruler(store).x(store.train.start)) for store in stores)])
            first = 0.0 if first <= last / 10 else first
        return first, last

    def curves(self) -> list[Curve]:
        # a cell shows the last line in it: validation is seen by its marks, training only by its dots
        return [*self._overlaid(), *loss_curves(self.store, self.view)]

    def _overlaid(self) -> list[Curve]:
        """Training, smoothed, and validation of the other runs; the title reads it off where there is no legend."""
        curves = []
        read = self.view.crosshair is not None and not self.legend.display
        for run in reversed(self.beside()):
            if not run.hidden:
                style, store, ruler, end = run.style, run.store, self.ruler(run.store), run.store.train.end
                smoothed = store.smoothed.get(self.view.smoothing, store.train)
                name, run_name = style.mark if read else None, clean(run.folder.name)
                column = "train_loss" if smoothed is store.train else "train_loss_smoothed"
                curves += [
                    Curve(None, smoothed, style.colour, ruler=ruler, column=column, run=run_name),
                    Curve(name, store.val, style.colour, 1.0, style.mark, float, ruler, "val_loss", run_name, end),
                ]
        return curves

    def _make(self) -> Chart:
        if self._read_newest():
            self.call_later(self._drawn)
        return super()._make()

    def _show_legend(self) -> None:
        self.set_class(bool(self.beside()), "-overlaid")
        entries = {run: self._entry(run) for run in self.beside()}
        shared = Counter(change for entry in entries.values() for change in entry.changes)
        for run, entry in entries.items():  # what tells a run from the others comes first
            entries[run] = replace(entry, changes=tuple(sorted(entry.changes, key=shared.__getitem__)))
        seen, hidden = ([entry for run, entry in entries.items() if run.hidden == is_hidden] for is_hidden in (0, 1))
        width, height = self.content_size
        self.legend.show(seen, hidden, width, min(height // 4, height - LEAST_HEIGHT))

    def _entry(self, run: Overlay) -> Entry:
        """The row of another run, which reads it off at the crosshair if there is one.

        It says how the run differs from the one that is shown, or without one, from the first of them.
        """
        shown = self.store if self.store.history.started is not None else self.beside()[0].store
        entry, step = run_entry(run.folder, run.style, run.store.history, shown.history), self.view.crosshair
        if step is None:
            return entry
        step = self.ruler(run.store).step(self.ruler().x(step))
        curves = [curve for curve in loss_curves(run.store, replace(self.view, crosshair=None)) if curve.name]
        return replace(entry, last="  ".join(curve.reading(curve.at(step), format_loss) for curve in curves))

    def entries(self) -> list[Entry]:
        history = self.store.history
        text = f"best {describe_best(history.best, history.best_left_behind)}" if history.best is not None else ""
        own = [replace(entry, best=text if entry.style.mark else "") for entry in super().entries()]
        return own + [self._entry(run) for run in self.beside() if not run.hidden]

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None for what cannot be done now: the footer dims the key."""
        impossible = action == "hide" and not self.beside()
        impossible |= action == "rewind" and (self.view.crosshair is None or self.store.folder is None)
        return None if impossible else super().check_action(action, parameters)

    def show_view(self, view: View) -> None:
        crosshair = self.view.crosshair is None
        super().show_view(view)
        if crosshair != (view.crosshair is None):
            self.refresh_bindings()  # with a crosshair, the footer offers to rewind

    def take_view(self, view: View) -> None:
        super().take_view(view)
        if not is_visible(self) and self._read_newest():  # the lines below and above show it all the same
            self._drawn()

    def action_rewind(self) -> None:
        if self.view.crosshair is not None:
            self._rewind(round(self.view.crosshair))

    def action_hide(self) -> None:
        self._overlays.hide_next(self.store.folder)
        self.throttle.request(now=True)

    def hide_row(self, row: int) -> None:
        """Hide the run in a row of the legend, or show it again."""
        runs = sorted(self.beside(), key=lambda run: run.hidden)  # as they stand in the legend
        for run in runs[row : row + 1]:  # none where a run is no longer overlaid
            run.hidden = not run.hidden
        self.throttle.request(now=True)

    def remarks(self) -> list[tuple[str, str]]:
        best = self.store.history.best
        pieces = [] if best is None else [(f"best {format_loss(best.val_loss)}", "$text-success")]
        return pieces + ([(f"smoothing {self.view.smoothing:g}", FAINT)] if len(self.store.train) else [])

    def points(self, ruler: Ruler) -> list[Line]:
        best = self.store.history.best
        if best is None:
            return []
        return [Line([ruler.x(best.step)], [best.val_loss], "text-success", mark="★", label=format_loss(best.val_loss))]


def loss_curves(store: Store, view: View, unit: str = "loss", scale: Callable[[float], float] = float) -> list[Curve]:
    """Return the losses of a run, scaled to a unit; later ones lie over earlier ones, and marks over all."""
    val = Curve("val", store.val, "text-accent", mark="•", scale=scale, column=f"val_{unit}", end=store.train.end)
    smoothed = store.smoothed.get(view.smoothing)
    if smoothed is None:
        return [val, Curve("train", store.train, "text-primary", scale=scale, column=f"train_{unit}")]
    read, column = view.crosshair is not None, f"train_{unit}"
    raw = Curve("train" if read else None, store.train, "text-primary", 0.45, scale=scale, column=column)
    mean = Curve("mean" if read else "train", smoothed, "text-primary", scale=scale, column=f"{column}_smoothed")
    return [raw, val, mean]


@dataclass(frozen=True)
class Metric:
    """What the metric chart can show: its name, the store's series, the name in files, and how a value is written.

    `by_layer`: `column` is one of the events that inspect the layers, and `about` says what the curves are.
    """

    name: str
    series: str
    column: str
    format: Callable[[float], str]
    fits: bool = True
    by_layer: bool = False
    about: str = ""


ABOUT_GRADIENT = (
    "Each curve is a part of the model, and how strongly the last batch pulls at its weights. A part whose curve falls "
    "to nothing no longer learns; one that grows alone may soon diverge."
)
ABOUT_WEIGHTS = (
    "Each curve is a part of the model, and how large its weights are, all taken together. They grow while the model "
    "learns and should level off; growth that gets faster and faster comes before a loss that jumps."
)
ABOUT_UPDATE = (
    "Each curve is a part of the model, and how much of its weights a step changes. A part far below the others hardly "
    "learns; one far above them may soon diverge."
)

METRICS = (
    Metric("Learning rate", "rate", "learning_rate", "{:.3g}".format, fits=False),
    Metric("Gradient norm", "norm", "grad_norm", format_norm),
    Metric("Tokens a second", "speed", "tokens_per_second", format_rate),
    Metric("Perplexity", "", "", format_loss),
    Metric("Memory", "memory", "memory_mib", lambda mib: format_memory(mib * 2**20), fits=False),
    Metric("Gradient norm by layer", "", "grad_norm", partial(format_digits, digits=2), True, True, ABOUT_GRADIENT),
    Metric("Weight norm by layer", "", "weight_norm", format_norm, True, True, ABOUT_WEIGHTS),
    Metric("Update-to-weight ratio", "", "update_ratio", "{:.1e}".format, True, True, ABOUT_UPDATE),
)
NOT_INSPECTED = "not measured (inspect_every)"
ROOM_FOR_ABOUT = 14  # rows of the pane


class MetricChart(ChartPane):
    """One metric at a time, by step; of the learning rate also what the schedule still has to come."""

    def __init__(self, store: Store, *, id: str) -> None:
        super().__init__(store, METRICS[0].name, id=id)
        self.legend = Static(classes="layers")
        self.legend.display = False
        self._layers: tuple[object, list[Curve]] = None, []  # what for, and the curves
        self._legend_of: object = None
        self.show_metric(METRICS[0])

    def show_metric(self, metric: Metric) -> None:
        """Show this one from now on."""
        self.metric, self.heading, self.fits = metric, metric.name, metric.fits
        self.format, self.empty = metric.format, NOT_INSPECTED if metric.by_layer else EMPTY
        self.throttle.request(now=True)

    def show_next_metric(self) -> None:
        """Show the next metric; those of the layers only where they were measured."""
        offered = [known for known in METRICS if self.store.history.inspected or not known.by_layer]
        place = offered.index(self.metric) if self.metric in offered else -1
        self.show_metric(offered[(place + 1) % len(offered)])

    @property
    def window(self) -> tuple[float, float]:
        low, high = super().window
        return low, high if self.view.span is not None else max(high, self._scheduled)

    @property
    def _scheduled(self) -> int:
        """The last step whose learning rate is known beforehand and not yet in use; 0 where there is none."""
        store = self.store
        shown = self.metric.series == "rate" and store.config is not None and store.phase != FINISHED
        return store.total_steps if shown else 0

    def curves(self) -> list[Curve]:
        if self.metric.by_layer:
            inspected = self.store.history.inspected
            of = self.metric, len(inspected), *(event.seq for event in (*inspected[:1], *inspected[-1:]))
            if of != self._layers[0]:
                self._layers = of, layer_curves(inspected, self.metric.column)
            return self._layers[1]
        if not self.metric.series:
            return loss_curves(self.store, self.view, "perplexity", _perplexity)
        return [Curve("", getattr(self.store, self.metric.series), "text-primary", column=self.metric.column)]

    def lines(self, count: int) -> list[Line]:
        lines, ruler, config, last = super().lines(count), self.ruler(), self.store.config, self._scheduled
        (low, high), step = self.window, self.store.step
        low, high = max(low, step), min(high, last)
        if config is not None and high > low:
            steps = [low + (high - low) * n / count for n in range(count + 1)]
            rates = [configured_rate(config, last, max(0, round(step) - 1)) for step in steps]
            lines.append(Line([ruler.x(step) for step in steps], rates, "text-primary", dotted=True))
        return lines

    # The layers have a legend, and below stands what measuring them costs

    def _show_legend(self) -> None:
        read = reversed(self.readings()) if self.metric.by_layer else ()
        entries = [(curve, curve.reading(point, self.format)) for curve, point in read]
        width, height = self.content_size
        if (self.metric, entries, width, height) != self._legend_of:
            self._legend_of = self.metric, entries, width, height
            self.legend.display = bool(entries)
            about = ("\n".join(["", *wrap(self.metric.about, width)]), FAINT) if height >= ROOM_FOR_ABOUT else ""
            self.legend.update(Content.assemble(layer_legend(entries, width, height // 3 + 1), about))

    def _subtitle(self) -> str:
        seconds = Ruler(*self.store.seconds.points)
        cost = inspection_cost(self.store.history.inspected, seconds) if self.metric.by_layer else ""
        return " · ".join(filter(None, (super()._subtitle(), cost)))


def _perplexity(loss: float) -> float:
    return exp(min(loss, 230.0)) if isfinite(loss) else loss  # beyond 1e100 nothing is drawn
