"""Runs that a test controls, and events as they say them."""

import threading
from dataclasses import replace
from pathlib import Path

from fundamentallm.config.config import Config, to_dict
from fundamentallm.run import commands
from fundamentallm.run.commands import Command
from fundamentallm.run.events import Answered, CheckpointSaved, Event, Failed, Finished, Phase, Progress, RunStarted
from fundamentallm.run.range_test import Point, Suggestion
from fundamentallm.run.spec import RunSpec


class FakeRun:
    """Has WorkerRun's interface; hands over what `say` was given and keeps what it was sent."""

    may_return = False

    def __init__(self, job: RunSpec) -> None:
        self.job, self.folder = job, job.folder
        self.sent: list[Command] = []
        self.alive, self.exit_reason, self.left = True, "", False
        self.tail = ["a last word"]
        self._said: list[Event] = []
        self._arrived = threading.Event()
        self._seq = 0

    def send(self, command: Command) -> None:
        self.sent.append(command)

    def events(self, timeout: float) -> list[Event]:
        self._arrived.wait(timeout)  # not in small steps: the pilot waits until the whole process is idle
        self._arrived.clear()
        said, self._said = self._said, []
        return said

    def log_tail(self) -> list[str]:
        return self.tail[-10:]

    def close(self) -> None:
        self.left = True
        self._arrived.set()

    # What a test makes it do

    def say(self, *events: Event) -> None:
        stamped = []
        for event in events:
            self._seq += 1
            stamped.append(replace(event, seq=self._seq, time=event.time or 1_700_000_000.0 + self._seq))
        self._said += stamped
        self._arrived.set()

    def begin(self, step: int = 0, total: int = 400, epochs: int = 5) -> None:
        self.say(Phase(step=step, phase="loading"), started(self.job, step, total, epochs))
        self.say(Phase(step=step, phase="training"))

    def finish(self, step: int, reason: str = "completed") -> None:
        self.say(finished(step, reason))

    def answer(self, ok: bool = True, why: str = "") -> None:
        last = self.sent[-1]
        self.say(Answered(step=0, id=last.id, command=commands.NAMES[type(last)], ok=ok, why=why))

    def die(self, end: str = "killed by SIGKILL") -> None:
        self.exit_reason, self.alive = end, False
        self._arrived.set()


class FakeSampler(FakeRun):
    """Has SamplerRun's interface."""

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(RunSpec(Config(), checkpoint.parent))
        self.checkpoint = checkpoint


class FakeRateTest:
    """Has RateTest's interface; reports what `say` was given."""

    made: list["FakeRateTest"] = []

    def __init__(self, config: Config) -> None:
        self.config = config
        self.alive, self.exit_reason = True, ""
        self._said: list[Point | Suggestion | Failed] = []
        self.made.append(self)

    def say(self, *said: Point | Suggestion | Failed) -> None:
        self._said += said

    def read(self) -> list[Point | Suggestion | Failed]:
        said, self._said = self._said, []
        return said

    def close(self) -> None:
        self.alive = False


def started(job: RunSpec, step: int = 0, total: int = 400, epochs: int = 5) -> RunStarted:
    resumed = str(job.resume_from) if job.resume_from else None
    return RunStarted(
        step=step, version="0", config=to_dict(job.config), parameters=100_000, vocab_size=60, resumed_from=resumed,
        steps_per_epoch=total // epochs, total_steps=total, device="cpu", threads=2, torch="2", pid=1, host="here",
        preset=job.preset,
    )  # fmt: skip


def progress(first: int, last: int, *, epoch: int = 1, eta: float | None = 60.0, rate: float = 24_100.0) -> Progress:
    steps = tuple(range(first, last + 1))
    return Progress(
        step=steps, train_loss=tuple(4.0 - step / 200 for step in steps), learning_rate=(1e-3,) * len(steps),
        grad_norm=(0.41,) * len(steps), epoch=epoch, tokens=last * 1000, tokens_per_second=rate, eta_seconds=eta,
        memory_bytes=2**19,
    )  # fmt: skip


def finished(step: int, reason: str = "completed", unsaved: str = "") -> Finished:
    return Finished(
        step=step, reason=reason, epoch=5, train_loss=1.5, val_loss=1.7, best_val_loss=1.7, best_step=step,
        best_epoch=5, seconds=83.0, tokens=1, path="final_model.pt", unsaved=unsaved,
    )  # fmt: skip


def saved(step: int, path: str, kind: str) -> CheckpointSaved:
    return CheckpointSaved(step=step, path=path, kind=kind, bytes=1_600_000, seconds=0.1)
