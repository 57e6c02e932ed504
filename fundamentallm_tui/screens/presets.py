"""The presets: what each would change in the form, loading one, and saving the form as one's own."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from textual.app import SuspendNotSupported
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static

from fundamentallm.config.config import SETTINGS, Config, Layer
from fundamentallm.config.files import load_config, load_preset, preset_folders, preset_names, to_yaml
from fundamentallm.errors import UserError, describe_error
from fundamentallm.paths import user_path
from fundamentallm.run.folder import write_atomic
from fundamentallm_tui.dialogs import CANCEL, Answer, Dialog, Entry, Question
from fundamentallm_tui.format import clean, fit, truncate
from fundamentallm_tui.panes.form import Form
from fundamentallm_tui.theme import FAINT

NAME = re.compile(r"[^\W_][\w-]{0,39}")
NAME_WIDTH = 2 + max(map(len, SETTINGS))


class Presets(Dialog[None]):
    """Lists the presets; enter loads one into the form."""

    topic = "preset"

    BINDINGS = [
        Binding("escape,f3", "dismiss", "Close"),
        Binding("s", "save", "Save the form"),
    ]

    def __init__(self, form: Form) -> None:
        self._form = form
        self._names = preset_names()
        self._list = OptionList(*map(clean, self._names), compact=True, markup=False)
        self._details = Static()
        hint = "enter loads it, s saves the form, tab ↑ ↓ scroll, escape closes"
        super().__init__("Presets", self._list, VerticalScroll(self._details), hint=hint)

    def on_mount(self) -> None:
        if self._form.preset_name in self._names:
            self._list.highlighted = self._names.index(self._form.preset_name)

    def on_resize(self) -> None:
        self.call_after_refresh(self.on_option_list_option_highlighted)

    def on_option_list_option_highlighted(self) -> None:
        if self._list.highlighted is not None:
            self._details.update(self._describe(self._names[self._list.highlighted]))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self._form.take_preset(self._names[event.option_index])
        self.dismiss()

    def _describe(self, name: str) -> Content:
        """Return what a preset is for, and what loading it would change in the form."""
        try:
            preset = load_preset(name)
        except UserError as error:
            return Content.styled(clean(str(error)), "$text-error")
        rows = self._form.changes_by(preset)
        width = max(6, (self._details.size.width - NAME_WIDTH) // 2)
        head = f"{'Loading it changes':<{NAME_WIDTH}}{'from':<{width}}to" if rows else "Loading it changes nothing."
        about = (f"{clean(preset.description)}\n", ""), (f"{clean(preset.expected_time)}\n\n", FAINT)
        lines = [*about, (f"{head}\n", FAINT)]
        for setting, now, then in rows:
            lines += [(f"{setting:<{NAME_WIDTH}}", "$text-accent"), (fit(clean(now), width - 1) + " ", "")]
            lines += [(f"{truncate(clean(then), width)}\n", "bold")]
        marked = [name for name, cell in self._form.fields.cells.items() if cell.marked]
        if marked:
            lines += [(f"\nWhat you have changed stays: {', '.join(marked)}.", FAINT)]
        return Content.assemble(*lines)

    def action_save(self) -> None:
        """Ask for a name, and whether to replace a preset that has it."""
        if self._form.config is None:
            self._details.update(Content.styled("Correct what is wrong in the form first.", "$text-error"))
        else:
            hint = "fundamentallm train --preset NAME finds it, too."
            self.app.push_screen(Entry("Save the form as a preset", "", hint, check_name, self._named))

    def _named(self, name: str) -> None:
        if name in self._names:
            replace = "Replace it for you; a preset that is shipped stays as a file"
            answer = Answer("r", replace, partial(self._save, name))
            self.app.push_screen(Question("The name is taken", f"There is a preset {name}.", CANCEL, answer))
        else:
            self._save(name)

    def _save(self, name: str) -> None:
        assert self._form.config is not None  # or its name was not asked for
        try:
            path = save_preset(name, self._form.config, self._form.run_size.duration)
        except UserError as error:
            self._details.update(Content.styled(clean(str(error)), "$text-error"))
            return
        for cell in self._form.fields.cells.values():
            cell.marked = False  # it is the preset's now
        self._form.take_preset(name)
        self.app.notify(f"Saved as {clean(str(path))}", markup=False)
        self.dismiss()


def check_name(name: str) -> str:
    """Return a name that a preset can have; a UserError says why one cannot."""
    if NAME.fullmatch(name):
        return name
    raise UserError("A name has 1 to 40 letters, digits, - and _, and begins with a letter or a digit.")


def save_preset(name: str, config: Config, expected_time: str) -> Path:
    """Write a configuration as the user's own preset, which every way in then finds by its name.

    A UserError says that the file cannot be written.
    """
    path = preset_folders()[0] / f"{name}.yaml"
    data = list(config.data)
    for n, text in enumerate(data):  # it is to be found from another folder, too
        with suppress(UserError):
            data[n] = str(user_path(text).absolute()) if user_path(text).exists() else text
    about = yaml.safe_dump({"description": "Saved from the console.", "expected_time": expected_time}, sort_keys=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, about + to_yaml(replace(config, data=tuple(data), output_dir=None)))
    except OSError as error:
        raise UserError(f"{path}: {describe_error(error)}") from None
    return path


def _run_editor(command: list[str], suspend: Callable[[], AbstractContextManager[None]]) -> None:
    """Run an editor in the terminal. Textual takes the terminal back only after a body that raises nothing."""
    failure: OSError | subprocess.CalledProcessError | None = None
    interrupt = signal.signal(signal.SIGINT, lambda *_: None)  # ctrl+c is the editor's, which gets a handler of its own
    try:
        with suspend():
            try:
                subprocess.run(command, check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                failure = error
    finally:
        signal.signal(signal.SIGINT, interrupt)
    if failure is not None:
        raise failure


def edit_yaml(text: str, suspend: Callable[[], AbstractContextManager[None]]) -> tuple[str, Layer, str]:
    """Let the user edit a configuration file in their editor, to which `suspend` gives the terminal.

    Returns the text as it is then, its values, and why it cannot be read; empty if it can. A UserError says that there
    is no editor, or that it failed.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    if not command.strip():
        raise UserError("Set EDITOR to your editor, as in EDITOR=nano fllm-tui, to edit the settings as YAML.")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "form.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            _run_editor([*shlex.split(command), str(path)], suspend)
        except (OSError, ValueError, SuspendNotSupported) as error:
            raise UserError(f"{command}: cannot be started: {describe_error(error)}; the form is as it was.") from None
        except subprocess.CalledProcessError as error:
            raise UserError(f"{command}: ended with status {error.returncode}; the form is as it was.") from None
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
            layer = load_config(path)
        except (UserError, OSError) as error:
            return text, Layer({}), str(error).replace(f"{folder}/", "")
    places = {name: place.replace(f"{folder}/", "") for name, place in layer.places.items()}
    problems = tuple(replace(problem, place=problem.place.replace(f"{folder}/", "")) for problem in layer.problems)
    return text, Layer(layer.values, places, problems), ""
