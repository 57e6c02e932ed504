"""Persons change settings of a run that is killed: every change is made once more, where it was."""

import random
import shutil
import signal
from pathlib import Path
from typing import Any

from fundamentallm.run import events
from fundamentallm.run.commands import Command, Set
from fundamentallm.run.journal import read_journal, send_command
from fundamentallm.train.control import Control
from tests.torture.bench import Bench, Options, Prepare, Row, at_steps, finish
from tests.torture.instants import cases, struck

# By the step after which they are heard: never one that is saved, as who goes on from there hears nothing sooner.
Changes = dict[int, list[tuple[str, Any]]]

OPTIONS: Options = ("--epochs=4", "--save-every=3")
MANY: Changes = {
    1: [("learning_rate", 0.01), ("dropout", 0.3)],
    5: [("learning_rate", 0.03), ("weight_decay", 0.01), ("learning_rate", 0.005)],
    7: [("epochs", 6), ("save_every", 5)],
    9: [("eval_every", 3), ("gradient_clip", 0.5)],
    13: [("keep_checkpoints", 2), ("epochs", 5)],
    17: [("learning_rate", 0.015)],
    19: [("save_every", 2)],
}
NONE: frozenset[str] = frozenset()


def acting(run: Path, changes: Changes, without: frozenset[str] = NONE, *, aloud: bool = False) -> Prepare:
    """In a child: changes reach the run as those of an attached console do, each when its step is done.

    What the journal has was made and is not said again: to make it again is the run's own work. What it does not have
    was never made.

    Args:
        without: the ids of changes that are left out.
        aloud: the run hears them from the console that started it, which asks no disk.
    """

    def prepare() -> None:
        made = {(e.step, e.setting, e.new) for e in read_journal(run) if isinstance(e, events.Intervention)}
        heard: list[Set] = []

        def say(step: int) -> None:
            for number, (setting, value) in enumerate(changes[step]):
                command = Set(setting=setting, value=value, who="ada", id=f"{step}, change {number}")
                if (step, setting, value) in made or command.id in without:
                    continue
                if aloud:
                    heard.append(command)
                else:
                    send_command(run, command)

        def read(self: Control) -> list[Command]:
            said: list[Command] = [*heard]
            heard.clear()
            return said + hear(self)

        hear, Control.read = Control.read, read  # type: ignore[method-assign]
        at_steps({step: lambda step=step: say(step) for step in changes})  # type: ignore[misc]

    return prepare


def refused(run: Path) -> frozenset[str]:
    """The ids of the changes that the run answered with a no: they were not made, and must not be later."""
    return frozenset(event.id for event in read_journal(run) if isinstance(event, events.Answered) and not event.ok)


def changed(bench: Bench, options: Options, changes: Changes, without: frozenset[str] = NONE) -> Path:
    """A run in which changes were made and that nobody disturbed."""
    run = bench.folder / f"changed-{bench.lane}{''.join(options)}-{'-'.join(sorted(without))}"
    return bench.undisturbed(run, options, acting(run, changes, without))


def interventions(bench: Bench, count: int, seed: int) -> Row:
    """`kill -9` twice in a row, then `--resume auto`: the same changes at the same steps, the same bits."""
    reference, length = changed(bench, OPTIONS, MANY), bench.length(("--epochs=5", "--save-every=3"))

    def one(bench: Bench, dice: random.Random) -> None:
        run, _ = struck(
            bench, dice, length, 2, lambda run: bench.start(run, OPTIONS, acting(run, MANY)), signal.SIGKILL
        )
        finish(bench, run, OPTIONS, reference, acting(run, MANY))
        shutil.rmtree(run)

    return bench.each(Row("persons' changes, then kill -9 twice"), cases(count, seed), one)
