"""What the tests of runs share: events as runs write them, their journals, and a disk that is full."""

import errno
from pathlib import Path
from typing import Any

from fundamentallm.config.config import Config, to_dict
from fundamentallm.run.events import JOURNAL, CheckpointSaved, Evaluated, Event, Finished, Progress, RunStarted
from fundamentallm.run.journal import Journal
from tests import events

CONFIG = to_dict(Config(data=("texts/sea.txt",), epochs=4, learning_rate=0.002))


def started(step: int = 0, **changes: Any) -> RunStarted:
    values = {
        "version": "0", "config": CONFIG, "parameters": 1234, "vocab_size": 30, "steps_per_epoch": 10,
        "total_steps": 40, "device": "cpu", "threads": 1, "torch": "2", "pid": 1, "host": "here",
    }  # fmt: skip
    return RunStarted(step=step, **{**values, **changes})


def progress(first: int, last: int, loss: float = 0.0) -> Progress:
    """Steps whose training loss is `loss` and a hundredth of the step."""
    numbers = tuple(range(first, last + 1))
    return Progress(
        step=numbers, train_loss=tuple(loss + n / 100 for n in numbers), learning_rate=tuple(n / 1e4 for n in numbers),
        grad_norm=tuple(float(n) for n in numbers), epoch=-(-last // 10), tokens=last, tokens_per_second=1.0,
        eta_seconds=None, memory_bytes=0,
    )  # fmt: skip


def evaluated(step: int, val_loss: float, **changes: Any) -> Evaluated:
    """An epoch of ten steps ends, with a training loss of 1."""
    return events.evaluated(step, val_loss, **{"epoch": -(-step // 10), "train_loss": 1.0, "best": False, **changes})


def saved(step: int, path: str = "best.pt") -> CheckpointSaved:
    return CheckpointSaved(step=step, path=path, kind=path.removesuffix(".pt"), bytes=1000, seconds=0.1)


def finished(step: int, reason: str = "completed", **changes: Any) -> Finished:
    values = {
        "epoch": 1, "train_loss": 1.0, "val_loss": 1.0, "best_val_loss": 1.0, "best_step": 1, "best_epoch": 1,
        "seconds": 1.0, "tokens": 1, "path": None,
    }  # fmt: skip
    return Finished(step=step, reason=reason, **{**values, **changes})


def write_journal(folder: Path, *events: Event) -> Path:
    """Append events to the journal of a run in `folder`; return the journal's path."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder)
    for event in events:
        journal.append(event)
    journal.close()
    return folder / JOURNAL


def full(*_: Any) -> Any:
    """Stands for a function of `os` where the disk is full."""
    raise OSError(errno.ENOSPC, "No space left on device")
