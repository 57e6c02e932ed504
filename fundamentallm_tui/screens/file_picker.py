"""The choice of text files: the folders, and what the file under the cursor would give a model to learn."""

import os
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterable
from io import IncrementalNewlineDecoder
from itertools import islice
from pathlib import Path

from rich.style import Style
from rich.text import Text
from textual import on
from textual.binding import Binding
from textual.content import Content
from textual.widgets import DirectoryTree, Static, Tree
from textual.widgets.directory_tree import DirEntry
from textual.widgets.tree import TreeNode

from fundamentallm.config.format import format_count, format_size
from fundamentallm.data.encoding import name_format, unmark
from fundamentallm.errors import describe_error
from fundamentallm.untrusted import open_regular_file
from fundamentallm_tui.background import Newest
from fundamentallm_tui.dialogs import Dialog
from fundamentallm_tui.format import clean
from fundamentallm_tui.theme import FAINT

MAX_ENTRIES = 2000  # of a folder that are listed
PIECE = 1 << 20  # bytes that are read at once
MAX_BYTES = 1 << 28  # of a file; reading more takes longer than anyone looks at its name
SHOWN_CHARACTERS = 2000
PAUSE = 0.1  # seconds on an entry before it is read


class FileTree(DirectoryTree):
    """A folder, whose files and folders can be marked."""

    BINDINGS = [
        Binding("space", "mark", "Mark"),
        Binding("right", "open", "Open the folder"),
        Binding("left,backspace", "leave", "Close the folder, or go to the one above"),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.show_guides, self.guide_depth = False, 2
        self.marked: list[Path] = []

    def on_mount(self) -> None:
        self.cursor_line = 0

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        return islice((path for path in paths if not path.name.startswith(".")), MAX_ENTRIES)

    def render_label(self, node: TreeNode[DirEntry], base_style: Style, style: Style) -> Text:
        path = _path(node)
        name = shown_path(path) if node is self.root else path.name
        mark = "* " if path in self.marked else "  "
        return Text(f"{mark}{clean(name)}{'/' if node.allow_expand else ''}", style)

    def action_mark(self) -> None:
        if (node := self.cursor_node) is not None:
            path = _path(node)
            self.marked.remove(path) if path in self.marked else self.marked.append(path)
            node.refresh()
            self.action_cursor_down()

    def action_open(self) -> None:
        if (node := self.cursor_node) is not None and node.allow_expand:
            node.expand()

    def action_leave(self) -> None:
        node = self.cursor_node
        if node is None or node is self.root:
            self.path = Path(self.path).parent
        elif node.is_expanded:
            node.collapse()
        else:
            self.action_cursor_parent()


class FilePicker(Dialog[None]):
    """Takes over the chosen paths, relative to the current folder where they are in it."""

    BINDINGS = [Binding("escape,f2", "dismiss", "Cancel")]

    def __init__(self, folder: Path, take: Callable[[dict[str, list[str]]], None]) -> None:
        """`take` takes over the setting."""
        self._tree, self._describing, self._take = FileTree(folder.absolute()), Newest(self), take
        self._details = Static(id="preview", markup=False)
        hint = "enter takes a file, space marks, → opens, ← goes up, escape closes"
        super().__init__("Text files", self._tree, self._details, hint=hint)

    def on_tree_node_highlighted(self, event: Tree.NodeHighlighted[DirEntry]) -> None:
        self._details.update("reading")
        path = _path(event.node)

        def describe(wanted: Callable[[], bool]) -> tuple[str, str]:
            time.sleep(PAUSE)
            return describe_file(path, lambda: not wanted()) if wanted() else ("", "")

        def show(description: tuple[str, str]) -> None:
            words, start = description[0], clean(description[1], newlines=True)
            self._details.update(Content.assemble((words, "$text-accent"), (f"\n{start}", FAINT)))

        self._describing.run(describe, show)

    @on(DirectoryTree.FileSelected)
    @on(DirectoryTree.DirectorySelected)
    def _selected(self, event: DirectoryTree.FileSelected | DirectoryTree.DirectorySelected) -> None:
        """Take what is marked, or the file under the cursor; the tree opens a folder by itself."""
        chosen = self._tree.marked or [event.path] * isinstance(event, DirectoryTree.FileSelected)
        if chosen:
            self.dismiss()
            self._take({"data": list(map(shown_path, chosen))})


def _path(node: TreeNode[DirEntry]) -> Path:
    assert node.data is not None
    return node.data.path


def shown_path(path: Path) -> str:
    """Return a path as a user would type it here."""
    return os.path.relpath(path) if Path.cwd() in path.parents else str(path)


def describe_file(path: Path, cancelled: Callable[[], bool]) -> tuple[str, str]:
    """Return in a few words what a file is or how much text it has, and how it begins; reads until `cancelled`."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                many = len(list(islice(entries, MAX_ENTRIES + 1))) > MAX_ENTRIES
            listed = f"; {MAX_ENTRIES:,} of its entries are listed" if many else ""
            return f"a folder: space marks it, for all its .txt and .md files{listed}", ""
        with open_regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            piece, encoding = unmark(file.read(PIECE))
            if encoding == "utf-8" and (format := name_format(piece, str(path))):
                return format.partition(";")[0], ""
            decoder = IncrementalNewlineDecoder(getincrementaldecoder(encoding)(), translate=True)
            start, count, vocabulary = "", 0, set[str]()
            while piece and not cancelled() and file.tell() <= MAX_BYTES:
                text = decoder.decode(piece)
                if "\0" in text:
                    return "binary: it has zero bytes", ""
                start, count = start or text[:SHOWN_CHARACTERS], count + len(text)
                vocabulary.update(text)
                piece = file.read(PIECE)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return f"not {encoding.upper()} text", ""
    except OSError as error:
        return f"unreadable: {describe_error(error)}", ""
    if not count:
        return "empty", ""
    words = f"{format_count(count, 'character')}, {len(vocabulary)} different"
    return f"huge, {format_size(size)}: more than {words}" if piece else words, start
