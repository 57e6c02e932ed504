"""What a run is to do: its configuration, its folder, and what it resumes from. No torch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, Layer, resolve
from fundamentallm.errors import UserError
from fundamentallm.paths import is_near
from fundamentallm.run.events import Intervention
from fundamentallm.run.folder import INPUT, stored_input
from fundamentallm.run.history import read_history


@dataclass(frozen=True)
class RunSpec:
    """A configuration and the folder of its run.

    With `resume_from` the checkpoint's configuration replaces `config`, and `changes` are the settings that the user
    typed on top of it. An `auto` run resumes from the latest valid checkpoint in its folder and repeats the live
    changes after it; where there is no checkpoint it starts from `config`.

    With `init_from` a new run starts from `config` with the weights of a checkpoint, whose shape replaces that of
    `config`; `changes` are the flags that the user typed, which must not contradict it.
    """

    config: Config
    folder: Path
    resume_from: Path | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    auto: bool = False
    init_from: Path | None = None
    planned: tuple[Intervention, ...] = ()  # changes of another run, to be made at their steps
    settings_from: Path | None = None  # the run's own file that `config` was read from, as an `auto` run may do
    preset: str = ""  # the name of the preset that `config` comes from, to be shown
    replaced: Path | None = None  # where the run is now that was in the folder
    numbered: bool = False  # the program chose the number in the name of the folder, and the next will do
    agent_began: float | None = None  # when the agent began that restarted this, for a process was lost; else None

    @property
    def continues(self) -> bool:
        """Whether it resumes the run in its folder. A checkpoint from elsewhere must not overwrite another run."""
        if self.auto:
            return True
        return self.resume_from is not None and self.resume_from.resolve().parent == self.folder.resolve()

    def again(self, agent_began: float) -> "RunSpec":
        """Return what the same command does after its process was killed: it resumes from the newest checkpoint."""
        history = read_history(self.folder, steps=False)
        if history.starts and history.starts[-1].time >= agent_began:
            config = history.settings or self.config  # what this command trained with
            return replace(
                self, config=config, auto=True, agent_began=agent_began, resume_from=None, init_from=None, changes={},
                replaced=None,
            )  # fmt: skip
        if history.starts or self.resume_from or self.init_from:
            return self  # it had not begun, and what the folder holds is not its own
        return replace(self, config=replace(self.config, data=stored_input(self.config.data, self.folder)), auto=True)


def branched_spec(parent: Path, checkpoint: str, folder: Path, changes: dict[str, Any], preset: str = "") -> RunSpec:
    """Describe a new run that begins with a checkpoint of the run `parent`; a UserError if `folder` is that run's."""
    if folder.exists() and folder.samefile(parent):
        raise UserError(f"{folder}: is the run to branch from, which stays as it is; name another folder")
    numbered = "output_dir" not in changes
    return RunSpec(Config(), folder, parent / checkpoint, changes, preset=preset, numbered=numbered)


@contextmanager
def explain_origin(source: Path | None, name: str) -> Iterator[None]:
    """Say in an error about a setting that it comes from `source`, if the user did not give it, and what overrides it.

    `source` is the checkpoint or file that has the setting; None if the user gave it.
    """
    try:
        yield
    except UserError as error:
        if source is None:
            raise
        override = "DATA" if name == "data" else SETTINGS[name].flag
        what = "the path" if name in ("data", "log_dir") else "the setting"
        raise UserError(f"{error}; {what} comes from {source}, and {override} overrides it") from None


def stay_inside(saved: Config, spec: RunSpec) -> tuple[Config, list[str]]:
    """Take a saved configuration without what reaches out of the run's folder, unless this command asks for it.

    The checkpoint may be someone else's: it must not report to a service, nor write to a folder that is neither the
    run's nor below the current one. The sentences that come back are for the user: what was taken out.
    """
    notices = []
    if saved.wandb and not (spec.config.wandb or "wandb" in spec.changes):
        saved = replace(saved, wandb=False)
        notices.append("Weights & Biases is off: the run had it on, but this command does not; --wandb turns it on")
    if saved.track and not (spec.config.track or "track" in spec.changes):
        notices.append(f"not tracked by {', '.join(saved.track)} as the run was: this command does not say --track")
        saved = replace(saved, track=())
    requested = saved.log_dir == spec.config.log_dir or "log_dir" in spec.changes
    if saved.tensorboard and not requested and not is_near(saved.log_dir, spec.folder):
        why = f"the run had {saved.log_dir}, which is outside of this folder and must be named with --log-dir"
        notices.append(f"TensorBoard's files go to {spec.config.log_dir}; {why}")
        saved = replace(saved, log_dir=spec.config.log_dir)
    return saved, notices


def find_input(config: Config, folder: Path) -> Config:
    """Take the text that came by standard input from the run's folder, where it is if the folder was moved."""
    moved = folder / INPUT
    lost = [path for path in config.data if Path(path).name == INPUT and not os.path.exists(path)]
    if not lost or not os.path.isfile(moved):
        return config
    return replace(config, data=tuple(str(moved) if path in lost else path for path in config.data))


def changed_flags(folder: Path, flags: dict[str, Any]) -> dict[str, Any]:
    """Select the flags whose values differ from those with which the run was last started or resumed.

    `--resume auto` is the starting command, typed again: its other flags would undo live changes made since.
    """
    before = _requested_config(folder)
    if "data" in flags:
        flags = {**flags, "data": stored_input(flags["data"], folder)}
    if before is None:
        return flags
    return {name: value for name, value in flags.items() if SETTINGS[name].parse(value) != getattr(before, name)}


def overridden(folder: Path, config: Config, flags: dict[str, Any]) -> list[str]:
    """Name the settings in which a preset or file differs from the run. The run resumes with its own."""
    before = _requested_config(folder)
    names = [name for name in SETTINGS if name not in flags and name != "output_dir"]
    return [] if before is None else [name for name in names if getattr(config, name) != getattr(before, name)]


def _requested_config(folder: Path) -> Config | None:
    """What the commands that started and resumed a run asked for; None where there is no run."""
    requested = read_history(folder, steps=False).requested
    known = {name: value for name, value in requested.items() if name in SETTINGS}
    return resolve(Layer(known)) if known else None
