"""The folder of a run, before and after a start that fails."""

from pathlib import Path

from fundamentallm.config.estimate import estimate
from fundamentallm.data.text import read_texts
from fundamentallm.errors import UserError
from fundamentallm.run.folder import check_folder, move_aside
from fundamentallm.run.locks import holder, is_held
from fundamentallm.run.spec import RunSpec


def prepare_folder(job: RunSpec, *, overwrite: bool = False) -> Path | None:
    """Check a job, move an old run aside if that was asked for, and make the folder.

    Returns:
        Where the old run is now, if one was moved.

    Raises:
        UserError: the folder or the data cannot be used; nothing was written.
    """
    if is_held(job.folder):  # first: nothing else that could be said would help
        raise UserError(f"{job.folder}: is being written by {holder(job.folder) or 'another process'}")
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
