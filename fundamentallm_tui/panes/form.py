"""The form: every setting as a field, made from the table and checked while the user types.

While a run is under way, what is typed into a live setting is pending until enter applies it.
"""

import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve, to_dict
from fundamentallm.config.files import Preset, load_preset, preset_layer, to_yaml
from fundamentallm.errors import UserError
from fundamentallm.paths import user_path
from fundamentallm_tui import keys
from fundamentallm_tui.background import Newest
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.cells import Cell
from fundamentallm_tui.panes.fields import Fields
from fundamentallm_tui.panes.values import (
    PRESET,
    RunSize,
    as_text,
    as_typed,
    draw_schedule,
    field_of,
    measure,
    setting_groups,
    setting_help,
    split_paths,
    without_field,
)
from fundamentallm_tui.state.launch import Options, messages_by_setting, missing_known_text
from fundamentallm_tui.theme import FAINT

LIVE = tuple(name for name, row in SETTINGS.items() if row.live)
EDITED, SENT = "›", "…"  # before a value that a run under way does not have yet
PENDING = {
    EDITED: "enter applies it from the next step on, {leave} takes it back",
    SENT: "the run applies it after the step under way",
}
TYPING_PAUSE = 0.15  # seconds without a key before a file is read


class Form(Vertical):
    """Holds the values as typed. `config` is what they make, or None while something is wrong.

    What the user has typed, or given as a flag, is marked; another preset changes only the other fields.
    """

    commands = keys.FORM
    BINDINGS = [
        Binding("ctrl+r", "reset_field", "Reset the field", id="form.reset", show=False),
        Binding("escape", "take_back", "Take the edit back", id="leave", show=False),
    ]

    class Changed(Message):
        """A value, a problem, or what is known of the run's size has changed."""

    def __init__(self, options: Options, apply: Callable[[Mapping[str, Any]], None], *, id: str) -> None:
        """`apply` changes settings of the run under way."""
        super().__init__(id=id, classes="pane")
        self._apply = apply
        self.hint = Static(id="hint")  # kept: a measurement may end when the screen is gone
        self.border_title = "Config"
        config = options.resolve()
        self.config: Config | None = config
        self.problems: dict[str, str] = {}
        self.preset = options.preset
        self.run_size = RunSize()
        self.folded = False  # only what matters during a run is shown: its time left is in the status line
        self.fields = Fields(setting_groups(self.preset.name if self.preset else "", config), id="fields")
        for name in options.flags.values:
            self.fields.cells[name].marked = True
        rate = self.fields.cells["learning_rate"]
        rate.note = "schedule", lambda width: draw_schedule(self.config, self.run_size.steps, width)
        # The problems by setting, of each source that finds some; of two about one setting, the later is shown.
        self._found: dict[str, dict[str, str]] = {"run": {}, "text": {}, "values": {}, "preset": {}, "start": {}}
        self._config_file = options.config
        self._measuring = Newest(self)
        self._shown_run: Config | None = None  # whose settings the fields begin with, in place of a preset's
        self._run_config: Config | None = None  # the settings of the run under way

    @property
    def preset_name(self) -> str:
        """The preset that a run comes from; empty where there is none."""
        return self.fields.cells[PRESET].value

    @property
    def label(self) -> str:
        """What names the run's folder: the preset, while the data is still the preset's."""
        if self.preset is None or self.config is None:
            return ""
        with suppress(UserError):  # the preset's data may be no texts at all
            data = SETTINGS["data"].parse(self.preset.layer.values.get("data") or ())
            return self.preset.name if data == self.config.data else ""
        return ""

    def compose(self) -> ComposeResult:
        yield self.fields
        yield self.hint

    def on_mount(self) -> None:
        self._show_hint()
        self._measure_text()

    # Values and problems

    def fill(self, config: Config, preset: str) -> None:
        """Show the settings of a run, which keeps them when its preset is edited."""
        self._found.update(preset={}, text={})
        self.preset, self._shown_run = None, config
        self.fields.offer(PRESET, preset)
        for cell in self.fields.cells.values():
            cell.marked = False
        self.fields.show_values({name: as_text(name, value) for name, value in to_dict(config).items()})
        self._check()

    def refuse(self, problems: Mapping[str, str]) -> None:
        """Show why a start was refused, until a value changes or the next start."""
        flags = {name: f"--{name.replace('_', '-')} " for name in problems}  # the field has its own name
        self._found["start"] = {name: text.removeprefix(flags[name]) for name, text in problems.items()}
        self._show_found()

    def recheck(self, then: Callable[[], object]) -> None:
        """Look whether what was refused before is possible now, then call `then`, unless a value changes meanwhile."""
        self.refuse({})
        if self._found["text"]:
            self._measure_text(then)
        else:
            then()

    def to_problem(self) -> bool:
        """Put the cursor into a field with a problem; returns whether there is one that can be changed now."""
        cells = self.fields.cells
        if name := next((name for name in self.problems if name in cells and not cells[name].disabled), ""):
            self.fields.enter(name)
        return bool(name)

    @on(Fields.Edited)
    def _edited(self, event: Fields.Edited) -> None:
        if event.name == PRESET:
            self._load_preset(self.fields.cells[PRESET].value)
            return
        self._found["run"].pop(event.name, None)
        self._mark(self.fields.cells[event.name])
        self._check()

    def action_reset_field(self) -> None:
        cell = self.fields.current
        if cell.name != PRESET and not cell.disabled:
            self._found["run"].pop(cell.name, None)
            self._show_values_below({cell.name})
            self._mark(cell, reset=True)
            self._check()

    def _show_values_below(self, names: set[str]) -> None:
        values = self._values_below()
        self.fields.show_values({name: as_text(name, values[name]) for name in names})

    def _values_below(self, other: Preset | None = None) -> dict[str, Any]:
        """What the fields have under the user's changes: those of a run or a preset, or of the `other`."""
        if other is None and self._shown_run is not None:
            return to_dict(self._shown_run)
        preset, data = other or self.preset, Layer({"data": as_typed("data", self.fields.cells["data"].value)})
        layers = [preset_layer(preset, data)] if preset is not None else []
        layers += [self._config_file] if other is None else []
        try:
            return to_dict(resolve(*layers))
        except ConfigError:  # the preset is wrong: its values are shown as they are
            values = {name: value for layer in layers for name, value in layer.values.items() if name in SETTINGS}
            return to_dict(Config()) | values

    def _check(self) -> None:
        if self.preset is not None and not self.fields.cells["stride"].marked:
            self._show_values_below({"stride"})  # which depends on the text
        values = {name: as_typed(name, cell.value) for name, cell in self.fields.cells.items() if name != PRESET}
        self.config, self._found["values"], self._found["start"] = None, {}, {}
        try:
            config = resolve(Layer(values))
            self.config = None if self._found["preset"] else config  # no run is named after a broken preset
        except ConfigError as error:
            self._found["values"] = messages_by_setting(error, "data")
        self._show_found()
        self._measure_text()

    def _show_found(self) -> None:
        """Show each problem below its field."""
        self.problems = {name: text for found in self._found.values() for name, text in found.items()}
        self.fields.set_problems(self.problems)
        self._show_hint()
        self.post_message(self.Changed())

    def _load_preset(self, name: str) -> None:
        """Show a preset in the fields that the user has not changed; wrong values as well, each with its problem."""
        try:
            self.preset, self._shown_run, self._config_file = load_preset(name), None, Layer({})
            problems = without_field(self.preset.layer)
            self._show_values_below({name for name in SETTINGS if not self.fields.cells[name].marked})
        except UserError as error:
            problems = str(error).splitlines()
        self._found["preset"] = {PRESET: "; ".join(problems)} if problems else {}
        self._check()

    def changes_by(self, preset: Preset) -> list[tuple[str, str, str]]:
        """Return what loading a preset would change: settings with the values that they have, and would have.

        Fields that the user has changed stay as they are.
        """
        values, cells = self._values_below(preset), self.fields.cells
        rows = [(name, cells[name].value, as_text(name, values[name])) for name in SETTINGS if not cells[name].marked]
        return [row for row in rows if row[1] != row[2]]

    def take_preset(self, name: str) -> None:
        """Load a preset, as if it had been chosen in its field."""
        self.fields.offer(PRESET, name)
        self._load_preset(name)

    @property
    def data_folder(self) -> Path:
        """The folder of the first text that the form names; the current one where no file of the user's is named."""
        for path in split_paths(self.fields.cells["data"].value)[:1]:
            with suppress(UserError):
                found = user_path(path)
                if found.exists():
                    return found if found.is_dir() else found.parent
        return Path.cwd()

    def take_values(self, values: Mapping[str, Any]) -> None:
        """Show values that the user has chosen elsewhere, and mark those that are new."""
        texts = {name: as_text(name, value) for name, value in values.items() if name in SETTINGS}
        for name, text in texts.items():
            if self.fields.cells[name].value != text:
                self._mark(self.fields.cells[name])
        self.fields.show_values(texts)
        self._check()

    def to_yaml(self) -> str:
        """Write the fields as a configuration file, wrong values as they were typed."""
        values: dict[str, Any] = {}
        for name, row in SETTINGS.items():
            values[name] = as_typed(name, self.fields.cells[name].value)
            with suppress(UserError):
                values[name] = row.parse(values[name])
            if isinstance(values[name], tuple):
                values[name] = list(values[name])
        return to_yaml(values)

    # The size of the run

    def _measure_text(self, then: Callable[[], object] = lambda: None) -> None:
        """Read the text, which may be large, in a thread; show how large the run will be, and call `then`."""
        config, data = self.config, self.fields.cells["data"].value

        def read(wanted: Callable[[], bool]) -> RunSize:
            time.sleep(TYPING_PAUSE)
            return measure(data, config) if wanted() else RunSize()

        def show(size: RunSize) -> None:
            self.run_size = size
            self.on_resize()
            problem = size.problem
            if problem and config is not None and missing_known_text(config.data):
                problem = f"{', '.join(config.data)}: not here yet; {keys.named('start')} offers to download it"
            self._found["text"] = {field_of(problem): problem} if problem else {}
            self._show_found()
            then()

        self._measuring.run(read, show)

    def on_resize(self) -> None:
        """Say below the form how large the run is, as much of it as the frame has room for."""
        words = self.run_size.words(self.folded)
        while words and cell_len(" · ".join(words)) > self.size.width - 2:
            words = words[:-1]
        self.border_subtitle = Content.styled(" · ".join(words), "$text-accent")

    # Help for the field in focus

    @on(Fields.Entered)
    def _show_hint(self) -> None:
        name, text = self.fields.current.name if self.fields.entered else "", Content("")
        if name in SETTINGS:
            text = Content.assemble((name, "bold $text-accent"), " ", " ".join(setting_help(SETTINGS[name])))
        elif self.preset:
            about = clean(self.preset.description)
            if self.run_size.duration:
                about = f"{about} As the form has it: {self.run_size.duration} on this machine.".strip()
            text = Content.assemble((clean(self.preset.name), "bold"), " ", (about, FAINT))
        if (warnings := self.run_size.warnings) and name in ("", PRESET, "data", "val_split"):
            more = f" (and {len(warnings) - 1} more in the log at the start)" if warnings[1:] else ""
            text = Content.assemble((f"{clean(warnings[0])}{more}\n", "$text-warning"), text)
        if name and name not in self.problems and (pending := PENDING.get(self.fields.cells[name].pending)):
            text = Content.styled(keys.spell(pending), "$text-warning")
        self.hint.update(text)

    # The run under way

    def follow_run(
        self, locked: Collection[str], running: Config | None, sent: Collection[str], refused: Mapping[str, str]
    ) -> None:
        """Lock what cannot be changed now, and show the settings of a run, but in fields that are being edited.

        Args:
            locked: the settings that cannot be changed now; with any of them the preset, too.
            running: the settings of the run under way as they are now; None: no run takes commands.
            sent: the settings whose change the run has not answered yet.
            refused: why the run refused a change, by setting; its field shows the true value again.
        """
        cells, before, values = self.fields.cells, self._run_config, dict[str, str]()
        for name in LIVE:
            cell = cells[name]
            if running is None:
                cell.marked |= bool(cell.pending)  # the next start makes the change
            elif before is None or name in refused or cell.value == as_text(name, getattr(before, name)):
                values[name] = as_text(name, getattr(running, name))
            if running is not None and (before is None or getattr(before, name) != getattr(running, name)):
                cell.marked = self._values_below()[name] != to_dict(running)[name]
            cell.pending = SENT if name in sent else ""
        self._run_config = running
        found = {name: why for name, why in self._found["run"].items() if name not in sent}  # a new try, a new answer
        found = {**found, **refused} if running is not None else {}  # the next start may do what the run has refused
        if found != self._found["run"]:
            self._found["run"] = found
            self._show_found()
        self.fields.set_disabled({*locked, PRESET} if locked else locked)
        self.fields.submits = running is not None
        if refused or any(cells[name].value != value for name, value in values.items()):
            self.fields.show_values(values)
            self._check()
        self._mark_edits()

    def fold(self, folded: bool) -> None:
        """Show only what matters during a run: the settings that can change, and those that were changed."""
        if folded != self.folded:
            self.folded = folded
            names = [name for name, cell in self.fields.cells.items() if cell.marked or name in LIVE]
            self.fields.show_only(names if folded else None)
            self.on_resize()

    def _mark_edits(self) -> None:
        for name in LIVE:
            cell = self.fields.cells[name]
            if cell.pending != SENT:
                edited = self._run_config is not None and cell.value != as_text(name, getattr(self._run_config, name))
                cell.pending = EDITED if edited else ""
        self.fields.refresh()
        self._show_hint()

    def _mark(self, cell: Cell, *, reset: bool = False) -> None:
        """Mark a cell that the user has changed, or reset to what is below; while a run trains, as pending."""
        if self._run_config is None:
            cell.marked = not reset
        self._mark_edits()

    @on(Fields.Submitted)
    def _submitted(self) -> None:
        """Apply every edit without a problem; where there is no edit, go to the next field."""
        edits = [cell for cell in self.fields.cells.values() if cell.pending == EDITED]
        values = {cell.name: SETTINGS[cell.name].parse(cell.value) for cell in edits if not cell.problem}
        if not edits:
            self.fields.action_step(1)
        if self.fields.current.problem:
            self.fields.scroll_to_current()  # and to what is wrong, which stands below
        self.fields.show_values({name: as_text(name, value) for name, value in values.items()})
        self._mark_edits()
        if changes := {name: value for name, value in values.items() if self.fields.cells[name].pending}:
            self._apply(changes)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without an edit to take back, escape leaves the field."""
        return action != "take_back" or self.fields.current.pending == EDITED

    def action_take_back(self) -> None:
        """Show what the run has in place of an edit."""
        name = self.fields.current.name
        if self._run_config is not None:
            self._found["run"].pop(name, None)
            self.fields.show_values({name: as_text(name, getattr(self._run_config, name))})
            self._check()
            self._mark_edits()
