"""Several runs in one chart, and what its legend says of each; and the chart of a range test."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log10
from pathlib import Path

from rich.cells import cell_len

from fundamentallm.config.format import format_loss
from fundamentallm.run.describe import describe_best
from fundamentallm.run.folder import named
from fundamentallm.run.history import RunHistory
from fundamentallm.run.range_test import HIGHEST, LOWEST, Point, Suggestion
from fundamentallm.run.summary import differing_settings, why_incomparable
from fundamentallm_tui.charts.chart import Chart, Line, Rule
from fundamentallm_tui.charts.palette import RunStyle, run_styles
from fundamentallm_tui.charts.series import Smoothed, reduce
from fundamentallm_tui.charts.view import SETTLED, View, fitting_height
from fundamentallm_tui.format import clean, fit, shorten

MAX_NAME = 30  # characters
LEAST_FALL = 0.5  # nats of a range test that are shown at least: its first steps hardly differ
NOT_NAMED = ("data", "include")  # settings whose difference shows as another text, if it is one


@dataclass(frozen=True)
class Entry:
    """A row of a legend, of text that can be shown."""

    style: RunStyle
    name: str
    last: str
    best: str = ""
    note: str = ""  # why its losses and those of the run beside it do not compare; empty where they do
    changes: tuple[str, ...] = ()  # how its settings differ from those of that run

    @property
    def cells(self) -> tuple[str, str, str, str]:
        return self.name, self.last, self.best, "; ".join(filter(None, (self.note, ", ".join(self.changes))))


def run_entry(folder: Path, style: RunStyle, run: RunHistory, beside: RunHistory) -> Entry:
    """Return the row of a run that is shown beside another one, which may be itself."""
    val = run.evaluations[-1].val_loss if run.evaluations else None
    best = f"best {describe_best(run.best, run.best_left_behind)}" if run.best is not None else ""
    why = ""
    if run.started is not None and beside.started is not None:
        why = why_incomparable(beside.started, run.started)
    changes = tuple(
        clean(f"{name} {value or '–'}")
        for name, (_, value) in differing_settings([beside.config, run.config])
        if name not in NOT_NAMED
    )
    told = {*NOT_NAMED, *(change.split()[0] for change in changes)}
    changed = dict.fromkeys(change.setting for change in run.changes_made())  # and perhaps changed back
    changes += tuple(f"{name} changed" for name in changed if name not in told)
    name, why = shorten(clean(named(folder).name), MAX_NAME), clean(f"does not compare: {why}" if why else "")
    return Entry(style, name, f"val {format_loss(val)}", best, why, changes)


def losses_of_runs(runs: Sequence[tuple[Path, RunHistory]], points: int, log: bool) -> tuple[Chart, list[Entry]]:
    """Return a chart of the losses of runs, and its legend, which says how each differs from the first.

    Training is a line, smoothed as the console does it at first, and for a single run also as it was measured. The
    height leaves out the first steep fall, unless it is logarithmic. The lines are reduced to so many `points`.
    """
    styles = run_styles(folder for folder, _ in runs)
    trained, evaluated, entries = [], [], []
    for folder, run in runs:
        style, smoothed = styles[folder], Smoothed(View().smoothing)
        smoothed.extend(run.steps, run.train_loss)
        if len(runs) == 1:
            trained.append(Line(*reduce(run.steps, run.train_loss, points), style.colour, 0.45))
        trained.append(Line(*smoothed.reduced(points), style.colour))
        steps, losses = [event.step for event in run.evaluations], [event.val_loss for event in run.evaluations]
        evaluated.append(Line(*reduce(steps, losses, points), style.colour, 0.6, mark=style.mark))
        entries.append(run_entry(folder, style, run, runs[0][1]))
    lines = [*evaluated, *trained]
    settled = SETTLED * max(run.steps[-1] if run.steps else 0 for _, run in runs)
    return Chart(lines, log=log, y_range=None if log else fitting_height(lines, settled), x_label="step"), entries


def range_test_chart(points: Sequence[Point], found: Suggestion | None, colours: tuple[str, str]) -> Chart:
    """Return the loss over the rate, as measured and smoothed, with rules at the steepest fall and the suggestion.

    `colours`: of the smoothed curve, and of the suggestion.
    """
    x, smoothed = [log10(point.learning_rate) for point in points], [point.smoothed for point in points]
    lines = [Line(x, [point.loss for point in points], "foreground", 0.45), Line(x, smoothed, colours[0])]
    rules = [] if found is None else [
        Rule(log10(found.steepest), strength=0.6, mark="▴", line="┊"),
        Rule(log10(found.learning_rate), colours[1], 1.0, "▲"),
    ]  # fmt: skip
    lowest, highest = min((point.loss for point in points), default=0.0), max(smoothed, default=0.0)
    heights, span = (lowest, max(lowest + LEAST_FALL, highest)), (log10(LOWEST), log10(HIGHEST))
    return Chart(lines, False, span, heights, rules, None, "rate", "the model is being made")


def widths(entries: Iterable[Entry]) -> list[int]:
    """Return the widths of the columns: names, last and best losses, notes."""
    return [max(map(cell_len, column)) for column in zip(*(entry.cells for entry in entries), strict=True)]


def aligned(entries: Sequence[Entry]) -> list[str]:
    """Return the rows of a legend as text in columns."""
    columns = widths(entries)
    return ["  ".join(map(fit, entry.cells, columns)).rstrip() for entry in entries]
