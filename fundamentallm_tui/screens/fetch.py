"""The offer to fetch a text that a configuration names and this machine lacks, with a bar."""

from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from fundamentallm.data.download import KNOWN_TEXTS, download, find_known_text
from fundamentallm.errors import UserError
from fundamentallm_tui.format import clean

CELLS = 40  # of the bar


def missing_corpus(paths: tuple[str, ...]) -> str | None:
    """The known corpus that would bring a file that is not there."""
    return next((name for path in paths if not Path(path).exists() and (name := find_known_text(path))), None)


class Fetch(ModalScreen[bool]):
    """Ends with True when the text is there."""

    BINDINGS = [Binding("enter,f", "fetch", "Fetch it"), Binding("escape,c", "cancel", "Do without it")]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._known = KNOWN_TEXTS[name]
        self._under_way = self._cancelled = False

    def compose(self) -> ComposeResult:
        size = f", {self._known.size / 1e6:.1f} MB" if self._known.size else ""
        with Vertical(classes="dialog") as box:
            box.border_title = "The text is not here yet"
            yield Static(f"{self._known.description}{size}. It comes into {self._known.folder}.", markup=False)
            yield Static("", id="bar", markup=False)
            yield Static("f or enter fetches it; escape does not", classes="hint", markup=False)

    def action_fetch(self) -> None:
        if not self._under_way:
            self._under_way, self._cancelled = True, False
            self._show(0, self._known.size or 0)
            self._get()

    def action_cancel(self) -> None:
        self._cancelled = True
        self.dismiss(False)

    @work(thread=True)
    def _get(self) -> None:
        def progress(done: int, total: int) -> None:
            if not self._cancelled:
                self.app.call_from_thread(self._show, done, total)

        try:
            download(self._known, progress=progress, cancelled=lambda: self._cancelled)
        except UserError as error:
            if not self._cancelled:
                self.app.call_from_thread(self._failed, str(error))
        else:
            if not self._cancelled:
                self.app.call_from_thread(self.dismiss, True)

    def _show(self, done: int, total: int) -> None:
        share = done / total if total else 0.0
        filled = int(CELLS * share)
        self.query_one("#bar", Static).update(f"{'█' * filled}{'░' * (CELLS - filled)} {share:4.0%}")

    def _failed(self, why: str) -> None:
        self._under_way = False
        self.query_one("#bar", Static).update(clean(why))
