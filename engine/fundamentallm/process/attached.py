"""A run that another process started, as its watcher sees it: read its journal, tell it things by its inbox. No torch.

Apart from `session`, which needs multiprocessing: to attach is to be there at once.
"""

import time
from pathlib import Path

from fundamentallm.errors import UserError
from fundamentallm.run.commands import Command
from fundamentallm.run.events import JOURNAL, Event
from fundamentallm.run.folder import ENGINE_LOG
from fundamentallm.run.journal import JournalReader, tell
from fundamentallm.run.locks import Watching, is_held
from fundamentallm.untrusted import open_regular_file


class Watched:
    """A run as any watcher sees it. `returns`: events may come again after the end of its process, of another one."""

    folder: Path
    returns = False

    def log_tail(self, lines: int = 10) -> list[str]:
        """The last lines of what the process printed."""
        try:
            with open_regular_file(self.folder / ENGINE_LOG) as file:
                file.seek(max(0, file.seek(0, 2) - 64 * 1024))
                return file.read().decode("utf-8", "replace").splitlines()[-lines:]
        except OSError:
            return []


class AttachedRun(Watched):
    """A run that another process started: everything since its beginning, then what happens, with every control."""

    returns = True

    def __init__(self, folder: Path, *, stays: bool = False) -> None:
        """
        Args:
            stays: a console, which goes on watching; a paused run that loses the last one ends.

        Raises:
            UserError: there is no run.
        """
        if not (folder / JOURNAL).is_file():
            raise UserError(f"{folder}: holds no run")
        self.folder = folder
        self._journal = JournalReader(folder)
        self._watching = Watching(folder) if stays else None

    def send(self, command: Command) -> None:
        if self._watching is not None:  # of the run that is here now: an older one may have been moved aside
            before, self._watching = self._watching, Watching(self.folder)
            before.close()
        tell(self.folder, command)

    def events(self, timeout: float) -> list[Event]:
        """What was added to the journal since the last call; waits up to `timeout` seconds for news."""
        deadline = time.monotonic() + timeout
        while not (fresh := self._journal.read()) and time.monotonic() < deadline and self.alive:
            time.sleep(min(0.05, timeout))
        return fresh

    @property
    def alive(self) -> bool:
        """Whether a process writes the run."""
        return is_held(self.folder)

    @property
    def end(self) -> str:
        if self.alive:
            return ""
        return "its process is gone" if (self.folder / JOURNAL).exists() else "its folder is gone or has another name"

    def leave(self) -> None:
        """Watch no more; the run does not depend on it unless it is paused."""
        if self._watching is not None:
            self._watching.close()
