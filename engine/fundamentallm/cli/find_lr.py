"""`fundamentallm find-lr`: a learning rate for a text and a model."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from fundamentallm.cli.options import FLAGS, Count, GroupedCommand, config_sources, options, typed
from fundamentallm.cli.terminal import Footer, is_screen, is_unicode, width
from fundamentallm.config.config import flags_layer, resolve
from fundamentallm.process.start import config_layers
from fundamentallm.run.events import to_line
from fundamentallm.run.range_test import STEPS, Point, Suggestion, suggest

HEIGHT = 16  # lines of the chart


@click.command(cls=GroupedCommand, rows=FLAGS)
@config_sources
@click.option("--steps", type=Count(50, 10_000), default=STEPS, metavar="N", help=f"How many steps. [default: {STEPS}]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@options(FLAGS.values())
def command(preset: str | None, config_file: str | None, steps: int, as_json: bool, **values: Any) -> None:
    """Suggest a learning rate for training a new model on DATA, by a short training at a rate that rises step by step.

    Where the rate is too low, the loss hardly moves; then it falls; at last it diverges. The suggestion keeps a margin
    to that. The model is thrown away, and no run is written.
    """
    flags = typed(values)
    config = resolve(*config_layers(preset, config_file, flags), flags_layer(flags))
    from fundamentallm.train.find_rate import range_test  # imports torch

    points, footer = list[Point](), Footer(sys.stderr)
    for point in range_test(config, steps):
        points.append(point)
        if is_screen(sys.stderr):
            footer.draw([f"step {len(points)}/{steps}, learning rate {point.learning_rate:.1e}, loss {point.loss:.3f}"])
    footer.clear()
    found = suggest(points)
    if as_json:
        return print(to_line({"suggestion": found.learning_rate, "points": list(map(vars, points))}))
    _draw(points, found)
    print("the loss by the learning rate, as measured and smoothed; ▴ fell most steeply, ▲ suggested")
    print(f"the loss fell most steeply at {found.steepest:.2g}, and was lowest at {found.lowest:.2g}")
    print(f"suggested: --learning-rate {found.learning_rate:g}, {found.margin:.2g} times below where it was lowest")


def _draw(points: Sequence[Point], found: Suggestion) -> None:
    from fundamentallm_tui.charts.chart import text_lines
    from fundamentallm_tui.charts.runs import range_test_chart

    chart = range_test_chart(points, found, ("green", "yellow"))
    colour = is_screen(sys.stdout) and not os.environ.get("NO_COLOR")
    print("\n".join(text_lines(chart, width(), HEIGHT, colour=colour, ascii=not is_unicode(sys.stdout))))
