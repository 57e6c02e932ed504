"""A journal whose last line is torn, whatever that line says."""

import shutil
from pathlib import Path

from fundamentallm.run import events
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.journal import Journal
from tests.torture.bench import KILLED, Bench, Lost, Row, finish, kill_self
from tests.torture.damages import copied
from tests.torture.people import MANY, OPTIONS, acting, changed

LINES: tuple[tuple[type[events.Event], int], ...] = (
    (events.RunStarted, 1),
    (events.Progress, 8),
    (events.Evaluated, 4),
    (events.CheckpointSaved, 5),
    (events.Intervention, 3),
    (events.Answered, 3),
    (events.Finished, 1),
)


def torn_journals(bench: Bench, short: bool) -> Row:
    """The last line cut at every byte, where that line is one of each kind."""
    reference = changed(bench, OPTIONS, MANY)
    found = []
    for kind, number in LINES:
        original = killed_after(bench, kind, number)
        length = len(lines(original)[-1])
        stride = 149 if short else 1
        found += [(f"{events.NAMES[kind]} at {n} of {length}", (original, n)) for n in range(0, length + 1, stride)]

    def one(bench: Bench, case: tuple[Path, int]) -> None:
        original, length = case
        run, whole = copied(bench, original), lines(original)
        (run / JOURNAL).write_bytes(b"".join(whole[:-1]) + whole[-1][:length])
        finish(bench, run, OPTIONS, reference, acting(run, MANY))
        shutil.rmtree(run)

    return bench.each(Row("the journal's last line torn at a byte"), found, one)


def lines(run: Path) -> list[bytes]:
    return (run / JOURNAL).read_bytes().splitlines(keepends=True)


def killed_after(bench: Bench, kind: type[events.Event], number: int) -> Path:
    """A run that was killed when it had said something of a kind for the n-th time."""
    run = bench.new()

    def prepare() -> None:
        acting(run, MANY)()
        say, said = Journal.append, []

        def deadly(self: Journal, event: events.Event) -> events.Event:
            stamped = say(self, event)
            if isinstance(event, kind):
                said.append(event)
            if len(said) == number:
                kill_self()
            return stamped

        Journal.append = deadly  # type: ignore[method-assign]

    if (status := bench.run(run, OPTIONS, prepare)) != KILLED:
        raise Lost(f"was not killed: {status} {bench.words(run)}")
    return run
