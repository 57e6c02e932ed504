"""`fundamentallm train`: train in this process until the end, or until somebody says stop."""

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from fundamentallm.cli.options import FLAGS, GroupedCommand, files, find_checkpoint, layers_of, options, sources, typed
from fundamentallm.cli.report import Report, reporter
from fundamentallm.cli.terminal import complain, one_line, quoted
from fundamentallm.config.config import Config, flags_layer, resolve
from fundamentallm.config.files import load_config
from fundamentallm.errors import NothingToDo, UserError
from fundamentallm.paths import user_path
from fundamentallm.process.prepare import prepared_folder
from fundamentallm.process.signals import obeyed
from fundamentallm.run.events import JOURNAL, Event, Failed, Phase
from fundamentallm.run.folder import CONFIG, LAST, choose_folder
from fundamentallm.run.spec import RunSpec, changed_flags, overridden, stay_inside

if TYPE_CHECKING:
    from fundamentallm.process.session import WorkerRun

PATIENCE = 5.0  # seconds for a worker that does not start to go


@click.command(cls=GroupedCommand, rows=FLAGS)
@sources
@click.option(
    "--resume-from",
    metavar="CHECKPOINT",
    shell_complete=files,
    help="Go on from a checkpoint, in its folder; --epochs is the new total.",
)
@click.option(
    "--resume",
    type=click.Choice(["auto"]),
    help="Go on from the newest whole checkpoint in --output-dir, if there is one; else start.",
)
@click.option("--detach", is_flag=True, help="Train in the background; `fundamentallm watch` and `stop` reach it.")
@click.option("--overwrite", is_flag=True, help="Move a run that --output-dir holds aside.")
@click.option("--dry-run", is_flag=True, help="Say what would happen; train nothing and write nothing.")
@click.option("--quiet", is_flag=True, help="Print nothing but what went wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON, as the journal has it.")
@options(FLAGS.values())
def command(
    preset: str | None,
    config_file: str | None,
    resume_from: str | None,
    resume: str | None,
    detach: bool,
    overwrite: bool,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **values: Any,
) -> int:
    """Train a model on the text file DATA, which a preset or a configuration file may name instead.

    Flags win over --config, --config over --preset. Ctrl+C finishes the step, saves and ends.
    """
    flags = typed(values)
    auto = resume is not None
    if auto and (overwrite or resume_from is not None or "output_dir" not in flags):
        raise UserError("--resume auto: needs --output-dir, and neither --resume-from nor --overwrite")
    layers = layers_of(preset, config_file)
    if resume_from is not None:
        if layers:
            complain("--preset and --config are not used: the checkpoint brings its settings")
        checkpoint = find_checkpoint(resume_from, LAST)
        folder = user_path(flags["output_dir"]) if "output_dir" in flags else checkpoint.parent
        job = RunSpec(Config(), folder, checkpoint, flags)
        return do(job, dry_run, detach, reporter(folder, quiet, as_json), overwrite)
    own, told = user_path(flags["output_dir"]) / CONFIG if auto else None, list[str]()
    if own is not None and not layers and not flags.get("data") and own.is_file():
        layer = load_config(own)  # the folder says what its run was, but not who else hears of it
        job = RunSpec(Config(), own.parent, changes=flags)
        inside, told = stay_inside(resolve(layer, flags_layer(flags)), job)
        layers = [replace(layer, values={**layer.values, "wandb": inside.wandb, "log_dir": inside.log_dir})]
    config = resolve(*layers, flags_layer(flags))
    if not config.data:
        raise UserError("DATA: name a text file to learn from, or use --preset or --config")
    folder = choose_folder(config, preset or "")
    changes = changed_flags(folder, flags) if auto else {}
    if auto and (preset or config_file) and (others := overridden(folder, config, flags)):
        complain(f"{folder} goes on with its own {', '.join(others)}, whatever --preset or --config say")
    job, report = (
        RunSpec(config, folder, changes=changes, auto=auto, preset=preset or ""),
        reporter(folder, quiet, as_json),
    )
    for words in told if not any(folder.glob("*.pt")) else ():  # a checkpoint has its own say
        report.say(words)
    try:
        return do(job, dry_run, detach, report, overwrite)
    except NothingToDo as error:
        if not auto:
            raise
        complain(str(error))
        return 0


def do(job: RunSpec, dry_run: bool, detach: bool, report: Report, overwrite: bool) -> int:
    """Preview a job, hand it to a process of its own, or train here."""
    if dry_run:
        return preview(job, overwrite)
    return start(job, overwrite) if detach else train(job, report, overwrite)


def start(job: RunSpec, overwrite: bool) -> int:
    """Start a worker and leave it alone as soon as it trains."""
    from fundamentallm.process.session import WorkerRun, start_resource_tracker

    start_resource_tracker()
    with prepared_folder(job, overwrite, complain) as aside:
        session = WorkerRun(job, prepared=True)
        try:
            _await(session)
        except BaseException:
            session.kill()  # nobody may train in a folder that is taken back
            raise
    session.close()
    if aside:
        print(one_line(f"the old run is in {aside} now"))
    print(one_line(f"training in the background in {job.folder}; fundamentallm watch {quoted(job.folder)} shows it"))
    sys.stdout.flush()
    os._exit(0)  # an ordinary end would wait for the run


def _await(session: "WorkerRun") -> None:
    """Wait until a worker trains.

    Raises:
        UserError: it does not come to that.
    """
    said: list[Event] = []
    while session.alive and not any(isinstance(event, (Phase, Failed)) for event in said):
        said += session.events(0.2)
    failed = next((event for event in said if isinstance(event, Failed)), None)
    if failed is None and session.alive:
        return
    session.close()  # or it would wait for our questions
    session.wait(PATIENCE)
    advice = f"; {failed.advice}" if failed and failed.advice else ""
    words = f"{failed.error}{advice}" if failed else f"the run did not start: {session.exit_reason}"
    raise NothingToDo(words) if session.status == 0 else UserError(words)


def preview(job: RunSpec, overwrite: bool) -> int:
    """Print what a job would do."""
    from fundamentallm.cli.preview import lines  # imports torch

    print("\n".join(lines(job, overwrite=overwrite)))
    return 0


def train(job: RunSpec, report: Report, overwrite: bool) -> int:
    """Do a job and report on it; returns the exit status.

    Raises:
        UserError: it cannot be done; what was made for it is gone again.
    """
    early: list[int] = []
    try:
        with obeyed(("SIGTERM", "SIGHUP"), _give_up, early), prepared_folder(job, overwrite, complain) as aside:
            from fundamentallm.train.trainer import Trainer

            trainer = Trainer(job, report.hear, lambda: ())
    except GivenUp:
        return 128 + early[0]
    if aside:
        report.say(f"the old run is in {aside} now")

    def stop() -> None:
        trainer.stop()
        report.interrupted()

    with obeyed(("SIGINT", "SIGTERM", "SIGHUP"), stop) as received:
        try:
            end = trainer.run()
        except OSError as error:  # a disk that is full or gone
            end = trainer.fail(str(error), "")
        except Exception as error:
            trainer.fail(f"{type(error).__name__}: {error}", "this is a fault of the program")
            raise
        finally:
            told = trainer.close()
    if not told:
        again = f"fundamentallm train --resume auto --output-dir {quoted(job.folder)}"
        complain(f"{job.folder / JOURNAL}: its last lines could not be written; {again} completes it")
    if isinstance(end, Failed) or end.unsaved or not told:
        return 1
    return 128 + received[0] if received else 0


class GivenUp(BaseException):
    """A signal came before there was a run."""


def _give_up() -> None:
    raise GivenUp
