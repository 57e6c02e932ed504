"""The runs as the library lists them: filtered, sorted, each with a line of its losses. Knows no screen."""

import time
from collections.abc import Sequence
from contextlib import suppress
from math import isfinite, nan
from pathlib import Path

from fundamentallm.config.config import SETTINGS
from fundamentallm.config.format import format_value
from fundamentallm.errors import UserError
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.history import RunSummary, find_runs, read_history, summarize
from fundamentallm_tui.format import clean

LIVE = ("training", "paused")
RESUMABLE = ("stopped", "failed", "interrupted")
ORDERS = ("newest", "name", "best loss", "steps")
BARS = "▁▂▃▄▅▆▇█"
BEYOND = 1e100  # no loss gets there, and what is nearer keeps every calculation finite
SPARKS = 40  # values kept of each run
GROWN = 1.05  # a journal that is so much longer is read again

_sparks: dict[Path, tuple[int, list[float]]] = {}  # by folder: the journal's size then


def all_runs(current: Path | None) -> list[RunSummary]:
    """Every run of this place, and the one that the console shows, wherever it is."""
    runs = find_runs()
    if current is not None and current.resolve() not in {run.folder.resolve() for run in runs}:
        with suppress(UserError):  # it has not begun yet
            runs.append(summarize(current))
    return runs


def arrange(runs: Sequence[RunSummary], words: str, order: str) -> list[RunSummary]:
    """The runs in which every word occurs, live ones first."""
    wanted = words.lower().split()
    found = [run for run in runs if all(word in _text(run) for word in wanted)]
    if order == "name":
        found.sort(key=lambda run: str(run.folder).lower())
    elif order == "best loss":
        found.sort(key=lambda run: run.best.val_loss if run.best else float("inf"))
    elif order == "steps":
        found.sort(key=lambda run: -run.steps)
    else:
        found.sort(key=lambda run: -run.last_heard)
    return sorted(found, key=lambda run: run.state not in LIVE)


def _text(run: RunSummary) -> str:
    return f"{run.folder} {run.state} {run.preset} {run.data}".lower()


def spark_of(folder: Path) -> list[float]:
    """The training losses of a run in `SPARKS` means or less; read anew only when the journal has grown."""
    try:
        size = (folder / JOURNAL).stat().st_size
        known = _sparks.get(folder)
        if known is None or not known[0] <= size <= GROWN * known[0]:
            known = _sparks[folder] = size, reduce(read_history(folder).train_loss, SPARKS)
    except (OSError, UserError):
        return []
    return known[1]


def known_spark(folder: Path) -> list[float]:
    """The same, if it was read before."""
    return _sparks.get(folder, (0, []))[1]


def reduce(values: Sequence[float], count: int) -> list[float]:
    """At most `count` means of equal stretches; of a stretch without a value that a loss can have, nan."""
    count = min(count, len(values))
    means = []
    for n in range(count):
        part = [v for v in values[n * len(values) // count : (n + 1) * len(values) // count] if abs(v) < BEYOND]
        means.append(sum(part) / len(part) if part else nan)
    return means


def sparkline(values: Sequence[float], width: int) -> str:
    """A line of bars; a gap is a space."""
    means = reduce(values, width)
    finite = [mean for mean in means if isfinite(mean)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] if isfinite(mean) else " " for mean in means)


def differences(left: RunSummary, right: RunSummary) -> list[tuple[str, str, str]]:
    """The settings that differ, in the order of the table, and how far each run came."""
    rows = []
    for name in SETTINGS:
        pair = [format_value(run.config[name]) if name in run.config else "–" for run in (left, right)]
        if name != "output_dir" and pair[0] != pair[1]:
            rows.append((name, clean(pair[0]), clean(pair[1])))
    return rows


def age(seconds: float) -> str:
    """How long ago a moment was, in at most six characters: "5 min"."""
    passed = max(0.0, time.time() - seconds)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= unit:
            return f"{min(passed / unit, 9999):.0f} {name}"
    return "now"


def count(number: int) -> str:
    """A number of steps in at most five characters: "720", "12.4k"."""
    if number < 10_000:
        return str(number)
    return f"{number / 1e3:.3g}k" if number < 999_500 else f"{number / 1e6:.3g}M"
