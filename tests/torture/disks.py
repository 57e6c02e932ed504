"""A disk that is full, a folder that is read-only, a mount that is gone."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fundamentallm.run import events
from fundamentallm.run.journal import read_journal
from tests.torture.bench import KILLED, Bench, Lost, Options, Row, at_steps, compare, finish, kill_self

FIVE: Options = ("--epochs=5",)
KIBI = 1024
FROM, TO = 5, 12  # the steps after which it breaks, and after which it is mended


def mounted(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def unmounted(*arguments: str) -> None:
    subprocess.run(["umount", *arguments], check=True, capture_output=True)


@contextmanager
def small_disk(bench: Bench) -> Iterator[tuple[Path, Path]]:
    """A file system of 2 MB, and a folder where it can be seen a second time.

    Raises:
        OSError: it is not allowed to mount one.
    """
    disk, place = bench.folder / "disk", bench.folder / "place"
    disk.mkdir()
    place.mkdir()
    try:
        mounted("-t", "tmpfs", "-o", "size=2m", "torture", str(disk))
    except (OSError, subprocess.CalledProcessError):
        raise OSError("no right to mount a file system") from None
    try:
        mounted("--bind", str(disk), str(place))
        yield disk, place
    finally:
        with suppress(subprocess.CalledProcessError):
            while True:
                unmounted("-l", str(place))
        unmounted("-l", str(disk))


def fill(disk: Path, room: int = 0) -> None:
    """Leave `room` bytes, rounded down to what the file system counts in."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
        file.truncate(max(0, file.tell() - room))


def read_only(disk: Path, place: Path) -> None:
    mounted("--bind", str(disk), str(place))
    mounted("-o", "remount,bind,ro", str(place))


def disks(bench: Bench, short: bool) -> list[Row]:
    """From one step to another, or to the end, or until a kill."""
    full, ends, killed = Row("disk full for some steps"), Row("disk full to the end"), Row("disk full, then kill -9")
    rows = [full, ends, killed, Row("folder read-only for some steps"), Row("mount gone for some steps")]
    reference = bench.reference(FIVE)
    rooms = [0] if short else [0, 4 * KIBI, 12 * KIBI, 24 * KIBI, 32 * KIBI]  # a checkpoint has about 35
    try:
        with small_disk(bench) as (disk, place):
            filler = disk / "filler"

            def attempt(act: Callable[[Path], None]) -> Callable[[], None]:
                def cleanly() -> None:
                    run = place / bench.new().name
                    try:
                        act(run)
                    finally:
                        filler.unlink(missing_ok=True)
                        shutil.rmtree(run, ignore_errors=True)

                return cleanly

            for room in rooms:
                fills: Callable[[], None] = partial(fill, disk, room)
                what = f"{room} bytes left"
                full.take(what, attempt(lambda run: mended(bench, run, reference, fills, filler.unlink)))  # noqa: B023
                ends.take(what, attempt(lambda run: not_mended(bench, run, reference, fills, filler)))  # noqa: B023
                killed.take(what, attempt(lambda run: killed_meanwhile(bench, run, reference, fills, filler)))  # noqa: B023
            acts: list[tuple[Callable[[], None], Callable[[], None]]] = [
                (lambda: read_only(disk, place), lambda: unmounted(str(place))),
                (lambda: unmounted("-l", str(place)), lambda: mounted("--bind", str(disk), str(place))),
            ]
            for row, (spoil, mend) in zip(rows[3:], acts, strict=True):
                row.take("a folder", attempt(lambda run: mended(bench, run, reference, spoil, mend)))  # noqa: B023
    except OSError as error:
        for row in rows:
            row.skipped = str(error) if not row.tried else ""
    return rows


def mended(bench: Bench, run: Path, reference: Path, spoil: Callable[[], None], mend: Callable[[], None]) -> None:
    status = bench.run(run, FIVE, lambda: at_steps({FROM: spoil, TO: mend}))
    if status:
        raise Lost(f"status {status}: {bench.words(run)}")
    failed = {event.step for event in read_journal(run) if isinstance(event, events.CheckpointFailed)}
    if not set(range(FROM + 1, TO)) <= failed or failed - set(range(FROM, TO + 1)):
        raise Lost(f"failures to save were told of steps {sorted(failed)}")
    compare(run, reference, failures=True)


def not_mended(bench: Bench, run: Path, reference: Path, spoil: Callable[[], None], filler: Path) -> None:
    """The status says that the end could not be saved; so it does when the run goes on too early."""
    for _ in range(2):
        status, said = bench.run(run, FIVE, lambda: at_steps({FROM: spoil})), bench.output(run).read_text()
        if status not in (1, 2) or not said or "Traceback" in said:
            raise Lost(f"status {status} although the end could not be saved: {bench.words(run)}")
    filler.unlink()
    finish(bench, run, FIVE, reference)


def killed_meanwhile(bench: Bench, run: Path, reference: Path, spoil: Callable[[], None], filler: Path) -> None:
    status = bench.run(run, FIVE, lambda: at_steps({FROM: spoil, TO: kill_self}))
    if status != KILLED:
        raise Lost(f"was not killed: {status} {bench.words(run)}")
    filler.unlink()
    finish(bench, run, FIVE, reference)
