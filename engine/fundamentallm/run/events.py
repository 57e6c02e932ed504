"""The events of a run: frozen dataclasses, and the flat JSON lines of its journal.

- `seq` and `time` are stamped by the journal when an event is appended; until then they are 0.
- Numbers that are not finite are `null` in JSON (strict JSON has no NaN) and NaN in Python.
- A reader skips events that it does not know (a newer engine may have more), and those that no run can have written:
  the journal may be someone else's, and its numbers must not break whoever reads it.
"""

import json
import math
from dataclasses import dataclass, field
from itertools import islice
from operator import lt
from typing import Any

from fundamentallm.untrusted import MAX_INTEGER, MAX_TIME, from_line, names_in_json

JOURNAL = "journal.jsonl"  # the file of a run
# causes of a failure
NOT_FINITE, OUT_OF_MEMORY, DISK, FAULT, PROCESS = "not_finite", "out_of_memory", "disk", "fault", "process"
PHASES = (
    "loading", "compiling", "training", "evaluating", "saving", "sampling", "pausing", "paused", "stopping",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Event:
    """What all events have. `time` is UTC in seconds since 1970; every event also has `step`, the steps done so far."""

    seq: int = 0
    time: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """A process began to write the run, at its beginning or to resume it.

    `resumed_from` is the checkpoint; `recovered` says that the run resumes whatever its folder has (`--resume auto`);
    `changes` are the settings that this start changed. `initialised_from` is the checkpoint whose weights a new run
    began with. `fingerprint` is the SHA-256 of the text; a journal of an older engine has none.
    `train_tokens` counts the tokens that are trained on; 0 in a journal of an older engine. `planned` are the changes
    of another run that are still to be made, each with its `step`, `setting`, `new` value, `who` made it, and whether
    it `undoes` another.
    `processes` train the run together, each with so many `threads`; `pid` and `host` are those of the one that writes.
    """

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
    changes: dict[str, Any] = field(default_factory=dict)
    preset: str = ""
    initialised_from: str | None = None
    fingerprint: str = ""
    train_tokens: int = 0
    planned: tuple[dict[str, Any], ...] = ()
    processes: int = 1

    @property
    def epochs(self) -> int:
        """The epoch in which the run ends."""
        return -(-self.total_steps // self.steps_per_epoch)


@dataclass(frozen=True, kw_only=True)
class Phase(Event):
    """What the run is doing from now on: one of PHASES."""

    step: int
    phase: str


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """The metrics of each step since the last Progress, oldest first, and where the run is after them.

    `grad_norm` is the norm before clipping; `tokens` counts tokens since the run began, padding excluded;
    `eta_seconds` is the time left, None while there is no estimate.
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
    """The validation loss was measured.

    `train_loss` is the mean over the tokens of this epoch so far; `perplexity` is exp(val_loss). `bits_per_byte` is the
    validation loss in bits for each byte of the text, which compares across tokenizers; None in an older journal.
    """

    step: int
    epoch: int
    train_loss: float
    val_loss: float
    perplexity: float
    epoch_ended: bool
    best: bool
    bits_per_byte: float | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint was written and read back. `path` is relative to the run; `kind`: epoch, last, best, hand, final."""

    step: int
    path: str
    kind: str
    bytes: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class CheckpointFailed(Event):
    """A checkpoint could not be written; the file of that name, if any, is as it was."""

    step: int
    path: str
    kind: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Sampled(Event):
    """A piece of a sample: `text` continues the earlier pieces of the same `id` and `number`.

    `probabilities`: one each token. `number`: which of the samples that the command asked for, from 0.
    """

    step: int
    id: str
    prompt: str
    text: str
    probabilities: tuple[float, ...] = ()
    done: bool = False
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class Pinned(Event):
    """The answer to a pinned prompt: `text` continues it. `seconds`: what it took, while the run took no step."""

    step: int
    prompt: str
    text: str
    probabilities: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Inspected(Event):
    """How each layer learnt at a step, every `inspect_every` steps: an entry for each of `layers`.

    `grad_norm` before clipping; `weight_norm` before the update; `update_ratio`: the norm of what was added to the
    weights as a share of theirs. `seconds`: what measuring took.
    """

    step: int
    layers: tuple[str, ...]
    grad_norm: tuple[float, ...]
    weight_norm: tuple[float, ...]
    update_ratio: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Explained(Event):
    """How the model predicted a text, for the command `id`: an entry for each of `tokens` but the first.

    `probability` of the token that came; its `rank` among all, from 1; `entropy` of the prediction in nats; the
    `likeliest` tokens and their probabilities in `likeliest_probability`. `tokens`: the text, `left_out` what was not
    known.
    """

    step: int
    id: str
    tokens: tuple[str, ...]
    probability: tuple[float, ...]
    rank: tuple[int, ...]
    entropy: tuple[float, ...]
    likeliest: tuple[tuple[str, ...], ...]
    likeliest_probability: tuple[tuple[float, ...], ...]
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Attended(Event):
    """What tokens attend to in a layer, for the command `id`: by head, a row for each token, by the tokens before it.

    A row has an entry for the token itself and for each before it, and sums to 1. There are `layers` layers.
    """

    step: int
    id: str
    tokens: tuple[str, ...]
    layer: int
    layers: int
    heads: tuple[tuple[tuple[float, ...], ...], ...]


@dataclass(frozen=True, kw_only=True)
class Nearest(Event):
    """The tokens with the embeddings nearest to that of a token, for the command `id`, and the cosines to it."""

    step: int
    id: str
    token: str
    tokens: tuple[str, ...]
    cosine: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Intervention(Event):
    """The user `who` changed a live setting; it holds from the next step on. `undoes`: to take back a change."""

    step: int
    setting: str
    old: Any
    new: Any
    who: str
    undoes: bool = False


@dataclass(frozen=True, kw_only=True)
class Answered(Event):
    """The run obeyed the command `id` (`ok`), or says why it did not. `who` gave it."""

    step: int
    id: str
    command: str
    ok: bool
    why: str = ""
    who: str = ""


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something that the user should know. `level`: info, warning or error."""

    step: int
    level: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The run ended as planned. `reason`: completed, patience or stopped. Losses are None if never measured.

    `best_val_loss`, `best_step` and `best_epoch` are those of best.pt, None where there is no such file.
    `path`, in the run's folder, is the checkpoint to use. `unsaved` says why the last state could not be saved or the
    journal not be written; it is empty when both were.
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
    """The run broke off. `saved` names the checkpoint to resume from; engine.log, if there is one, has the traceback.

    `cause` is NOT_FINITE, OUT_OF_MEMORY, DISK, FAULT, or PROCESS, which is that another process of the run has ended;
    empty where the run did not start, and in an older journal.
    """

    step: int
    error: str
    advice: str = ""
    saved: str | None = None
    cause: str = ""


NAMES = {**names_in_json(Event), Sampled: "sample"}
KINDS = {name: kind for kind, name in NAMES.items()}


def beginnings(*kinds: type[Event]) -> tuple[bytes, ...]:
    """Return how the lines of these events begin."""
    return tuple(f'{{"event":"{NAMES[kind]}"'.encode() for kind in kinds)


def last_step(event: Any) -> int:
    """Return how many steps were done at an event."""
    step = event.step
    return (step[-1] if step else 0) if isinstance(step, tuple) else int(step)


def encode(event: Event) -> str:
    """Write an event as a line of JSON, without its newline."""
    return to_line({"event": NAMES[type(event)], **vars(event)})


def decode(line: str | bytes) -> Event | None:
    """Read the event of a line; returns None for a line that is truncated, unknown or malformed."""
    event = from_line(line, "event", KINDS)
    return event if event is not None and _is_possible(event) else None


def _is_possible(event: Event) -> bool:
    """Whether a run can have written it: a real time, step and phase, and columns of one length by increasing step."""
    if isinstance(event, Progress):
        step, columns = event.step, (event.train_loss, event.learning_rate, event.grad_norm)
        if not step or any(len(c) != len(step) for c in columns) or not all(map(lt, step, islice(step, 1, None))):
            return False
        least = min(step[0], MAX_INTEGER - step[-1], event.epoch, event.tokens)
    else:
        least = last_step(event)
    if isinstance(event, RunStarted):
        least = min(least, event.steps_per_epoch - 1, event.total_steps, event.parameters, event.train_tokens)
    if isinstance(event, Phase) and event.phase not in PHASES:
        return False
    return least >= 0 and event.seq >= 0 and 0 <= event.time <= MAX_TIME


def to_line(values: dict[str, Any]) -> str:
    """Write strict JSON: numbers that are not finite become null."""
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
