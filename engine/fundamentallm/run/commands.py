"""What a run can be told: frozen dataclasses, and the JSON lines that they become."""

import getpass
import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.run.events import to_line
from fundamentallm.untrusted import MAX_NAME_CHARS, from_values

COMMANDS = "commands.jsonl"  # the file of a run


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "someone"


@dataclass(frozen=True, kw_only=True)
class Command:
    """The run answers each command once, with an `Answered` event of the same id."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    time: float = field(default_factory=time.time)
    who: str = field(default_factory=_who)


@dataclass(frozen=True, kw_only=True)
class Pause(Command):
    """Stand still after the step under way. `stays`: its console goes on watching; when the last goes, the run ends."""

    stays: bool = False


@dataclass(frozen=True, kw_only=True)
class Resume(Command):
    """Go on."""


@dataclass(frozen=True, kw_only=True)
class Save(Command):
    """Write checkpoint_step_N.pt now; it is never removed by the program."""


@dataclass(frozen=True, kw_only=True)
class Stop(Command):
    """Finish the step, save, end."""


@dataclass(frozen=True, kw_only=True)
class Sample(Command, SamplingOptions):
    """Continue `prompt` with the model as it is now."""

    prompt: str


@dataclass(frozen=True, kw_only=True)
class CancelSample(Command):
    """End the sample that the command `sample` asked for."""

    sample: str


@dataclass(frozen=True, kw_only=True)
class Set(Command):
    """Change a `live` setting from the next step on: an intervention, recorded in the journal."""

    setting: str
    value: Any


NAMES: dict[type[Command], str] = {
    Pause: "pause",
    Resume: "resume",
    Save: "save",
    Stop: "stop",
    Sample: "sample",
    CancelSample: "cancel_sample",
    Set: "set",
}
KINDS = {name: kind for kind, name in NAMES.items()}


def encode(command: Command) -> str:
    """One line of JSON, without its newline."""
    return to_line({"command": NAMES[type(command)], **vars(command)})


def decode(line: str | bytes) -> Command | None:
    """The command of a line; None for one that is torn, unknown, malformed, or has names of a length that none has."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("command"), str):
        return None
    kind = KINDS.get(values.pop("command"))
    command = None if kind is None else from_values(kind, values)
    if command is None or max(len(command.id), len(command.who), len(getattr(command, "setting", ""))) > MAX_NAME_CHARS:
        return None
    return command
