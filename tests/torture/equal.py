"""What must be equal in the end, bit for bit: the files of a run, its losses, its evaluations, what persons changed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import read_journal
from fundamentallm.train.checkpoint import load
from tests.torture.bench import Bench, Lost, Options, Prepare, ask

CLOCKS = ("seconds", "said")  # of the counters: how long it took, and how much was said meanwhile


def finish(
    bench: Bench,
    run: Path,
    options: Options,
    reference: Path,
    prepare: Prepare | None = None,
    *,
    failures: bool = False,
) -> None:
    """Go on to the end and compare.

    Raises:
        Lost: it did not come to its end, or another one.
    """
    if status := bench.run(run, options, prepare):
        raise Lost(f"went on to status {status}: {bench.words(run)}")
    compare(run, reference, failures=failures)


def compare(run: Path, reference: Path, *, failures: bool = False) -> None:
    """
    Raises:
        Lost: a run's end is not that of another.
    """
    if found := ask(lambda: difference(run, reference, failures=failures)):
        raise Lost(found)


def difference(run: Path, reference: Path, *, failures: bool = False) -> str:
    """How a run's end differs from another's; empty where all is the same, bit for bit.

    With `failures`, a file that could not be saved, and said so, may be missing or older, but never last and final; and
    a temporary one that could not be removed may be left to the next process.
    """
    told = list(read_journal(run))
    if not told or not isinstance(told[-1], events.Finished) or told[-1].reason != "completed" or told[-1].unsaved:
        return f"the journal does not end with the run's end but with {told[-1:]}"
    if [event.seq for event in told] != list(range(1, len(told) + 1)):
        return f"the journal's numbers are {[event.seq for event in told]}"
    unsaved = {event.path for event in told if isinstance(event, events.CheckpointFailed)} if failures else set()
    unsaved -= {"last.pt", "final_model.pt"}
    if not failures and (left := [path.name for path in run.iterdir() if path.suffix == ".tmp"]):
        return f"left over: {left}"
    names, wanted = ({path.name for path in folder.glob("*.pt")} for folder in (run, reference))
    if names - wanted or wanted - names - unsaved:
        return f"has {sorted(names)} and not {sorted(wanted)}"
    for name in sorted(names):
        if found := _other_state(run / name, reference / name, may_be_older=name in unsaved):
            return f"{name}: {found}"
    return _other_history(run, reference) or _other_changes(run, reference)


def _other_state(path: Path, wanted: Path, *, may_be_older: bool) -> str:
    try:
        a, b = vars(load(path)), vars(load(wanted))
    except UserError as error:
        return str(error)
    if may_be_older and a["counters"]["step"] != b["counters"]["step"]:
        return ""
    for part in b:
        x, y = a[part], b[part]
        if part in ("model", "optimizer"):
            same = x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)
        elif part == "counters":
            same = _without(x, *CLOCKS) == _without(y, *CLOCKS)
        elif part == "config":
            same = _without(x, "output_dir") == _without(y, "output_dir")
        else:
            same = x == y
        if not same:
            return f"another {part}" + (f": {x} and not {y}" if part == "counters" else "")
    return ""


def _other_history(run: Path, reference: Path) -> str:
    a, b = read_history(run), read_history(reference)
    if list(a.steps) != list(b.steps):
        return f"steps that are not told of: {sorted(set(b.steps) - set(a.steps))}"
    for name in ("train_loss", "learning_rate", "grad_norm"):
        if list(getattr(a, name)) != list(getattr(b, name)):
            return f"another {name}"
    x, y = ([_without(asdict(event), "seq", "time") for event in history.evaluations] for history in (a, b))
    return "" if x == y else "other evaluations"


def _other_changes(run: Path, reference: Path) -> str:
    """What persons changed may be told of again after a kill; none may be missing, and none added."""
    a, b = (set(map(str, _made(folder))) for folder in (run, reference))
    return "" if a == b else f"persons' changes: {sorted(a ^ b)} are in one of the two only"


def _made(run: Path) -> list[tuple[int, str, Any]]:
    """The changes that a journal tells of, but for those that the disk refused at the last moment."""
    made, answered = [], True
    for event in read_journal(run):
        match event:
            case events.Intervention():
                made.append((event.step, event.setting, event.new))
                answered = False
            case events.Answered():
                if not event.ok and not answered:
                    made.pop()
                answered = True
    return made


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
