"""The comparison of runs: the settings in which they differ, how far each came, and whether their losses compare."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from textual.content import Content

from fundamentallm.config.format import format_loss
from fundamentallm.run.summary import RunSummary, differing_settings, why_incomparable
from fundamentallm_tui.format import clean, fit, shorten, truncate
from fundamentallm_tui.theme import FAINT

NAMES_WIDTH = 18  # of the column with the names of the settings
NARROWEST, WIDEST = 14, 28  # columns of a run


def comparison(runs: Sequence[RunSummary], width: int) -> Content:
    """Return runs side by side, as many of them as fit."""
    shown = runs[: max(1, (width - NAMES_WIDTH) // (NARROWEST + 1))]
    column = min(WIDEST, (width - NAMES_WIDTH) // len(shown) - 1)
    head = [("", ""), *((_short_name(run, column), "bold") for run in shown)]
    progress = [
        ("steps", [f"{run.steps:,}" for run in shown]),
        ("best val", [format_loss(run.best.val_loss if run.best else None) for run in shown]),
        ("best epoch", [str(run.best.epoch) if run.best else "–" for run in shown]),
        ("state", [run.state for run in shown]),
    ]
    settings = _rows(differing_settings([run.config for run in shown]), column)
    same = Content("All settings are the same.")
    text = [_row(head, column), *(settings or [same]), Content(""), *_rows(progress, column)]
    notes = []
    for run in shown[1:]:
        if why := why_incomparable(shown[0], run):
            names = f"{_short_name(run, WIDEST)} and {_short_name(shown[0], WIDEST)}"
            notes.append(Content.styled(f"The losses of {names} do not compare: {why}.", "$text-warning"))
    if len(shown) < len(runs):
        notes.append(Content.styled(f"{len(shown)} of {len(runs)} marked runs fit beside one another here.", FAINT))
    return Content("\n").join([*text, *([Content(""), *notes] if notes else [])])


def _short_name(run: RunSummary, width: int) -> str:
    name = clean(str(run.folder))
    return name if cell_len(name) <= width else shorten(clean(run.folder.name), width)


def _rows(rows: Iterable[tuple[str, Sequence[str]]], column: int) -> list[Content]:
    return [_row([(name, FAINT), *((clean(value) or "–", "") for value in values)], column) for name, values in rows]


def _row(cells: Sequence[tuple[str, str]], column: int) -> Content:
    (name, style), *values = cells
    return Content.assemble(
        (fit(name, NAMES_WIDTH), style), *((fit(truncate(text, column), column + 1), style) for text, style in values)
    )
