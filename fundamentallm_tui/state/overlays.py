"""The curves of other runs: each journal is read once in a thread, and followed while it grows."""

from collections.abc import Callable, Iterable
from pathlib import Path

from textual.message_pump import MessagePump

from fundamentallm.run.events import Event
from fundamentallm.run.journal import journal_reader
from fundamentallm_tui.background import Newest
from fundamentallm_tui.charts.palette import COLOURS, RunStyle, run_styles
from fundamentallm_tui.state.store import Store

MAX_OVERLAYS = len(COLOURS)


class Overlay:
    """A run whose curves lie over those of another."""

    style: RunStyle  # tells its curves from those of other runs

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store()  # what its journal says: the thread fills it until it is read, and then the screen does
        self.store.attach(folder, "")
        self.journal = journal_reader(folder)
        self.is_read = self.hidden = False

    def apply(self, events: list[Event]) -> None:
        self.store.apply(events)
        self.store.take_lines()  # nobody shows its log


class Overlays:
    """The overlaid runs, at most `MAX_OVERLAYS`, in the order in which they were chosen."""

    def __init__(self, owner: MessagePump, changed: Callable[[], object]) -> None:
        """`owner` calls `read` each second; `changed` is called when something was read."""
        self._changed = changed
        self._runs: dict[Path, Overlay] = {}
        self._reading = Newest(owner)
        self._parent: Path | None = None  # is overlaid only because the run that is shown comes from it

    @property
    def marks(self) -> dict[Path, RunStyle]:
        """The styles by the folders as they were given."""
        return {run.folder: run.style for run in self._runs.values()}

    @property
    def folders(self) -> list[Path]:
        return [run.folder for run in self._runs.values()]

    def toggle(self, folder: Path) -> Path | None:
        """Overlay the run in a folder, or no longer; returns the oldest if this one, beyond eight, takes its place."""
        others = [run.folder for key, run in self._runs.items() if key != folder.resolve()]
        if folder == self._parent:  # from now on it is the user's choice
            self._parent = None
        added = [folder] if len(others) == len(self._runs) else []
        self.choose([*others, *added][-MAX_OVERLAYS:])
        return others[0] if len(others) + len(added) > MAX_OVERLAYS else None

    def choose(self, folders: Iterable[Path]) -> None:
        """Overlay the runs in these folders; those that were overlaid before keep what was read."""
        keys = {folder.resolve(): folder for folder in list(folders)[:MAX_OVERLAYS]}
        styles = run_styles(keys, {key: run.style for key, run in self._runs.items()})
        # a new dictionary, because a thread may be going through the old one
        self._runs = {key: self._runs.get(key) or Overlay(folder) for key, folder in keys.items()}
        for key, run in self._runs.items():
            run.style = styles[key]
        self.read()

    def choose_parent(self, parent: Path | None) -> None:
        """Overlay the run that the shown one comes from, in place of that of the run before; None: there is none."""
        if parent is not None and parent.is_relative_to(Path.cwd()):
            parent = parent.relative_to(Path.cwd())  # as the list of runs names it, which marks it
        others = [run.folder for run in self._runs.values() if run.folder != self._parent]
        known = parent is None or parent.resolve() in {folder.resolve() for folder in others}
        self._parent = None if known else parent
        self.choose([*others, *filter(None, [self._parent])])

    def beside(self, shown: Path | None) -> list[Overlay]:
        """Return the runs that were read, without the one that is shown itself."""
        own = shown.resolve() if shown is not None else None
        return [run for key, run in self._runs.items() if run.is_read and key != own]

    def hide_next(self, shown: Path | None) -> None:
        """Hide one more of the runs beside the one that is shown; once all are hidden, show all again."""
        runs = self.beside(shown)
        visible = [run for run in runs if not run.hidden]
        for run in visible[:1] or runs:
            run.hidden = not run.hidden

    def read(self) -> None:
        """Read in a thread what has come to the journals, and the whole of one that was not read yet."""
        runs = self._runs.values()
        if self._runs and not self._reading.busy:
            unread = [run for run in runs if not run.is_read]
            now = [run for run in runs if run.is_read] + unread[:1]  # one after the other: each is soon to be seen
            self._reading.run(lambda _: [(run, self._read(run)) for run in now], self._take)

    def _read(self, run: Overlay) -> list[Event]:
        """Return the events that came since the last look; those of the first are taken in here, in the thread."""
        came: list[Event] = []
        while run in self._runs.values() and (events := run.journal.read_some()):
            if run.is_read:
                came += events
            else:
                run.apply(events)
        return came

    def _take(self, found: list[tuple[Overlay, list[Event]]]) -> None:
        for run, events in found:
            if run in self._runs.values() and (events or not run.is_read):
                run.is_read = True
                run.apply(events)
                self._changed()
        if not all(run.is_read for run in self._runs.values()):
            self.read()
