"""How each layer learns, as curves: the norms of gradients and weights, and how much of the weights each step changes.

Of a model with many layers, the first, the middle and the last are shown.
"""

import re
from collections.abc import Sequence

from textual.content import Content

from fundamentallm.run.events import Inspected
from fundamentallm_tui.charts.palette import COLOURS, MARKS, RunStyle
from fundamentallm_tui.charts.series import Series
from fundamentallm_tui.charts.view import Ruler
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.chart import Curve

MOST_LAYERS = 3
GAP = 2  # columns between two entries of the legend


def shown_layers(names: Sequence[str]) -> dict[str, str]:
    """Return which parts of a model are shown, and how people call them: "blocks.0.feed_forward": "feed-forward 1"."""
    parts = {name: re.fullmatch(r"blocks\.(\d{1,6})\.(\w+)", name) for name in names}
    numbers = sorted({int(found[1]) for found in parts.values() if found})
    if len(numbers) > MOST_LAYERS:
        numbers = [numbers[0], numbers[len(numbers) // 2], numbers[-1]]
    shown = {
        name: f"{clean(found[2].replace('_', '-'))} {int(found[1]) + 1}" if found else clean(name)
        for name, found in parts.items()
        if found is None or int(found[1]) in numbers
    }
    return dict(list(shown.items())[: len(COLOURS)])


def layer_curves(inspected: Sequence[Inspected], column: str) -> list[Curve]:
    """Return a curve for each part of the model that is shown, of a `column` of the events."""
    curves = []
    shown = shown_layers(inspected[-1].layers) if inspected else {}
    points: dict[str, dict[int, float]] = {name: {} for name in shown}
    for event in inspected:
        for name, value in zip(event.layers, getattr(event, column), strict=False):
            if name in points:
                points[name][event.step] = value
    for (name, label), colour in zip(shown.items(), COLOURS, strict=False):
        series = Series()
        steps = sorted(points[name])
        series.extend(steps, [points[name][step] for step in steps])
        curves.append(Curve(label, series, colour, column=f"{column} {label}"))
    return curves


def mark_of(curve: Curve | RunStyle) -> str:
    """Return the mark by which a legend names the curve of a layer."""
    return MARKS[COLOURS.index(curve.colour)]


def layer_legend(entries: Sequence[tuple[Curve, str]], width: int, height: int) -> Content:
    """Return the curves with their readings in columns, with short names where the whole ones take too many rows."""
    for short in (False, True):
        items = [
            Content.assemble((f"{mark_of(curve)} ", curve.colour), _shortened(text) if short else text)
            for curve, text in entries
        ]
        column = max((item.cell_length for item in items), default=0) + GAP
        beside = max(1, (width + GAP) // column)
        padded = [item.pad_right(column - item.cell_length) for item in items]
        rows = [Content("").join(padded[at : at + beside]).rstrip() for at in range(0, len(items), beside)]
        if len(rows) <= height:
            break
    return Content("\n").join(rows[:height])


def _shortened(text: str) -> str:
    return text.replace("embedding", "emb").replace("attention", "att").replace("feed-forward", "ff")


def inspection_cost(inspected: Sequence[Inspected], seconds: Ruler) -> str:
    """Return what a measurement takes, also as a share of the time of training; `seconds`: that time by step."""
    if not inspected:
        return ""
    last = inspected[-1]
    passed = seconds.x(last.step) - seconds.x(inspected[-2].step) if len(inspected) > 1 else 0.0
    return f"costs {last.seconds * 1000:.1f} ms" + (f", {last.seconds / passed:.1%} of the time" if passed > 0 else "")
