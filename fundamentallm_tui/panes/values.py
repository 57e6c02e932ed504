"""The settings as texts of fields: how a value is written and read, and what is known of the text that it names."""

import os
from functools import lru_cache
from itertools import groupby

from fundamentallm.config.config import SETTINGS, Config, to_dict
from fundamentallm.config.estimate import TextSize, measure_texts
from fundamentallm.config.files import preset_names
from fundamentallm.config.format import format_value
from fundamentallm.data.text import find_data, read_texts, select
from fundamentallm.data.text_stats import validation_warnings
from fundamentallm.run.folder import STDIN
from fundamentallm_tui.panes.cells import Cell, Group
from fundamentallm_tui.panes.paths import join_paths, split_paths

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


def as_typed(name: str, text: str) -> object:
    """Return what a field's text means, as a file or a flag would give it."""
    if SETTINGS[name].kind is tuple:
        return split_paths(text)
    if name in ("output_dir", "log_dir") and len(paths := split_paths(text)) == 1:
        return paths[0]
    return text
