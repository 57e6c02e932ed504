"""Command-line options made from tables of settings, the values that were typed, and the files that they name."""

import sys
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from fundamentallm.config.config import BPE, BYTES, CHAR, SETTINGS, unknown
from fundamentallm.config.format import format_value
from fundamentallm.config.settings import BOOLEANS, Setting, parse_all
from fundamentallm.errors import UserError, system_errors
from fundamentallm.paths import user_path
from fundamentallm.run.folder import INPUT, NOTES, OWN, holds_run, write_atomic
from fundamentallm.untrusted import open_regular_file

Function = Callable[..., Any]
Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
FLAGS = {name: row for name, row in SETTINGS.items() if name != "data"}  # which is an argument
METAVARS: dict[type, str] = {int: "N", float: "X", str: "TEXT", tuple: "TEXT"}


def options(rows: Iterable[Setting]) -> Callable[[Function], Function]:
    """Add one option for each row. None has a default: the value of an option that was not typed is None."""

    def decorate(function: Function) -> Function:
        for row in reversed(list(rows)):
            function = _option(row)(function)
        return function

    return decorate


def config_sources(function: Function) -> Function:
    """Add what a configuration is made of, beside flags: DATA, --preset and --config."""
    config = click.option(
        "--config", "config_file", metavar="FILE", shell_complete=files,
        help="Start from a YAML file, such as a run's config.yaml.",
    )  # fmt: skip
    preset = click.option(
        "--preset", metavar="NAME", shell_complete=presets,
        help="Start from a preset; `fundamentallm presets` lists them.",
    )  # fmt: skip
    return click.argument("data", nargs=-1, shell_complete=files)(preset(config(function)))


def typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Select what the user typed."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def parse(rows: Mapping[str, Setting], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of every row: as typed, or its default. A UserError has every problem there is."""
    return parse_all(rows, typed(values), flags=True)


def read_prompt(prompt: str) -> str:
    """Return the text that `--prompt` stands for, as training text is read; "-" is standard input, to its end."""
    from fundamentallm.data.text import normalize_prompt

    if prompt != "-":
        return normalize_prompt(prompt, "--prompt")
    text = sys.stdin.buffer.read().decode(errors="surrogateescape")
    return normalize_prompt(text, "--prompt -: standard input").removesuffix("\n")


# ---- files that the user names ----


def output_path(flag: str, name: str | None, begins: str | None = None) -> Path | None:
    """Return the path of a file that will be written, once it is clear that it may be; None if it was not typed.

    A run's own files and checkpoints are refused, and a file that does not begin with `begins`, as the new one will; ""
    refuses every file that is not empty.
    """
    if name is None:
        return None
    path = user_path(name)
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"{flag} {name}: {'is a folder' if path.is_dir() else 'its folder does not exist'}")
    real = path.resolve()
    folded = real.name.lower()  # as systems that fold case have it
    of_run = holds_run(real.parent) and any(fnmatchcase(folded, own) for own in (*OWN, NOTES, INPUT))
    if of_run or (folded.endswith((".pt", ".safetensors")) and real.exists()):
        raise UserError(f"{flag} {name}: is a file of a {'run' if of_run else 'model'}; name another file")
    if begins is not None and real.is_file():
        with system_errors(f"{flag} {name}: cannot be read"), open_regular_file(real) as file:
            there = file.read(len(begins) or 1)
        if there not in (b"", begins.encode()):
            holds = "holds something else" if begins else "is not empty"
            raise UserError(f"{flag} {name}: is there already and {holds}; name another file")
    return path


def write_output(flag: str, path: Path, text: str) -> None:
    """Write the file that a flag or command named, and `output_path` has allowed; other names of an old one keep it."""
    with system_errors(f"{flag} {path}: cannot be written"):
        if path.exists() and not path.is_file():  # a device or a pipe
            path.write_text(text, encoding="utf-8", newline="")
        else:
            write_atomic(path.resolve(), text)


# ---- what a shell may complete an argument or option to ----


def files(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete to a path, as the shell itself does."""
    return [CompletionItem(begun, type="file")]


def among(words: Iterable[str]) -> Completion:
    """Make a completion to one of `words`."""
    return lambda _, __, begun: [CompletionItem(word) for word in words if word.startswith(begun)]


def presets(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete to the name of a preset."""
    from fundamentallm.config.files import preset_names

    return among(preset_names())(ctx, parameter, begun)


def tokenizers(ctx: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Complete to a kind of tokenizer, or the path of one. The path comes first: bash drops what stands before it."""
    return [*files(ctx, parameter, begun), *among((CHAR, BYTES, BPE))(ctx, parameter, begun)]


devices = among(("auto", "cpu", "cuda", "mps"))
COMPLETIONS = {"output_dir": files, "log_dir": files, "tokenizer": tokenizers, "device": devices}  # by setting


# ---- commands ----


class Count(click.IntRange):
    """A whole number within bounds, which click would call an integer range."""

    name = "whole number"


class Group(click.Group):
    """A command of commands: an unknown one names the nearest, none at all shows the help."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, invoke_without_command=True)

    def find(self, name: str) -> click.Command | None:
        """Find a command by its name."""
        return self.commands.get(name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = self.find(cmd_name)
        if found is None and not ctx.resilient_parsing:  # which means that a shell completes what is typed so far
            group = f"{ctx.info_name} " if ctx.parent else ""
            raise UserError(f"{group}{cmd_name}: {unknown('command', cmd_name, self.list_commands(ctx))}")
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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line. A flag that may stand alone takes the next argument only if that is a value of it."""
        options = args[: args.index("--")] if "--" in args else args
        for row in (row for row in self._rows.values() if row.flag_values):
            opposite = f"--no-{row.flag[2:]}"
            for i, (arg, following) in enumerate(zip(options, [*options[1:], ""], strict=False)):
                if arg == row.flag and following.lower() not in (*row.flag_values, *BOOLEANS):
                    args[i] = f"{row.flag}=on"
                elif arg == opposite:  # as it was before there was auto
                    args[i] = f"{row.flag}=off"
        return super().parse_args(ctx, args)

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
    default = row.auto if row.default is None else format_value(row.default)
    notes = [f"typical: {row.typical}"] if row.typical else []
    notes += [f"default: {default}"] if default else []
    text = f"{row.help} [{'; '.join(notes)}]" if notes else row.help
    if row.kind is bool and not row.flag_values:
        return click.option(row.name, f"{row.flag}/{row.as_flag(False)}", default=None, help=text)
    metavar, complete = METAVARS.get(row.kind), COMPLETIONS.get(row.name)
    if values := row.choices or row.flag_values:
        metavar, complete = f"[{'|'.join(values)}]", among(values)
    several = row.kind is tuple  # the option may be given several times
    return click.option(row.name, row.flag, metavar=metavar, shell_complete=complete, multiple=several, help=text)
