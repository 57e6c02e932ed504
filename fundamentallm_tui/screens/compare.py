"""Two runs side by side: the settings in which they differ, and how far each came."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from fundamentallm.config.format import format_loss
from fundamentallm.run.history import RunSummary
from fundamentallm_tui.format import clean, fit, truncate
from fundamentallm_tui.screens.run_table import differences
from fundamentallm_tui.theme import FAINT

NAME_WIDTH, VALUE_WIDTH = 20, 28


class Compare(ModalScreen[None]):
    """Shows two runs in two columns."""

    BINDINGS = [Binding("escape,enter,c,q", "dismiss", "Close")]

    def __init__(self, left: RunSummary, right: RunSummary) -> None:
        super().__init__()
        self._runs = left, right

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title = "Compare"
            box.border_subtitle = "escape closes"
            yield Static(self._table())

    def _table(self) -> Content:
        left, right = self._runs
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
    return [
        (fit(name, NAME_WIDTH), FAINT),
        (fit(left, VALUE_WIDTH) + " ", style),
        (f"{truncate(right, VALUE_WIDTH)}\n", style),
    ]


def _best_loss(run: RunSummary) -> str:
    return format_loss(run.best.val_loss if run.best else None)
