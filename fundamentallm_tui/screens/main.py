"""The main screen: which panes there are, how they are brought up to date, and what the keys change in them."""

import os
from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.containers import Container

from fundamentallm.config.config import changed_while_running
from fundamentallm.errors import UserError
from fundamentallm.run.commands import Evaluate
from fundamentallm.run.describe import PLAIN
from fundamentallm.run.summary import RunSummary, find_runs
from fundamentallm_tui import keys
from fundamentallm_tui.background import in_thread
from fundamentallm_tui.charts.view import View
from fundamentallm_tui.dialogs import Answer, Question
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.bars import Footer, TabBar, takes_text
from fundamentallm_tui.panes.chart import ChartPane
from fundamentallm_tui.panes.form import Form
from fundamentallm_tui.panes.health import HealthPane
from fundamentallm_tui.panes.metrics import METRICS, LossChart, MetricChart
from fundamentallm_tui.panes.sample import SamplePane
from fundamentallm_tui.panes.status import NumbersLine, StatusLine
from fundamentallm_tui.panes.tour import Tour
from fundamentallm_tui.panes.values import without_field
from fundamentallm_tui.panes.welcome import Welcome
from fundamentallm_tui.screens.help import READING
from fundamentallm_tui.screens.live import LiveScreen
from fundamentallm_tui.state import launch
from fundamentallm_tui.state.preferences import Preferences, remember
from fundamentallm_tui.state.reader import Starter
from fundamentallm_tui.state.sampler import SamplerStarter
from fundamentallm_tui.state.store import FAILED, IDLE, INTERRUPTED

SHAPES = ("single", "stacked", "beside", "full")  # how many panes there are at once; app.tcss places them
# What app.tcss styles by the screen's classes. To restyle all others, too, took a fifth to a third of a key's time.
LAID_OUT = "#tabs, #numbers, #panes, .pane, #welcome, #loss ChartView, #hint, #prompt, #options"


class MainScreen(LiveScreen):
    """The panes around a run."""

    BINDINGS = [
        *keys.bindings(keys.MAIN),
        *keys.refusals(keys.MAIN, "files", "presets", "edit", "find_rate", "undo"),
    ]
    AUTO_FOCUS = ""  # so that letters are commands at once
    HORIZONTAL_BREAKPOINTS = [(160, "-wide")]
    VERTICAL_BREAKPOINTS = [(46, "-high")]

    def __init__(
        self, options: launch.Options, start: Starter, sample: SamplerStarter, preferences: Preferences
    ) -> None:
        super().__init__(options, start, sample)
        self._controls: object = None  # what the footer and the form were last adapted to
        self._styled_for: object = None  # the classes that the styles were last computed for
        self.loss = LossChart(self.store, self.overlays, self._loss_drawn, self.rewind, id="loss")
        self.metric = MetricChart(self.store, id="metric")
        self.charts = (self.loss, self.metric)
        self.loss.linked, self.metric.linked = self.metric, self.loss
        self.status = StatusLine(self.store, lambda: self.loss.newest, id="status")
        self.numbers = NumbersLine(self.store, lambda: self.loss.newest, id="numbers")
        self._preferences = preferences
        self.metric.show_metric(next((known for known in METRICS if known.name == preferences.metric), METRICS[0]))
        self.loss.view = self.metric.view = View(smoothing=preferences.smoothing).smoothed(0)
        self.sample = SamplePane(self.store, self.sampler, lambda: self.show_changes({"sample"}), id="sample")
        self.welcome = Welcome(READING, id="welcome")
        self.health = HealthPane(self.store, id="health")
        self.tour, self._begins_with_tour = Tour(self.store, id="tour"), options.tour
        self.tabs, self.footer = TabBar(id="tabs"), Footer(keys.MAIN, id="keys")

    def compose(self) -> ComposeResult:
        yield self.status
        yield self.tour
        yield self.tabs
        with Container(id="panes"):
            yield self.form
            with self.loss:
                yield self.welcome
            yield self.metric
            yield self.health
            yield self.log_view
            yield self.sample
        yield self.numbers
        yield self.footer

    def on_mount(self) -> None:
        self._laid_out = list(self.query(LAID_OUT))
        maximized = self._preferences.maximized
        self.maximized_pane = maximized in dict(keys.PANES)
        self._run_pane = maximized if self.maximized_pane and maximized != "config" else "loss"
        self._activate("config")
        self._form_changed()
        self.show_changes({"phase"})
        in_thread(self, find_runs, self._begin_with)  # journals may be long

    def _loss_drawn(self) -> None:
        """The lines with its numbers must not say others."""
        self.status.throttle.request(now=True)
        self.numbers.throttle.request(now=True)

    @on(ChartPane.Exported)
    def _chart_exported(self, message: ChartPane.Exported) -> None:
        self.log_line(message.text, PLAIN)

    def on_unmount(self) -> None:
        now = {
            "maximized": self.tabs.active if self.maximized_pane else "",
            "metric": self.metric.metric.name if self.metric.metric is not METRICS[0] else "",
            "smoothing": self.loss.view.smoothing,
        }
        remember(**{name: value for name, value in now.items() if value != getattr(self._preferences, name)})

    def _begin_with(self, found: list[RunSummary]) -> None:
        self._show_other_runs(found)
        if self._begins_with_tour:
            self.tour.begin()
        if text := launch.describe_live_runs(self.welcome.runs):
            self.log_line(text, "warn")

    def _show_other_runs(self, found: list[RunSummary]) -> None:
        self.welcome.runs = [run for run in found if run.folder != self.store.folder]

    # What is shown

    def show_other_run(self) -> None:
        for chart in self.charts:
            chart.throttle.hurry(always=self.store.replayed)
        self.loss.action_reset()
        self._form_changed()
        self.action_pane(self._run_pane if self.store.folder is not None else "config")
        self.show_changes({"phase", "curves", "sample"})

    def show_changes(self, changed: set[str]) -> None:
        """Bring the panes up to date, each as often as its throttle allows."""
        if lines := self.store.take_lines():
            self.log_view.write(lines)
            self.add_class("-logged")
        self.numbers.throttle.request()
        if "runs" in changed and self.store.folder is None:
            in_thread(self, find_runs, self._show_other_runs)
        if "curves" in changed:
            for chart in self.charts:  # a run that is paused does only what the user asked for
                chart.throttle.request(now=self.store.paused)
            self.health.throttle.request(now=self.store.paused)
        if "phase" in changed:
            self._show_phase()
        elif "step" in changed:
            self.status.throttle.request()
        if "sample" in changed:
            self.sample.show()
            self.status.throttle.request(now=bool(self.store.sample.file))  # which is not the run's own doing

    def _show_phase(self) -> None:
        store = self.store
        self.status.throttle.request(now=True)
        ended = "" if store.under_way else store.phase
        controls = (store.under_way, store.loaded, store.paused, store.stopping, ended, self.has_model)
        if controls != self._controls:
            self._controls = controls
            self._adapt_controls()

    def _adapt_controls(self) -> None:
        self.follow_run()
        self.adapt_layout()
        labels = {"start": launch.start_label(self.store)}
        labels["pause"] = "" if self.store.paused else "pause"  # F5 resumes, too
        labels["new_run"] = "new run" if labels["start"] != "new run" and self.check_action("new_run", ()) else ""
        self.footer.labels = labels
        self.refresh_bindings()
        self.sample.show()
        self.health.throttle.request(now=True)  # a run that was resumed may have left behind what the verdict was about
        if self.store.under_way:
            return
        if self.store.phase != IDLE:
            for chart in self.charts:
                chart.throttle.request(now=True)
        if self.store.phase in (FAILED, INTERRUPTED) and not self.has_class("-full") and not takes_text(self.focused):
            self.action_pane("log")  # which says why

    def on_resize(self) -> None:
        self.adapt_layout()

    def adapt_layout(self) -> None:
        """Give the room to what matters: before a run to the form, then to the loss, and to the form on demand."""
        run, at_form = self.store.folder is not None, self.tabs.active == "config"
        whole = not run or (at_form and (self.maximized_pane or not self.store.under_way))
        shape = shape_of(*self.size, run=run, maximized=self.maximized_pane)
        classes = {"-run": run, "-idle": not run, "-unfolded": run and whole}
        classes |= {f"-{name}": name == shape for name in SHAPES}
        self.update_classes(classes, update=False)
        if self.classes != self._styled_for:
            self._styled_for = self.classes
            self.app.stylesheet.update_nodes(self._laid_out, animate=True)
        self.form.fold(not whole)

    @on(Form.Changed)
    def _form_changed(self) -> None:
        """While there is no run, show what the form would start."""
        form, config, store = self.form, self.form.config, self.store
        if store.folder is not None:
            return
        start = ""
        if config is not None:
            store.plan(form.preset_name, config, form.run_size.steps)
            names = ", ".join(os.path.basename(path) or path for path in config.data)
            start = f"trains {form.preset_name or 'a model'} on {names}"
            if form.problems:
                missing = set(form.problems) == {"data"} and launch.missing_known_text(config.data)
                start = "offers to download the text" if missing else ""
        self.welcome.start = start
        self.status.throttle.request(now=True)
        self.metric.throttle.request(now=True)

    # Panes

    def action_tour(self) -> None:
        self.tour.begin()

    def on_screen_suspend(self) -> None:
        self.tour.look()  # at the screen that was opened: it may be closed again in a moment

    def action_blur(self) -> None:
        """Leave a text field; elsewhere end the tour, and if there is none leave the pane."""
        if takes_text(self.focused) or not self.tour.end():
            super().action_blur()

    def action_next_metric(self) -> None:
        self.metric.show_next_metric()

    def action_enter_pane(self) -> None:
        """Put the cursor into the form or the prompt; the other panes have the focus already."""
        if self.tabs.active == "config":
            self.form.fields.enter()
        elif self.tabs.active == "sample":
            self.set_focus(self.sample.prompt)

    # Live settings of the run

    def action_change(self, setting: str, factor: float, count: int) -> None:
        """Multiply a setting, and add to it."""
        if (config := self.store.expected) is None:  # the journal may be someone else's
            self.log_line(f"{setting} cannot change: its value is not known.", "warn")
            return
        value = getattr(config, setting) * factor + count
        try:
            value = float(f"{value:.6g}") if isinstance(value, float) else value
            changed_while_running(config, setting, value)
        except UserError as error:
            self.log_line(str(error), "warn")
        else:
            self.change_settings({setting: value})

    def action_evaluate(self) -> None:
        self._request("", Evaluate())

    def action_undo(self) -> None:
        """Set the setting that was changed last to its old value, whoever changed it."""
        if (change := launch.undo(self.store)) is not None:
            self.change_settings(dict([change]), undoes=True)

    def action_refuse(self, action: str) -> None:
        """Say why a key or a click does nothing."""
        what, new = keys.named(action) if action else "This field", keys.named("new_run")
        when = "first" if self.check_action("new_run", ()) else "when this one has ended"
        refusal = f"{what} is for a new run; press {new} {when}."
        self.notify(refusal if action != "undo" else "There is nothing that can be undone now.")

    # The form of a new run

    def action_files(self) -> None:
        """Choose text files for the form, beginning in the folder of those that it has."""
        from fundamentallm_tui.screens.file_picker import FilePicker  # here, because the first picture needs none

        self.app.push_screen(FilePicker(self.form.data_folder, self.form.take_values))

    def action_presets(self) -> None:
        from fundamentallm_tui.screens.presets import Presets

        self.app.push_screen(Presets(self.form))

    def action_edit(self, text: str = "") -> None:
        """Edit the form as YAML; what cannot be read can be edited again."""
        from fundamentallm_tui.screens.presets import edit_yaml

        try:
            text, layer, problem = edit_yaml(text or self.form.to_yaml(), self.app.suspend)
        except UserError as error:
            self.app.notify(clean(str(error)), severity="warning", markup=False)  # the log may be out of sight
            self.log_line(str(error), "warn")
            return
        self.app.refresh(layout=True)
        if not problem:
            self.form.take_values(layer.values)
            problem = "\n".join(without_field(layer))
        if problem:
            again = Answer("e", "Edit it again", partial(self.action_edit, text))
            leave = Answer("c", "Leave it; the form keeps the rest")
            self.app.push_screen(Question("The settings as YAML", clean(problem, newlines=True), again, leave))


def shape_of(width: int, height: int, *, run: bool, maximized: bool) -> str:
    """Return which of SHAPES a terminal has room for."""
    if maximized or (width < 110 and (height < 30 or not run)):
        return "single"
    if width < 110:
        return "stacked"
    return "beside" if height < 30 else "full"
