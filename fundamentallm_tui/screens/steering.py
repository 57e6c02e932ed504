"""What the user asks of a run and of the form by a key or from the palette, beside starting and stopping."""

from functools import partial

from fundamentallm.errors import UserError
from fundamentallm.run.commands import Evaluate
from fundamentallm_tui.format import clean
from fundamentallm_tui.screens.dialogs import yaml_question
from fundamentallm_tui.screens.running import RunScreen
from fundamentallm_tui.state import launch


class SteeringScreen(RunScreen):
    """Changes live settings of the run, and fills the form from files."""

    # The run under way

    def action_multiply(self, setting: str, factor: float) -> None:
        """Change a live setting by a factor."""
        self.change_settings({setting: float(f"{self.store.expected[setting] * factor:.6g}")})

    def action_add(self, setting: str, count: int) -> None:
        """Change a live setting by a number."""
        self.change_settings({setting: self.store.expected[setting] + count})

    def action_evaluate(self) -> None:
        self._request("", Evaluate())

    def action_undo(self) -> None:
        """Set the setting that was changed last to its old value, whoever changed it."""
        if (change := launch.undo(self.store)) is not None:
            self.change_settings(dict([change]))

    # The form of a new run

    def action_files(self) -> None:
        """Choose text files for the form, beginning in the folder of those that it has."""
        from fundamentallm_tui.screens.file_picker import FilePicker  # here, because the first picture needs none

        self.app.push_screen(FilePicker(self.form.data_folder), self._files_chosen)

    def _files_chosen(self, paths: list[str] | None) -> None:
        if paths:
            self.form.take_values({"data": paths})

    def action_presets(self) -> None:
        from fundamentallm_tui.screens.presets import Presets

        self.app.push_screen(Presets(self.form))

    def action_edit(self, text: str = "") -> None:
        """Edit the form as YAML; what cannot be read can be edited again."""
        from fundamentallm_tui.state.presets import edit_yaml

        try:
            text, layer, problem = edit_yaml(text or self.form.to_yaml(), self.app.suspend)
        except UserError as error:
            self.app.notify(clean(str(error)), severity="warning", markup=False)  # the log may be out of sight
            self.log_line(str(error), "warn")
            return
        self.app.refresh(layout=True)
        problem = "\n".join([problem] if problem else self.form.take_yaml(layer))
        if problem:
            self.app.push_screen(yaml_question(clean(problem, newlines=True)), partial(self._answer_edit, text))

    def _answer_edit(self, text: str, answer: str | None) -> None:
        if answer == "edit":
            self.action_edit(text)
