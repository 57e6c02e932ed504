"""A disk that is full, a folder that is read-only, a mount that is gone."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from fundamentallm.run import events
from tests.torture.workbench import Bench, Lost, Options, Row, at_steps, compare, events_in, finish, kill_self

FIVE: Options = ("--epochs=5",)
KIB = 1024
FROM, TO = 5, 12  # the steps after which it breaks, and after which it is mended
Act = Callable[[], None]


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def unmount(*arguments: str) -> None:
    subprocess.run(["umount", *arguments], check=True, capture_output=True)


@contextmanager
def small_disk(bench: Bench) -> Iterator[tuple[Path, Path]]:
    """A file system of 2 MB, and a folder where it is mounted a second time.

    Raises:
        OSError: it is not allowed to mount one.
    """
    disk, place = bench.folder / "disk", bench.folder / "place"
    disk.mkdir()
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", "size=2m", "torture", str(disk))
    except (OSError, subprocess.CalledProcessError):
        raise OSError("no right to mount a file system") from None
    try:
        mount("--bind", str(disk), str(place))
        yield disk, place
    finally:
        with suppress(subprocess.CalledProcessError):
            while True:
                unmount("-l", str(place))
        unmount("-l", str(disk))


def fill(disk: Path, room: int) -> None:
    """Leave `room` bytes, rounded down to the file system's blocks."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass
        file.truncate(max(0, file.tell() - room))


def make_read_only(disk: Path, place: Path) -> None:
    mount("--bind", str(disk), str(place))
    mount("-o", "remount,bind,ro", str(place))


def full_disks(bench: Bench, short: bool) -> list[Row]:
    """From one step to another, or to the end, or until a kill."""
    full, to_end, killed = Row("disk full for some steps"), Row("disk full to the end"), Row("disk full, then kill -9")
    rows = [full, to_end, killed, Row("folder read-only for some steps"), Row("mount gone for some steps")]
    reference = bench.reference(FIVE)
    rooms = [0] if short else [0, 4 * KIB, 12 * KIB, 24 * KIB, 32 * KIB]  # a checkpoint has about 35
    try:
        with small_disk(bench) as (disk, place):
            filler = disk / "filler"

            def on_disk(attempt: Callable[[Path], None]) -> Act:
                def attempt_and_clean() -> None:
                    run = place / bench.new().name
                    try:
                        attempt(run)
                    finally:
                        filler.unlink(missing_ok=True)
                        shutil.rmtree(run, ignore_errors=True)

                return attempt_and_clean

            for room in rooms:
                spoil: Act = partial(fill, disk, room)
                for row, attempt in (
                    (full, partial(mended, bench, reference, spoil, filler.unlink)),
                    (to_end, partial(not_mended, bench, reference, spoil, filler.unlink)),
                    (killed, partial(killed_meanwhile, bench, reference, spoil, filler.unlink)),
                ):
                    row.take(f"{room} bytes left", on_disk(attempt))
            acts: list[tuple[Act, Act]] = [
                (lambda: make_read_only(disk, place), lambda: unmount(str(place))),
                (lambda: unmount("-l", str(place)), lambda: mount("--bind", str(disk), str(place))),
            ]
            for row, (spoil, mend) in zip(rows[3:], acts, strict=True):
                row.take("a folder", on_disk(partial(mended, bench, reference, spoil, mend)))
    except OSError as error:
        for row in rows:
            row.skipped = str(error) if not row.tried else ""
    return rows


def mended(bench: Bench, reference: Path, spoil: Act, mend: Act, run: Path) -> None:
    """Saves failed while the disk was full, with events, and the run reached the same end."""
    if status := bench.run(run, FIVE, lambda: at_steps({FROM: spoil, TO: mend})):
        raise Lost(f"status {status}: {bench.printed(run)}")
    failed = {event.step for event in events_in(run, events.CheckpointFailed)}
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
