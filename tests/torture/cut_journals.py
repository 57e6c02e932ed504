"""A journal whose last line is cut."""

from pathlib import Path

from fundamentallm.run import events
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.journal import Journal
from tests.torture.interventions import MANY, OPTIONS, changed, changing
from tests.torture.workbench import Bench, Row, finish, kill_self

LINES: tuple[tuple[type[events.Event], int], ...] = (
    (events.RunStarted, 1),
    (events.Progress, 8),
    (events.Evaluated, 4),
    (events.CheckpointSaved, 5),
    (events.Intervention, 3),
    (events.Answered, 3),
    (events.Finished, 1),
)


def cut_journals(bench: Bench, short: bool) -> Row:
    """The last line cut at every byte, for a line of each type."""
    reference = changed(bench, OPTIONS, MANY)
    found = []
    for kind, number in LINES:
        original = killed_after(bench, kind, number)
        length = len(lines(original)[-1])
        stride = 149 if short else 1
        found += [(f"{events.NAMES[kind]} at {n} of {length}", (original, n)) for n in range(0, length + 1, stride)]

    def one(bench: Bench, case: tuple[Path, int]) -> None:
        original, length = case
        run, journal = bench.copy(original), lines(original)
        (run / JOURNAL).write_bytes(b"".join(journal[:-1]) + journal[-1][:length])
        finish(bench, run, OPTIONS, reference, changing(run, MANY))

    return bench.each(Row("the journal's last line cut at a byte"), found, one)


def lines(run: Path) -> list[bytes]:
    return (run / JOURNAL).read_bytes().splitlines(keepends=True)


def killed_after(bench: Bench, kind: type[events.Event], number: int) -> Path:
    """A run that was killed when it had written its n-th event of a type."""
    run = bench.new()

    def prepare() -> None:
        changing(run, MANY)()
        append, count = Journal.append, [0]

        def append_and_die(self: Journal, event: events.Event) -> events.Event:
            stamped = append(self, event)
            count[0] += isinstance(event, kind)
            if count[0] == number:
                kill_self()
            return stamped

        Journal.append = append_and_die  # type: ignore[method-assign]

    return bench.run_killed(run, OPTIONS, prepare)
