"""The command `fllm-tui`. Light on purpose: the worker's process imports this module again."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from pathlib import Path


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        from fundamentallm_tui.format import clean  # file names that a shell put there may hold anything

        self.exit(2, clean(f"fllm-tui: {message}; fllm-tui --help shows what there is") + "\n")


def main(arguments: list[str] | None = None) -> int:
    """Open the console; returns the exit status."""
    from fundamentallm.process.streams import open_missing_streams

    open_missing_streams()
    options = _parse(arguments)
    from fundamentallm.config.config import Layer, flags_layer
    from fundamentallm.errors import UserError

    try:
        from fundamentallm.config.files import load_config, load_preset
        from fundamentallm.paths import user_path
        from fundamentallm_tui.state.launch import Options

        attach, library = _run_to_show(options)
        name = options.preset or (None if options.config else "tiny")
        typed = {"data": [options.data] if options.data else None, "output_dir": options.output_dir}
        chosen = Options(
            preset=load_preset(name) if name else None,
            config=load_config(user_path(options.config)) if options.config else Layer({}),
            flags=flags_layer({name: value for name, value in typed.items() if value is not None}),
            start=options.start,
            attach=attach,
            speed=options.speed if options.act == "replay" else 0.0,
            library=library,
        )
        config = chosen.resolve()
    except UserError as error:
        from fundamentallm_tui.format import clean

        print(clean(str(error), newlines=True), file=sys.stderr)
        return 2
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("fllm-tui: needs a terminal; without one, use `fundamentallm train`", file=sys.stderr)
        return 2
    if os.environ.get("TERM", "") == "dumb":
        print("fllm-tui: this terminal (TERM=dumb) cannot show it; use `fundamentallm train`", file=sys.stderr)
        return 2
    return _run(chosen, config)


def _run_to_show(options: argparse.Namespace) -> "tuple[Path | None, bool]":
    """The folder of the run that was asked for; and whether the library is to be shown, to choose one."""
    from fundamentallm.run.history import LIVE_STATES, find_run, find_runs

    if options.act is None:
        return None, False
    if options.run:
        return find_run(options.run), False
    live = [run.folder for run in find_runs() if run.state in LIVE_STATES]
    return (live[0], False) if len(live) == 1 else (None, True)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    from fundamentallm import __version__

    parser = _Parser(prog="fllm-tui", description="Train small transformer language models and watch them learn.")
    parser.add_argument("--preset", metavar="NAME", help="start from a preset: tiny, small, medium, large, or your own")
    parser.add_argument("--config", metavar="FILE", help="start from a configuration file")
    parser.add_argument("--data", metavar="PATH", help="the text to learn from")
    parser.add_argument("--output-dir", metavar="DIR", help="the folder of the run")
    parser.add_argument("--start", action="store_true", help="start training at once")
    parser.add_argument("--version", action="version", version=f"fllm-tui {__version__}")
    acts = parser.add_subparsers(dest="act", metavar="[attach | replay]")
    attach = acts.add_parser("attach", help="watch and steer a run that another process trains, or look at an old one")
    attach.add_argument("run", nargs="?", metavar="RUN", help="its folder or name; the only one under way if left out")
    replay = acts.add_parser("replay", help="play a run's journal back through the panes")
    replay.add_argument("run", metavar="RUN", help="its folder or name")
    replay.add_argument("--speed", type=_speed, default=20.0, metavar="N", help="so many times as fast (default: 20)")
    return parser.parse_args(arguments)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0.01 <= speed <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text}: must be a number from 0.01 to 1000000")
    return speed


def _run(chosen: object, config: object) -> int:
    """Show the console. Ends the process itself: an ordinary end would wait for a run that goes on."""
    from fundamentallm.process.streams import start_resource_tracker

    # Textual reads it when it is imported. It looks every 100 ms whether escape stood alone; with its own delay of as
    # much it often takes two looks, and a key that comes meanwhile becomes alt and that key.
    os.environ.setdefault("ESCDELAY", "25")

    start_resource_tracker()  # before Textual has the terminal
    from fundamentallm_tui.app import Console

    app = Console(chosen, config)  # type: ignore[arg-type]
    app.run()
    if app.main.reader is not None:
        app.main.reader.close()
    if app.left is not None:
        from fundamentallm.paths import quoted_path

        print(f"The run goes on; fllm-tui attach {quoted_path(app.left)} shows it again.")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(app.return_code or 0)


if __name__ == "__main__":
    sys.exit(main())
