"""The form: every setting as a field, made from the table, checked as one types."""

import time
from collections.abc import Iterator
from itertools import groupby

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantBlur, DescendantFocus
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, Label, Select, Static

from fundamentallm.config import SETTINGS, Config, ConfigError, Layer, resolve, to_dict
from fundamentallm.errors import UserError
from fundamentallm.estimate import estimate_size
from fundamentallm.presets import load_preset, preset_names
from fundamentallm_tui.fields import ChoiceField, Field, TextField
from fundamentallm_tui.launch import Options, by_setting
from fundamentallm_tui.measure import measure
from fundamentallm_tui.words import clean, clip, millions, shown

FULL_WIDTH = ("data", "output_dir")
LABEL_WIDTH = 14
THINKING = 0.15  # seconds without a key before a file is read


class Form(Vertical):
    """Holds the values as typed. `config` is what they make, or None while something is wrong."""

    class Changed(Message):
        """A value, or what is wrong with one, has changed."""

    def __init__(self, options: Options, config: Config, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.border_title = "Config"
        self.config: Config | None = config
        self.problems: dict[str, str] = {}
        self.preset = options.preset
        self.fields: dict[str, Field] = {}
        self._flags = options.flags
        self._notes: dict[str, Static] = {}
        self._shown_values: dict[str, str] = {name: shown(value) for name, value in to_dict(config).items()}
        self.total_steps = 0  # what the run would take; 0 until that is known
        self._text_problem: dict[str, str] = {}
        self._reading = 0

    @property
    def label(self) -> str:
        """What names the folder of a run: the preset, if the data is still the preset's."""
        if self.preset is None or self.config is None:
            return ""
        data = SETTINGS["data"].parse(self.preset.layer.values.get("data") or ())
        return self.preset.name if data == self.config.data else ""

    # Composition

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="fields", can_focus=False):
            yield from self._preset_row()
            for group, rows in groupby(SETTINGS.values(), key=lambda row: row.group):
                names = [row.name for row in rows]
                if group != SETTINGS["data"].group:
                    yield Static(Content.styled(f"{group}", "$foreground 60%"), classes="group")
                yield from self._rows(names)
        yield Static(id="size", markup=False)
        yield Static(id="hint")

    def _preset_row(self) -> Iterator[Widget]:
        with Horizontal(classes="row"):
            yield Label("preset", classes="label")
            names = preset_names()
            value = self.preset.name if self.preset else Select.NULL
            options = [(clean(name), name) for name in names]
            yield Select(options, prompt="none", value=value, id="preset", compact=True)

    def _rows(self, names: list[str]) -> Iterator[Widget]:
        pairs = [name for name in names if name not in FULL_WIDTH]
        lines = [[name] for name in names if name in FULL_WIDTH and name == "data"]
        lines += [pairs[n : n + 2] for n in range(0, len(pairs), 2)]
        lines += [[name] for name in names if name in FULL_WIDTH and name != "data"]
        for line in lines:
            with Horizontal(classes="row"):
                for name in line:
                    yield Label(clip(name, LABEL_WIDTH - 1), classes="label", markup=False)
                    yield self._field(name)
                if len(line) == 1 and line[0] not in FULL_WIDTH:
                    yield Label("", classes="label")
                    yield Label("", classes="filler")

    def _field(self, name: str) -> Widget:
        row, value = SETTINGS[name], self._shown_values[name]
        field: Field
        if row.choices or row.kind is bool:
            field = ChoiceField(name, row.choices or ("on", "off"), value)
        else:
            field = TextField(name, value, placeholder="auto" if row.optional else "")
        self.fields[name] = field
        return field

    def on_mount(self) -> None:
        self._hint("")
        self._measure()

    # Values

    def fill(self, config: Config) -> None:
        """Show the values of a configuration."""
        with self.prevent(Input.Changed, ChoiceField.Changed):
            for name, value in to_dict(config).items():
                self.fields[name].value = shown(value)
        self._check()

    def make_read_only(self, names: set[str], *, preset: bool) -> None:
        """Make these settings read-only, and no others."""
        for name, field in self.fields.items():
            field.disabled = name in names
        self.query_one("#preset", Select).disabled = preset

    def show_problems(self, problems: dict[str, str]) -> None:
        """Put the words of each problem beside its field."""
        self.problems = problems
        for name, field in self.fields.items():
            field.set_class(name in problems, "-wrong")
            note = self._notes.get(name)
            if name in problems:
                words = clean(f"{name}: {problems[name]}" if not problems[name].startswith(name) else problems[name])
                if note is None:
                    note = self._notes[name] = Static(words, classes="note", markup=False)
                    self.query_one("#fields").mount(note, after=field.parent)  # type: ignore[arg-type]
                else:
                    note.update(words)
            if note is not None:
                note.display = name in problems
        self.post_message(self.Changed())

    def focus_first(self) -> None:
        """Put the cursor into the first field."""
        self.fields["data"].focus()

    def to_problem(self) -> None:
        """Put the cursor where something is wrong."""
        name = next(iter(self.problems), "")
        if name in self.fields:
            self.fields[name].focus()

    @on(Input.Changed)
    @on(ChoiceField.Changed)
    def _changed(self, event: Message) -> None:
        event.stop()
        self._check()

    def _check(self) -> None:
        values = {name: _raw(name, field.value) for name, field in self.fields.items()}
        try:
            self.config = resolve(Layer(values))
        except ConfigError as error:
            self.config = None
            self.show_problems(by_setting(error))
            return
        self.show_problems(self._text_problem)
        self._measure()

    @on(Select.Changed, "#preset")
    def _preset_chosen(self, event: Select.Changed) -> None:
        event.stop()
        name = event.value
        if not isinstance(name, str) or (self.preset is not None and name == self.preset.name):
            return
        try:
            self.preset = load_preset(name)
            config = resolve(self.preset.layer, self._flags)
        except UserError as error:
            self.show_problems({"data": str(error)})
            return
        self.fill(config)
        self._hint("")

    # What it will amount to

    @work(thread=True, exclusive=True)
    def _measure(self) -> None:
        """Read the text and say how large the run will be; a file may be large, so not on the screen's thread."""
        self._reading += 1
        number, config = self._reading, self.config
        time.sleep(THINKING)
        if config is None or number != self._reading:
            return
        problem, size, steps = "", "", 0
        try:
            if not config.data:
                raise UserError("no data: name a text file to learn from")
            measured = measure(config.data)
            told = estimate_size(config, measured.characters, measured.vocab_size)
            steps = told.total_steps
            size = f"{millions(told.parameters)} params · {steps} steps · {measured.characters:,} chars"
        except UserError as error:
            problem = str(error)
        self.app.call_from_thread(self._measured, number, size, steps, problem)

    def _measured(self, number: int, size: str, steps: int, problem: str) -> None:
        if number != self._reading:
            return
        self.query_one("#size", Static).update(size)
        self.total_steps = steps
        self._text_problem = {field_of(problem): problem} if problem else {}
        if self.config is not None and self.problems != self._text_problem:
            self.show_problems(self._text_problem)
        else:
            self.post_message(self.Changed())

    # Help for the field in focus

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        self._hint(getattr(event.widget, "setting", ""))

    def on_descendant_blur(self, _: DescendantBlur) -> None:
        self._hint("")

    def _hint(self, name: str) -> None:
        if name in SETTINGS:
            row = SETTINGS[name]
            words = [row.help]
            words += [f"Typical {row.typical}."] if row.typical else []
            words += [f"auto: {row.auto}."] if row.auto else []
            words += [f"Too high: {row.too_high}."] if row.too_high else []
            words += [f"Too low: {row.too_low}."] if row.too_low else []
            text = Content.assemble((name, "bold $accent"), " ", " ".join(words))
        elif self.preset:
            about = " ".join(filter(None, (self.preset.description, _sentence(self.preset.expected_time))))
            text = Content.assemble((clean(self.preset.name), "bold"), " ", (clean(about), "$foreground 60%"))
        else:
            text = Content("")
        self.query_one("#hint", Static).update(text)


def field_of(problem: str) -> str:
    """The setting beside which the words of an error belong: the one whose flag they name."""
    return next((name for name, row in SETTINGS.items() if f"{row.flag} " in problem), "data")


def _raw(name: str, text: str) -> object:
    """What a field's text stands for, as a file or a flag would say it."""
    if SETTINGS[name].kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." if text else ""
