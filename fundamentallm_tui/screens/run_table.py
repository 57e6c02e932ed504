"""The rows of the list of runs: which there are, in which order, and what each column shows. Knows no screen."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path

from fundamentallm.config.format import format_age
from fundamentallm.errors import UserError
from fundamentallm.run.summary import LIVE_STATES, RunSummary, find_runs, summarize
from fundamentallm_tui.format import BARS

ORDERS = ("newest", "name", "best loss", "steps")
MAX_LOSS = 1e100  # no loss gets there, and smaller values keep every calculation finite
BAR_SHARE = 0.04  # of the lowest loss: so far apart are two neighbouring bars of a sparkline


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
    """Draw losses as bars in at most `width` characters; nan is a space.

    A bar says by how much of the lowest loss one lies above it, on the same scale for every run: a first steep fall
    leaves room to see a rise.
    """
    heights = means(values, width)
    lowest = min(filter(isfinite, heights), default=0.0)
    step = BAR_SHARE * abs(lowest) or 1.0
    return "".join(
        BARS[round(min((height - lowest) / step, len(BARS) - 1))] if isfinite(height) else " " for height in heights
    )


def short_age(run: RunSummary) -> str:
    """Return how long ago a live run began, or another one was last heard of, in six characters: "5 min", "now"."""
    age = format_age(run.started if run.state in LIVE_STATES else run.last_heard)
    return age.removesuffix(" ago").removeprefix("just ")


def short_count(number: int) -> str:
    """Write a number of steps in at most five characters: "720", "12.4k"."""
    if number < 10_000:
        return str(number)
    return f"{number / 1e3:.3g}k" if number < 999_500 else f"{number / 1e6:.3g}M"
