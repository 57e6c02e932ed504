"""A job: what a trainer is to do, and what must be right before anything is written. No torch."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, Layer, resolve
from fundamentallm.run.history import read_history
from fundamentallm.untrusted import is_near


@dataclass(frozen=True)
class RunSpec:
    """A configuration and the folder of its run.

    With `resume_from` the checkpoint's configuration stands in place of `config`, and `changes` are the settings that
    were typed on top of it. An `auto` job goes on from the newest whole checkpoint in its folder, interventions that
    came after it included, and starts afresh where there is none.
    """

    config: Config
    folder: Path
    resume_from: Path | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    auto: bool = False
    preset: str = ""  # the name of the preset that `config` comes from, for people

    @property
    def continues(self) -> bool:
        """Whether the run in the folder goes on. A checkpoint from elsewhere must not be written over another run."""
        if self.auto:
            return True
        return self.resume_from is not None and self.resume_from.resolve().parent == self.folder.resolve()


def stay_inside(saved: Config, job: RunSpec) -> tuple[Config, list[str]]:
    """A run's own configuration, in which what reaches out of the run is only what this command itself asks for.

    The file may be a stranger's: it may not report to a service, nor write to a folder that is neither the run's nor
    below the current one.

    Returns:
        The configuration, and what a person should know about it.
    """
    told = []
    if saved.wandb and not (job.config.wandb or "wandb" in job.changes):
        saved = replace(saved, wandb=False)
        told.append("Weights & Biases is off: the run asks for it, but not this command; --wandb turns it on")
    asked = saved.log_dir == job.config.log_dir or "log_dir" in job.changes
    if saved.tensorboard and not asked and not is_near(saved.log_dir, job.folder):
        told.append(
            f"TensorBoard's files go to {job.config.log_dir}; the run says {saved.log_dir}, which only "
            "--log-dir may, as it is not in this folder"
        )
        saved = replace(saved, log_dir=job.config.log_dir)
    return saved, told


def requested_config(folder: Path) -> Config | None:
    """What the commands that started a run, and went on with it, asked for; None where there is no run."""
    requested = read_history(folder, steps=False).requested
    known = {name: value for name, value in requested.items() if name in SETTINGS}
    return resolve(Layer(known)) if known else None


def changed_flags(folder: Path, flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that say something else than those with which the run was started, or went on, before.

    The others would undo what persons changed since: a recovering command is the starting one, typed again.
    """
    before = requested_config(folder)
    if before is None:
        return flags
    return {name: value for name, value in flags.items() if SETTINGS[name].parse(value) != getattr(before, name)}


def overridden(folder: Path, config: Config, flags: dict[str, Any]) -> list[str]:
    """The settings of which a preset or a file says something else than the run has; it goes on with its own."""
    before = requested_config(folder)
    names = [name for name in SETTINGS if name not in flags and name != "output_dir"]
    return [] if before is None else [name for name in names if getattr(config, name) != getattr(before, name)]
