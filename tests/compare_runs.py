"""Whether two runs ended the same, bit for bit: checkpoints, losses, evaluations and what users changed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import read_journal
from fundamentallm.train.checkpoint import load

TIMING = ("seconds", "said")  # counters that differ between equal runs: time taken and number of events


def difference(run: Path, reference: Path, *, failures: bool = False) -> str:
    """How the end of a run differs from that of another; empty where everything is the same.

    Args:
        failures: the disk failed for some time. A checkpoint other than last.pt and final_model.pt whose save failed
            with an event may then be missing or older, and a temporary file may be left.
    """
    journal = list(read_journal(run))
    end = journal[-1] if journal else None
    if not isinstance(end, events.Finished) or end.reason == "stopped" or end.unsaved:
        return f"the journal ends with {end}"
    numbers = [event.seq for event in journal]
    if numbers != list(range(1, len(journal) + 1)):
        return f"the events are numbered {numbers}"
    temporary = [path.name for path in run.iterdir() if path.suffix == ".tmp"]
    if temporary and not failures:
        return f"temporary files are left: {temporary}"

    unsaved = {event.path for event in journal if isinstance(event, events.CheckpointFailed)} if failures else set()
    unsaved -= {"last.pt", "final_model.pt"}
    names, expected = ({path.name for path in folder.glob("*.pt")} for folder in (run, reference))
    if names - expected or expected - names - unsaved:
        return f"has {sorted(names)} instead of {sorted(expected)}"
    for name in sorted(names):
        if found := _checkpoint_difference(run / name, reference / name, may_be_older=name in unsaved):
            return f"{name}: {found}"
    return _history_difference(run, reference) or _changes_difference(run, reference)


def _checkpoint_difference(path: Path, reference: Path, *, may_be_older: bool) -> str:
    try:
        ours, theirs = vars(load(path)), vars(load(reference))
    except UserError as error:
        return str(error)
    if may_be_older and ours["counters"]["step"] != theirs["counters"]["step"]:
        return ""
    for field, expected in theirs.items():
        found = ours[field]
        if field in ("model", "optimizer"):
            same = found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
        elif field == "counters":
            same = without(found, *TIMING) == without(expected, *TIMING)
        elif field == "config":
            same = without(found, "output_dir") == without(expected, "output_dir")
        else:
            same = found == expected
        if not same:
            return f"another {field}" + (f": {found} instead of {expected}" if field == "counters" else "")
    return ""


def _history_difference(run: Path, reference: Path) -> str:
    ours, theirs = read_history(run), read_history(reference)
    for column in ("steps", "train_loss", "learning_rate", "grad_norm"):
        if list(getattr(ours, column)) != list(getattr(theirs, column)):
            return f"another {column}"
    a, b = ([without(asdict(event), "seq", "time") for event in each.evaluations] for each in (ours, theirs))
    return "" if a == b else "other evaluations"


def _changes_difference(run: Path, reference: Path) -> str:
    """A change may be recorded again after a kill; none may be missing or added."""
    a, b = (set(map(str, _changes(folder))) for folder in (run, reference))
    return "" if a == b else f"changes that only one of the two runs has: {sorted(a ^ b)}"


def _changes(run: Path) -> list[tuple[int, str, Any]]:
    """The changes in a journal, without those that were then answered with an error: the disk did not take them."""
    changes, answered = [], True
    for event in read_journal(run):
        if isinstance(event, events.Intervention):
            changes.append((event.step, event.setting, event.new))
            answered = False
        elif isinstance(event, events.Answered):
            if not event.ok and not answered:
                changes.pop()
            answered = True
    return changes


def without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
