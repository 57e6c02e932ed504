"""The form: every setting as a field, made from the table and checked while the user types."""

import os
import time
from functools import lru_cache
from itertools import groupby
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve, to_dict
from fundamentallm.config.estimate import TextSize, estimate_size, measure_texts
from fundamentallm.config.files import load_preset, preset_names
from fundamentallm.config.format import format_parameters, format_value
from fundamentallm.data.text import find_data, read_texts, select
from fundamentallm.errors import UserError
from fundamentallm.run.folder import STDIN
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.fields import Cell, Fields, Row
from fundamentallm_tui.state.launch import Options, messages_by_setting
from fundamentallm_tui.theme import FAINT

PRESET = "preset"
FULL_WIDTH = ("data", "output_dir")
LABEL_WIDTHS = (14, 1 + max(map(len, SETTINGS)))  # where there is room, no name is abbreviated
TYPING_PAUSE = 0.15  # seconds without a key before a file is read


class Form(Vertical):
    """Holds the values as typed. `config` is what they make, or None while something is wrong."""

    class Changed(Message):
        """A value, a problem, or what is known of the run's size has changed."""

    def __init__(self, options: Options, config: Config, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.border_title = "Config"
        self.config: Config | None = config
        self.problems: dict[str, str] = {}
        self.preset = options.preset
        self.total_steps = 0  # 0: not known yet
        self.fields = Fields(_rows(self.preset.name if self.preset else "", config), id="fields")
        self._flags = options.flags
        self._preset_problem: dict[str, str] = {}
        self._text_problem: dict[str, str] = {}
        self._value_problems: dict[str, str] = {}
        self._measurement = 0  # the newest one's number; results of older ones are dropped

    @property
    def label(self) -> str:
        """What names the run's folder: the preset, while the data is still the preset's."""
        if self.preset is None or self.config is None:
            return ""
        data = SETTINGS["data"].parse(self.preset.layer.values.get("data") or ())
        return self.preset.name if data == self.config.data else ""

    def compose(self) -> ComposeResult:
        yield self.fields
        yield Static(id="hint")

    def on_mount(self) -> None:
        self._show_hint("")
        self._measure_text()

    # Values and problems

    def fill(self, config: Config, preset: str) -> None:
        """Show the settings of a run, which keeps them when its preset is edited."""
        self._preset_problem, self._text_problem, self.preset = {}, {}, None
        self.fields.show_values({PRESET: preset})
        self.change(to_dict(config))
        self._show_hint("")

    def change(self, values: dict[str, Any]) -> None:
        """Show other values of these settings."""
        self.fields.show_values({name: as_text(name, value) for name, value in values.items()})
        self._check()

    def make_read_only(self, names: set[str]) -> None:
        """Make these settings read-only, and no others; with any of them the preset, too."""
        self.fields.set_disabled({*names, PRESET} if names else names)

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
        else:
            self._check()

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
        self.show_problems({**self._text_problem, **self._value_problems, **self._preset_problem})

    def _load_preset(self, name: str) -> None:
        """Show a preset's values; wrong ones as well, each with its problem, so that the user can correct them."""
        values: dict[str, object] = {}
        problems: list[str] = []  # those that belong to no field
        try:
            self.preset = load_preset(name)
        except UserError as error:
            problems = str(error).splitlines()
        else:
            layer = self.preset.layer
            values = {**to_dict(Config()), **layer.values, **self._flags.values}
            try:
                values = to_dict(resolve(layer, self._flags))
            except ConfigError as error:
                unknown = values.keys() - SETTINGS.keys()
                problems = [str(p) for p in error.problems if p in layer.problems or p.name in unknown]
        self._preset_problem = {PRESET: "; ".join(problems)} if problems else {}
        self.change({name: value for name, value in values.items() if name in SETTINGS})
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
        problem, size, steps = "", "", 0
        try:
            if not data:
                raise UserError("no data: name a text file to learn from")
            text = measure(data, config.include if config is not None else ())
            if config is not None:
                estimate, characters = estimate_size(config, text), sum(text.lengths)
                steps = estimate.total_steps
                size = f"{format_parameters(estimate.parameters)} params · {steps} steps · {characters:,} chars"
        except UserError as error:
            problem = str(error)
        self.app.call_from_thread(self._show_size, number, size, steps, problem)

    def _show_size(self, number: int, size: str, steps: int, problem: str) -> None:
        if number != self._measurement:
            return
        self.border_subtitle = Content.styled(size, "$text-accent")
        self.total_steps = steps
        before, self._text_problem = self._text_problem, {field_of(problem): problem} if problem else {}
        if self._text_problem != before:
            self._show_all_problems()
        else:
            self.post_message(self.Changed())

    # Help for the field in focus

    @on(Fields.Entered)
    def _entered(self, event: Fields.Entered) -> None:
        event.stop()
        self._show_hint(event.name)

    def _show_hint(self, name: str) -> None:
        text = Content("")
        if name in SETTINGS:
            row = SETTINGS[name]
            notes = {"Typical ": row.typical, "auto: ": row.auto, "Too high: ": row.too_high, "Too low: ": row.too_low}
            hint = " ".join([row.help, *(f"{label}{note}." for label, note in notes.items() if note)])
            text = Content.assemble((name, "bold $text-accent"), " ", hint)
        elif self.preset:
            about, expected = self.preset.description, self.preset.expected_time
            if expected:
                about = f"{about} {expected[0].upper()}{expected[1:]}.".strip()
            text = Content.assemble((clean(self.preset.name), "bold"), " ", (clean(about), FAINT))
        self.query_one("#hint", Static).update(text)


def _rows(preset: str, config: Config) -> list[Row]:
    """Return the settings in rows of two, those with paths in rows of their own, each group below its heading."""
    names = preset_names()
    if preset and preset not in names:
        names = [*names, preset]
    rows = [Row([Cell(PRESET, PRESET, preset, tuple(names), "none")], 1, LABEL_WIDTHS)]
    values = to_dict(config)
    for group, settings in groupby(SETTINGS.values(), key=lambda row: row.group):
        cells = []
        for row in settings:
            choices = ("on", "off") if row.kind is bool else row.choices
            empty = "auto" if row.optional else ""
            cells.append(Cell(row.name, row.name, as_text(row.name, values[row.name]), choices, empty))
        half = [cell for cell in cells if cell.name not in FULL_WIDTH]
        pairs = [Row(half[n : n + 2], 2, LABEL_WIDTHS) for n in range(0, len(half), 2)]
        full = [Row([cell], 1, LABEL_WIDTHS) for cell in cells if cell.name in FULL_WIDTH]
        if group == SETTINGS["data"].group:
            rows += full + pairs
        else:
            rows += [Row([], heading=group), *pairs, *full]
    return rows


def measure(paths: tuple[str, ...], include: tuple[str, ...]) -> TextSize:
    """Measure the texts that `paths` stand for.

    Raises:
        UserError: a file cannot be read, or is no text.
    """
    files = [os.stat(find_data(path)) for path in select(paths, include).files if path != STDIN]
    return _measure(paths, include, tuple((file.st_mtime_ns, file.st_size) for file in files))


@lru_cache(maxsize=1)
def _measure(paths: tuple[str, ...], include: tuple[str, ...], _versions: tuple[tuple[int, int], ...]) -> TextSize:
    return measure_texts(read_texts(paths, include))


def field_of(problem: str) -> str:
    """Return the setting whose flag an error names, or "data"."""
    return next((name for name, row in SETTINGS.items() if f"{row.flag} " in problem), "data")


def as_text(name: str, value: object) -> str:
    """Write a value as its field shows it; None is "off" where that is what the setting calls it."""
    return "off" if value is None and SETTINGS[name].auto == "off" else format_value(value)


def _as_typed(name: str, text: str) -> object:
    """Return what a field's text means, as a file or a flag would give it."""
    if SETTINGS[name].kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text
