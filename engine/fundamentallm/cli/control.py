"""`fundamentallm pause, resume, save, stop, set, sample, watch`: what the console does to a run, from a shell."""

import time
from pathlib import Path
from typing import Any

import click

from fundamentallm.cli.generate import show
from fundamentallm.cli.report import Report
from fundamentallm.cli.terminal import complain, one_line, quoted
from fundamentallm.errors import UserError
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import commands
from fundamentallm.run.commands import Command
from fundamentallm.run.events import Answered, Sampled
from fundamentallm.run.history import find_run, summarize
from fundamentallm.run.locks import holder

PATIENCE = 60.0  # seconds for an answer; a step of a large model takes its time
RUN = click.argument("run")


@click.command
@RUN
def pause(run: str) -> int:
    """Let a run stand still after the step under way."""
    return _say(run, commands.Pause(), "paused")


@click.command
@RUN
def resume(run: str) -> int:
    """Let a paused run go on."""
    return _say(run, commands.Resume(), "going on")


@click.command
@RUN
def save(run: str) -> int:
    """Let a run write a checkpoint now."""
    return _say(run, commands.Save(), "saved")


@click.command
@RUN
def stop(run: str) -> int:
    """Let a run save and end."""
    return _say(run, commands.Stop(), "stopping; it saves first")


@click.command
@RUN
@click.argument("change", metavar="SETTING=VALUE")
def set_(run: str, change: str) -> int:
    """Change a setting of a run that is under way, such as learning_rate=0.0005."""
    name, equals, value = change.partition("=")
    if not equals:
        raise UserError(f"{change}: say SETTING=VALUE, as in learning_rate=0.0005")
    return _say(run, commands.Set(setting=name.strip().replace("-", "_"), value=value.strip()), f"{change} from now on")


@click.command
@RUN
@click.option("--prompt", metavar="TEXT", default="", help="How the text begins.")
@click.option("--max-tokens", type=click.IntRange(1), default=200, show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 100), default=0.8, show_default=True)
@click.option("--top-k", type=click.IntRange(0), default=0, show_default=True)
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True)
@click.option("--seed", type=click.IntRange(0))
def sample(run: str, prompt: str, **settings: Any) -> int:
    """Let the model of a run write, as it is now."""
    command = commands.Sample(prompt=prompt, **settings)
    try:
        status = _say(run, command, "")
    except KeyboardInterrupt:  # the run would write on to the end before it trains again
        AttachedRun(find_run(run)).send(commands.CancelSample(sample=command.id))
        raise
    if not status:
        show("\n")
    return status


@click.command
@RUN
def watch(run: str) -> int:
    """Show a run's epochs as they come, until it ends; Ctrl+C leaves it alone."""
    folder = find_run(run)
    session, report = AttachedRun(folder), Report(folder, ours=False)
    while True:
        gone = not session.alive  # asked first: what it still says at its end is not missed
        fresh = session.events(0.2)
        for event in fresh:
            report.hear(event)
        if gone and not fresh:
            return _ending(run, folder)


def _say(run: str, command: Command, done: str) -> int:
    """Tell a run something and print its answer; samples are shown as they come."""
    folder = _live(run)
    session = AttachedRun(folder)
    session.events(0)  # what was before
    session.send(command)
    deadline, begun = time.monotonic() + PATIENCE, False
    while time.monotonic() < deadline:
        gone = not session.alive
        fresh = session.events(0.2)
        for event in fresh:
            if isinstance(event, Sampled) and event.id == command.id:
                show(event.text if begun else event.prompt + event.text)
                begun = True
                deadline = time.monotonic() + PATIENCE
            if isinstance(event, Answered) and event.id == command.id:
                if not event.ok:
                    raise UserError(f"{run}: {event.why}")
                if done:
                    print(one_line(f"{folder}: {done}"))
                return 0
        if gone and not fresh:
            raise UserError(f"{run}: ended before it answered")
    by = holder(folder) or "its process"
    complain(
        f"{run}: no answer in {PATIENCE:.0f} s: {by} is busy with a long step, or its folder had another name once"
    )
    return 1


def _ending(run: str, folder: Path) -> int:
    """The status of a watch whose run has no process; says so where it came to no end."""
    if summarize(folder).state != "interrupted":
        return 0
    complain(f"{run}: its process is gone; {_way_on(folder)}")
    return 1


def _live(run: str) -> Path:
    folder = find_run(run)
    if not AttachedRun(folder).alive:
        raise UserError(f"{run}: is not under way; {_way_on(folder)}")
    return folder


def _way_on(folder: Path) -> str:
    return f"go on with fundamentallm train --resume auto --output-dir {quoted(folder)}"
