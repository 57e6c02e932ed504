"""The list of runs: which there are, in which order, and what each column shows."""

import operator
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite, isnan, nan
from pathlib import Path

from rich.cells import cell_len
from textual.content import Content
from textual.events import Click
from textual.widgets import OptionList

from fundamentallm.config.config import SETTINGS, unknown
from fundamentallm.config.format import format_age, format_loss, format_rate, format_value
from fundamentallm.errors import UserError
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.folder import NOTES
from fundamentallm.run.locks import is_held
from fundamentallm.run.summary import LIVE_STATES, RunSummary, find_runs, summarize, why_incomparable
from fundamentallm_tui.charts.palette import RunStyle
from fundamentallm_tui.format import BARS, clean, fit, shorten, truncate
from fundamentallm_tui.panes.rows import Rows
from fundamentallm_tui.panes.status import colour_of
from fundamentallm_tui.state.launch import BranchPoint
from fundamentallm_tui.theme import FAINT

VALUES: dict[str, Callable[[RunSummary], float | str | None]] = {  # beside the settings, which have other names
    "name": lambda run: str(run.folder).lower(),
    "last_event": lambda run: run.started if run.state in LIVE_STATES else run.last_event,  # as its age is counted
    "best": lambda run: run.best.val_loss if run.best else None,
    "val_loss": lambda run: run.val_loss,
    "train_loss": lambda run: run.train_loss,
    "steps": lambda run: run.steps,
    "epoch": lambda run: run.epoch,
    "parameters": lambda run: run.parameters,
}
ORDERS = {"newest": "-last_event", "name": "name", "best loss": "best", "steps": "-steps"}  # which a key goes through
SIGNS = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
MAX_LOSS = 1e100  # no loss gets there, and smaller values keep every calculation finite
BAR_SHARE = 0.04  # of the lowest loss: so far apart are two neighbouring bars of a sparkline
WIDTHS = {"state": 11, "age": 7, "preset": 8, "steps": 12, "best": 6}  # between the name and the curve
DROPPED = ("preset", "age")  # where the terminal is narrow
MOST_INDENTED = 4  # of branches of branches
LEAST_TAG = 4  # columns for a tag: a space, # and two letters
NARROWEST, WIDEST_NAME, WIDEST_CURVE = 22, 60, 40  # the name and the curve together; each of them

_known: dict[Path, tuple[object, RunSummary]] = {}  # what was found out, and the state of the files then


@dataclass(frozen=True)
class RunChoice:
    """What the user chose in the list: `action` is "open", "resume", "branch", "deleted" or "renamed"."""

    action: str
    folder: Path
    point: BranchPoint | None = None  # where to branch


def all_runs(current: Path | None, unread: Callable[[str], object] = lambda _: None) -> list[RunSummary]:
    """Return the runs of this folder, and the one that the console shows, wherever that is; `unread` as `find_runs`."""
    runs = find_runs(read=_summary, unread=unread)
    if current is not None and current.resolve() not in {run.folder.resolve() for run in runs}:
        with suppress(UserError):  # it has no journal yet
            runs.append(_summary(current))
    return runs


def _summary(folder: Path) -> RunSummary:
    """Return how a run stands; reads its journal only where something has changed: there may be hundreds of runs."""
    stamp: list[int] = [is_held(folder)]
    for name in (JOURNAL, NOTES):
        with suppress(OSError):
            file = os.stat(folder / name)
            stamp += [file.st_size, file.st_mtime_ns]
    if folder not in _known or _known[folder][0] != stamp:
        _known[folder] = stamp, summarize(folder)
    return _known[folder][1]


def arrange(runs: Sequence[RunSummary], expression: str, order: str) -> list[RunSummary]:
    """Return the runs that fit a filter, live ones first.

    Args:
        expression: words that must occur, `state:word`, `tag:word`, `name=value`, `name<value` and so on.
        order: one of ORDERS, a setting or one of VALUES; a minus sign in front of it turns it round.

    Raises:
        UserError: the expression is wrong.
    """
    tests, plain = [_parse(term) for term in expression.split()], order.removeprefix("-")
    key = ORDERS.get(plain, plain)
    name, falls = key.removeprefix("-"), key.startswith("-") != order.startswith("-")
    found = [run for run in runs if all(test(run) for test in tests)]
    found.sort(key=lambda run: _sort_key(value_of(run, name)), reverse=falls)
    return sorted(found, key=lambda run: (run.state not in LIVE_STATES, value_of(run, name) is None))


def as_tree(runs: Sequence[RunSummary]) -> dict[Path, int]:
    """Return the folders of runs with each branch below the run that it came from, and how deep each stands."""
    known = {os.path.abspath(run.folder): run.folder for run in runs}
    sources = {run.folder: run.parent_folder for run in runs}
    parents = {run: known.get(os.path.abspath(source)) for run, source in sources.items() if source is not None}
    children: dict[Path, list[Path]] = {}
    for run in runs:
        if (parent := parents.get(run.folder)) is not None:
            children.setdefault(parent, []).append(run.folder)
    depths: dict[Path, int] = {}
    for run in runs:
        top, seen = run.folder, set[Path]()
        while top not in depths and top not in seen and (parent := parents.get(top)) is not None:
            seen.add(top)  # journals may name each other
            top = parent
        waiting = [(top, 0)]
        while waiting:
            folder, depth = waiting.pop()
            if folder not in depths:
                depths[folder] = depth
                waiting += [(child, depth + 1) for child in reversed(children.get(folder, []))]
    return depths


def value_of(run: RunSummary, name: str) -> object:
    """Return a setting or one of VALUES; None where a run has none."""
    return VALUES[name](run) if name in VALUES else run.config.get(name)


def text_of(run: RunSummary, name: str) -> str:
    """Write a value in as few characters as its column has."""
    value = value_of(run, name)
    return format_loss(value) if isinstance(value, float) and name in VALUES else format_value(value)


def check_order(order: str) -> None:
    """Raise a UserError for what is no order."""
    if (name := order.removeprefix("-")) not in ORDERS:
        _check_name(name)


def _check_name(name: str) -> None:
    if name not in (names := [*VALUES, *SETTINGS]):
        raise UserError(f"{name}: {unknown('setting', name, names)}")


def _sort_key(value: object) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float)) and isfinite(value)
    return not number, float(value) if number else 0.0, format_value(value)  # type: ignore[arg-type]


def _parse(term: str) -> Callable[[RunSummary], bool]:
    """Return the test that a word of a filter stands for."""
    word, found = term.lower(), re.fullmatch(r"(\w+)(<=|>=|=|<|>)(?![<>=])(.*)", term)
    if found is None and re.search("[<>=]", term):
        raise UserError(f"{term}: write a name, one of < > <= >= =, and a value, without spaces between them")
    if found is None:
        kind, colon, rest = word.partition(":")
        if colon and kind == "tag":
            return lambda run: any(rest in tag.lower() for tag in run.tags)
        return (lambda run: rest in run.state) if colon and kind == "state" else lambda run: word in _searched_text(run)
    name, sign, wanted = found.groups()
    _check_name(name)
    with suppress(ValueError):
        limit, compare = float(wanted), SIGNS.get(sign, operator.eq)
        if isnan(limit):
            raise UserError(f"{term}: nothing compares with {wanted}")
        return lambda run: isinstance(value := value_of(run, name), (int, float)) and bool(compare(value, limit))
    if sign != "=" or not wanted:
        raise UserError(f"{term}: {'a number' if sign != '=' else 'a value'} must follow {sign}")
    return lambda run: format_value(value_of(run, name)).lower() == wanted.lower()


def _searched_text(run: RunSummary) -> str:
    return f"{run.folder} {run.state} {run.preset} {run.data} {run.note} {' '.join(run.tags)}".lower()


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw losses as bars, each the mean of a stretch, in at most `width` characters; one without a loss is a space.

    A bar says by how much of the lowest loss one lies above it, on the same scale for every run: a first steep fall
    leaves room to see a rise.
    """
    count, heights = min(width, len(values)), []
    for n in range(count):
        stretch = values[n * len(values) // count : (n + 1) * len(values) // count]
        usable = [value for value in stretch if abs(value) < MAX_LOSS]
        heights.append(sum(usable) / len(usable) if usable else nan)
    lowest = min(filter(isfinite, heights), default=0.0)
    step = BAR_SHARE * abs(lowest) or 1.0
    return "".join(
        BARS[round(min((height - lowest) / step, len(BARS) - 1))] if isfinite(height) else " " for height in heights
    )


def short_age(run: RunSummary) -> str:
    """Return how long ago a live run began, or the last event of another one was, in six characters: "5 min", "now"."""
    age = format_age(run.started if run.state in LIVE_STATES else run.last_event)
    return age.removesuffix(" ago").removeprefix("just ")


class RunList(Rows):
    """Shows runs; `OptionHighlighted` says that the cursor has moved."""

    def __init__(self, open: Callable[[], None], *, id: str) -> None:
        """`open` is called when the run under the cursor was clicked twice."""
        super().__init__(id=id, compact=True)
        self._open = open
        self.runs: list[RunSummary] = []
        self.depths: dict[Path, int] = {}  # of the branches, below the runs that they came from
        self.marks: dict[Path, RunStyle] = {}  # of the runs that are marked
        self.column = ""  # the setting or number that has a column instead of the preset's name

    @property
    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        return self.runs[self.highlighted] if self.runs and self.highlighted is not None else None

    def show(self, runs: list[RunSummary], depths: dict[Path, int]) -> None:
        """Show these runs, indented by their depths; the cursor stays on its run, or where that was."""
        folders, before = [run.folder for run in runs], self.current
        place = self.highlighted or 0
        if before is not None and before.folder in folders:
            place = folders.index(before.folder)
        self.runs, self.depths = runs, depths
        with self.prevent(OptionList.OptionHighlighted):
            self.draw(len(runs))
            self.highlighted = place if runs else None

    def watch_highlighted(self, highlighted: int | None) -> None:
        super().watch_highlighted(highlighted)
        self.draw(len(self.runs))  # whose losses compare depends on the run under the cursor

    def on_click(self, event: Click) -> None:
        if event.chain == 2:
            self._open()

    def head(self) -> str:
        """Return the columns' names, each above its column."""
        heads = {"preset": self.column} if self.column else {}
        columns = self._columns(self.scrollable_content_region.width)
        return "  " + " ".join(fit(heads.get(name, name), width) for name, width in columns.items())

    def _columns(self, width: int) -> dict[str, int]:
        """Return the columns and their widths; the name and the curve share what the others leave."""
        fixed = {**WIDTHS, "preset": max(WIDTHS["preset"], len(self.column))}
        for name in (*DROPPED[bool(self.column) :], ""):
            room = width - 3 - sum(width + 1 for width in fixed.values())
            if room < NARROWEST:
                fixed.pop(name, None)
        curve = min(WIDEST_CURVE, max(room, NARROWEST) * 2 // 5)
        return {"run": min(WIDEST_NAME, max(room, NARROWEST) - curve), **fixed, "val loss": curve}

    def row(self, place: int, width: int) -> Content:
        run, columns = self.runs[place], self._columns(width)
        mark = self.marks.get(run.folder)
        best = (format_loss(run.best.val_loss), "$text-accent") if run.best else ("–", "$text-accent")
        if run.best and self.current is not None and why_incomparable(self.current, run):
            best = f"≠{best[0]}", FAINT
        depth = min(self.depths.get(run.folder, 0), MOST_INDENTED)
        branch = f"{'  ' * (depth - 1)}└ " if depth else ""
        tags = clean("".join(f" #{tag}" for tag in run.tags))
        whole = cell_len(f"{branch}{run.folder}{tags}") <= columns["run"]
        name = shorten(clean(branch + (str(run.folder) if whole else run.folder.name)), columns["run"])
        room = columns["run"] - cell_len(name)
        state = "NOT SAVED" if run.unsaved else run.state
        cells = {
            "run": (name + (truncate(tags, room) if room >= LEAST_TAG else ""), ""),
            "state": (state, colour_of(state)),
            "age": (short_age(run), FAINT),
            "preset": (clean(text_of(run, self.column) if self.column else run.preset) or "–", FAINT),
            "steps": (f"{format_rate(run.steps)}/{format_rate(run.total_steps)}", FAINT),
            "best": best,
            "val loss": (sparkline(run.val_losses, columns["val loss"]), "$text-primary"),
        }
        return Content.assemble(
            (f"{mark.mark} ", mark.colour) if mark else "  ",
            *((fit(cells[name][0], width) + " ", cells[name][1]) for name, width in columns.items()),
        )
