"""What a run says: frozen dataclasses, and the flat JSON lines of the journal that they become.

- `seq` and `time` are stamped by the journal when an event is said; until then they are 0.
- Numbers that are not finite are `null` in JSON (strict JSON has no NaN) and NaN in Python.
- A reader skips events that it does not know (a newer engine may say more), and those that no run can have said: a
  journal may come from a stranger, and whoever reads it must not trip over its numbers.
"""

import json
import math
from dataclasses import dataclass, field
from itertools import islice
from operator import lt
from typing import Any

from fundamentallm.untrusted import MAX_INTEGER, MAX_TIME, from_values

JOURNAL = "journal.jsonl"  # the file of a run


@dataclass(frozen=True, kw_only=True)
class Event:
    """`time` is UTC in seconds since 1970. Every event also has `step`: how many optimizer steps were done."""

    seq: int = 0
    time: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    step: int
    version: str
    config: dict[str, Any]
    parameters: int
    vocab_size: int
    steps_per_epoch: int
    total_steps: int
    device: str
    threads: int
    torch: str
    pid: int
    host: str
    resumed_from: str | None = None
    recovered: bool = False
    changes: dict[str, Any] = field(default_factory=dict)  # settings that this start changed
    preset: str = ""


@dataclass(frozen=True, kw_only=True)
class Phase(Event):
    """What the run is doing from now on."""

    step: int
    phase: str


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """StepMetrics for every step since the last Progress, oldest first, and where the run is after them.

    `grad_norm` is the norm before clipping; `tokens` counts real tokens since the run began; `eta_seconds` is None
    until it can be told.
    """

    step: tuple[int, ...]
    train_loss: tuple[float, ...]
    learning_rate: tuple[float, ...]
    grad_norm: tuple[float, ...]
    epoch: int
    tokens: int
    tokens_per_second: float
    eta_seconds: float | None
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """`train_loss` is the mean over the tokens of this epoch so far; `perplexity` is exp(val_loss)."""

    step: int
    epoch: int
    train_loss: float
    val_loss: float
    perplexity: float
    epoch_ended: bool
    best: bool


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """One state was written and read back; `path` is relative to the run. `kind`: epoch, last, best, hand, final."""

    step: int
    path: str
    kind: str
    bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CheckpointFailed(Event):
    step: int
    path: str
    kind: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Sampled(Event):
    """A piece of a sample: `text` continues what came before under the same `id`. `probabilities`: one a token."""

    step: int
    id: str
    prompt: str
    text: str
    probabilities: tuple[float, ...] = ()
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class Intervention(Event):
    step: int
    setting: str
    old: Any
    new: Any
    who: str


@dataclass(frozen=True, kw_only=True)
class Answered(Event):
    """The run took the command `id` (`ok`), or says why it did not."""

    step: int
    id: str
    command: str
    ok: bool
    why: str = ""
    who: str = ""


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something a person should know. `level`: info, warning or error."""

    step: int
    level: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The run ended as it should. `reason`: completed, patience or stopped. Losses are None if never measured.

    `path`, in the run's folder, is the checkpoint to use; `unsaved` says why the end could not be saved, or not be
    told to the journal, and is empty when it was.
    """

    step: int
    reason: str
    epoch: int
    train_loss: float | None
    val_loss: float | None
    best_val_loss: float | None
    best_step: int | None
    best_epoch: int | None
    seconds: float
    tokens: int
    path: str | None
    unsaved: str = ""


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """The run could not go on. `saved` names the checkpoint to go on from; the traceback is in engine.log."""

    step: int
    error: str
    advice: str = ""
    saved: str | None = None


NAMES: dict[type[Event], str] = {
    RunStarted: "run_started",
    Phase: "phase",
    Progress: "progress",
    Evaluated: "evaluated",
    CheckpointSaved: "checkpoint_saved",
    CheckpointFailed: "checkpoint_failed",
    Sampled: "sample",
    Intervention: "intervention",
    Answered: "answered",
    Notice: "notice",
    Finished: "finished",
    Failed: "failed",
}
KINDS = {name: kind for kind, name in NAMES.items()}


def last_step(event: Any) -> int:
    """How many steps were done when an event was said."""
    step = event.step
    return (step[-1] if step else 0) if isinstance(step, tuple) else int(step)


def encode(event: Event) -> str:
    """One line of JSON, without its newline."""
    return to_line({"event": NAMES[type(event)], **vars(event)})


def decode(line: str | bytes) -> Event | None:
    """The event of a line; None for a line that is torn, foreign or malformed: never an exception."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("event"), str):
        return None
    kind = KINDS.get(values.pop("event"))
    event = None if kind is None else from_values(kind, values)
    return event if event is not None and _possible(event) else None


def _possible(event: Event) -> bool:
    """Whether a run can have said it: at a moment, at a step, and columns of one length with increasing steps."""
    if isinstance(event, Progress):
        step, columns = event.step, (event.train_loss, event.learning_rate, event.grad_norm)
        if not step or any(len(c) != len(step) for c in columns) or not all(map(lt, step, islice(step, 1, None))):
            return False
        least = min(step[0], MAX_INTEGER - step[-1], event.epoch, event.tokens)
    else:
        least = last_step(event)
    if isinstance(event, RunStarted):
        least = min(least, event.steps_per_epoch - 1, event.total_steps, event.parameters)
    return least >= 0 and event.seq >= 0 and 0 <= event.time <= MAX_TIME


def to_line(values: dict[str, Any]) -> str:
    """Strict JSON: what is not finite becomes null."""
    try:
        return json.dumps(values, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(values), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
