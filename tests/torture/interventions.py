"""Users change settings of a run that is killed: every change is made once more, at its step."""

import signal
from pathlib import Path
from typing import Any

from fundamentallm.run import events
from fundamentallm.run.commands import Command, Set
from fundamentallm.run.journal import send_command
from fundamentallm.train.control import Control
from tests.torture.random_kills import seeded, struck
from tests.torture.workbench import Bench, Options, Prepare, Row, at_steps, events_in, finish

# Settings and values by the step after which the commands arrive. Never a step that is saved: a run that resumes from
# it reads its commands only after the next step.
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


def changing(run: Path, changes: Changes, without: frozenset[str] = NONE, *, in_memory: bool = False) -> Prepare:
    """In a child: commands reach the run when their step is done.

    A change that is in the journal is not sent again: to repeat it is the run's own work. One that is not was never
    made.

    Args:
        without: the ids of changes that are left out.
        in_memory: the commands come from the console that started the run, not from a file.
    """

    def prepare() -> None:
        made = {(event.step, event.setting, event.new) for event in events_in(run, events.Intervention)}
        waiting: list[Command] = []

        def send(step: int) -> None:
            for number, (setting, value) in enumerate(changes[step]):
                command = Set(setting=setting, value=value, who="ada", id=f"{step}, change {number}")
                if (step, setting, value) in made or command.id in without:
                    continue
                if in_memory:
                    waiting.append(command)
                else:
                    send_command(run, command)

        def read(self: Control) -> list[Command]:
            arrived = [*waiting]
            waiting.clear()
            return arrived + read_others(self)

        read_others, Control._read = Control._read, read  # type: ignore[method-assign]
        at_steps({step: lambda step=step: send(step) for step in changes})  # type: ignore[misc]

    return prepare


def refused(run: Path) -> frozenset[str]:
    """The ids of the changes that were answered with an error: they were not made, and must not be made later."""
    return frozenset(answer.id for answer in events_in(run, events.Answered) if not answer.ok)


def changed(bench: Bench, options: Options, changes: Changes, without: frozenset[str] = NONE) -> Path:
    """A run with changes that nobody disturbs."""
    run = bench.folder / f"changed-{bench.lane}{''.join(options)}-{'-'.join(sorted(without))}"
    return bench.undisturbed(run, options, changing(run, changes, without))


def interventions(bench: Bench, count: int, seed: int) -> Row:
    """`kill -9` twice in a row, then `--resume auto`: the same changes at the same steps, the same bits."""
    reference, duration = changed(bench, OPTIONS, MANY), bench.duration(("--epochs=5", "--save-every=3"))

    def one(bench: Bench, rng: Any) -> None:
        def start(run: Path) -> int:
            return bench.start(run, OPTIONS, changing(run, MANY))

        run, _ = struck(bench, rng, duration, 2, start, signal.SIGKILL)
        finish(bench, run, OPTIONS, reference, changing(run, MANY))

    return bench.each(Row("users' changes, then kill -9 twice"), seeded(count, seed), one)
