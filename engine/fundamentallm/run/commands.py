"""The commands that a run obeys: frozen dataclasses, and the JSON lines of its inbox."""

import getpass
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.run.events import to_line
from fundamentallm.untrusted import MAX_NAME_CHARS, from_line, names_in_json

COMMANDS = "commands.jsonl"  # the file of a run
MAX_EXPLAINED = 2048  # tokens: a line of the journal stays far below MAX_EVENT_BYTES


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        return "someone"


@dataclass(frozen=True, kw_only=True)
class Command:
    """What all commands have. The run answers each once, with an `Answered` event of the same `id`; `who` gave it."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    time: float = field(default_factory=time.time)
    who: str = field(default_factory=_user)


@dataclass(frozen=True, kw_only=True)
class Pause(Command):
    """Pause after the current step. `stays`: a console asked and keeps watching; if the last one goes, the run ends."""

    stays: bool = False


@dataclass(frozen=True, kw_only=True)
class Resume(Command):
    """End the pause."""


@dataclass(frozen=True, kw_only=True)
class Save(Command):
    """Write checkpoint_step_N.pt now. The program never deletes it."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Measure the validation loss now, as `eval_every` would."""


@dataclass(frozen=True, kw_only=True)
class Stop(Command):
    """Finish the current step, save, and end the run."""


@dataclass(frozen=True, kw_only=True)
class Sample(Command, SamplingOptions):
    """Continue `prompt` with the model as it is now."""

    prompt: str


@dataclass(frozen=True, kw_only=True)
class Explain(Command):
    """Say how the model as it is now predicts each token of `text`. Characters that it does not know are left out."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Attend(Command):
    """Say what each token of `text` attends to in the heads of a layer, from 0."""

    text: str
    layer: int


@dataclass(frozen=True, kw_only=True)
class Neighbours(Command):
    """Say which tokens have the embeddings nearest to that of `text`, which is one token."""

    text: str


@dataclass(frozen=True, kw_only=True)
class CancelSample(Command):
    """End the sample whose command has the id `sample`."""

    sample: str


@dataclass(frozen=True, kw_only=True)
class Set(Command):
    """Change a `live` setting from the next step on. The journal records it as an intervention.

    `undoes`: it takes back a change.
    """

    setting: str
    value: Any
    undoes: bool = False


NAMES = names_in_json(Command)
KINDS = {name: kind for kind, name in NAMES.items()}


def encode(command: Command) -> str:
    """Write a command as a line of JSON, without its newline."""
    return to_line({"command": NAMES[type(command)], **vars(command)})


def decode(line: str | bytes) -> Command | None:
    """Read the command of a line; returns None for one that is truncated, unknown, malformed or has absurd names."""
    command = from_line(line, "command", KINDS)
    if command is None or max(len(command.id), len(command.who), len(getattr(command, "setting", ""))) > MAX_NAME_CHARS:
        return None
    return command
