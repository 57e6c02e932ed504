"""What a run can go on from after its process was killed."""

from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, changed_while_running
from fundamentallm.errors import UserError
from fundamentallm.run.events import Answered, Finished, Intervention, RunStarted
from fundamentallm.run.history import read_milestones
from fundamentallm.train.checkpoint import load, peek


def latest_valid_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The checkpoint of a folder that was written last and is whole, and what is wrong with newer ones.

    The journal's count tells which is newer: a copy of the folder may have lost the files' times. What a person left
    behind by going back to an earlier state comes last.
    """
    starts = [event for event in read_milestones(folder) if isinstance(event, RunStarted)]

    def rank(path: Path) -> tuple[bool, float, int]:
        """The newest has the highest. Of a damaged file it is not known: it may be the newest, and must be named."""
        counters, written = peek(path), path.stat().st_mtime_ns
        if counters is None:
            return True, inf, written
        left_behind = any(start.seq > counters.said and start.step < counters.step for start in starts)
        return not left_behind, counters.said, written

    damaged = []
    for path in sorted(
        filter(Path.is_file, folder.glob("*.pt")), key=lambda path: (rank(path), path.name), reverse=True
    ):
        try:
            load(path)
        except UserError as error:
            damaged.append(str(error))
            continue
        return path, [f"{error}; an older one is used" for error in damaged]
    return None, [*damaged, "no checkpoint is whole: the run begins anew"] if damaged else []


def interventions_after(folder: Path, step: int) -> list[Intervention]:
    """What persons changed at `step` or later in the history that a run goes on with, each once, in order.

    A run that was resumed from a checkpoint by hand left what came after it behind; one that recovered did not. What is
    followed by a refusal was not made: the disk failed while it was written down. What a later command typed stands.
    """
    unanswered: Intervention | None = None
    made: list[Intervention] = []
    planned: list[Intervention] = []  # made before a kill, and not yet again after it
    for event in read_milestones(folder):
        if isinstance(event, RunStarted):
            if event.recovered:
                undone = [*planned, *(change for change in made if change.step >= event.step)]
                planned = _in_order(change for change in undone if change.setting not in event.changes)
            else:
                planned = []
            made = [c for c in made if c.step < event.step and (event.recovered or event.resumed_from)]
            unanswered = None
        elif isinstance(event, Intervention) and _allowed(event):
            again = [c for c in planned if (c.step, c.setting, c.new) == (event.step, event.setting, event.new)]
            made.append(again[0] if again else event)
            if again:
                planned.remove(again[0])
            else:  # a person waits for an answer
                unanswered = event
        elif isinstance(event, Answered):
            if unanswered is not None and not event.ok:
                made.remove(unanswered)
            unanswered = None
    return _in_order(change for change in (*made, *planned) if change.step >= step)


def changes_after(folder: Path, said: int) -> dict[str, Any]:
    """The settings that commands changed since the journal had `said` events: a kill came before they were saved."""
    changes: dict[str, Any] = {}
    for event in read_milestones(folder):
        if isinstance(event, RunStarted) and event.seq > said:
            changes = {**changes, **event.changes} if event.recovered else event.changes
    return {name: value for name, value in changes.items() if name in SETTINGS}


def _allowed(change: Intervention) -> bool:
    """Whether a run can have made it: a journal may come from a stranger."""
    try:
        value = getattr(changed_while_running(Config(), change.setting, change.new), change.setting)
    except UserError:
        return False
    return type(value) is type(change.new) and bool(value == change.new)


def ended(folder: Path) -> bool:
    """Whether the journal tells that the run came to its end and saved it."""
    last: Finished | None = None
    for event in read_milestones(folder):
        if isinstance(event, RunStarted):
            last = None
        elif isinstance(event, Finished):
            last = event
    return last is not None and last.reason != "stopped" and not last.unsaved


def _in_order(changes: Iterable[Intervention]) -> list[Intervention]:
    return sorted(changes, key=lambda change: (change.step, change.seq))
