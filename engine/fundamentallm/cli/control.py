"""`fundamentallm pause, resume, save, stop, set, sample, watch`: what the console does to a run, from a shell."""

import time
from collections.abc import Iterator
from typing import Any

import click

from fundamentallm.cli.options import options, parse, read_prompt
from fundamentallm.cli.report import Report
from fundamentallm.cli.terminal import SEPARATOR, complain, one_line, write_text
from fundamentallm.config.config import SETTINGS
from fundamentallm.config.sampling import SAMPLING
from fundamentallm.errors import UserError
from fundamentallm.paths import quoted_path, resume_command
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import commands
from fundamentallm.run.commands import Command
from fundamentallm.run.events import Answered, Event, Sampled
from fundamentallm.run.folder import BEST, LAST
from fundamentallm.run.locks import holder
from fundamentallm.run.summary import find_run, summarize

ANSWER_SECONDS = 60.0  # to wait for an answer: a step of a large model takes its time
RUN = click.argument("run")


def _simple(kind: type[Command], done: str, help: str) -> click.Command:
    """Make a command that only names a run; `done` is printed when the run has obeyed."""
    name, argument = commands.NAMES[kind], click.Argument(["run"])
    return click.Command(name, params=[argument], help=help, callback=lambda run: _send(run, kind(), done))


pause = _simple(commands.Pause, "paused", "Pause a run after the current step.")
resume = _simple(commands.Resume, "resumed", "Resume a paused run.")
save = _simple(commands.Save, "saved", "Write a checkpoint of a run now.")
stop = _simple(commands.Stop, "stopping; it saves first", "Stop a run after the current step; it saves first.")


@click.command("set")
@RUN
@click.argument("changes", metavar="SETTING=VALUE...", nargs=-1, required=True)
def set_(run: str, changes: tuple[str, ...]) -> int:
    """Change a setting of a running run, such as learning_rate=0.0005.

    A list takes several values, as in pin="The sea" pin="A ship", and none in pin=.
    """
    names, values = set[str](), list[str]()
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise UserError(f"{change}: write SETTING=VALUE, as in learning_rate=0.0005")
        names.add(name.strip().replace("-", "_"))
        values.append(value.strip())
    [name] = names if len(names) == 1 else [""]
    is_list = name in SETTINGS and SETTINGS[name].kind is tuple
    if len(values) > 1 and not is_list:
        raise UserError(f"{' '.join(changes)}: change one setting at a time")
    new = ([] if values == [""] else values) if is_list else values[0]
    done = f"{name} is empty" if new == [] else " ".join(changes)
    return _send(run, commands.Set(setting=name, value=new), f"{done} from now on")


@click.command
@RUN
@click.option("--prompt", metavar="TEXT", default="", help="How the text begins; - reads it from standard input.")
@options(SAMPLING.values())
def sample(run: str, prompt: str, **values: Any) -> int:
    """Write text with the model of a run as it is now."""
    command = commands.Sample(prompt=read_prompt(prompt), **parse(SAMPLING, values))
    try:
        status = _send(run, command, "")
    except KeyboardInterrupt:  # or the run would finish the text before it trains again
        AttachedRun(find_run(run)).send(commands.CancelSample(sample=command.id))
        raise
    if not status:
        write_text("\n")
    return status


@click.command
@RUN
def watch(run: str) -> int:
    """Show the epochs of a run as they come, until it ends; Ctrl+C leaves the run alone."""
    folder = find_run(run)
    report = Report(folder, ours=False)
    for fresh in _follow(AttachedRun(folder)):
        for event in fresh:
            report.on_event(event)
    if summarize(folder).state != "interrupted":
        return 0
    complain(f"{run}: its process is gone; resume with {resume_command(folder)}")
    return 1


def _follow(session: AttachedRun) -> Iterator[list[Event]]:
    """Yield what happens, perhaps nothing, five times a second until the process of the run is gone."""
    while True:
        gone = not session.alive  # before reading, so that its last events are not missed
        fresh = session.events(0.2)
        yield fresh
        if gone and not fresh:
            return


def _send(run: str, command: Command, done: str) -> int:
    """Send a command to a run, and wait for its answer; `done` is printed if the run obeyed. Shows samples."""
    folder = find_run(run)
    session = AttachedRun(folder)
    if not session.alive:
        resumable = summarize(folder).resumable
        why = f"is not running; resume with {resume_command(folder)}" if resumable else "has finished"
        files = [folder / name for name in (BEST, LAST) if (folder / name).is_file()]
        if isinstance(command, commands.Sample) and files:
            why += f"; fundamentallm generate {quoted_path(files[0])} samples it"
        raise UserError(f"{run}: {why}")
    session.send(command)
    deadline = time.monotonic() + ANSWER_SECONDS
    texts = dict[int, str]()  # of each sample: all grow at once, the first is shown while it does
    try:
        for fresh in _follow(session):
            for event in fresh:
                if isinstance(event, Sampled) and event.id == command.id:
                    if event.number == 0:
                        write_text(event.text if texts else event.prompt + event.text)
                    texts[event.number] = texts.get(event.number, event.prompt) + event.text
                    deadline = time.monotonic() + ANSWER_SECONDS
                if isinstance(event, Answered) and event.id == command.id:
                    if not event.ok:
                        raise UserError(f"{run}: {event.why}")
                    if done:
                        print(one_line(f"{folder}: {done}"))
                    return 0
            if time.monotonic() >= deadline:
                who = f"{holder(folder) or 'its process'} is busy with a long step or suspended"
                why = f"{who}, or its folder was renamed while it ran"
                complain(f"{run}: no answer in {ANSWER_SECONDS:.0f} s, but the run may still obey: {why}")
                return 1
        raise UserError(f"{run}: ended before it answered")
    finally:
        write_text("".join(SEPARATOR + text for number, text in sorted(texts.items()) if number))


COMMANDS = {command.name: command for command in (pause, resume, save, stop, set_, sample, watch)}
