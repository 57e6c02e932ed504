"""What stands in the loss chart's place before there is a run: what the next key does, and the newest runs here."""

from textual.content import Content
from textual.widgets import Static

from fundamentallm.config.format import format_age, format_loss, wrap
from fundamentallm.run.summary import RunSummary
from fundamentallm_tui.format import clean, fit, shorten, truncate
from fundamentallm_tui.keys import key_name
from fundamentallm_tui.panes.bars import bound
from fundamentallm_tui.screens.help import READING
from fundamentallm_tui.theme import FAINT

NAME_WIDTH = 24  # of a run, at most
KEY_WIDTH = 5


class Welcome(Static):
    """Shows what the form would start, and some runs."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._runs: list[RunSummary] = []
        self._start = ""
        self._keys: dict[str, str] = {}  # as they were last; in a text field the single ones do not act

    def show_start(self, text: str) -> None:
        """Say what a start would train; empty: the form has a problem."""
        self._start = text
        self.refresh()

    def show_runs(self, runs: list[RunSummary]) -> None:
        """Show as many of these runs as there is room for."""
        self._runs = runs
        self.refresh()

    def render(self) -> Content:
        width, height = self.size
        rows = [
            Content("No run yet."),
            Content(),
            self._row("start", f"trains {self._start}" if self._start else "trains, once the form has no problem"),
            self._row("pane.config", "goes to the settings; enter edits"),
            self._row("help", "explains the keys and the curves"),
        ]
        if self._runs:
            rows += [self._row("runs", "lists the runs:"), Content()]
            rows += [_run_row(run, width) for run in self._runs[: max(0, height - len(rows))]]
        reading = [Content.styled(row, FAINT) for row in wrap(READING, max(20, width - 1))]
        if len(rows) + 1 + len(reading) <= height:
            rows += [Content(), *reading]
        return Content("\n").join(rows)

    def _row(self, id: str, text: str) -> Content:
        found = bound(self.screen).get(id)
        if found is not None:
            self._keys[id] = key_name(found.binding.key)
        text = truncate(clean(text), max(0, self.size.width - KEY_WIDTH - 2))
        return Content.assemble((self._keys.get(id, "").rjust(KEY_WIDTH), "bold $text-accent"), f"  {text}")


def _run_row(run: RunSummary, width: int) -> Content:
    """One run in one row; where that is short, without its state."""
    indent, state = " " * (KEY_WIDTH + 2), f"  {run.state:<11}" if width >= 64 else ""
    pieces = f"{state}  {format_age(run.last_event):<11}  "
    loss = f"best {format_loss(run.best.val_loss if run.best else None):<5}"
    name = max(8, min(NAME_WIDTH, width - len(indent) - len(pieces) - len(loss)))
    return Content.assemble(
        indent, fit(shorten(clean(run.folder.name), name), name), (pieces, FAINT), (loss, "$text-accent")
    )
