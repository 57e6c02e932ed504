"""What stands in the loss chart's place before there is a run: what the next key does, and the newest runs here."""

from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Static

from fundamentallm.config.format import format_age, format_loss, wrap
from fundamentallm.run.summary import RunSummary
from fundamentallm_tui import keys
from fundamentallm_tui.format import clean, fit, shorten, truncate
from fundamentallm_tui.theme import FAINT

NAME_WIDTH = 24  # of a run, at most
KEY_WIDTH = 5


class Welcome(Static):
    """Shows what the form would start, and some runs."""

    start = reactive("")  # what a start would do; empty: the form has a problem
    runs: reactive[list[RunSummary]] = reactive(list)  # of which as many are shown as there is room for

    def __init__(self, reading: str, *, id: str) -> None:
        """`reading`: how to read the curves, for someone who sees such for the first time."""
        super().__init__(id=id)
        self._reading = reading

    def render(self) -> Content:
        width, height = self.size
        rows = [
            Content("No run yet."),
            Content(),
            self._row("start", self.start or "trains, once the form has no problem"),
            self._row("pane.config", "goes to the settings; enter edits"),
            self._row("help", "explains the keys and the curves"),
        ]
        if self.runs:
            rows += [self._row("runs", "lists the runs:"), Content()]
            rows += [_run_row(run, width) for run in self.runs[: max(0, height - len(rows))]]
        reading = [Content.styled(row, FAINT) for row in wrap(self._reading, max(20, width - 1))]
        if len(rows) + 1 + len(reading) <= height:
            rows += [Content(), *reading]
        return Content("\n").join(rows)

    def _row(self, id: str, text: str) -> Content:
        text = truncate(clean(text), max(0, self.size.width - KEY_WIDTH - 2))
        return Content.assemble((keys.named(id).rjust(KEY_WIDTH), "bold $text-accent"), f"  {text}")


def _run_row(run: RunSummary, width: int) -> Content:
    """One run in one row; where that is short, without its state."""
    indent, state = " " * (KEY_WIDTH + 2), f"  {run.state:<11}" if width >= 64 else ""
    pieces = f"{state}  {format_age(run.last_event):<11}  "
    loss = f"best {format_loss(run.best.val_loss if run.best else None):<5}"
    name = max(8, min(NAME_WIDTH, width - len(indent) - len(pieces) - len(loss)))
    return Content.assemble(
        indent, fit(shorten(clean(run.folder.name), name), name), (pieces, FAINT), (loss, "$text-accent")
    )
