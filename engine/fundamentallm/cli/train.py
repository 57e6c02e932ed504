"""`fundamentallm train` and `branch`: train in this process, or start a worker that trains in the background."""

import os
import signal
import sys
import threading
import traceback
from dataclasses import replace
from typing import Any

import click

from fundamentallm.cli.options import FLAGS, Count, Function, GroupedCommand, config_sources, files, options, typed
from fundamentallm.cli.report import JsonLines, Quiet, Report
from fundamentallm.cli.terminal import complain, one_line
from fundamentallm.config.config import SETTINGS, Config, flags_layer, resolve
from fundamentallm.config.format import format_count
from fundamentallm.errors import NothingToDo, UserError, describe_fault
from fundamentallm.paths import quoted_path, resume_command, user_path
from fundamentallm.process import system
from fundamentallm.process.prepare import note_replaced, prepared_folder
from fundamentallm.process.session import WorkerRun
from fundamentallm.process.start import new_spec
from fundamentallm.run.describe import describe_failure
from fundamentallm.run.events import FAULT, JOURNAL, Event, Failed, Finished, Phase
from fundamentallm.run.folder import LAST, choose_folder, find_checkpoint
from fundamentallm.run.history import read_history, read_started
from fundamentallm.run.locks import is_held
from fundamentallm.run.spec import RunSpec, branched_spec
from fundamentallm.run.summary import find_run

EXIT_SECONDS = 5.0  # to wait for the exit of a worker that failed to start
MAX_RESTARTS = 3
PROCESSES_PER_CORE = 4  # at most: each has 200 MB at least, and 5,000 of them would take the machine with them
RETURN_SECONDS = 2.0  # for the agent to take what a process returned
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

HOW = (  # how a run is started and what is printed
    click.option("--detach", is_flag=True, help="Train in the background; see `fundamentallm watch` and `stop`."),
    click.option("--overwrite", is_flag=True, help="Move the run in --output-dir aside."),
    click.option("--dry-run", is_flag=True, help="Show what would happen; train nothing and write no run."),
    click.option("--quiet", is_flag=True, help="Print only what went wrong."),
    click.option("--json", "as_json", is_flag=True, help="Print events as lines of JSON, as the journal has them."),
    click.option("--processes", metavar="N", type=Count(1), default=1, help="Train in N processes here."),
    click.option(
        "--max-restarts", metavar="N", type=Count(0),
        help="How often all of --processes start again, from the newest checkpoint, when one is lost. "
        f"[default: {MAX_RESTARTS}]",
    ),
    click.option(
        "--profile", metavar="N", type=Count(1, 1000),
        help="Record N steps: trace.json in the run's folder, and a table of where a step's time goes.",
    ),
    click.option(
        "--apply-interventions", metavar="JOURNAL", shell_complete=files,
        help="Make the changes that users made to another run, named by its journal or folder, at the same steps.",
    ),
)  # fmt: skip


def how_and_flags(function: Function) -> Function:
    """Add the options of `HOW`, and one for each setting; a command gets them as keywords, see `_split`."""
    function = options(FLAGS.values())(function)
    for option in reversed(HOW):
        function = option(function)
    return function


@click.command(cls=GroupedCommand, rows=FLAGS)
@config_sources
@click.option(
    "--resume-from", metavar="CHECKPOINT", shell_complete=files,
    help="Resume from a checkpoint, in its folder; --epochs and --max-steps are the new totals.",
)  # fmt: skip
@click.option(
    "--resume", type=click.Choice(["auto"]),
    help="Resume from the newest valid checkpoint in --output-dir; start anew if there is none.",
)  # fmt: skip
@click.option(
    "--init-from", metavar="CHECKPOINT", shell_complete=files,
    help="Start a new run on DATA with the weights of a checkpoint; the model's shape is that of the checkpoint.",
)  # fmt: skip
@how_and_flags
def command(
    preset: str | None,
    config_file: str | None,
    resume_from: str | None,
    resume: str | None,
    init_from: str | None,
    **values: Any,
) -> int:
    """Train a model on DATA, which a preset or a configuration file may name instead.

    DATA are text files, folders (the .txt and .md files directly in them), or - for standard input.

    Flags win over --config, --config over --preset. Ctrl+C finishes the step, saves and exits.
    """
    how, flags = _split(values)
    if system.agent_rank():
        return 0 if how["dry_run"] else _follow()
    auto = resume is not None
    if auto and (how["overwrite"] or resume_from is not None or "output_dir" not in flags):
        raise UserError("--resume auto: needs --output-dir, and neither --resume-from nor --overwrite")
    if init_from is not None and (auto or resume_from is not None):
        raise UserError("--init-from: starts a new run, which --resume and --resume-from do not; leave one out")
    if resume_from is None:
        return _run(new_spec(preset, config_file, flags, auto, init_from, complain), **how)
    if preset is not None or config_file is not None:
        complain("--preset and --config are not used: the checkpoint brings its settings")
    checkpoint = find_checkpoint(resume_from, LAST)
    folder = user_path(flags["output_dir"]) if "output_dir" in flags else checkpoint.parent
    return _run(RunSpec(Config(), folder, checkpoint, flags), **how)


@click.command(cls=GroupedCommand, rows=FLAGS)
@click.argument("run", shell_complete=files)
@click.argument("data", nargs=-1, shell_complete=files)
@click.option("--at-step", metavar="N", type=Count(0), required=True, help="The step to branch at.")
@how_and_flags
def branch(run: str, at_step: int, **values: Any) -> int:
    """Start a new run from the newest checkpoint that RUN has of step N or before, with other settings.

    DATA is needed only where the text has moved. RUN stays as it is, and the new run gets a folder of its own,
    --output-dir or runs/<run>-<n>; its journal names the checkpoint. Settings that the checkpoint depends on, such as
    the model's shape, cannot change.
    """
    how, flags = _split(values)
    if system.agent_rank():
        return 0 if how["dry_run"] else _follow()
    parent = find_run(run)
    history = read_started(parent, steps=False)
    # of a run under way one that stays: it writes the others again meanwhile
    start = history.checkpoint_at(parent, at_step, lasting=is_held(parent))
    folder = choose_folder(resolve(flags_layer(flags)), parent.resolve().name)
    return _run(branched_spec(parent, start.path, folder, flags), **how)


def _split(values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate how a run is started from the settings that were typed."""
    how = {name: value for name, value in values.items() if name not in SETTINGS}
    return how, typed({name: value for name, value in values.items() if name in SETTINGS})


def _run(
    spec: RunSpec, *, detach: bool, overwrite: bool, dry_run: bool, quiet: bool, as_json: bool,
    profile: int | None, apply_interventions: str | None, processes: int, max_restarts: int | None,
) -> int:  # fmt: skip
    """Do what a spec says, or describe it; returns the exit status."""
    if dry_run and as_json:
        raise UserError("--json: prints what happens in a run, and --dry-run starts none; leave one out")
    agent = system.agent_rank() is not None
    several = agent or processes > 1
    if profile is not None and (detach or several):
        raise UserError("--profile: prints a table of one process; leave out --detach and --processes")
    if detach and several:
        raise UserError("--detach: starts one process; for several, leave it out and start the command with nohup")
    if agent and processes > 1:
        raise UserError("--processes: torchrun has started several processes already; leave it out")
    if max_restarts is not None and processes == 1:
        raise UserError("--max-restarts: is for several --processes, which start again when one is lost")
    if processes > (most := PROCESSES_PER_CORE * (os.cpu_count() or 1)):
        share = f"{PROCESSES_PER_CORE} for each of its cores"
        raise UserError(f"--processes {processes}: at most {most} on this machine, {share}")
    if agent and spec.resume_from is None and spec.config.output_dir is None:
        raise UserError("--output-dir: name the run's folder: after a restart, torchrun must find it again")
    if system.agent_restarted():
        spec = _begun_again(spec)
        overwrite = overwrite and spec.agent_began is None
    if apply_interventions is not None:
        other = read_started(find_run(apply_interventions), steps=False)
        spec = replace(spec, planned=tuple(other.changes_made()))
        if wrong := other.impossible:
            left_out = f"left out {format_count(len(wrong), 'damaged or unknown change')}"
            complain(f"{apply_interventions}: {left_out}, at step {wrong[0].step} or later")
    if processes > 1 and not spec.auto and spec.resume_from is None:  # or a checkpoint has the settings
        from fundamentallm.train.distributed import share_of  # imports torch

        share_of(spec.config, processes)
    kind = JsonLines if as_json else Quiet if quiet else Report
    report = kind(spec.folder)
    try:
        if dry_run:
            from fundamentallm.cli.preview import preview  # imports torch

            print(preview(spec, overwrite=overwrite))
            return 0
        if processes > 1:
            return _launch(spec, kind, overwrite, processes, MAX_RESTARTS if max_restarts is None else max_restarts)
        if agent:
            return _lead(spec, report, overwrite)
        return _start(spec, overwrite) if detach else _train(spec, report, overwrite, profile)
    except NothingToDo as error:
        if not spec.auto:
            raise
        complain(str(error))
        return 0


def _start(spec: RunSpec, overwrite: bool) -> int:
    """Start a worker, and leave it alone as soon as it trains. Ends this process."""
    system.start_resource_tracker()
    ended = system.obeyed(lambda number: sys.exit(128 + number), signal.SIGTERM, signal.SIGHUP)
    with ended, prepared_folder(spec, overwrite, complain) as spec:
        session = WorkerRun(spec, prepared=True)
        try:
            _wait_until_training(session)
            session.close()
        except BaseException:
            session.kill()  # nobody may train in a folder that is taken back
            raise
    note_replaced(spec, complain)
    watch = f"fundamentallm watch {quoted_path(spec.folder)} shows it"
    print(one_line(f"training in the background in {spec.folder}; {watch}"), flush=True)
    os._exit(0)  # an ordinary end would wait for the run


def _wait_until_training(session: WorkerRun) -> None:
    """Wait until a worker trains; a UserError if it failed to start."""
    received: list[Event] = []
    gone = False
    while not gone and not any(isinstance(event, (Phase, Failed)) for event in received):
        gone = not session.alive  # before reading, so that its last events are not missed
        received += session.events(0.2)
    failed = next((event for event in received if isinstance(event, Failed)), None)
    if failed is None and session.alive:
        return
    session.close()  # or it would wait for questions
    session.wait(EXIT_SECONDS)
    why = ": ".join(["the run did not start", session.exit_reason, *session.log_tail()[-1:]])
    text = why if failed is None else describe_failure(failed)
    raise NothingToDo(text) if session.status == 0 else UserError(text)


def _train(spec: RunSpec, report: Report, overwrite: bool, profile: int | None = None) -> int:
    """Train a run in this process and report on it; returns the exit status. A UserError leaves no trace of a start."""
    ended = system.obeyed(lambda number: sys.exit(128 + number), signal.SIGTERM, signal.SIGHUP)
    with ended, prepared_folder(spec, overwrite, complain) as spec:
        from fundamentallm.train.trainer import Trainer

        report.folder = spec.folder
        trainer = Trainer(spec, report.on_event, lambda: ())
    note_replaced(spec, report.show)

    def stop(number: int) -> None:
        trainer.stop()
        # An agent also sends SIGTERM to processes that it will start again.
        if system.agent_rank() is None or number != signal.SIGTERM:
            report.show_interrupt()

    with system.obeyed(stop, *SIGNALS) as received:
        try:
            if profile is None:
                end = trainer.run()
            else:
                from fundamentallm.train.profile import profiled

                with profiled(trainer, profile, report.show if type(report) is Report else complain):
                    end = trainer.run()
        except Exception as error:
            trainer.fail(f"{describe_fault(error)}; this is a fault of the program", FAULT)
            raise
        finally:
            complete = trainer.close()
    if not complete:
        again = resume_command(spec.folder)
        complain(f"{spec.folder / JOURNAL}: its last lines could not be written; {again} completes it")
    if isinstance(end, Failed) or end.unsaved or not complete:
        return 1
    return 128 + received[0] if received and system.agent_rank() is None else 0  # the agent has a status of its own


def _launch(spec: RunSpec, kind: type[Report], overwrite: bool, processes: int, max_restarts: int) -> int:
    """Train a run in several processes of this machine; returns the exit status."""
    # until torch handles them
    ended = system.obeyed(lambda number: sys.exit(128 + number), signal.SIGTERM, signal.SIGHUP)
    with ended, prepared_folder(spec, overwrite, complain) as spec:
        from fundamentallm.train import distributed

        why = ""  # which no process was there to say
        try:
            status = distributed.launch(_work, spec, kind, processes=processes, max_restarts=max_restarts)
        except ChildProcessError as error:
            status, why = 1, str(error)
        history = read_history(spec.folder, steps=False)
        if status > 128 and history.starts and not isinstance(history.end, Finished):
            why = f"ended by {signal.Signals(status - 128).name}"
        again = f"resume with: {resume_command(spec.folder)} --processes {processes}"
        if why:
            complain(f"{why}; {again if history.starts else 'nothing was trained yet: give the same command again'}")
        if status and not history.starts:
            sys.exit(status)  # the folder is taken back
    return status


def _work(spec: RunSpec, kind: type[Report]) -> int:
    """Be one of the processes that `_launch` starts; returns the exit status."""
    os.setsid()  # ctrl+C reaches the agent alone, which passes it on
    if system.agent_restarted():
        spec = _begun_again(spec)
    try:
        status = _follow() if system.agent_rank() else _lead(spec, kind(spec.folder), overwrite=False)
    except UserError as error:
        complain(str(error))
        status = 0 if spec.auto and isinstance(error, NothingToDo) else 2
    except Exception:  # the same would happen again: not a reason for the agent to start all processes anew
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    # The agent lets its processes wait until all have returned; one that ends all of them after a signal, forever.
    leave = threading.Timer(RETURN_SECONDS, os._exit, [0])
    leave.daemon = True
    leave.start()
    return status


def _begun_again(spec: RunSpec) -> RunSpec:
    """Return the spec of a process that the agent has started anew; rank 0 says it."""
    if not system.agent_rank():
        number, most = (os.environ.get(f"TORCHELASTIC_{name}", "?") for name in ("RESTART_COUNT", "MAX_RESTARTS"))
        complain(f"a process was lost or failed; all start again, restart {number} of at most {most}")
    return spec.again(system.agent_began())


def _lead(spec: RunSpec, report: Report, overwrite: bool) -> int:
    """Train a run as rank 0 of several processes; returns the exit status."""
    from fundamentallm.train import distributed

    try:
        with distributed.joined():
            return _train(spec, report, overwrite)
    except RuntimeError as error:  # before the first step: later the trainer says it
        if not distributed.is_lost(error):
            raise
        complain(distributed.describe_loss(error))
        return 1


def _follow() -> int:
    """Train a run as another of several processes; returns the exit status. Rank 0 decides, writes and prints."""
    from fundamentallm.train import distributed
    from fundamentallm.train.step import follow

    try:
        # `joined` first: a signal ends a process that still waits for the others.
        with distributed.joined(), system.obeyed(lambda _: None, *SIGNALS) as received:
            follow(lambda: bool(received))
    except UserError:  # rank 0 says it
        return 2
    except RuntimeError as error:
        if not distributed.is_lost(error):
            raise
        return 1
    return 0


COMMANDS = {"branch": branch}
