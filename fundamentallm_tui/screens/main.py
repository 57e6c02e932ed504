"""The main screen: the panes, what the keys do to the run, and what the run does to the panes."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.screen import Screen
from textual.timer import Timer

from fundamentallm.config.config import Config, ConfigError
from fundamentallm.errors import UserError
from fundamentallm.process.session import RunHandle
from fundamentallm.run.commands import CancelSample, Command, Pause, Resume, Save, Stop
from fundamentallm.run.events import Intervention
from fundamentallm.run.locks import is_held
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui import keys
from fundamentallm_tui.charts.panes import LossChart, RateChart
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.bars import KeyBar, TabBar
from fundamentallm_tui.panes.form import Form, field_of
from fundamentallm_tui.panes.log import LogView
from fundamentallm_tui.panes.sample import SamplePane
from fundamentallm_tui.panes.status import StatusLine
from fundamentallm_tui.screens.dialogs import folder_question, leave_question
from fundamentallm_tui.screens.fetch import Fetch, missing_corpus
from fundamentallm_tui.screens.help import Help
from fundamentallm_tui.state import event_log as story
from fundamentallm_tui.state.controls import farewell, others_under_way, possible, read_only, start_word
from fundamentallm_tui.state.launch import Options, beside, by_setting, goes_on_from, next_job, offered, taken_folder
from fundamentallm_tui.state.reader import EventsReceived, RunDisconnected, RunReader, Starter
from fundamentallm_tui.state.replay import Replay
from fundamentallm_tui.state.store import IDLE, PASSING, UNSEEN, Store
from fundamentallm_tui.throttle import RedrawThrottle

if TYPE_CHECKING:
    from fundamentallm_tui.screens.runs import Wanted


class MainScreen(Screen[None]):
    """Asks the run for things, and shows what the store knows."""

    BINDINGS = keys.bindings()
    AUTO_FOCUS = ""  # letters act at once
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-roomy"), (160, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall"), (46, "-high")]

    def __init__(self, options: Options, config: Config, start: Starter) -> None:
        super().__init__()
        self.store = Store()
        self.link: RunReader | None = None
        self.quitting = self.leaving = False
        self._resume_when_read = False
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
        self._status_pace = RedrawThrottle(self.status, self._draw_status, least=0.5, share=0.01)

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
        self._look_for_runs()

    @work(thread=True)
    def _look_for_runs(self) -> None:
        """Say which runs are under way here; journals may be long, so not on the screen's thread."""
        if words := others_under_way(self.store):
            self.app.call_from_thread(self._say, words, story.WARN)

    def _say(self, words: str, kind: str) -> None:
        self.store.say(words, kind)
        self.show_changes({"log"})

    # What can be done

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """True: it can be done. None: not now, and the footer says so."""
        return possible(self.store).get(action, True) or None

    @property
    def has_model(self) -> bool:
        """Whether a worker is there that can be asked for a sample."""
        alive = self.link is not None and self.link.alive
        return alive and self.store.started is not None and not self.store.replayed

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
        if (folder := taken_folder(self.store, config)) is not None:
            question = folder_question(clean(str(folder)), is_held(folder))
            self.app.push_screen(question, partial(self._folder_answered, folder, config))
            return
        try:
            job = next_job(self.store, config, self.form.label)
        except UserError as error:
            wrong = by_setting(error) if isinstance(error, ConfigError) else {"output_dir": str(error)}
            self.form.show_problems(wrong)
            self.form.to_problem()
            return
        self._begin(job)

    def _begin(self, job: RunSpec) -> None:
        self._let_go()
        goes_on = job.auto or job.resume_from is not None
        self.store.begin(job.folder, self.form.label, job.config, goes_on=goes_on)
        self.store.total_steps = self.form.total_steps or self.store.total_steps
        self._hurry()
        self.show_changes({"phase", "curves"})
        self._launch(job)

    def _folder_answered(self, folder: Path, config: Config, answer: str | None) -> None:
        if answer in ("open", "resume"):
            self.open_run(folder, resume=answer == "resume")
        elif answer == "new":
            self._begin(RunSpec(config, beside(folder), preset=self.form.label))

    def _fetched(self, there: bool | None) -> None:
        if there:
            self.form.text_came()
            self.action_start()

    def action_pause(self) -> None:
        if self.store.paused:
            self._ask("training", Resume())
        else:
            self._ask("pausing", Pause(stays=True))

    def action_save(self) -> None:
        self._ask("", Save())

    def action_stop(self) -> None:
        self._ask("stopping", Stop())

    def action_prompt(self) -> None:
        self._activate("sample")
        self.set_focus(self.sample.prompt)  # at once: the next key belongs to it

    def action_help(self) -> None:
        self.app.push_screen(Help())

    def action_runs(self) -> None:
        """The library."""
        from fundamentallm_tui.screens.runs import Runs  # the first picture does not wait for it

        self.app.push_screen(Runs(self.store.folder), self._run_chosen)

    def _run_chosen(self, wanted: "Wanted | None") -> None:
        if wanted is None:
            return
        if wanted.act == "removed":
            self.action_new_run()
            return
        store, same = self.store, False
        if store.folder is not None and not store.replayed:
            same = store.folder.resolve() == wanted.folder.resolve()
        if same and (store.under_way or wanted.act == "open"):
            return
        if store.under_way and self.link is None:  # what was asked of it must not reach another
            return self._say(f"{store.folder} is being started; choose again in a moment.", story.WARN)
        open_it = partial(self.open_run, wanted.folder, resume=wanted.act == "resume")
        if store.under_way and store.paused and not store.replayed:
            question = leave_question(clean(str(store.folder)))
            self.app.push_screen(question, lambda answer: open_it() if answer == "leave" else None)
        else:
            open_it()

    def open_run(self, folder: Path, *, resume: bool = False, speed: float = 0.0) -> None:
        """Show a run that another process writes, or wrote; `resume`: then go on with it; `speed`: play it back."""
        from fundamentallm.process.session import AttachedRun  # slow to import; the first picture does not wait for it

        try:
            session = Replay(folder, speed) if speed else AttachedRun(folder, stays=True)
        except UserError as error:
            return self._say(str(error), story.BAD)
        words = farewell(self.store)
        self._let_go()
        self.log_view.clear()
        self._resume_when_read = resume
        self.store.watch(folder, f"REPLAY ×{speed:g}" if speed else "", replayed=bool(speed))
        if words:
            self.store.say(words, story.WARN)
        self._hurry()
        self.show_changes({"phase", "curves", "sample"})
        self._started(session)

    def _let_go(self) -> None:
        if self.link is not None:
            self.link.leave()
            self.link = None

    def action_new_run(self) -> None:
        """Let go of the run that rests: the next start makes a new one."""
        self._let_go()
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
        self.store.ours.add(command.id)
        if self.link is not None:
            self._send(command)
        else:
            self._unsent.append(command)
        self.show_changes({"phase"})

    def _send(self, command: Command) -> None:
        try:
            if self.link is not None:
                self.link.send(command)
        except OSError as error:  # an attached run's folder cannot be written to
            self.store.wanted = ""
            self.store.say(f"The run cannot be told: {error.strerror or error}", story.BAD)

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
            self.sample.refuse()
            return
        if not self.store.sample.done:
            self._send(CancelSample(sample=self.store.sample.id))
        self.store.ask(event.command.id, event.command.prompt)
        self.store.ours.add(event.command.id)
        self._send(event.command)
        self.sample.show()

    def _hurry(self) -> None:
        self.loss.pace.hurry()
        self.rate.pace.hurry()

    # A run's process

    @work(thread=True)
    def _launch(self, job: RunSpec) -> None:
        """Start the process; it reads the text first to see what is wrong with it, so not on the screen's thread."""
        try:
            session = self._start(job)
        except (UserError, OSError) as error:
            self.app.call_from_thread(self._not_started, str(error))
        else:
            self.app.call_from_thread(self._started, session)

    def _started(self, session: RunHandle) -> None:
        self.link = RunReader(session, self.post_message)
        for command in self._unsent:
            self._send(command)
        self._unsent.clear()
        if self.leaving:
            self.app.exit(return_code=0)

    def _not_started(self, problem: str) -> None:
        self._unsent.clear()
        self.store.new_run()
        self.store.say(problem, story.BAD)
        self.show_changes({"phase", "log"})
        self.form.show_problems({field_of(problem): problem})
        self.action_pane("config")
        self.form.to_problem()

    @on(EventsReceived)
    def _news(self, news: EventsReceived) -> None:
        if news.link is self.link:
            changed = self.store.apply(news.events)
            if changed & {"run", "config"} and (config := offered(self.store)) is not None:
                self.form.fill(config, self.store.preset)
            elif "config" in changed:  # or the next start would take back what somebody set by a shell
                self.form.change({event.setting: event.new for event in news.events if isinstance(event, Intervention)})
            self.show_changes(changed)

    @on(RunDisconnected)
    def _gone(self, gone: RunDisconnected) -> None:
        if gone.link is self.link:
            if self.store.attached and self.store.folder is not None and not self.store.folder.exists():
                self.store.saved = ""
            self.show_changes(self.store.died(gone.end, gone.tail))
            if (config := offered(self.store)) is not None:
                self.form.fill(config, self.store.preset)
            resume, self._resume_when_read = self._resume_when_read, False
            if resume and goes_on_from(self.store) is not None:
                self.action_start()

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
        rests = "" if store.under_way else store.phase
        state = (store.under_way, store.paused, store.stopping, rests, self.has_model)
        if state == self._state:
            return
        self._state = state
        kept = read_only(store)
        self.form.make_read_only(kept, preset=bool(kept))
        self.bar.show({"start": start_word(store), "pause": "resume" if store.paused else "pause"})
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
