"""The offer to download a known text that the configuration names and this computer lacks."""

from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from fundamentallm.config.format import format_size
from fundamentallm.data.download import KNOWN_TEXTS, download, find_known_text
from fundamentallm.errors import UserError
from fundamentallm_tui.format import clean

BAR_WIDTH = 40


def missing_known_text(paths: tuple[str, ...]) -> str | None:
    """Return the name of the first known text that would bring a missing file."""
    for path in paths:
        if not Path(path).exists() and (name := find_known_text(path)):
            return name
    return None


class Fetch(ModalScreen[bool]):
    """Offers a known text, downloads it with a progress bar, and ends with whether it is there."""

    BINDINGS = [Binding("enter,f", "fetch", "Download it"), Binding("escape,c", "cancel", "Cancel")]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._text = KNOWN_TEXTS[name]
        self._downloading = self._cancelled = False
        self._bar = Static("", id="bar", markup=False)

    def compose(self) -> ComposeResult:
        size = f", {format_size(self._text.size)}" if self._text.size else ""
        with Vertical(classes="dialog") as box:
            box.border_title = "The text is not here yet"
            yield Static(f"{self._text.description}{size}. It will be in {self._text.folder}.", markup=False)
            yield self._bar
            yield Static("f or enter downloads it; escape cancels", classes="hint", markup=False)

    def action_fetch(self) -> None:
        if not self._downloading:
            self._downloading = True
            self._show_progress(0, self._text.size or 0)
            self._download()

    def action_cancel(self) -> None:
        self._cancelled = True
        self.dismiss(False)

    @work(thread=True)
    def _download(self) -> None:
        def progress(done: int, total: int) -> None:
            if not self._cancelled:
                self.app.call_from_thread(self._show_progress, done, total)

        problem = ""
        try:
            download(self._text, progress=progress, cancelled=lambda: self._cancelled)
        except UserError as error:
            problem = str(error)
        if not self._cancelled:
            self.app.call_from_thread(self._end, problem)

    def _show_progress(self, done: int, total: int) -> None:
        share = done / total if total else 0.0
        filled = int(BAR_WIDTH * share)
        self._bar.update(f"{'█' * filled}{'░' * (BAR_WIDTH - filled)} {share:4.0%}")

    def _end(self, problem: str) -> None:
        self._downloading = False
        if problem:
            self._bar.update(clean(problem))
        else:
            self.dismiss(True)
