"""`fundamentallm config`: every setting, its value, and where that came from."""

from dataclasses import replace
from textwrap import wrap
from typing import Any

import click

from fundamentallm.cli.options import FLAGS, Group, GroupedCommand, layers_of, options, sources, typed
from fundamentallm.cli.terminal import columns, plain, width
from fundamentallm.config.config import SETTINGS, Config, flags_layer, origins, resolve, to_dict
from fundamentallm.config.files import to_yaml
from fundamentallm.errors import UserError
from fundamentallm.run.events import to_line


@click.group(cls=Group)
def command() -> None:
    """Show what the settings would be."""


@command.command(cls=GroupedCommand, rows=FLAGS)
@sources
@click.option("--json", "as_json", is_flag=True, help="Print JSON: value, origin and help by name.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Print YAML that --config reads.")
@options(FLAGS.values())
def show(preset: str | None, config_file: str | None, as_json: bool, as_yaml: bool, **values: Any) -> None:
    """Show every setting, its value and its origin.

    Takes what `fundamentallm train` takes, and trains nothing: DATA, --preset, --config and all flags.
    """
    if as_json and as_yaml:
        raise UserError("--yaml: --json was given too; leave one out")
    layers = layers_of(preset, config_file)
    layers.append(flags_layer(typed(values)))
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
        print("\n\n".join(_group(config, found, group) for group in dict.fromkeys(r.group for r in SETTINGS.values())))


def _group(config: Config, found: dict[str, str], group: str) -> str:
    """The settings of one group: a line each, the help below it."""
    rows = [row for row in SETTINGS.values() if row.group == group]
    values = to_dict(config)
    lines = columns((f"  {row.name}", _shown(values[row.name], row.auto), found[row.name]) for row in rows)
    text = [f"{group}:"]
    for line, row in zip(lines, rows, strict=True):
        text += [line, *wrap(plain(row.help), width() - 8, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return "\n".join(text)


def _shown(value: Any, auto: str) -> str:
    if value is None:
        return f"auto ({auto})"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(value) or "-" if isinstance(value, list) else str(value)
