"""The rows of the list of runs: which there are, in which order, and what each column shows. Knows no screen."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path

from fundamentallm.config.config import SETTINGS
from fundamentallm.config.format import format_age, format_value
from fundamentallm.errors import UserError
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.history import read_history
from fundamentallm.run.summary import LIVE_STATES, RunSummary, find_runs, summarize
from fundamentallm_tui.format import clean

ORDERS = ("newest", "name", "best loss", "steps")
BARS = "▁▂▃▄▅▆▇█"
MAX_LOSS = 1e100  # no loss gets there, and smaller values keep every calculation finite
CURVE_POINTS = 40  # kept of each run
GROWTH = 1.05  # a journal that is so much longer is read again

_curves: dict[Path, tuple[int, list[float]]] = {}  # by folder: the journal's size when it was read, and the means


@dataclass(frozen=True)
class RunChoice:
    """What the user chose in the list: `action` is "open", "resume" or "deleted"."""

    action: str
    folder: Path


def all_runs(current: Path | None) -> list[RunSummary]:
    """Return the runs of this folder, and the one that the console shows, wherever that is."""
    runs = find_runs()
    if current is not None and current.resolve() not in {run.folder.resolve() for run in runs}:
        with suppress(UserError):  # it has no journal yet
            runs.append(summarize(current))
    return runs


def arrange(runs: Sequence[RunSummary], words: str, order: str) -> list[RunSummary]:
    """Return the runs in which every word occurs, live ones first."""
    wanted = words.lower().split()
    found = [run for run in runs if all(word in _searched_text(run) for word in wanted)]
    if order == "name":
        found.sort(key=lambda run: str(run.folder).lower())
    elif order == "best loss":
        found.sort(key=lambda run: run.best.val_loss if run.best else float("inf"))
    elif order == "steps":
        found.sort(key=lambda run: -run.steps)
    else:
        found.sort(key=lambda run: -run.last_heard)
    return sorted(found, key=lambda run: run.state not in LIVE_STATES)


def _searched_text(run: RunSummary) -> str:
    return f"{run.folder} {run.state} {run.preset} {run.data}".lower()


def read_curve(folder: Path) -> list[float]:
    """Return the training losses of a run as a few means; reads them only when the journal has grown."""
    try:
        size = (folder / JOURNAL).stat().st_size
        known = _curves.get(folder)
        if known is None or not known[0] <= size <= GROWTH * known[0]:
            known = _curves[folder] = size, means(read_history(folder).train_loss, CURVE_POINTS)
    except (OSError, UserError):
        return []
    return known[1]


def known_curve(folder: Path) -> list[float]:
    """Return what `read_curve` returned last; reads nothing."""
    return _curves.get(folder, (0, []))[1]


def means(values: Sequence[float], count: int) -> list[float]:
    """Reduce values to at most `count` means of equal stretches; nan where a stretch has no usable loss."""
    count = min(count, len(values))
    result = []
    for n in range(count):
        stretch = values[n * len(values) // count : (n + 1) * len(values) // count]
        usable = [value for value in stretch if abs(value) < MAX_LOSS]
        result.append(sum(usable) / len(usable) if usable else nan)
    return result


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw values as bars in at most `width` characters; nan is a space."""
    heights = means(values, width)
    finite = [height for height in heights if isfinite(height)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((height - low) * scale)] if isfinite(height) else " " for height in heights)


def differences(left: RunSummary, right: RunSummary) -> list[tuple[str, str, str]]:
    """Return the settings that differ, in the order of the table, with both values."""
    rows = []
    for name in SETTINGS:
        pair = [format_value(run.config[name]) if name in run.config else "–" for run in (left, right)]
        if name != "output_dir" and pair[0] != pair[1]:
            rows.append((name, clean(pair[0]), clean(pair[1])))
    return rows


def short_age(run: RunSummary) -> str:
    """Return how long ago a live run began, or another one was last heard of, in six characters: "5 min", "now"."""
    age = format_age(run.started if run.state in LIVE_STATES else run.last_heard)
    return age.removesuffix(" ago").removeprefix("just ")


def short_count(number: int) -> str:
    """Write a number of steps in at most five characters: "720", "12.4k"."""
    if number < 10_000:
        return str(number)
    return f"{number / 1e3:.3g}k" if number < 999_500 else f"{number / 1e6:.3g}M"
