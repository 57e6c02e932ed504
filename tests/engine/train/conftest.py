"""What the tests of training share."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fundamentallm.run.journal import Journal
from fundamentallm.train import trainer


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[float]], None]:
    """Make the validation losses these, in this order."""
    real = trainer.evaluate

    def set_losses(losses: Sequence[float]) -> None:
        left = list(losses)
        monkeypatch.setattr(trainer, "evaluate", lambda *_: replace(real(*_), loss=left.pop(0)))

    return set_losses


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Let the disk refuse the journal while a condition holds."""

    def set_condition(is_full: Callable[[], Any]) -> None:
        sync = Journal.sync

        def refuse(self: Journal) -> None:
            if is_full():
                raise OSError(28, "No space left on device")
            sync(self)

        monkeypatch.setattr(Journal, "sync", refuse)

    return set_condition
