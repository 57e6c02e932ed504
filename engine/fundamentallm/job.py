"""A job: what a trainer is to do, and what must be right before anything is written. No torch."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fundamentallm.config import SETTINGS, Config, Layer, resolve
from fundamentallm.errors import UserError
from fundamentallm.estimate import estimate
from fundamentallm.events import RunStarted
from fundamentallm.run import check_folder, move_aside, read_journal
from fundamentallm.text import read_texts


@dataclass(frozen=True)
class Job:
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


def prepare_folder(job: Job, *, overwrite: bool = False) -> Path | None:
    """Check a job, move an old run aside if that was asked for, and make the folder.

    Returns:
        Where the old run is now, if one was moved.

    Raises:
        UserError: the folder or the data cannot be used; nothing was written.
    """
    check_folder(job.folder, may_hold_run=overwrite or job.continues)
    if job.resume_from is None:
        estimate(job.config, read_texts(job.config.data))
    elif not job.resume_from.is_file():
        raise UserError(f"--resume-from {job.resume_from}: no such checkpoint")
    elif overwrite and job.folder.resolve() in job.resume_from.resolve().parents:
        raise UserError(
            f"--overwrite: would move {job.resume_from} aside, from which the run is to go on; leave it out"
        )
    aside = move_aside(job.folder) if overwrite else None
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output-dir {job.folder}: cannot be made: {error.strerror}") from None
    return aside


def newly_typed(folder: Path, flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that say something else than those with which the run was started, or went on, before.

    The others would undo what persons changed since: a recovering command is the starting one, typed again.
    """
    asked: dict[str, Any] = {}  # by the commands so far
    for event in read_journal(folder):
        if isinstance(event, RunStarted):
            asked = {**asked, **event.changes} if event.recovered and asked else event.config
    if not asked:
        return flags
    before = resolve(Layer({name: value for name, value in asked.items() if name in SETTINGS}))
    return {name: value for name, value in flags.items() if SETTINGS[name].parse(value) != getattr(before, name)}
