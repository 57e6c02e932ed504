"""`fundamentallm config`: every setting, its value, and where that came from."""

from dataclasses import replace
from textwrap import wrap
from typing import Any

import click

from fundamentallm.cli.options import FLAGS, Group, GroupedCommand, config_sources, options, typed
from fundamentallm.cli.terminal import columns, width
from fundamentallm.config.config import SETTINGS, Config, flags_layer, origins, resolve, to_dict
from fundamentallm.config.files import to_yaml
from fundamentallm.config.format import format_value
from fundamentallm.errors import UserError
from fundamentallm.process.start import config_layers
from fundamentallm.run.events import to_line
from fundamentallm.untrusted import printable


@click.group(cls=Group)
def command() -> None:
    """Show the settings that a run would have."""


@command.command(cls=GroupedCommand, rows=FLAGS)
@config_sources
@click.option("--json", "as_json", is_flag=True, help="Print JSON: value, origin and help by name.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print YAML that --config reads.")
@options(FLAGS.values())
def show(preset: str | None, config_file: str | None, as_json: bool, as_yaml: bool, **values: Any) -> None:
    """Show every setting, its value and its origin.

    Takes what `fundamentallm train` takes, and trains nothing: DATA, --preset, --config and all flags.
    """
    if as_json and as_yaml:
        raise UserError("--yaml: --json was given too; leave one out")
    flags = typed(values)
    layers = [*config_layers(preset, config_file, flags), flags_layer(flags)]
    config = resolve(*layers)
    if preset is not None:  # its name says more than the path of its file
        lines = {name: place.rsplit(", ", 1)[-1] for name, place in layers[0].places.items()}
        layers[0] = replace(layers[0], places={name: f"preset {preset}, {line}" for name, line in lines.items()})
    found = {name: "argument" if place == "--data" else place for name, place in origins(*layers).items()}
    if as_yaml:
        print(to_yaml(config), end="")
    elif as_json:
        rows = {
            name: {"value": value, "origin": found[name], "help": SETTINGS[name].help}
            for name, value in to_dict(config).items()
        }
        print(to_line(rows))
    else:
        groups = dict.fromkeys(row.group for row in SETTINGS.values())
        print("\n\n".join(_group(config, found, group) for group in groups))


def _group(config: Config, found: dict[str, str], group: str) -> str:
    """The settings of one group: a line each, the help below it."""
    rows = [row for row in SETTINGS.values() if row.group == group]
    cells = []
    for row in rows:
        value = getattr(config, row.name)
        shown = f"auto ({row.auto})" if value is None else format_value(value) or "-"
        cells.append((f"  {row.name}", shown, found[row.name]))
    text = [f"{group}:"]
    for line, row in zip(columns(cells), rows, strict=True):
        text += [line, *wrap(printable(row.help), width() - 8, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return "\n".join(text)
