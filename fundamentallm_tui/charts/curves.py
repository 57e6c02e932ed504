"""The curves of a run: how each is drawn and read off, and those that show how each layer learns.

Of a model with many layers, the first, the middle and the last are shown.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from fundamentallm.run.events import Inspected
from fundamentallm_tui.charts.palette import COLOURS, MARKS
from fundamentallm_tui.charts.series import Series, Smoothed
from fundamentallm_tui.charts.view import Ruler
from fundamentallm_tui.format import clean

MOST_LAYERS = 3


@dataclass(frozen=True)
class Curve:
    """A series, and how it is drawn and read off."""

    name: str | None  # as the title calls its values, which may need no name; None: it does not show them
    series: Series
    colour: str  # as that of a `Line`, and so the next two
    strength: float = 1.0
    mark: str = ""
    scale: Callable[[float], float] = float  # what is drawn of each value; it increases
    ruler: Ruler | None = None  # of the steps of another run than the one that is shown
    column: str = ""  # as a file of its values calls it; no file has it where this is empty
    run: str = ""  # as the file calls its run
    end: float = inf  # the last step of its run
    sign: str = ""  # marks its newest point, and names it in a legend, where its readings are instead of in the title

    def at(self, step: float) -> tuple[float, float] | None:
        """The point that is read off at a step: of marked ones the newest so far; None where the run has none."""
        if self.mark:
            return self.series.until(step) if step < self.end + 1 else None
        return self.series.at(step) if self.series.start - 1 <= step < self.series.end + 1 else None

    def reading(self, point: tuple[float, float] | None, format: Callable[[float], str]) -> str:
        """Write a point with the curve's name; of a smoothed curve with "~"."""
        about = "~" if isinstance(self.series, Smoothed) else ""
        return f"{self.name} {about + format(self.scale(point[1])) if point is not None else '–'}".strip()


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
    for (name, label), colour, sign in zip(shown.items(), COLOURS, MARKS, strict=False):
        series = Series()
        steps = sorted(points[name])
        series.extend(steps, [points[name][step] for step in steps])
        curves.append(Curve(label, series, colour, column=f"{column} {label}", sign=sign))
    return curves


def inspection_cost(inspected: Sequence[Inspected], seconds: Ruler) -> str:
    """Return what a measurement takes, also as a share of the time of training; `seconds`: that time by step."""
    if not inspected:
        return ""
    last = inspected[-1]
    passed = seconds.x(last.step) - seconds.x(inspected[-2].step) if len(inspected) > 1 else 0.0
    share = f", {100 * last.seconds / passed:.1f} % of time" if passed > 0 else ""
    return f"costs {last.seconds * 1000:.1f} ms{share}"
