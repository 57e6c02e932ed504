"""The choice of text files: a folder's entries, and what the one under the cursor would give a model to learn."""

import os
import time
from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import get_current_worker

from fundamentallm_tui.format import clean
from fundamentallm_tui.state.text_files import MAX_ENTRIES, describe_file, list_folder
from fundamentallm_tui.theme import FAINT

PAUSE = 0.1  # seconds on an entry before it is read


class FilePicker(ModalScreen[list[str]]):
    """Ends with the chosen paths, relative to the current folder where they are in it; escape: None."""

    BINDINGS = [
        Binding("escape,f2", "dismiss", "Cancel"),
        Binding("space", "mark", "Mark"),
        Binding("right", "open", "Open the folder"),
        Binding("left,backspace", "parent", "Go to the folder above"),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder.absolute()
        self._folders: list[Path] = []
        self._entries: list[Path] = []  # these folders, then the files
        self._marked: list[Path] = []
        self._list = OptionList(compact=True, markup=False)
        self._details = Static(id="preview", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield self._list
            yield self._details
            hint = "space marks, enter takes the marked or this one, ← → change the folder"
            yield Static(hint, classes="hint", markup=False)

    def on_mount(self) -> None:
        self._read_folder(self._folder)

    @work(thread=True, exclusive=True, group="folder")
    def _read_folder(self, folder: Path, before: Path | None = None) -> None:
        """List a folder, which may be on a slow disk, with the cursor on the one where the user was before."""
        try:
            (folders, files), problem = list_folder(folder), ""
        except OSError as error:
            folders, files, problem = [], [], f"unreadable: {error.strerror}"
        if not get_current_worker().is_cancelled:
            self.app.call_from_thread(self._show_folder, folder, folders, files, problem, before)

    def _show_folder(
        self, folder: Path, folders: list[Path], files: list[Path], problem: str, before: Path | None
    ) -> None:
        entries = [*folders, *files]
        self._folder, self._folders, self._entries = folder, folders, entries
        box = self.query_one(Vertical)
        box.border_title = Content(clean(_shown(folder)))
        box.border_subtitle = f"the first {MAX_ENTRIES:,}" if len(entries) == MAX_ENTRIES else ""
        self._list.clear_options()
        self._list.add_options([Option(self._label(entry)) for entry in entries])
        self._list.highlighted = entries.index(before) if before in entries else 0 if entries else None
        self._details.update(problem or ("" if entries else "nothing in here"))

    def _label(self, entry: Path) -> Content:
        mark = "* " if entry in self._marked else "  "
        return Content.assemble((mark, "$text-accent"), clean(entry.name) + ("/" if entry in self._folders else ""))

    @property
    def _current(self) -> Path | None:
        place = self._list.highlighted
        return self._entries[place] if place is not None and place < len(self._entries) else None

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        if (entry := self._current) is not None:
            self._details.update("reading")
            self._describe(entry)

    @work(thread=True, exclusive=True, group="file")
    def _describe(self, entry: Path) -> None:
        worker = get_current_worker()
        time.sleep(PAUSE)
        if worker.is_cancelled:
            return
        words, start = describe_file(entry, lambda: worker.is_cancelled)
        if not worker.is_cancelled:
            text = Content.assemble((words, "$text-accent"), (f"\n{clean(start, newlines=True)}", FAINT))
            self.app.call_from_thread(self._details.update, text)

    def action_mark(self) -> None:
        """Mark the entry, or take its mark away."""
        entry, place = self._current, self._list.highlighted
        if entry is not None and place is not None:
            self._marked.remove(entry) if entry in self._marked else self._marked.append(entry)
            self._list.replace_option_prompt_at_index(place, self._label(entry))
            self._list.action_cursor_down()

    def action_open(self) -> None:
        if (entry := self._current) in self._folders and entry is not None:
            self._read_folder(entry)

    def action_parent(self) -> None:
        self._read_folder(self._folder.parent, self._folder)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        entry = self._current
        if self._marked:
            self.dismiss(list(map(_shown, self._marked)))
        elif entry is not None and entry in self._folders:
            self._read_folder(entry)
        elif entry is not None:
            self.dismiss([_shown(entry)])


def _shown(path: Path) -> str:
    return os.path.relpath(path) if Path.cwd() in path.parents else str(path)
