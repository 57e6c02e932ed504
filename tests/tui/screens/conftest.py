"""Runs of other names and speeds, for charts that show several."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.process.system import start_resource_tracker
from fundamentallm.run.events import JOURNAL, Event, Progress, encode
from fundamentallm.run.spec import RunSpec
from tests.events import evaluated
from tests.tui.others import Write


@pytest.fixture
def processes() -> None:
    """A console may start real processes, as its command lets it: before Textual takes the standard streams."""
    start_resource_tracker()


@pytest.fixture
def write(workshop: Any) -> Write:
    """Writes a run whose loss falls by a hundredth a step, with a report a step."""

    def write(
        name: str,
        last: int,
        *,
        top: float = 5.0,
        epoch: int = 80,
        tokens: int = 1000,
        seconds: float = 1.0,
        **settings: Any,
    ) -> Path:
        folder = workshop.folder / "runs" / name
        folder.mkdir(parents=True)
        config = Config(**{"data": (str(workshop.text),), **settings})
        events: list[Event] = [replace(workshop.started(RunSpec(config, folder)), steps_per_epoch=epoch)]
        for step in range(1, last + 1):
            report: Progress = workshop.progress(step, step)
            events.append(replace(report, train_loss=(top - step / 100,), tokens=tokens * step))
        events.append(evaluated(last, top))
        events.append(workshop.saved(last, "best.pt", "best"))
        events.append(workshop.finished(last))
        times = [1e9, *(1e9 + seconds * min(at, last) for at in range(1, len(events)))]
        lines = [encode(replace(event, seq=at, time=times[at - 1])) for at, event in enumerate(events, 1)]
        (folder / JOURNAL).write_text("\n".join(lines) + "\n")
        return Path("runs", name)

    return write
