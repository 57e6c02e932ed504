"""Command-line options made from tables of settings, and the values that were typed."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from fundamentallm.config.config import SETTINGS, Layer, unknown
from fundamentallm.config.settings import Setting
from fundamentallm.errors import UserError
from fundamentallm.paths import user_path

Function = Callable[..., Any]
Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
FLAGS = {name: row for name, row in SETTINGS.items() if name != "data"}  # which is an argument
METAVARS: dict[type, str] = {int: "N", float: "X", str: "TEXT"}


def options(rows: Iterable[Setting]) -> Callable[[Function], Function]:
    """One option for each row. None has a default: a value that was not typed is None."""

    def decorate(function: Function) -> Function:
        for row in reversed(list(rows)):
            function = _option(row)(function)
        return function

    return decorate


def typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a person typed."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def parse(rows: Mapping[str, Setting], values: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every row: typed, or its default.

    Raises:
        UserError: with every problem there is.
    """
    parsed = {name: row.default for name, row in rows.items()}
    problems = []
    for name, raw in typed(values).items():
        try:
            parsed[name] = rows[name].parse(raw)
        except UserError as error:
            problems.append(f"{rows[name].flag}: {error}")
    if problems:
        raise UserError("\n".join(problems))
    return parsed


def find_checkpoint(path: str, name: str) -> Path:
    """A checkpoint as a person names it: the file, or the folder of a run, which stands for its file `name`."""
    given = user_path(path)
    return given / name if given.is_dir() else given


# What a shell may complete an argument or option to.


def files(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """A path, as the shell itself finds it."""
    return [CompletionItem(begun, type="file")]


def among(words: Iterable[str]) -> Completion:
    """One of `words`."""
    return lambda _, __, begun: [CompletionItem(word) for word in words if word.startswith(begun)]


def presets(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """A preset's name."""
    from fundamentallm.config.files import preset_names

    return among(preset_names())(ctx, parameter, begun)


def sources(function: Function) -> Function:
    """Where a configuration comes from, beside flags: DATA, --preset and --config."""
    for decorate in (
        click.option(
            "--config",
            "config_file",
            metavar="FILE",
            shell_complete=files,
            help="Start from a YAML file, such as a run's config.yaml.",
        ),
        click.option(
            "--preset",
            metavar="NAME",
            shell_complete=presets,
            help="Start from a preset; `fundamentallm presets` lists them.",
        ),
        click.argument("data", nargs=-1, shell_complete=files),
    ):
        function = decorate(function)
    return function


def layers_of(preset: str | None, config_file: str | None) -> list[Layer]:
    """The layers below the flags, the later winning."""
    from fundamentallm.config.files import load_config, load_preset

    layers = [load_preset(preset).layer] if preset is not None else []
    return layers + ([load_config(user_path(config_file))] if config_file is not None else [])


class Group(click.Group):
    """A command of commands: an unknown one names the nearest, none at all shows the help."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, invoke_without_command=True)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        if found is None and not ctx.resilient_parsing:
            raise UserError(f"{ctx.info_name} {cmd_name}: {unknown('command', cmd_name, self.list_commands(ctx))}")
        return found

    def invoke(self, ctx: click.Context) -> Any:
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            click.echo(ctx.get_help())
        return result


class GroupedCommand(click.Command):
    """Shows the options of settings under the names of their groups."""

    def __init__(self, *args: Any, rows: Mapping[str, Setting], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows = rows

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {row.group: [] for row in self._rows.values()}
        sections["Other"] = []
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                row = self._rows.get(parameter.name or "")
                sections[row.group if row else "Other"].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def _option(row: Setting) -> Callable[[Function], Function]:
    default = row.auto if row.default is None else f"{row.default:g}" if row.kind is float else row.default
    if row.kind is bool:
        default = "on" if row.default else "off"
    notes = [f"typical: {row.typical}"] if row.typical else []
    notes += [f"default: {default}"] if default != "" else []
    text = f"{row.help} [{'; '.join(notes)}]" if notes else row.help
    if row.kind is bool:
        return click.option(row.name, f"{row.flag}/--no-{row.flag[2:]}", default=None, help=text)
    metavar = f"[{'|'.join(row.choices)}]" if row.choices else METAVARS[row.kind]
    complete = among(row.choices) if row.choices else files if row.name in ("output_dir", "log_dir") else None
    return click.option(row.name, row.flag, metavar=metavar, shell_complete=complete, help=text)
