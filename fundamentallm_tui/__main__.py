"""The command `fllm-tui`. Imports little at the top, because a worker's process imports this module again."""

import argparse
import codecs
import gc
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pathlib import Path

    from fundamentallm_tui.state.launch import Options


COMMANDS = ("attach", "replay")
SSH = "ssh://"
HOST = re.compile(r"(?:[^\s@:-][^\s@:]*@)?(?:[A-Za-z0-9_.][\w.-]*|\[[\w:.%]+\])(?::(?P<port>\d{1,5}))?", re.ASCII)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _print_error(f"fllm-tui: {message}; fllm-tui --help lists the options")
        self.exit(2)


def main(arguments: list[str] | None = None) -> int:
    """Open the console. Returns the exit status where it cannot be opened; else the process ends with the console's."""
    try:
        return _open(arguments)
    except KeyboardInterrupt:  # while the modules are imported: later it is a key
        return 130


def _open(arguments: list[str] | None) -> int:
    from fundamentallm.process.system import give_blas_one_thread, open_missing_streams

    open_missing_streams()
    give_blas_one_thread()
    from fundamentallm.errors import UserError

    flags = _parse(arguments)
    if flags.command == "attach" and (flags.run or "").startswith(SSH):
        return _attach_over_ssh(flags.run, flags.low_bandwidth)
    try:
        options = _options(flags)
        options.resolve()  # what is wrong is said before Textual has the terminal
    except UserError as error:
        _print_error(str(error))
        return 2
    screen = sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()  # Textual draws on the last
    if not screen or os.environ.get("TERM") == "dumb":
        _print_error("fllm-tui: needs a terminal that can show it; without one, use `fundamentallm train`")
        return 2
    if (encoding := _terminal_encoding()) != "utf-8":
        advice = "choose a locale such as C.UTF-8 (LC_ALL), or use `fundamentallm train`"
        _print_error(f"fllm-tui: the console draws with UTF-8, and this terminal has {encoding}; {advice}")
        return 2
    _run(options, flags.low_bandwidth)


def _attach_over_ssh(address: str, low_bandwidth: bool) -> int:
    """Become the system's ssh, which opens the console on the machine that has the run; returns if that cannot be."""
    from fundamentallm.paths import quoted

    host, _, path = address.removeprefix(SSH).partition("/")
    valid = HOST.fullmatch(host)  # else ssh would print its usage, or take it for an option
    if not valid or not 1 <= int(valid["port"] or 22) <= 65535 or not path:
        _print_error(f"{address}: is no address of a run; write {SSH}HOST/PATH or {SSH}USER@HOST:PORT/PATH")
        return 2
    path = path if path.startswith("~") else f"/{path}"
    there = f"fllm-tui attach {quoted(path)}{' --low-bandwidth' * low_bandwidth}"
    try:
        os.execvp("ssh", ["ssh", "-t", SSH + host, there])
    except OSError as error:
        _print_error(f"ssh: cannot be started ({error.strerror}); OpenSSH's client is needed for {address}")
    return 2


def _terminal_encoding() -> str:
    """Return the encoding that Python writes in, and where that is UTF-8 the one that the locale names.

    Python writes UTF-8 in the C locale, and in one that is not installed.
    """
    encoding = codecs.lookup(sys.stderr.encoding).name
    locale = next((os.environ[name] for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), "")
    named = "ascii" if locale in ("C", "POSIX") else locale.partition(".")[2].partition("@")[0]
    with suppress(LookupError):
        named = codecs.lookup(named).name
    return named if named and encoding == "utf-8" else encoding


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    from fundamentallm import __version__

    parser = _Parser(prog="fllm-tui", description="Train small transformer language models and watch them learn.")
    parser.add_argument("--preset", metavar="NAME", help="start from a preset: tiny, small, medium, large, or your own")
    parser.add_argument("--config", metavar="FILE", help="start from a YAML file, such as a run's config.yaml")
    usual = "that of the preset or the configuration; without these options, the one chosen for the last run"
    parser.add_argument("--data", metavar="PATH", help=f"a text file or folder to train on (default: {usual})")
    usual = "runs/<preset or data>-<n>"
    parser.add_argument("--output-dir", metavar="DIR", help=f"the folder of the run (default: {usual})")
    parser.add_argument("--start", action="store_true", help="start training at once")
    slow = "redraw every two seconds, charts every ten: for a slow line"
    parser.add_argument("--low-bandwidth", action="store_true", help=slow)
    parser.add_argument("--version", action="version", version=f"fllm-tui {__version__}")
    fast = "how many times as fast replay is (default: 20)"
    parser.add_argument("--speed", type=_speed, default=20.0, metavar="N", help=fast)
    attach = "attach: watch and control a run of another process, or view an old one; replay: play a run back"
    parser.add_argument("command", nargs="?", metavar="attach | replay", help=f"{attach}; left out before RUN: attach")
    run = f"its folder, its name below runs, or {SSH}HOST/PATH; left out: the only one under way, else the list"
    parser.add_argument("run", nargs="?", metavar="RUN", help=run)
    flags = parser.parse_intermixed_args(arguments)
    if flags.command not in (None, *COMMANDS) and flags.run is None:
        flags.command, flags.run = "attach", flags.command
    if flags.command not in (None, *COMMANDS):
        parser.error(f"{flags.command} is no command")
    if flags.command == "replay" and flags.run is None:
        parser.error("replay needs a RUN")
    return flags


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.01 <= speed <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text}: must be a number from 0.01 to 1000000")
    return speed


def _options(flags: argparse.Namespace) -> "Options":
    from fundamentallm.config.config import Layer, flags_layer
    from fundamentallm.config.files import load_config, load_preset
    from fundamentallm.paths import user_path
    from fundamentallm_tui.state.launch import Options
    from fundamentallm_tui.state.preferences import is_first_session, last_data

    attach = _find_run(flags)
    preset = flags.preset or (None if flags.config else "tiny")
    data = [flags.data] if flags.data else [] if flags.preset or flags.config else list(last_data())
    settings = {"data": data or None, "output_dir": flags.output_dir}
    return Options(
        preset=load_preset(preset) if preset else None,
        config=load_config(user_path(flags.config)) if flags.config else Layer({}),
        flags=flags_layer({name: value for name, value in settings.items() if value is not None}),
        start=flags.start,
        attach=attach,
        speed=flags.speed if flags.command == "replay" else 0.0,
        list_runs=flags.command is not None and attach is None,
        # someone who names a text or a run knows what they want
        tour=flags.command is None and not (flags.data or flags.config or flags.output_dir) and is_first_session(),
    )


def _find_run(flags: argparse.Namespace) -> "Path | None":
    """Return the folder of the run to show; None if there is none, or the user has to choose one from the list."""
    from fundamentallm.run.summary import LIVE_STATES, find_run, find_runs

    if flags.command is None:
        return None
    if flags.run:
        return find_run(flags.run)
    live = [run.folder for run in find_runs() if run.state in LIVE_STATES]
    return live[0] if len(live) == 1 else None


def _run(options: "Options", low_bandwidth: bool) -> NoReturn:
    """Show the console, then end the process at once: an ordinary exit would wait for a worker that still trains."""
    from fundamentallm.errors import UserError
    from fundamentallm.process.system import start_resource_tracker

    # Textual decides every 100 ms whether escape was pressed alone. With its default delay of 100 ms that often takes
    # two rounds, and a key pressed meanwhile becomes alt and that key. Textual reads this when it is imported.
    os.environ.setdefault("ESCDELAY", "25")
    try:
        start_resource_tracker()  # before Textual has the terminal
    except UserError as error:
        _print_error(str(error))
        sys.exit(2)
    from fundamentallm_tui.app import Console, describe_outcome, record_fault
    from fundamentallm_tui.throttle import RedrawThrottle

    RedrawThrottle.slow_line = low_bandwidth
    app = Console(options)
    gc.freeze()  # what lives as long as the program: a search for garbage among it takes 35 ms, in the middle of a key
    try:
        app.run()
    except Exception as error:  # Textual reports most of them to the console itself
        app.error = app.error or error
    lost = bool(app.error or app.return_code)  # by a fault or a signal, not by the user, who was asked
    if lost:
        app.main.sampler.close()
    else:
        app.main.close_run()
    if app.error is not None:
        _print_error(f"fllm-tui ended by an error of its own: {record_fault(app.error)}")
        if outcome := describe_outcome(app.main.store, lost=True):
            _print_error(outcome)
    elif app.leaves and (outcome := describe_outcome(app.main.store)):
        print(outcome)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if app.error is not None else app.return_code or 0)


def _print_error(text: str) -> None:
    from fundamentallm_tui.format import clean  # a file name may hold control characters

    print(clean(text, newlines=True), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
