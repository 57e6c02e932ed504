"""The command line: one module a command, argument handling and what is printed, nothing else.

- A command's module is imported when it is named, and torch when it computes: `--version` and `--help` are instant.
- What a person can mend is one line for each problem on standard error and exit status 2.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from fundamentallm import __version__
from fundamentallm.cli.terminal import complain, drop_output
from fundamentallm.config.config import unknown
from fundamentallm.errors import UserError
from fundamentallm.process.streams import open_missing_streams

CONTROL = ("pause", "resume", "save", "stop", "set", "sample", "watch")  # in one module: they differ by a word
COMMANDS = ("train", "generate", "evaluate", "presets", "data", "runs", "config", *CONTROL)


class Commands(click.Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:  # a shell completes what is typed so far
                return None
            raise UserError(f"{cmd_name}: {unknown('command', cmd_name, COMMANDS)}")
        if cmd_name in CONTROL:
            command = getattr(import_module("fundamentallm.cli.control"), {"set": "set_"}.get(cmd_name, cmd_name))
        else:
            command = import_module(f"fundamentallm.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def root(ctx: click.Context) -> None:
    """Train small transformer language models and write with them."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Takes the process's own arguments by default."""
    open_missing_streams()
    try:
        for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character shows a stand-in
            getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
        status = root.main(arguments, prog_name="fundamentallm", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        complain(str(error))
        return 2
    except click.ClickException as error:
        complain(_words(error))
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except OSError as error:  # a disk that is full or gone
        if not isinstance(error, BrokenPipeError):  # whoever read our output has had enough
            complain(f"{error.filename or 'the output'}: {error.strerror or error}")
        drop_output()
        return 1
    return status if isinstance(status, int) else 0


def _words(error: click.ClickException) -> str:
    """A usage error in the manner of our own: what, what is wrong, what would be right."""
    if isinstance(error, click.NoSuchOption):
        ctx = error.ctx
        flags = [flag for parameter in (ctx.command.params if ctx else []) for flag in parameter.opts if flag[0] == "-"]
        return f"{error.option_name}: {unknown('option', error.option_name, flags)}"
    text = error.format_message().rstrip(".").replace("\n", " ")
    ctx = getattr(error, "ctx", None)
    return f"{text}; see {ctx.command_path} --help" if ctx else text
