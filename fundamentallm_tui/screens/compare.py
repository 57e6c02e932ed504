"""The comparison of two runs: the settings in which they differ, and how far each came."""

from textual.content import Content

from fundamentallm.config.format import format_loss
from fundamentallm.run.summary import RunSummary
from fundamentallm_tui.format import clean, fit, truncate
from fundamentallm_tui.screens.run_table import differences
from fundamentallm_tui.theme import FAINT


def comparison(left: RunSummary, right: RunSummary) -> Content:
    """Return two runs side by side, in columns of 20, 28 and 28 characters."""
    settings = differences(left, right)
    return Content.assemble(
        *_row("", clean(str(left.folder)), clean(str(right.folder)), "bold"),
        *(piece for row in settings for piece in _row(*row)),
        "\n" if settings else "All settings are the same.\n\n",
        *_row("steps", f"{left.steps:,}", f"{right.steps:,}"),
        *_row("best val", _best_loss(left), _best_loss(right)),
        *_row("state", left.state, right.state),
    )


def _row(name: str, left: str, right: str, style: str = "") -> list[tuple[str, str]]:
    return [(fit(name, 20), FAINT), (fit(left, 28) + " ", style), (f"{truncate(right, 28)}\n", style)]


def _best_loss(run: RunSummary) -> str:
    return format_loss(run.best.val_loss if run.best else None)
