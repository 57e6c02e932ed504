"""The curves of other runs: each journal is read once by a thread, and followed while it grows."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from textual.message import Message

from fundamentallm.run.events import Event
from fundamentallm.run.journal import journal_reader
from fundamentallm_tui.background import ThreadFailed
from fundamentallm_tui.charts.palette import COLOURS, RunStyle, run_styles
from fundamentallm_tui.state.store import Store

MAX_OVERLAYS = len(COLOURS)
READ_INTERVAL = 1.0  # seconds between two looks at the journals


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


@dataclass
class OverlayRead(Message):
    """An overlay's journal was read for the first time, or these events came since."""

    overlay: Overlay
    events: list[Event]


class Overlays:
    """The overlaid runs, at most `MAX_OVERLAYS`, in the order in which they were chosen."""

    def __init__(self, post: Callable[[Message], object]) -> None:
        """`post` gets the messages, in the reading thread."""
        self._post = post
        self._runs: dict[Path, Overlay] = {}
        self._changed, self._closed = threading.Event(), False
        self._thread: threading.Thread | None = None

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
        added = [folder] if len(others) == len(self._runs) else []
        self.choose([*others, *added][-MAX_OVERLAYS:])
        return others[0] if len(others) + len(added) > MAX_OVERLAYS else None

    def choose(self, folders: Iterable[Path]) -> None:
        """Overlay the runs in these folders; those that were overlaid before keep what was read."""
        keys = {folder.resolve(): folder for folder in list(folders)[:MAX_OVERLAYS]}
        styles = run_styles(keys, {key: run.style for key, run in self._runs.items()})
        # a new dictionary, because the thread may be going through the old one
        self._runs = {key: self._runs.get(key) or Overlay(folder) for key, folder in keys.items()}
        for key, run in self._runs.items():
            run.style = styles[key]
        self._changed.set()
        if self._runs and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="overlay reader", daemon=True)
            self._thread.start()

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

    def take(self, message: OverlayRead) -> bool:
        """Take in what was read; returns whether the run is still overlaid."""
        if message.overlay not in self._runs.values():
            return False
        message.overlay.is_read = True
        message.overlay.apply(message.events)
        return True

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self._changed.set()

    def _run(self) -> None:
        started: set[Overlay] = set()
        try:
            while not self._closed:
                self._changed.clear()
                runs = list(self._runs.values())
                for run in runs:
                    self._read(run, first=run not in started)
                started = set(runs)
                self._changed.wait(READ_INTERVAL)
        except Exception as error:
            self._post(ThreadFailed(error))

    def _read(self, run: Overlay, first: bool) -> None:
        while events := run.journal.read_some():
            if self._closed or run not in self._runs.values():
                return
            if first:
                run.apply(events)
            else:
                self._post(OverlayRead(run, events))
        if first:
            self._post(OverlayRead(run, []))
