"""The command `fllm-tui`. Light on purpose: the worker's process imports this module again."""

import argparse
import os
import sys
from typing import NoReturn


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fllm-tui: {message}; fllm-tui --help shows what there is\n")


def main(arguments: list[str] | None = None) -> int:
    """Open the console; returns the exit status."""
    options = _parse(arguments)
    from fundamentallm.config import Layer, flags_layer
    from fundamentallm.errors import UserError

    try:
        from pathlib import Path

        from fundamentallm.presets import load_config, load_preset
        from fundamentallm_tui.launch import Options

        named = options.preset or (None if options.config else "tiny")
        typed = {"data": [options.data] if options.data else None, "output_dir": options.output_dir}
        chosen = Options(
            preset=load_preset(named) if named else None,
            config=load_config(Path(options.config)) if options.config else Layer({}),
            flags=flags_layer({name: value for name, value in typed.items() if value is not None}),
            start=options.start,
        )
        config = chosen.resolve()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("fllm-tui: needs a terminal; without one, use `fundamentallm train`", file=sys.stderr)
        return 2
    if os.environ.get("TERM", "") == "dumb":
        print("fllm-tui: this terminal (TERM=dumb) cannot show it; use `fundamentallm train`", file=sys.stderr)
        return 2
    return _run(chosen, config)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    from fundamentallm import __version__

    parser = _Parser(prog="fllm-tui", description="Train small transformer language models and watch them learn.")
    parser.add_argument("--preset", metavar="NAME", help="start from a preset: tiny, small, medium, large, or your own")
    parser.add_argument("--config", metavar="FILE", help="start from a configuration file")
    parser.add_argument("--data", metavar="PATH", help="the text to learn from")
    parser.add_argument("--output-dir", metavar="DIR", help="the folder of the run")
    parser.add_argument("--start", action="store_true", help="start training at once")
    parser.add_argument("--version", action="version", version=f"fllm-tui {__version__}")
    return parser.parse_args(arguments)


def _run(chosen: object, config: object) -> int:
    """Show the console. Ends the process itself: an ordinary end would wait for a run that goes on."""
    from multiprocessing import resource_tracker

    # Textual reads it when it is imported. With its 100 ms, a key that follows escape quickly becomes alt and that key.
    os.environ.setdefault("ESCDELAY", "25")

    # Textual replaces the standard streams, and starting this helper needs the real ones.
    resource_tracker.ensure_running()
    from fundamentallm_tui.app import Console

    app = Console(chosen, config)  # type: ignore[arg-type]
    app.run()
    if app.main.link is not None:
        app.main.link.leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(app.return_code or 0)


if __name__ == "__main__":
    sys.exit(main())
