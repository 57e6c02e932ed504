"""What is done with the model of the run that is shown: looking into it, and going back to a checkpoint."""

from functools import partial
from pathlib import Path
from typing import Any

from fundamentallm.config.config import changed_while_running
from fundamentallm.errors import UserError
from fundamentallm.run import health
from fundamentallm.run.folder import BEST
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.dialogs import CANCEL, CLOSE, Answer, Entry, Question
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.health import current_verdict, evidence_sentence
from fundamentallm_tui.panes.sample import SamplePane
from fundamentallm_tui.screens.run_table import RunChoice
from fundamentallm_tui.screens.running import ENDED, RunScreen
from fundamentallm_tui.state import launch
from fundamentallm_tui.state.launch import BranchPoint, branch_spec, find_branch_point
from fundamentallm_tui.state.looked import LookedTexts
from fundamentallm_tui.state.store import SampleText


class LiveScreen(RunScreen):
    """A run whose model can be asked, of the run while it has the model, else of a checkpoint; and that can go back."""

    sample: SamplePane

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.looked = LookedTexts(self.sampler)
        self._looked_at: tuple[Path | None, str] = None, ""  # the run, and which sample of it was looked at

    def action_prompt(self) -> None:
        self._activate("sample")
        self.set_focus(self.sample.prompt)  # at once: the next key belongs to it

    def action_look(self, score: bool = False) -> None:
        """Look at the last sample, or at what was looked at last where there is no new one; `score`: ask for a text."""
        from fundamentallm_tui.screens.look import Look  # here, because the first picture does not need it

        sample, (folder, id) = self.store.sample, self._looked_at
        shown = f"{sample.id} {sample.chosen}"
        if folder != self.store.folder:
            self.looked.clear()
        if sample.text and (folder, id) != (self.store.folder, shown) and self.sampler.model and not score:
            self.looked.look_at(sample.prompt + sample.text)
            id = shown if sample.done else ""
        self._looked_at = self.store.folder, id
        self.app.push_screen(Look(self.looked, self.sample, score=score))

    def action_pins(self) -> None:
        from fundamentallm_tui.screens.pins import Pins

        self.app.push_screen(Pins(self.store, self.form, self._pin))

    def _pin(self, prompts: tuple[str, ...]) -> None:
        """Pin these prompts, in the run under way or for the next start; a UserError says why that is not possible."""
        if "pin" in launch.read_only_settings(self.store):
            raise UserError("the run takes no changes now")
        if (config := self.store.expected) is not None and self.store.under_way:
            changed_while_running(config, "pin", prompts)
            self.change_settings({"pin": prompts})
        else:
            self.form.take_values({"pin": prompts})

    def action_attention(self, nearest: bool = False) -> None:
        """Show what the tokens of the last sample attend to, or which tokens are nearest to its last one."""
        from fundamentallm_tui.screens.attention import AttentionScreen  # here: the first picture does not need it

        sample = self.store.sample
        self.app.push_screen(AttentionScreen(self.sampler, sample.prompt + sample.text, nearest=nearest))

    def action_find_rate(self) -> None:
        self.form.recheck(self._find_rate)

    def _find_rate(self) -> None:
        from fundamentallm_tui.screens.find_rate import FindRate  # here, because the first picture does not need it

        config = self.form.config
        if config is None or self.form.problems:
            self._show_problem()
        elif self.check_action("find_rate", ()):
            self.app.push_screen(FindRate(config, self._take_rate))

    def _take_rate(self, values: dict[str, float]) -> None:
        """Take a learning rate over into the form, and show where it stands."""
        self.form.take_values(values)
        self.action_pane("config")
        self.form.fields.reveal("learning_rate")

    # Back to a checkpoint: where the verdict says so, and to where the crosshair is

    def action_health(self) -> None:
        verdict = current_verdict(self.store)
        act = self._act_on_health
        answers = [Answer(str(n), action.label, partial(act, action)) for n, action in enumerate(verdict.actions, 1)]
        text = clean(f"{evidence_sentence(verdict)}\n\n{verdict.explanation}", newlines=True)
        if any(action.command == health.RESUME_BEST for action in verdict.actions):
            text += "\n\nResuming from best.pt leaves behind what the run did after it."
        self.app.push_screen(Question(f"Health: {verdict.headline}", text, *answers, CLOSE))

    def _act_on_health(self, action: health.Action) -> None:
        if action not in launch.possible_health_actions(self.store, [action]):
            return  # the run ended while the dialog was open
        match action.command:
            case health.RESUME_BEST:
                self._resume_from(BEST, action.changes)
            case health.STOP:
                self.action_stop()
            case _:
                self.change_settings(action.changes)

    def _resume_from(self, name: str, changes: dict[str, object]) -> None:
        """Resume the run from one of its checkpoints; one that is under way is stopped and saved first."""
        if self.store.under_way:
            self.then(ENDED, partial(self._resume_from, name, changes))
            self.action_stop()
        elif (spec := launch.resume_spec(self.store, name, changes)) is not None:
            self._begin(spec)
        else:
            self.log_line(f"{name} is gone: the run was not resumed.", "warn")

    def rewind(self, step: int) -> None:
        """Offer what can be done with the checkpoint before a step."""
        store = self.store
        if store.folder is None:
            return
        try:
            lasting = store.under_way and not store.replayed
            point = find_branch_point(store.history, store.folder, step, lasting=lasting)
        except UserError as error:
            self.app.push_screen(Question("No checkpoint to go back to", clean(str(error)), CLOSE))
            return
        stops = "Stop and save the run, then resume from it" if store.under_way else "Resume this run from it"
        branch = f"Branch: start a new run from it, {clean(str(point.new_folder))}"
        texts = {"sample": "Sample from it", "resume": stops, "branch": branch}
        possible = [what for what in texts if what in launch.possible_rewinds(store)]
        answers = [Answer(what[0], texts[what], partial(self._go_back, point, what)) for what in possible]
        name = clean(point.checkpoint)
        text = (
            f"The nearest checkpoint at or before step {step} is {name}, of step {point.step}.\n\n"
            "Resuming goes back: what the run did after that step is superseded. "
            "A branch is another run from there, with other settings if you like, and this one stays as it is."
        )
        question = Question(f"Back to step {point.step}", text, *answers, CANCEL)
        question.id = "rewind"
        self.app.push_screen(question)

    def _go_back(self, point: BranchPoint, what: str) -> None:
        if point.folder != self.store.folder or what not in launch.possible_rewinds(self.store):
            return  # another run is shown, or it has ended, while the dialog was open
        if what == "sample":
            self.sampler.chosen = point.folder / point.checkpoint
            if self.store.sample.done:
                self.store.sample = SampleText()
            self.action_prompt()
            self.show_changes({"sample"})
        elif what == "resume":
            self._resume_from(point.checkpoint, {})
        else:
            self._ask_branch(point)

    def _run_chosen(self, choice: RunChoice | None) -> None:
        super()._run_chosen(choice)
        if choice is not None and choice.point is not None:
            self._ask_branch(choice.point)

    def _ask_branch(self, point: BranchPoint) -> None:
        """Ask for the settings in which a branch is to differ, and start it."""

        def take(text: str) -> RunSpec:
            try:
                return branch_spec(point, text)
            except UserError as error:
                problems = launch.messages_by_setting(error, "").items()
                problem = "; ".join(f"{name}: {problem}".removeprefix(": ") for name, problem in problems)
                raise UserError(problem) from None

        title = f"Branch {clean(point.folder.name)} at step {point.step}"
        hint = (
            f"It starts {clean(str(point.new_folder))} from {clean(point.checkpoint)}. Write other settings above, "
            "such as learning_rate=0.0005 dropout=0.2; without any it takes the steps that the run took."
        )
        start = partial(self._start_branch, point)
        entry = Entry(title, "", hint, take, lambda spec: self.leave_run(partial(start, spec)))
        entry.id = "rewind"
        self.app.push_screen(entry)

    def _start_branch(self, point: BranchPoint, spec: RunSpec) -> None:
        """Start a branch in place of the run that is shown."""
        notice = launch.describe_left_run(self.store)
        self.close_run()
        self.log_view.clear()
        self.store.clear()
        self.form.fill(spec.config, point.preset)
        self._begin(spec)
        if notice:
            self.log_line(notice, "warn")
