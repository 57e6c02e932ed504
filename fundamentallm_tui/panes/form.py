"""The form: every setting as a field, made from the table and checked while the user types."""

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve, to_dict, unknown
from fundamentallm.config.estimate import TextSize, estimate_size, measure_texts
from fundamentallm.config.files import load_preset, preset_layer, preset_names
from fundamentallm.config.format import format_duration, format_estimate, format_memory, format_parameters, format_value
from fundamentallm.config.schedule import configured_rate
from fundamentallm.data.text import find_data, read_texts, select
from fundamentallm.data.text_stats import validation_warnings
from fundamentallm.errors import UserError
from fundamentallm.run.folder import STDIN
from fundamentallm.run.speed import estimate_seconds
from fundamentallm_tui.format import BARS, clean
from fundamentallm_tui.panes.fields import Cell, Fields, Group
from fundamentallm_tui.panes.paths import join_paths, split_paths
from fundamentallm_tui.state.launch import Options, messages_by_setting
from fundamentallm_tui.theme import FAINT

PRESET = "preset"
LIVE = tuple(name for name, row in SETTINGS.items() if row.live)
EDITED, SENT = "›", "…"  # before a value that the run does not have yet
PENDING = {
    EDITED: "enter applies this from the next step on, esc takes it back",
    SENT: "the run applies this after the step under way",
}
FULL_WIDTH = ("data", "output_dir")
LABEL_WIDTHS = (14, 1 + max(map(len, SETTINGS)))  # where there is room, no name is abbreviated
TYPING_PAUSE = 0.15  # seconds without a key before a file is read


class Form(Vertical):
    """Holds the values as typed. `config` is what they make, or None while something is wrong.

    What the user has typed, or given as a flag, is marked; another preset changes only the other fields. While a run
    is under way, what is typed into a live setting is pending until enter applies it.
    """

    BINDINGS = [
        Binding("ctrl+r", "reset_field", "Reset the field", id="form.reset", show=False),
        Binding("escape", "take_back", "Take the edit back", id="leave", show=False),
    ]

    class Changed(Message):
        """A value, a problem, or what is known of the run's size has changed."""

    @dataclass
    class Applied(Message):
        """The user wants to change these settings of the run under way."""

        values: dict[str, Any]

    def __init__(self, options: Options, config: Config, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.hint = Static(id="hint")  # kept: a measurement may end when the screen is gone
        self.border_title = "Config"
        self.config: Config | None = config
        self.problems: dict[str, str] = {}
        self.preset = options.preset
        self.total_steps = 0  # 0: not known yet
        self._duration = ""  # of the training, in words
        self._warnings: tuple[str, ...] = ()  # why the held-out text would measure little
        self.fields = Fields(_groups(self.preset.name if self.preset else "", config), id="fields")
        for name in options.flags.values:
            self.fields.cells[name].marked = True
        self.fields.cells["learning_rate"].note = self._draw_schedule
        self._run_config: Config | None = None  # the settings of the run under way
        self._folded = False
        self._refused: dict[str, str] = {}  # why it refused a change, by setting
        self._config_file = options.config
        self._shown_run: Config | None = None  # whose settings the fields begin with, in place of a preset's
        self._preset_problem: dict[str, str] = {}
        self._text_problem: dict[str, str] = {}
        self._value_problems: dict[str, str] = {}
        self._measurement = 0  # the newest one's number; results of older ones are dropped

    @property
    def preset_name(self) -> str:
        """The preset that a run comes from; empty where there is none."""
        return self.fields.cells[PRESET].value

    @property
    def label(self) -> str:
        """What names the run's folder: the preset, while the data is still the preset's."""
        if self.preset is None or self.config is None:
            return ""
        data = SETTINGS["data"].parse(self.preset.layer.values.get("data") or ())
        return self.preset.name if data == self.config.data else ""

    def compose(self) -> ComposeResult:
        yield self.fields
        yield self.hint

    def on_mount(self) -> None:
        self._show_hint("")
        self._measure_text()

    # Values and problems

    def fill(self, config: Config, preset: str) -> None:
        """Show the settings of a run, which keeps them when its preset is edited."""
        self._preset_problem, self._text_problem, self.preset = {}, {}, None
        self._shown_run = config
        self.fields.offer(PRESET, preset)
        for cell in self.fields.cells.values():
            cell.marked = False
        self.change(to_dict(config))
        self._show_hint("")

    def change(self, values: dict[str, Any]) -> None:
        """Show other values of these settings."""
        self.fields.show_values({name: as_text(name, value) for name, value in values.items()})
        self._check()

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
            elif before is None or name in refused or cell.value == _applied(before, name):
                values[name] = _applied(running, name)
                cell.marked |= before is not None and before != running and values[name] != cell.value
            cell.pending = SENT if name in sent else ""
        self._run_config = running
        self._refused = {**self._refused, **refused} if running is not None else {}
        self.fields.set_disabled({*locked, PRESET} if locked else locked)
        self.fields.submits = running is not None
        if refused or any(cells[name].value != value for name, value in values.items()):
            self.fields.show_values(values)
            self._check()
        self._mark_edits()

    def fold(self, folded: bool) -> None:
        """Show only what matters during a run: the settings that can change, and those that were changed."""
        if folded != self._folded:
            self._folded = folded
            names = [name for name, cell in self.fields.cells.items() if cell.marked or name in LIVE]
            self.fields.show_only(names if folded else None)

    def _mark_edits(self) -> None:
        for name in LIVE:
            cell = self.fields.cells[name]
            if cell.pending != SENT:
                edited = self._run_config is not None and cell.value != _applied(self._run_config, name)
                cell.pending = EDITED if edited else ""
        self.fields.refresh()
        self._show_hint(self.fields.current.name if self.fields.entered else "")

    @on(Fields.Submitted)
    def _submitted(self, event: Fields.Submitted) -> None:
        """Apply every edit without a problem; where there is no edit, go to the next field."""
        event.stop()
        edits = [cell for cell in self.fields.cells.values() if cell.pending == EDITED]
        values = {cell.name: SETTINGS[cell.name].parse(cell.value) for cell in edits if not cell.problem}
        if not edits:
            self.fields.action_step(1)
        self.fields.show_values({name: as_text(name, value) for name, value in values.items()})
        self._mark_edits()
        values = {name: value for name, value in values.items() if self.fields.cells[name].pending}
        if values:
            self.post_message(self.Applied(values))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without an edit to take back, escape leaves the field."""
        return action != "take_back" or self.fields.current.pending == EDITED

    def action_take_back(self) -> None:
        """Show what the run has in place of an edit."""
        name = self.fields.current.name
        if self._run_config is not None:
            self._refused.pop(name, None)
            self.fields.show_values({name: _applied(self._run_config, name)})
            self._check()
            self._mark_edits()

    def show_problems(self, problems: dict[str, str]) -> None:
        """Show each problem below its field."""
        self.problems = problems
        self.fields.set_problems(problems)
        self.post_message(self.Changed())

    def recheck_text(self) -> None:
        """Check again: a file that was missing is there now."""
        self._text_problem = {}
        self._check()

    def to_problem(self) -> None:
        """Put the cursor into a field with a problem."""
        self.fields.enter(next((name for name in self.problems if name in self.fields.cells), ""))

    @on(Fields.Edited)
    def _edited(self, event: Fields.Edited) -> None:
        event.stop()
        if event.name == PRESET:
            self._load_preset(self.fields.cells[PRESET].value)
            return
        self._refused.pop(event.name, None)
        if self._run_config is not None:
            self._mark_edits()
        else:
            self.fields.cells[event.name].marked = True
        if event.name == "data" and self.preset is not None:
            self._show_unmarked({"stride"})
        self._check()

    def action_reset_field(self) -> None:
        """Give the field in focus its preset's value again."""
        cell = self.fields.current
        if cell.name == PRESET or cell.disabled:
            return
        cell.marked = False
        self._show_unmarked({cell.name})
        if cell.name == "data":
            self._show_unmarked({"stride"})
        self._check()
        self._mark_edits()

    def _show_unmarked(self, names: set[str]) -> None:
        """Show what these fields have while the user does not change them; the others keep what was typed."""
        values = self._values_below()
        self.fields.show_values(
            {name: as_text(name, values[name]) for name in names if not self.fields.cells[name].marked}
        )

    def _values_below(self) -> dict[str, Any]:
        """What the fields have under the user's changes: a run's settings, or a preset's, or the defaults."""
        if self._shown_run is not None:
            return to_dict(self._shown_run)
        data = Layer({"data": _as_typed("data", self.fields.cells["data"].value)})
        layers = [preset_layer(self.preset, data)] if self.preset is not None else []
        layers.append(self._config_file)
        values = to_dict(Config())
        for layer in layers:
            values.update((name, value) for name, value in layer.values.items() if name in SETTINGS)
        try:
            return to_dict(resolve(*layers))
        except ConfigError:  # the preset is wrong: its values are shown as they are
            return values

    def _check(self) -> None:
        values = {name: _as_typed(name, cell.value) for name, cell in self.fields.cells.items() if name != PRESET}
        self.config, self._value_problems = None, {}
        try:
            config = resolve(Layer(values))
        except ConfigError as error:
            self._value_problems = messages_by_setting(error, "data")
        else:
            self.config = None if self._preset_problem else config  # no run is named after a broken preset
        self._show_all_problems()
        self._measure_text()

    def _show_all_problems(self) -> None:
        self.show_problems({**self._refused, **self._text_problem, **self._value_problems, **self._preset_problem})

    def _load_preset(self, name: str) -> None:
        """Show a preset in the fields that the user has not changed; wrong values as well, each with its problem."""
        problems: list[str] = []  # those that belong to no field
        try:
            self.preset, self._shown_run, self._config_file = load_preset(name), None, Layer({})
        except UserError as error:
            problems = str(error).splitlines()
        else:
            layer = self.preset.layer
            problems = [str(p) for p in layer.problems]
            problems += [
                f"{key}: {unknown('setting', key, tuple(SETTINGS))} ({layer.places.get(key, '')})"
                for key in layer.values.keys() - SETTINGS.keys()
            ]
            self._show_unmarked(set(SETTINGS) - {"stride"})
            self._show_unmarked({"stride"})  # which depends on the text that is shown now
        self._preset_problem = {PRESET: "; ".join(problems)} if problems else {}
        self._check()
        self._show_hint(PRESET)

    # The size of the run

    @work(thread=True, exclusive=True)
    def _measure_text(self) -> None:
        """Read the text and show how large the run will be; a file may be large, so on a thread of its own."""
        self._measurement += 1
        number, config = self._measurement, self.config
        data = SETTINGS["data"].parse(_as_typed("data", self.fields.cells["data"].value))
        time.sleep(TYPING_PAUSE)
        if number != self._measurement:
            return
        problem, size, steps, duration = "", "", 0, ""
        warnings: tuple[str, ...] = ()
        try:
            if not data:
                raise UserError("no data: name a text file to learn from")
            text, warnings = measure(data, config or Config())
            if config is not None:
                estimate = estimate_size(config, text)
                seconds = estimate_seconds(config, estimate)
                steps, duration = estimate.total_steps, format_estimate(seconds)
                memory = format_memory(estimate.memory + estimate.text_memory)
                parameters = f"{format_parameters(estimate.parameters)} params"
                size = f"{parameters} · {memory} · {steps} steps · ≈ {format_duration(seconds)}"
        except UserError as error:
            problem = str(error)
        self.app.call_from_thread(self._show_size, number, size, steps, duration, warnings, problem)

    def _show_size(
        self, number: int, size: str, steps: int, duration: str, warnings: tuple[str, ...], problem: str
    ) -> None:
        if number != self._measurement:
            return
        self.border_subtitle = Content.styled(size, "$text-accent")
        self.total_steps, self._duration, self._warnings = steps, duration, warnings
        self._show_hint(self.fields.current.name if self.fields.entered else "")
        self.fields.arrange_lines()
        before, self._text_problem = self._text_problem, {field_of(problem): problem} if problem else {}
        if self._text_problem != before:
            self._show_all_problems()
        else:
            self.post_message(self.Changed())

    def _draw_schedule(self, width: int) -> str:
        """Draw the learning rate over the steps of the run as bars, with the last one in numbers."""
        config, total = self.config, self.total_steps
        if config is None or not total:
            return ""
        end = f" {configured_rate(config, total, total - 1):.3g} at step {total}"
        start = "schedule".ljust(LABEL_WIDTHS[0])
        count = max(2, width - len(start) - len(end))
        rates = [configured_rate(config, total, n * (total - 1) // (count - 1)) for n in range(count)]
        return start + "".join(BARS[round(rate / config.learning_rate * 7)] for rate in rates) + end

    # Help for the field in focus

    @on(Fields.Entered)
    def _entered(self, event: Fields.Entered) -> None:
        event.stop()
        self._show_hint(event.name)

    def _show_hint(self, name: str) -> None:
        text = Content("")
        pending = self.fields.cells[name].pending if name else ""
        if name in SETTINGS:
            row = SETTINGS[name]
            notes = {"Typical ": row.typical, "auto: ": row.auto, "Too high: ": row.too_high, "Too low: ": row.too_low}
            hint = " ".join([row.help, *(f"{label}{note}." for label, note in notes.items() if note)])
            text = Content.assemble((name, "bold $text-accent"), " ", hint)
        elif self.preset:
            about = clean(self.preset.description)
            if self._duration:
                about = f"{about} As the form has it: {self._duration} on this machine.".strip()
            text = Content.assemble((clean(self.preset.name), "bold"), " ", (about, FAINT))
        if self._warnings and name in ("", PRESET, "data", "val_split"):
            more = f" (and {len(self._warnings) - 1} more in the log at the start)" if self._warnings[1:] else ""
            text = Content.assemble((f"{clean(self._warnings[0])}{more}\n", "$text-warning"), text)
        if pending:
            text = Content.assemble((f"{PENDING[pending]}\n", "$text-warning"), text)
        self.hint.update(text)


def _groups(preset: str, config: Config) -> list[Group]:
    """Return the settings as cells, each group of the table below its heading."""
    names = preset_names()
    if preset and preset not in names:
        names = [*names, preset]
    groups = [Group([Cell(PRESET, PRESET, preset, tuple(names), "–", wide=True)], 1, LABEL_WIDTHS)]
    values = to_dict(config)
    for heading, settings in groupby(SETTINGS.values(), key=lambda row: row.group):
        cells = []
        for row in settings:
            choices = ("on", "off") if row.kind is bool else row.choices
            empty = "auto" if row.optional else ""
            wide = row.name in FULL_WIDTH
            cells.append(Cell(row.name, row.name, as_text(row.name, values[row.name]), choices, empty, wide))
        groups.append(Group(cells, 2, LABEL_WIDTHS, heading))
    return groups


def measure(paths: tuple[str, ...], config: Config) -> tuple[TextSize, tuple[str, ...]]:
    """Measure the texts that `paths` stand for, and say why what `config` holds out of them would measure little.

    Raises:
        UserError: a file cannot be read, or is no text.
    """
    files = [os.stat(find_data(path)) for path in select(paths, config.include).files if path != STDIN]
    versions = tuple((file.st_mtime_ns, file.st_size) for file in files)
    split = Config(data=paths, include=config.include, val_split=config.val_split, max_seq_len=config.max_seq_len)
    return _measure(split, versions)


@lru_cache(maxsize=1)
def _measure(split: Config, _versions: tuple[tuple[int, int], ...]) -> tuple[TextSize, tuple[str, ...]]:
    documents = read_texts(split.data, split.include)
    return measure_texts(documents), tuple(validation_warnings(documents, split))


def field_of(problem: str) -> str:
    """Return the setting whose flag an error names, or "data"."""
    return next((name for name, row in SETTINGS.items() if f"{row.flag} " in problem), "data")


def as_text(name: str, value: object) -> str:
    """Write a value as its field shows it; None is "off" where that is what the setting calls it."""
    if isinstance(value, (list, tuple)):
        return join_paths([str(path) for path in value])
    return "off" if value is None and SETTINGS[name].auto == "off" else format_value(value)


def _applied(config: Config, name: str) -> str:
    """Return the text of the field that has the value of a configuration."""
    return as_text(name, getattr(config, name))


def _as_typed(name: str, text: str) -> object:
    """Return what a field's text means, as a file or a flag would give it."""
    if SETTINGS[name].kind is tuple:
        return split_paths(text)
    if name in ("output_dir", "log_dir") and len(paths := split_paths(text)) == 1:
        return paths[0]
    return text
