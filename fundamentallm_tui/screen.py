"""The main screen: the panes, what the keys do to the run, and what the run does to the panes."""

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.screen import Screen
from textual.timer import Timer

from fundamentallm.commands import CancelSample, Command, Pause, Resume, Save, Stop
from fundamentallm.config import SETTINGS, Config, ConfigError
from fundamentallm.errors import UserError
from fundamentallm.job import Job
from fundamentallm_tui import keys, story
from fundamentallm_tui.bars import KeyBar, TabBar
from fundamentallm_tui.charts import LossChart, RateChart
from fundamentallm_tui.fetching import Fetch, missing_corpus
from fundamentallm_tui.form import Form, field_of
from fundamentallm_tui.help import Help
from fundamentallm_tui.launch import Options, by_setting, goes_on_from, next_job
from fundamentallm_tui.link import Gone, Link, News, SessionLike, Starter
from fundamentallm_tui.log import LogView
from fundamentallm_tui.pace import Pace
from fundamentallm_tui.sample import WAITING, SamplePane
from fundamentallm_tui.status import StatusLine
from fundamentallm_tui.store import FINISHED, IDLE, PASSING, UNSEEN, Store


class MainScreen(Screen[None]):
    """Asks the run for things, and shows what the store knows."""

    BINDINGS = keys.bindings()
    AUTO_FOCUS = ""  # letters act at once
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-roomy"), (160, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall"), (46, "-high")]

    def __init__(self, options: Options, config: Config, start: Starter) -> None:
        super().__init__()
        self.store = Store()
        self.link: Link | None = None
        self.quitting = False
        self._start = start
        self._unsent: list[Command] = []  # asked for while the process is being started
        self._look_again: Timer | None = None
        self._state: object = None
        self.status = StatusLine(self.store, id="status")
        self.form = Form(options, config, id="config")
        self.log_view = LogView(id="log")
        self.loss = LossChart(self.store, id="loss")
        self.rate = RateChart(self.store, id="rate")
        self.sample = SamplePane(self.store, id="sample")
        self.tabs, self.bar = TabBar(id="tabs"), KeyBar(id="keys")
        self._status_pace = Pace(self.status, self._draw_status, least=0.5, share=0.01)

    def compose(self) -> ComposeResult:
        yield self.status
        yield self.tabs
        with Horizontal(id="upper", classes="half"):
            yield self.form
            yield self.loss
            yield self.rate
        with Horizontal(id="lower", classes="half"):
            yield self.log_view
            yield self.sample
        yield self.bar

    def on_mount(self) -> None:
        self.log_view.border_title = "Log"
        self.log_view.add_class("pane")
        self._activate("config")
        self.store.name = self.form.label
        self.store.epochs = self.form.config.epochs if self.form.config else 0
        self.set_interval(1.0, self._tick)
        self.show_changes({"phase"})

    # What can be done

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """True: it can be done. None: not now, and the footer says so."""
        store = self.store
        can = {
            "start": not store.under_way or store.paused,
            "pause": store.under_way and store.started is not None and not store.stopping,
            "save": store.under_way and store.started is not None and not store.stopping,
            "stop": store.under_way and not store.stopping,
        }
        return can.get(action, True) or None

    @property
    def has_model(self) -> bool:
        """Whether a worker is there that can be asked for a sample."""
        return self.link is not None and self.link.alive and self.store.started is not None

    def action_start(self) -> None:
        if self.store.paused:
            self._ask("training", Resume())
            return
        config = self.form.config
        if config is not None and goes_on_from(self.store) is None and (corpus := missing_corpus(config.data)):
            self.app.push_screen(Fetch(corpus), self._fetched)
            return
        if config is None or self.form.problems:
            self.action_pane("config")
            self.form.to_problem()
            return
        try:
            job = next_job(self.store, config, self.form.label)
        except ConfigError as error:
            self.form.show_problems(by_setting(error))
            self.form.to_problem()
            return
        if self.link is not None:
            self.link.leave()
            self.link = None
        self.store.begin(job.folder, self.form.label, config, goes_on=job.resume_from is not None)
        self.store.total_steps = self.form.total_steps or self.store.total_steps
        self._hurry()
        self.show_changes({"phase", "curves"})
        self._launch(job)

    def _fetched(self, there: bool | None) -> None:
        if there:
            self.form.text_came()
            self.action_start()

    def action_pause(self) -> None:
        if self.store.paused:
            self._ask("training", Resume())
        else:
            self._ask("pausing", Pause())

    def action_save(self) -> None:
        self._ask("", Save())

    def action_stop(self) -> None:
        self._ask("stopping", Stop())

    def action_prompt(self) -> None:
        self._activate("sample")
        self.sample.prompt.focus()

    def action_help(self) -> None:
        self.app.push_screen(Help())

    def action_new_run(self) -> None:
        """Let go of the run that rests: the next start makes a new one."""
        if self.link is not None:
            self.link.leave()
            self.link = None
        self.store.new_run()
        self.show_changes({"phase", "curves", "sample"})

    def action_pane(self, name: str) -> None:
        """Show a pane and let the keyboard scroll or fill it."""
        self._activate(name)
        if name == "config" and not self.store.under_way:
            self.form.fields.enter()
        else:
            self.set_focus({"log": self.log_view, "sample": self.sample.prompt}.get(name))

    def action_next_pane(self, by: int) -> None:
        names = [name for name, _ in keys.PANES]
        self._activate(names[(names.index(self.tabs.active) + by) % len(names)])
        self.set_focus(None)

    def action_leave_field(self) -> None:
        self.set_focus(None)

    def _ask(self, wanted: str, command: Command) -> None:
        """Tell the run something, and show at once that it was told."""
        if wanted:
            self.store.want(wanted)
        if self.link is not None:
            self.link.send(command)
        else:
            self._unsent.append(command)
        self.show_changes({"phase"})

    @on(Form.Changed)
    def _form_changed(self) -> None:
        """While no run is there, the status line shows what the form would start."""
        config, store = self.form.config, self.store
        if store.folder is None and config is not None:
            store.name = self.form.label
            store.epochs, store.total_steps = config.epochs, self.form.total_steps
            self._status_pace.ask(now=True)

    @on(SamplePane.Asked)
    def _sample(self, event: SamplePane.Asked) -> None:
        if not self.has_model or self.link is None:
            self.sample.refuse(WAITING if self.store.under_way else "There is no model to ask. F5 starts a run.")
            return
        if not self.store.sample.done:
            self.link.send(CancelSample(sample=self.store.sample.id))
        self.store.ask(event.command.id, event.command.prompt)
        self.link.send(event.command)
        self.sample.show()

    def _hurry(self) -> None:
        for chart in (self.loss, self.rate):
            chart.pace.hurry()

    # A run's process

    @work(thread=True)
    def _launch(self, job: Job) -> None:
        """Start the process; it reads the text first to see what is wrong with it, so not on the screen's thread."""
        try:
            session = self._start(job)
        except (UserError, OSError) as error:
            self.app.call_from_thread(self._not_started, str(error))
        else:
            self.app.call_from_thread(self._started, session)

    def _started(self, session: SessionLike) -> None:
        self.link = Link(session, self.post_message)
        for command in self._unsent:
            self.link.send(command)
        self._unsent.clear()

    def _not_started(self, problem: str) -> None:
        self._unsent.clear()
        self.store.new_run()
        self.store.say(problem, story.BAD)
        self.show_changes({"phase", "log"})
        self.form.show_problems({field_of(problem): problem})
        self.action_pane("config")
        self.form.to_problem()

    @on(News)
    def _news(self, news: News) -> None:
        if news.link is self.link:
            self.show_changes(self.store.apply(news.events))

    @on(Gone)
    def _gone(self, gone: Gone) -> None:
        if gone.link is self.link:
            self.show_changes(self.store.died(gone.end, gone.tail))

    # What is shown

    def show_changes(self, changed: set[str]) -> None:
        """Bring the panes up to date, each at its own pace."""
        self.log_view.write(self.store.take_lines())
        if "curves" in changed:
            self.loss.pace.ask()
            self.rate.pace.ask()
        if "phase" in changed:
            self._phase_changed()
        elif "step" in changed:
            self._status_pace.ask()
        if "sample" in changed:
            self.sample.show(self.has_model)

    def _phase_changed(self) -> None:
        store = self.store
        self._status_pace.ask(now=True)
        if store.phase in PASSING and self._look_again is None:
            self._look_again = self.set_timer(UNSEEN, self._passing)
        state = (
            store.under_way,
            store.paused,
            store.stopping,
            store.phase if not store.under_way else "",
            self.has_model,
        )
        if state == self._state:
            return
        self._state = state
        going_on = goes_on_from(store) is not None
        fixed = {name for name, row in SETTINGS.items() if row.fixed or name in ("data", "output_dir")}
        self.form.make_read_only(
            set(SETTINGS) if store.under_way else fixed if going_on else set(), preset=store.under_way or going_on
        )
        start = (
            "resume"
            if store.paused and store.under_way
            else "go on"
            if going_on
            else "new run"
            if store.phase == FINISHED
            else "start"
        )
        self.bar.show({"start": start, "pause": "resume" if store.paused else "pause"})
        self.refresh_bindings()
        self.sample.show(self.has_model)
        if not store.under_way and store.phase != IDLE:
            self.loss.pace.ask(now=True)
            self.rate.pace.ask(now=True)
        if not store.under_way and self.quitting:
            self.app.exit(return_code=0)

    def _passing(self) -> None:
        self._look_again = None
        self._status_pace.ask(now=True)

    def _tick(self) -> None:
        if self.store.under_way and not self.store.paused:
            self._status_pace.ask()

    def _draw_status(self) -> float:
        self.status.refresh()
        return 0.0

    def _activate(self, name: str) -> None:
        """Make this the pane that a small terminal shows."""
        self.tabs.show(name)
        for pane in self.query(".pane"):
            pane.set_class(pane.id == name, "-active")
        for half in self.query(".half"):
            half.set_class(any(child.has_class("-active") for child in half.children), "-holds")
        for chart in (self.loss, self.rate):
            self.call_after_refresh(chart.pace.ask, now=True)
