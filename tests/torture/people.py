"""Persons change settings of a run that is killed: every change is made once more, where it was."""

import random
import shutil
import signal
from pathlib import Path
from typing import Any

from fundamentallm import events
from fundamentallm.commands import Set
from fundamentallm.run import read_journal, tell
from tests.torture.bench import Bench, Options, Prepare, Row, at_steps
from tests.torture.equal import finish
from tests.torture.instants import cases, struck

OPTIONS: Options = ("--epochs=4", "--save-every=3")
CHANGES: dict[int, list[tuple[str, Any]]] = {  # by the step after which they are heard
    1: [("learning_rate", 0.01)],
    2: [("dropout", 0.3)],
    5: [("learning_rate", 0.03), ("weight_decay", 0.01), ("learning_rate", 0.005)],
    6: [("epochs", 6), ("save_every", 5)],
    9: [("eval_every", 3), ("gradient_clip", 0.5)],
    13: [("keep_checkpoints", 2), ("epochs", 5)],
    16: [("learning_rate", 0.015)],
    19: [("save_every", 2)],
}


def acting(run: Path) -> Prepare:
    """In a child: `CHANGES` reach the run as those of an attached console do, each when its step is done.

    What the journal has was made and is not said again: to make it again is the run's own work. What it does not have
    was never made.
    """

    def say(step: int) -> None:
        made = {(e.step, e.setting, e.new) for e in read_journal(run) if isinstance(e, events.Intervention)}
        for setting, value in CHANGES[step]:
            if (step, setting, value) not in made:
                tell(run, Set(setting=setting, value=value, who="ada"))

    return lambda: at_steps({step: lambda step=step: say(step) for step in CHANGES})  # type: ignore[misc]


def changed(bench: Bench) -> Path:
    """A run in which the changes were made and that nobody disturbed."""
    run = bench.folder / "reference-changed"
    return bench.undisturbed(run, OPTIONS, acting(run))


def interventions(bench: Bench, count: int, seed: int) -> Row:
    """`kill -9` twice in a row, then `--resume auto`: the same changes at the same steps, the same bits."""
    reference = changed(bench)
    length = bench.length(OPTIONS)

    def one(bench: Bench, dice: random.Random) -> None:
        run, _ = struck(bench, dice, length, 2, lambda run: bench.start(run, OPTIONS, acting(run)), signal.SIGKILL)
        finish(bench, run, OPTIONS, reference, acting(run))
        shutil.rmtree(run)

    return bench.each(Row("persons' changes, then kill -9 twice"), cases(count, seed), one)
