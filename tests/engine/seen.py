"""What tests see of a run of the small configuration."""

from pathlib import Path
from typing import Any

import torch

from fundamentallm.run import events
from fundamentallm.run.journal import read_journal

EPOCH = 18  # steps: 139 windows, 8 at a time


def steps_in(journal: Path) -> dict[int, float]:
    """Losses by step as the journal tells them; a start at step n takes back what was said of later steps."""
    losses: dict[int, float] = {}
    for event in read_journal(journal):
        if isinstance(event, events.RunStarted):
            losses = {n: loss for n, loss in losses.items() if n <= event.step}
        if isinstance(event, events.Progress):
            for n, loss in zip(event.step, event.train_loss, strict=True):
                assert n not in losses
                losses[n] = loss
    return losses


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def notices(ran: Any) -> list[str]:
    return [event.text for event in ran.of(events.Notice)]


def same_tensors(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two sets of tensors are the same bits."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
