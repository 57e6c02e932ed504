"""The form: every setting as a field, made from the table, checked as one types."""

import time
from itertools import groupby
from typing import Any

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve, to_dict
from fundamentallm.config.estimate import estimate_size
from fundamentallm.config.files import load_preset, preset_names
from fundamentallm.config.format import format_parameters, format_value
from fundamentallm.errors import UserError
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.fields import Cell, Fields, Row
from fundamentallm_tui.panes.measure import measure
from fundamentallm_tui.state.launch import Options, messages_by_setting

PRESET = "preset"
WHOLE_LINE = ("data", "output_dir")
LABELS = (14, 1 + max(map(len, SETTINGS)))  # columns; where there is room, no name is abbreviated
THINKING = 0.15  # seconds without a key before a file is read


class Form(Vertical):
    """Holds the values as typed. `config` is what they make, or None while something is wrong."""

    class Changed(Message):
        """A value, what is wrong with one, or what is known of the run's size has changed."""

    def __init__(self, options: Options, config: Config, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.border_title = "Config"
        self.config: Config | None = config
        self.problems: dict[str, str] = {}
        self.preset = options.preset
        self.total_steps = 0  # what the run would take; 0 until that is known
        self.fields = Fields(_rows(self.preset.name if self.preset else "", config), id="fields")
        self._flags = options.flags
        self._preset_problem: dict[str, str] = {}
        self._text_problem: dict[str, str] = {}
        self._value_problems: dict[str, str] = {}
        self._reading = 0

    @property
    def label(self) -> str:
        """What names the folder of a run: the preset, if the data is still the preset's."""
        if self.preset is None or self.config is None:
            return ""
        data = SETTINGS["data"].parse(self.preset.layer.values.get("data") or ())
        return self.preset.name if data == self.config.data else ""

    def compose(self) -> ComposeResult:
        yield self.fields
        yield Static(id="hint")

    def on_mount(self) -> None:
        self._hint("")
        self._measure()

    # Values

    def fill(self, config: Config, preset: str) -> None:
        """Show the values of a run, which are its own even where they began as a preset's."""
        self._preset_problem, self._text_problem, self.preset = {}, {}, None
        self.fields.show_values(
            {PRESET: preset, **{name: as_text(name, value) for name, value in to_dict(config).items()}}
        )
        self._check()
        self._hint("")

    def change(self, values: dict[str, Any]) -> None:
        """Show other values of these settings."""
        self.fields.show_values({name: as_text(name, value) for name, value in values.items()})
        self._check()

    def make_read_only(self, names: set[str], *, preset: bool) -> None:
        """Make these settings read-only, and no others."""
        self.fields.set_disabled(names | ({PRESET} if preset else set()))

    def show_problems(self, problems: dict[str, str]) -> None:
        """Put the words of each problem beside its field."""
        self.problems = problems
        self.fields.set_problems(problems)
        self.post_message(self.Changed())

    def text_came(self) -> None:
        """A file that was missing is there now."""
        self._text_problem = {}
        self._check()

    def to_problem(self) -> None:
        """Put the cursor where something is wrong."""
        self.fields.enter(next((name for name in self.problems if name in self.fields.cells), ""))

    @on(Fields.Edited)
    def _edited(self, event: Fields.Edited) -> None:
        event.stop()
        if event.name == PRESET:
            self._preset_chosen(self.fields.cells[PRESET].value)
        else:
            self._check()

    def _check(self) -> None:
        values = {name: _raw(name, cell.value) for name, cell in self.fields.cells.items() if name != PRESET}
        self.config, self._value_problems = None, {}
        try:
            config = resolve(Layer(values))
        except ConfigError as error:
            self._value_problems = messages_by_setting(error, "data")
        else:
            self.config = None if self._preset_problem else config  # nothing is trained under a broken preset's name
        self._show_all()
        self._measure()

    def _show_all(self) -> None:
        self.show_problems({**self._text_problem, **self._value_problems, **self._preset_problem})

    def _preset_chosen(self, name: str) -> None:
        """Fill in a preset's values; wrong ones too, each with its problem, so that they can be mended here."""
        values: dict[str, object] = {}
        strange: list[str] = []
        try:
            self.preset = load_preset(name)
        except UserError as error:
            strange = str(error).splitlines()
        else:
            values = {**to_dict(Config()), **self.preset.layer.values, **self._flags.values}
            try:
                values = to_dict(resolve(self.preset.layer, self._flags))
            except ConfigError as error:
                file = {*self.preset.layer.problems}
                unknown = values.keys() - SETTINGS.keys()
                strange = [str(problem) for problem in error.problems if problem in file or problem.name in unknown]
        self._preset_problem = {PRESET: "; ".join(strange)} if strange else {}
        self.fields.show_values({name: as_text(name, value) for name, value in values.items() if name in SETTINGS})
        self._check()
        self._hint(PRESET)

    # What it will amount to

    @work(thread=True, exclusive=True)
    def _measure(self) -> None:
        """Read the text and say how large the run will be; a file may be large, so not on the screen's thread."""
        self._reading += 1
        number, config = self._reading, self.config
        data = SETTINGS["data"].parse(_raw("data", self.fields.cells["data"].value))
        time.sleep(THINKING)
        if number != self._reading:
            return
        problem, size, steps = "", "", 0
        try:
            if not data:
                raise UserError("no data: name a text file to learn from")
            measured = measure(data)
            if config is not None:
                told = estimate_size(config, measured.lengths, measured.vocab_size)
                steps = told.total_steps
                size = f"{format_parameters(told.parameters)} params · {steps} steps · {sum(measured.lengths):,} chars"
        except UserError as error:
            problem = str(error)
        self.app.call_from_thread(self._measured, number, size, steps, problem)

    def _measured(self, number: int, size: str, steps: int, problem: str) -> None:
        if number != self._reading:
            return
        self.border_subtitle = Content.styled(size, "$text-accent")
        self.total_steps = steps
        before, self._text_problem = self._text_problem, {field_of(problem): problem} if problem else {}
        if self._text_problem != before:
            self._show_all()
        else:
            self.post_message(self.Changed())

    # Help for the field in focus

    @on(Fields.Entered)
    def _entered(self, event: Fields.Entered) -> None:
        event.stop()
        self._hint(event.name)

    def _hint(self, name: str) -> None:
        if name in SETTINGS:
            row = SETTINGS[name]
            words = [row.help]
            words += [f"Typical {row.typical}."] if row.typical else []
            words += [f"auto: {row.auto}."] if row.auto else []
            words += [f"Too high: {row.too_high}."] if row.too_high else []
            words += [f"Too low: {row.too_low}."] if row.too_low else []
            text = Content.assemble((name, "bold $text-accent"), " ", " ".join(words))
        elif self.preset:
            about = " ".join(filter(None, (self.preset.description, _sentence(self.preset.expected_time))))
            text = Content.assemble((clean(self.preset.name), "bold"), " ", (clean(about), "$foreground 60%"))
        else:
            text = Content("")
        self.query_one("#hint", Static).update(text)


def _rows(preset: str, config: Config) -> list[Row]:
    """The table as rows of two, paths on lines of their own."""
    names = preset_names()
    chosen = Cell(PRESET, PRESET, preset, tuple(names if preset in (*names, "") else [*names, preset]), "none")
    rows = [Row([chosen], 1, LABELS)]
    values = to_dict(config)
    for group, settings in groupby(SETTINGS.values(), key=lambda row: row.group):
        cells = []
        for row in settings:
            choices = row.choices or (("on", "off") if row.kind is bool else ())
            cells.append(
                Cell(row.name, row.name, as_text(row.name, values[row.name]), choices, "auto" if row.optional else "")
            )
        narrow = [cell for cell in cells if cell.name not in WHOLE_LINE]
        pairs = [Row(narrow[n : n + 2], 2, LABELS) for n in range(0, len(narrow), 2)]
        whole = [Row([cell], 1, LABELS) for cell in cells if cell.name in WHOLE_LINE]
        if group == SETTINGS["data"].group:
            rows += whole + pairs
        else:
            rows += [Row([], heading=group), *pairs, *whole]
    return rows


def field_of(problem: str) -> str:
    """The setting beside which the words of an error belong: the one whose flag they name."""
    return next((name for name, row in SETTINGS.items() if f"{row.flag} " in problem), "data")


def as_text(name: str, value: object) -> str:
    """A value as its field shows it; nothing stands for "off" where the program chooses nothing."""
    return "off" if value is None and SETTINGS[name].auto == "off" else format_value(value)


def _raw(name: str, text: str) -> object:
    """What a field's text stands for, as a file or a flag would say it."""
    if SETTINGS[name].kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text else ""
