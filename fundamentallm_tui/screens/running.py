"""A screen with one run: starts, opens and commands it, and reads what it reports."""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from textual import on

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError, describe_error
from fundamentallm.process.session import AttachedRun, RunHandle
from fundamentallm.run.commands import Command, Pause, Resume, Save, Set, Stop
from fundamentallm.run.folder import holds_run
from fundamentallm.run.journal import BATCH
from fundamentallm.run.locks import is_held
from fundamentallm.run.spec import RunSpec
from fundamentallm.run.summary import summarize
from fundamentallm_tui import keys
from fundamentallm_tui.background import in_thread
from fundamentallm_tui.dialogs import CANCEL, Answer, Fetch, Question
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.form import Form
from fundamentallm_tui.panes.log import LogView
from fundamentallm_tui.panes.values import field_of
from fundamentallm_tui.screens.base import PanedScreen
from fundamentallm_tui.screens.run_table import RunChoice
from fundamentallm_tui.state import launch
from fundamentallm_tui.state.overlays import Overlays
from fundamentallm_tui.state.preferences import remember
from fundamentallm_tui.state.reader import EventsReceived, RunDisconnected, RunReader, Starter
from fundamentallm_tui.state.replay import Replay
from fundamentallm_tui.state.sampler import Sampler, SamplerStarter
from fundamentallm_tui.state.store import Store

OVERLAY_INTERVAL = 1.0  # seconds between two looks at the journals of the other runs in the chart
IF_PAUSED = "if it was paused from a console, it saves and exits"
STARTED, READ, ENDED = "started", "read", "ended"  # of the run that is shown: its process, its journal, itself


class RunScreen(PanedScreen):
    """A run that fills a `Store`, the form that starts the next one, and the log of what happened to both."""

    def __init__(self, options: launch.Options, start: Starter, sample: SamplerStarter) -> None:
        super().__init__()
        self.store = Store()
        self.reader: RunReader | None = None
        self._then: tuple[str, Callable[[], object]] | None = None  # when, and what is to be done
        self._start = start
        self._unsent: list[Command] = []  # given while the process was being started
        self.sampler = Sampler(self.store, sample, self._send, self, lambda: self.has_model)
        self.overlays = Overlays(self, self._overlays_read)
        self.form = Form(options, self.change_settings, id="config")
        self.log_view = LogView(self.store, id="log")

    @property
    def run_folder(self) -> Path | None:
        """The folder of the run that is shown."""
        return self.store.folder

    def show_changes(self, changed: set[str]) -> None:
        """Bring the panes up to date with these parts of the store."""
        raise NotImplementedError

    def show_other_run(self) -> None:
        """Bring all panes up to date: the store is that of another run now."""
        raise NotImplementedError

    def log_line(self, text: str, level: str) -> None:
        """Add a text to the log and show it."""
        self.store.log(text, level)
        self.show_changes({"log"})

    def then(self, when: str, act: Callable[[], object]) -> None:
        """Call `act` when the run that is shown is STARTED, READ or ENDED; no longer, when another run is shown."""
        self._then = when, act

    def _reached(self, when: str) -> None:
        if self._then is not None and self._then[0] == when:
            (_, act), self._then = self._then, None
            act()

    # Start and stop

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None for what cannot be done now: the key does nothing, and the footer dims it."""
        return launch.is_possible(self.store, action) or None

    def action_start(self) -> None:
        """Resume the run, or start one with the form's settings; ask the user where that is not possible at once."""
        if self.store.paused:
            self._request("training", Resume())
        else:
            self.form.recheck(self._start_form)

    def _start_form(self) -> None:
        config, new = self.form.config, launch.resumable_checkpoint(self.store) is None
        if not self.check_action("start", ()):
            return
        if config is not None and new and (text := launch.missing_known_text(config.data)):
            self.app.push_screen(Fetch(text, self.action_start))
        elif config is None or self.form.problems:
            self._show_problem()
        elif (folder := launch.occupied_folder(self.store, config)) is not None:
            self._ask_about(folder, config)
        else:
            self._start_next(config)

    def _ask_about(self, folder: Path, config: Config) -> None:
        """Ask what to do when the folder for a new run has a run in it."""
        if is_held(folder):
            text = "holds a run that another process trains"
            first = Answer("a", "Attach: watch and control it", partial(self.open_run, folder))
        else:
            text = "holds a run already"
            resumes = True
            with suppress(UserError):  # its journal is damaged
                resumes = summarize(folder).resumable
            first = Answer("g", "Resume that run" if resumes else "Open that run, which has finished",
                           partial(self.open_run, folder, resume=resumes))  # fmt: skip
        spec = RunSpec(config, launch.free_folder(folder), preset=self.form.preset_name)
        beside = Answer("n", "Start a new run in a folder beside it", partial(self._begin, spec))
        self.app.push_screen(Question("The folder is taken", f"{clean(str(folder))} {text}.", first, beside, CANCEL))

    def _start_next(self, config: Config) -> None:
        try:
            spec = launch.next_spec(self.store, config, self.form.label, self.form.preset_name)
        except UserError as error:
            if not self._show_problem(launch.messages_by_setting(error, "output_dir")):
                self.log_line(str(error), "bad")
        else:
            self._begin(spec)

    def _begin(self, spec: RunSpec) -> None:
        if not spec.continues and spec.resume_from is None:
            chosen = self.form.fields.cells["data"].marked
            remember(last_data=tuple(os.path.abspath(path) for path in spec.config.data) if chosen else ())
        self.close_run()
        self.store.begin(spec.folder, self.form.preset_name, spec.config, resumes=spec.continues)
        self.store.total_steps = self.form.run_size.steps or self.store.total_steps
        self.show_other_run()
        in_thread(self, partial(self._start, spec), self._watch, self._launch_failed)  # the text may be long

    def _launch_failed(self, error: Exception) -> None:
        problem = str(error)
        self._unsent.clear()
        self._then = None
        self.store.not_started()
        self.store.log(problem.removeprefix("--output-dir "), "bad")  # a run that is resumed was given no flag
        self.show_changes({"phase", "log"})
        self._show_problem({field_of(problem): problem})

    def _watch(self, run: RunHandle) -> None:
        self.store.folder = run.folder  # another start may have taken the number
        self.reader = RunReader(run, self)
        for command in self._unsent:
            self._send(command)
        self._unsent.clear()
        self._reached(STARTED)

    def _show_problem(self, refused: Mapping[str, str] | None = None) -> bool:
        """Put the cursor into a field with a problem; `refused`: those that the start has found.

        Returns whether there is such a field; where there is none, the log is shown, which has what was refused.
        """
        if refused is not None:
            self.form.refuse(refused)
        self._activate("config")
        found = self.form.to_problem()
        if refused is not None and not found:
            self._activate("log")
        return found

    def action_new_run(self) -> None:
        """Forget the run that has ended: the next start makes a new one."""
        self.close_run()
        self.store.clear()
        self.overlays.choose_parent(None)
        self.show_other_run()
        self.show_changes({"runs"})

    def close_run(self) -> None:
        """Leave the run that is shown: one under way continues, but nothing samples its checkpoint any more."""
        self.sampler.close()
        self._then = None
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    # Other runs

    def on_mount(self) -> None:
        self.set_interval(OVERLAY_INTERVAL, self.overlays.read)

    def _overlays_read(self) -> None:
        self.show_changes({"curves"})
        self.refresh_bindings()

    def _overlay_parent(self) -> None:
        """Lay the run that a branch comes from, if it is still there, over the curve of the branch."""
        if self.store.folder is not None:
            parent = summarize(self.store.folder, self.store.history).parent_folder
            is_branch = self.store.history.starts[0].initialised_from is None
            there = is_branch and parent is not None and holds_run(parent)
            self.overlays.choose_parent(parent if there else None)

    def action_runs(self) -> None:
        from fundamentallm_tui.screens.runs import Runs  # here, because the first picture does not need it

        self.app.push_screen(Runs(self.store.folder, self.overlays), self._run_chosen)

    def _run_chosen(self, choice: RunChoice | None) -> None:
        self.show_changes({"curves", "runs"})  # others may be overlaid now, renamed or deleted
        match choice:
            case RunChoice("open" | "resume" as action, folder):
                store, resume = self.store, action == "resume"
                shown = store.folder is not None and not store.replayed and store.folder.resolve() == folder.resolve()
                if not shown or (resume and not store.under_way):
                    self.leave_run(partial(self.open_run, folder, resume=resume))
            case RunChoice("deleted"):
                self.action_new_run()
            case RunChoice("renamed", folder):
                self.open_run(folder)

    def leave_run(self, then: Callable[[], object]) -> None:
        """Call `then`, which shows another run; ask first where that ends the run that is shown."""
        store = self.store
        if store.under_way and self.reader is None:  # its unsent commands must not reach another run
            self.log_line(f"{store.folder} is being started; choose again in a moment.", "warn")
        elif store.under_way and store.paused and not store.replayed:
            text = f"{clean(str(store.folder))} is paused; {IF_PAUSED}."
            leave = Answer("l", "Leave it, and open the other run", then)
            self.app.push_screen(Question("Leave", text, CANCEL, leave))
        else:
            then()

    def open_run(self, folder: Path, *, resume: bool = False, speed: float = 0.0) -> None:
        """Attach to the run in a folder; with `resume`, then resume it; with a `speed`, replay its journal instead."""
        try:
            run = Replay(folder, speed) if speed else AttachedRun(folder, stays=True)
        except UserError as error:
            self.log_line(str(error), "bad")
            return
        notice = launch.describe_left_run(self.store)
        self.close_run()
        self.log_view.clear()
        if resume and run.alive:
            notice = f"{notice} {folder} is under way: it is shown, not resumed.".strip()
        elif resume:
            self.then(READ, self._resume_read)
        self.store.attach(folder, f"REPLAY ×{speed:g}" if speed else "", replayed=bool(speed))
        if notice:
            self.store.log(notice, "warn")
        self.show_other_run()
        self._watch(run)

    # Commands to the run

    def action_pause(self) -> None:
        if self.store.paused:
            self._request("training", Resume())
        else:
            self._request("pausing", Pause(stays=True))

    def action_save(self) -> None:
        self._request("", Save())

    def action_stop(self) -> None:
        self._request("stopping", Stop())

    def action_ask_stop(self) -> None:
        """Ask first: a single letter may have been meant for a text field."""
        text = f"Stop the run? {keys.named('stop')} stops without asking."
        stop = Answer("x", "Stop: finish the step, save, end the run", partial(self.run_action, "stop"))
        self.app.push_screen(Question("Stop", text, stop, CANCEL))

    def change_settings(self, values: Mapping[str, Any], *, undoes: bool = False) -> None:
        """Change live settings of the run from its next step on; the journal records each as an intervention.

        The values are as `Config` has them. What the run refuses, the log and the form's field say; while no run
        obeys, nothing is sent.
        """
        if not launch.is_possible(self.store, "change"):
            self.log_line(f"No run obeys: {', '.join(values)} cannot change now.", "warn")
            return
        for name, value in values.items():
            command = Set(setting=name, value=value, undoes=undoes)
            self.store.unanswered[command.id] = command
            self._request("", command)
        self.follow_run()

    def _request(self, phase: str, command: Command) -> None:
        """Send a command, or keep it until there is a process; show at once the phase that it leads to."""
        if phase:
            self.store.request(phase)
        self.store.sent_ids.add(command.id)
        if self.reader is not None:
            self._send(command)
        else:
            self._unsent.append(command)
        self.show_changes({"phase"})

    def _send(self, command: Command) -> None:
        try:
            if self.reader is not None:
                self.reader.handle.send(command)
        except OSError as error:  # nothing can be written into the folder of an attached run
            self.store.wanted = ""
            self.store.unanswered.pop(command.id, None)
            self.sampler.refuse(f"it could not be asked for: {describe_error(error)}", id=command.id)
            self.log_line(f"The command was not sent: {describe_error(error)}", "bad")

    @property
    def has_model(self) -> bool:
        """Whether a worker is there that can sample."""
        alive = self.reader is not None and self.reader.alive
        return alive and self.store.loaded and not self.store.replayed

    # Reports from the run

    @on(EventsReceived)
    def _events_received(self, message: EventsReceived) -> None:
        message.taken.set()
        if self.sampler.take(message.reader, message.events):
            self.show_changes({"sample"})
        if message.reader is not self.reader:
            return
        self.store.behind = len(message.events) >= BATCH
        begins = self.store.history.started is None
        changed = self.store.apply(message.events)
        if "run" in changed:
            self._fill_form()
            if begins:
                self._overlay_parent()
        if changed & {"run", "config"}:
            self.follow_run()
        self.show_changes(changed)
        if not self.store.under_way:
            self._reached(ENDED)
        if self._then is not None and self._then[0] == READ and message.reader.alive:
            self._then = None  # another process resumed it at this moment

    @on(RunDisconnected)
    def _run_disconnected(self, message: RunDisconnected) -> None:
        if message.reader in (self.reader, self.sampler.reader):
            why = f"the process that was asked is gone: {message.exit_reason or 'for an unknown reason'}"
            self.sampler.refuse(why, of_checkpoint=message.reader is self.sampler.reader)
            self.show_changes({"sample"})
        if message.reader is not self.reader:
            return
        if self.store.attached and self.store.folder is not None and not os.path.exists(self.store.folder):
            self.store.saved = ""
        self.show_changes(self.store.disconnected(message.exit_reason, message.log_tail))
        self._fill_form()
        self._reached(ENDED)
        self._reached(READ)

    def _resume_read(self) -> None:
        if launch.resumable_checkpoint(self.store) is not None:
            self.action_start()

    def _fill_form(self) -> None:
        if (config := launch.attached_config(self.store)) is not None:
            self.form.fill(config, self.store.preset)

    def follow_run(self) -> None:
        """Show in the form what can be changed now, and the settings of the run under way as they are now."""
        store = self.store
        sent = {command.setting for command in store.unanswered.values()}
        running = store.config if store.under_way and store.loaded and not store.replayed else None
        self.form.follow_run(launch.read_only_settings(store), running, sent, store.refused)
        store.refused.clear()
