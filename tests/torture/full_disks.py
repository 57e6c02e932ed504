"""A disk that is full."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fundamentallm.run import events
from tests.conftest import journal_events
from tests.torture.workbench import Bench, Lost, Options, Row, at_steps, compare, finish, kill_self

FIVE: Options = ("--epochs=5",)
KIB = 1024
FROM, TO = 5, 12  # the steps after which it is full, and after which it has room again
Act = Callable[[], None]


@contextmanager
def small_disk(bench: Bench) -> Iterator[Path]:
    """A file system of 2 MB; an OSError if it is not allowed to mount one."""
    disk = bench.folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "torture", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        raise OSError("no right to mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True, capture_output=True)


def fill(disk: Path, room: int) -> None:
    """Leave `room` bytes, rounded down to the file system's blocks."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
        file.truncate(max(0, file.tell() - room))


def full_disks(bench: Bench, short: bool) -> list[Row]:
    """From one step to another, or to the end, or until a kill."""
    attempts = {"for some steps": mended, "to the end": not_mended, "and kill -9": killed_meanwhile}
    rows = [Row(f"disk full {when}") for when in attempts]
    reference = bench.reference(FIVE)
    try:
        with small_disk(bench) as disk:
            for room in [0] if short else [0, 4 * KIB, 12 * KIB, 24 * KIB, 32 * KIB]:  # a checkpoint has about 35
                for row, attempt in zip(rows, attempts.values(), strict=True):
                    run = disk / bench.new().name
                    spoil, mend = partial(fill, disk, room), (disk / "filler").unlink
                    row.take(f"{room} bytes left", partial(attempt, bench, reference, spoil, mend, run))
                    (disk / "filler").unlink(missing_ok=True)
                    shutil.rmtree(run, ignore_errors=True)
    except OSError as error:
        for row in rows:
            row.skipped = str(error) if not row.tried else ""
    return rows


def mended(bench: Bench, reference: Path, spoil: Act, mend: Act, run: Path) -> None:
    """Saves failed while the disk was full, with events, and the run reached the same end."""
    if status := bench.run(run, FIVE, lambda: at_steps({FROM: spoil, TO: mend})):
        raise Lost(f"status {status}: {bench.printed(run)}")
    failed = {event.step for event in journal_events(run, events.CheckpointFailed)}
    if not set(range(FROM + 1, TO)) <= failed or failed - set(range(FROM, TO + 1)):
        raise Lost(f"failures to save were reported of steps {sorted(failed)}")
    compare(run, reference, failures=True)


def not_mended(bench: Bench, reference: Path, spoil: Act, mend: Act, run: Path) -> None:
    """The status says that the end could not be saved, also when the run is resumed too early."""
    for _ in range(2):
        status, output = bench.run(run, FIVE, lambda: at_steps({FROM: spoil})), bench.output(run).read_text()
        if status not in (1, 2) or not output or "Traceback" in output:
            raise Lost(f"status {status} although the end could not be saved: {bench.printed(run)}")
    mend()
    finish(bench, run, FIVE, reference)


def killed_meanwhile(bench: Bench, reference: Path, spoil: Act, mend: Act, run: Path) -> None:
    bench.run_killed(run, FIVE, lambda: at_steps({FROM: spoil, TO: kill_self}))
    mend()
    finish(bench, run, FIVE, reference)
