"""The comparison of runs: the settings in which they differ, how far each came, and whether their losses compare."""

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from textual.content import Content

from fundamentallm.config.format import format_loss
from fundamentallm.run.summary import RunSummary, differing_settings, why_incomparable
from fundamentallm_tui.format import clean, fit, shorten, truncate
from fundamentallm_tui.theme import FAINT

NAMES_WIDTH = 18  # of the column with the names of the settings
NARROWEST, WIDEST = 13, 28  # columns of a run


def comparison(runs: Sequence[RunSummary], width: int) -> Content:
    """Return runs side by side; those that do not fit beside the first stand below them."""
    together = max(1, (width - NAMES_WIDTH) // (NARROWEST + 1))
    blocks = [range(start, min(start + together, len(runs))) for start in range(0, len(runs), together)]
    column = min(WIDEST, (width - NAMES_WIDTH) // len(blocks[0]) - 1)
    settings = differing_settings([run.config for run in runs])
    changed = [("changed", [", ".join(run.changed) or "–" for run in runs])] * any(run.changed for run in runs)
    progress = [
        *changed,
        ("steps", [f"{run.steps:,}" for run in runs]),
        ("best val", [format_loss(run.best.val_loss if run.best else None) for run in runs]),
        ("best epoch", [str(run.best.epoch) if run.best else "–" for run in runs]),
        ("state", [run.state for run in runs]),
    ]
    text: list[Content] = []
    for block in blocks:
        head = _row([("", ""), *((_short_name(runs[i], column), "bold") for i in block)], column)
        text += [head, *_rows(settings, block, column), *([Content("")] * bool(settings))]
        text += [*_rows(progress, block, column), Content("")]
    notes = [] if settings else [Content("All settings are the same.")]
    for run in runs[1:]:
        if why := why_incomparable(runs[0], run):
            names = f"{_short_name(run, WIDEST)} and {_short_name(runs[0], WIDEST)}"
            notes.append(Content.styled(f"The losses of {names} do not compare: {why}.", "$text-warning"))
    return Content("\n").join([*text, *notes] if notes else text[:-1])


def _short_name(run: RunSummary, width: int) -> str:
    name = clean(str(run.folder))
    return name if cell_len(name) <= width else shorten(clean(run.folder.name), width)


def _rows(rows: Iterable[tuple[str, Sequence[str]]], block: Iterable[int], column: int) -> list[Content]:
    """Return the values of the runs in a block, a line for each name."""
    return [_row([(name, FAINT), *((clean(values[i]) or "–", "") for i in block)], column) for name, values in rows]


def _row(cells: Sequence[tuple[str, str]], column: int) -> Content:
    (name, style), *values = cells
    return Content.assemble(
        (fit(name, NAMES_WIDTH), style), *((fit(truncate(text, column), column + 1), style) for text, style in values)
    )
