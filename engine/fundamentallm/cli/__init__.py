"""The command line: one module a command, with its arguments and what it prints, and nothing else.

- A command's module is imported when it is named, and torch when it computes: `--version` and `--help` are instant.
- What the user can put right is one line for each problem on standard error, and exit status 2.
"""

import re
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from fundamentallm import __version__
from fundamentallm.cli.options import Group
from fundamentallm.cli.terminal import complain, drop_output
from fundamentallm.config.config import unknown
from fundamentallm.errors import UserError, describe_error
from fundamentallm.process.system import give_blas_one_thread, open_missing_streams

CONTROL = ("pause", "resume", "save", "stop", "set", "sample", "watch")
ELSEWHERE = {"branch": "train", "bench": "doctor", **dict.fromkeys(CONTROL, "control")}  # modules of similar commands
COMMANDS = (
    "train", "branch", "generate", "evaluate", "export", "score", "find-lr", "presets", "data", "runs", "config",
    "doctor", "bench", "completion", *CONTROL,
)  # fmt: skip


class Commands(Group):
    """Finds a command in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def find(self, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"fundamentallm.cli.{ELSEWHERE.get(name, name).replace('-', '_')}")
        command = module.COMMANDS[name] if name in ELSEWHERE else module.command
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def root() -> None:
    """Train small transformer language models and write with them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Takes the process's own arguments by default."""
    open_missing_streams()
    give_blas_one_thread()
    try:
        for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character shows a stand-in
            getattr(stream, "reconfigure", lambda **_: None)(errors="backslashreplace")
        status = root.main(arguments, prog_name="fundamentallm", standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        complain(str(error))
        return 2
    except click.ClickException as error:
        complain(_usage_error(error))
        return 2
    except (click.Abort, KeyboardInterrupt):
        return 130
    except SystemExit as error:  # a shell's completion, or a signal that came before there was a run
        return error.code if isinstance(error.code, int) else 1
    except OSError as error:  # a disk that is full or gone
        if not isinstance(error, BrokenPipeError):  # the reader of our output has closed it
            complain(f"{error.filename or 'the output'}: {describe_error(error)}")
        drop_output()
        return 1
    return status if isinstance(status, int) else 0


def _usage_error(error: click.ClickException) -> str:
    """Write a usage error as our own errors are: where, what is wrong, what to do."""
    if isinstance(error, click.NoSuchOption):
        parameters = error.ctx.command.params if error.ctx else []
        flags = [flag for parameter in parameters for flag in parameter.opts if flag[0] == "-"]
        return f"{error.option_name}: {unknown('option', error.option_name, flags or ['--help'])}"
    text = re.sub(r"\s*\n\s*", " ", error.format_message()).rstrip(". ")
    ctx = getattr(error, "ctx", None)
    return f"{text}; see {ctx.command_path} --help" if ctx else text
