"""The settings as texts of fields: how a value is written and read, and what is known of the text that it names."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from urllib.parse import unquote, urlsplit

from fundamentallm.config.config import BYTES, CHAR, SETTINGS, Config, Layer, to_dict, unknown
from fundamentallm.config.estimate import TextSize, estimate_size
from fundamentallm.config.files import preset_names
from fundamentallm.config.format import format_duration, format_estimate, format_memory, format_parameters, format_value
from fundamentallm.config.schedule import configured_rate
from fundamentallm.config.settings import Setting
from fundamentallm.data.source import guess_size, is_long, measure_source, read_source
from fundamentallm.data.text import find_data, select
from fundamentallm.data.text_stats import source_warnings
from fundamentallm.errors import UserError, describe_error
from fundamentallm.paths import user_path
from fundamentallm.run.folder import STDIN
from fundamentallm.run.speed import estimate_seconds
from fundamentallm_tui.format import BARS
from fundamentallm_tui.panes.cells import Cell, Group

FILE_URL = "file://"
PRESET = "preset"
FULL_WIDTH = ("data", "output_dir")
LABEL_WIDTHS = (14, 1 + max(map(len, SETTINGS)))  # where there is room, no name is abbreviated


def setting_groups(preset: str, config: Config) -> list[Group]:
    """Return the settings as cells, each group of the table below its heading."""
    names = preset_names()
    if preset and preset not in names:
        names = [*names, preset]
    groups = [Group([Cell(PRESET, PRESET, preset, tuple(names), "–", wide=True)], 1, LABEL_WIDTHS)]
    values = to_dict(config)
    for heading, settings in groupby(SETTINGS.values(), key=lambda row: row.group):
        cells = []
        for row in settings:
            empty = "auto" if row.optional else ""
            switch = ("auto", "on", "off") if row.optional else ("on", "off")
            choices = switch if row.kind is bool else row.choices
            wide = row.name in FULL_WIDTH
            cells.append(Cell(row.name, row.name, as_text(row.name, values[row.name]), choices, empty, wide))
        groups.append(Group(cells, 2, LABEL_WIDTHS, heading))
    return groups


@dataclass(frozen=True)
class RunSize:
    """How large a run would be."""

    steps: int = 0  # 0: not known
    guessed: bool = False  # the steps: only a whole text, cut into tokens, tells how many there are
    duration: str = ""  # of the training, in words
    time: str = ""  # the same, in short
    parameters: str = ""
    memory: str = ""
    warnings: tuple[str, ...] = ()  # why its held-out text would measure little
    problem: str = ""  # why its text cannot be used

    def words(self, under_way: bool) -> list[str]:
        """Return what is said of it; while it is `under_way`, the status line says how long it takes."""
        if not self.steps:
            return []
        steps = f"{'≈ ' * self.guessed}{self.steps} step{'s' * (self.steps > 1)}"
        return [steps, *([] if under_way else [self.time]), self.parameters, self.memory]


def measure(data: str, config: Config | None) -> RunSize:
    """Measure the texts that a field names, and what `config` would make of them, if it is one."""
    split = config or Config()
    try:
        paths: tuple[str, ...] = SETTINGS["data"].parse(as_typed("data", data))
        if not paths:
            raise UserError("no data: name a text file to learn from")
        files = [os.stat(find_data(path)) for path in select(paths, split.include).files if path != STDIN]
        kept = ("include", "text_field", "tokenizer", "vocab_size", "val_split", "max_seq_len")
        split = Config(data=paths, **{name: getattr(split, name) for name in kept})
        text, warnings = _measure(split, tuple((file.st_mtime_ns, file.st_size) for file in files))
        if config is None:
            return RunSize(warnings=warnings)
        estimate = estimate_size(config, text)
    except UserError as error:
        return RunSize(problem=str(error))
    except OSError as error:  # a file that was moved just now
        return RunSize(problem=f"{error.filename}: {describe_error(error)}")
    seconds, memory = estimate_seconds(config, estimate), format_memory(estimate.memory + estimate.text_memory)
    return RunSize(
        steps=estimate.total_steps, guessed=text.mapped or config.tokenizer not in (CHAR, BYTES),
        duration=format_estimate(seconds), time=f"≈ {format_duration(seconds)}",
        parameters=f"{format_parameters(estimate.parameters)} params", memory=memory, warnings=warnings,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _measure(split: Config, _versions: tuple[tuple[int, int], ...]) -> tuple[TextSize, tuple[str, ...]]:
    chosen = select(split.data, split.include)
    if not chosen.problems and is_long(chosen.files):
        return guess_size(split, chosen.files), ()
    source = read_source(split)
    return measure_source(split, source), tuple(source_warnings(source, split))


def field_of(problem: str) -> str:
    """Return the setting whose flag an error names last, where it says what to change; or "data"."""
    named = [name for name, row in SETTINGS.items() if f"{row.flag} " in problem]
    return max(named, key=lambda name: problem.rfind(f"{SETTINGS[name].flag} "), default="data")


def as_text(name: str, value: object) -> str:
    """Write a value as its field shows it; None is "off" where that is what the setting calls it."""
    if isinstance(value, (list, tuple)):
        return join_paths([str(path) for path in value])
    return "off" if value is None and SETTINGS[name].auto == "off" else format_value(value)


def as_typed(name: str, text: str) -> object:
    """Return what a field's text means, as a file or a flag would give it."""
    if SETTINGS[name].kind is tuple:
        return split_paths(text)
    if name in ("output_dir", "log_dir", "tokenizer") and len(paths := split_paths(text)) == 1:
        return paths[0]
    return text


def draw_schedule(config: Config | None, steps: int, width: int) -> str:
    """Draw the learning rate over the steps of the run as bars, with the last one in numbers."""
    if config is None or not steps:
        return ""
    end = f" {configured_rate(config, steps, steps - 1):.3g}"
    if width > 40:
        end += f" at step {steps}"
    count = max(2, width - len(end))
    rates = [configured_rate(config, steps, n * (steps - 1) // (count - 1)) for n in range(count)]
    return "".join(BARS[round(rate / config.learning_rate * 7)] for rate in rates) + end


def setting_help(row: Setting) -> list[str]:
    """Return what is said about a setting, a sentence each."""
    notes = {"Typical ": row.typical, "auto: ": row.auto, "Too high: ": row.too_high, "Too low: ": row.too_low}
    return [row.help, *(f"{label}{note}." for label, note in notes.items() if note)]


def without_field(layer: Layer) -> list[str]:
    """Return what is wrong with a configuration file and belongs to no field."""
    keys = layer.values.keys() - SETTINGS.keys()
    unknowns = [f"{key}: {unknown('setting', key, tuple(SETTINGS))} ({layer.places.get(key, '')})" for key in keys]
    return [*map(str, layer.problems), *unknowns]


# Paths as a field has them: typed, or dropped on the terminal, which writes them as a shell would read them


def split_paths(text: str) -> list[str]:
    """Return the paths in a text.

    - A text that is the path of a file or folder is that path, whatever its name contains.
    - Text with quotes, with backslashes or with `file://` is read as a shell reads words; commas separate, too.
    - In other text, a comma and a space separate paths; a comma alone does so where that gives existing files.
    """
    text = text.strip()
    if not text or _exists(text):
        return [text] if text else []
    pieces = [piece.strip() for piece in text.split(", ")]
    if any(piece.startswith(("'", '"', FILE_URL)) for piece in pieces) or "\\" in text:
        try:
            return [_without_url(word) for word in _shell_words(text)]
        except ValueError:  # a quote that is not closed yet
            pass
    paths = []
    for piece in pieces:
        smaller = [part.strip() for part in piece.split(",")]
        paths += smaller if len(smaller) > 1 and not _exists(piece) and all(map(_exists, smaller)) else [piece]
    return [path for path in paths if path]


def join_paths(paths: Sequence[str]) -> str:
    """Write paths as `split_paths` reads them back."""
    plain = ", ".join(paths)
    if split_paths(plain) == list(paths):
        return plain
    return ", ".join("'" + path.replace("'", "'\\''") + "'" for path in paths)


def _shell_words(text: str) -> list[str]:
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t,", True, ""
    return list(lexer)


def _without_url(word: str) -> str:
    return unquote(urlsplit(word).path) if word.startswith(FILE_URL) else word


def _exists(text: str) -> bool:
    try:
        return user_path(text).exists()
    except (UserError, OSError):
        return False
