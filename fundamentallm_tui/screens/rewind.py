"""Going back to a checkpoint of a run: to sample from it, to resume from it, or to branch."""

from functools import partial

from textual import on

from fundamentallm.errors import UserError
from fundamentallm.run import health
from fundamentallm.run.folder import BEST
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.health import current_verdict
from fundamentallm_tui.panes.metrics import LossChart
from fundamentallm_tui.screens.dialogs import CANCEL, Answer, Entry, Question, health_question
from fundamentallm_tui.screens.run_table import RunChoice
from fundamentallm_tui.screens.running import ENDED, RunScreen
from fundamentallm_tui.state import launch
from fundamentallm_tui.state.branch import BranchPoint, branch_spec, find_branch_point
from fundamentallm_tui.state.written import SampleText


class RewindScreen(RunScreen):
    """A run that can go back: where the verdict on it says so, and to where the crosshair is."""

    def action_health(self) -> None:
        """Show how the run stands, and offer what can be done about it."""
        verdict = current_verdict(self.store)
        self.app.push_screen(health_question(verdict), partial(self._answer_health, verdict.actions))

    def _answer_health(self, actions: tuple[health.Action, ...], answer: str | None) -> None:
        action = next((action for n, action in enumerate(actions, 1) if str(n) == answer), None)
        if action is None or action not in launch.possible_health_actions(self.store, [action]):
            return  # closed, or the run ended while the dialog was open
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

    @on(LossChart.Rewind)
    def _rewind(self, message: LossChart.Rewind) -> None:
        """Offer what can be done with the checkpoint before a step."""
        store = self.store
        if store.folder is None:
            return
        try:
            lasting = store.under_way and not store.replayed
            point = find_branch_point(store.history, store.folder, message.step, lasting=lasting)
        except UserError as error:
            close = Answer(CANCEL.id, "c", "Close")
            self.app.push_screen(Question("No checkpoint to go back to", clean(str(error)), close))
        else:
            question = rewind_question(point, message.step, launch.possible_rewinds(store), store.under_way)
            self.app.push_screen(question, partial(self._answer_rewind, point))

    def _answer_rewind(self, point: BranchPoint, answer: str | None) -> None:
        if point.folder != self.store.folder:
            return  # another run is shown since
        if answer == "sample":
            self.sampler.chosen = point.folder / point.checkpoint
            if self.store.sample.done:
                self.store.sample = SampleText()
            self.action_pane("sample")
            self.enter_pane("sample")
            self.show_changes({"sample"})
        elif answer == "resume" and "resume" in launch.possible_rewinds(self.store):
            self._resume_from(point.checkpoint, {})
        elif answer == "branch":
            self._ask_branch(point)

    def _run_chosen(self, choice: RunChoice | None) -> None:
        super()._run_chosen(choice)
        if choice is not None and choice.point is not None:
            self._ask_branch(choice.point)

    def _ask_branch(self, point: BranchPoint) -> None:
        self.app.push_screen(branch_dialog(point), partial(self._branch, point))

    def _branch(self, point: BranchPoint, text: str | None) -> None:
        if text is not None:
            self.leave_run(partial(self._start_branch, point, text))

    def _start_branch(self, point: BranchPoint, text: str) -> None:
        """Start a branch in place of the run that is shown, over the curve of the run that it comes from."""
        spec, notice = branch_spec(point, text), launch.describe_left_run(self.store)
        self.close_run()
        self.log_view.clear()
        self.store.clear()
        if point.folder.resolve() not in {folder.resolve() for folder in self.overlays.folders}:
            self.overlays.toggle(point.folder)
        self.form.fill(spec.config, point.preset)
        self._begin(spec)
        if notice:
            self.log_line(notice, "warn")


def rewind_question(point: BranchPoint, step: int, possible: set[str], under_way: bool) -> Question:
    """Ask what to do with the checkpoint before the step at the crosshair."""
    stops = "Stop and save the run, then resume from it" if under_way else "Resume this run from it"
    answers = {
        "sample": Answer("sample", "s", "Sample from it"),
        "resume": Answer("resume", "r", stops),
        "branch": Answer("branch", "b", f"Branch: start a new run from it, {clean(str(point.new_folder))}"),
    }
    nearest = f"The nearest checkpoint at or before step {step} is {clean(point.checkpoint)}, of step {point.step}."
    text = (
        "Resuming goes back: what the run did after that step is superseded. "
        "A branch is another run from there, with other settings if you like, and this one stays as it is."
    )
    offered = [answer for name, answer in answers.items() if name in possible]
    return Question(f"Back to step {point.step}", f"{nearest}\n\n{text}", *offered, CANCEL)


def branch_dialog(point: BranchPoint) -> Entry:
    """Ask for the settings in which a branch is to differ; ends with them as they were typed."""

    def take(text: str) -> str:
        try:
            branch_spec(point, text)
        except UserError as error:
            problems = launch.messages_by_setting(error, "").items()
            return "; ".join(f"{name}: {problem}".removeprefix(": ") for name, problem in problems)
        return ""

    title = f"Branch {clean(point.folder.name)} at step {point.step}"
    hint = (
        f"It starts {clean(str(point.new_folder))} from {clean(point.checkpoint)}. Write other settings above, such as "
        "learning_rate=0.0005 dropout=0.2; without any it takes the steps that the run took."
    )
    return Entry(title, "", hint, take)
