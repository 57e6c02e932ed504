"""Damaged checkpoints: the newest one with flipped bits, and cut off."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from fundamentallm.errors import UserError
from fundamentallm.run.folder import LAST
from fundamentallm.train.checkpoint import latest_valid_checkpoint, load
from tests.torture.bench import KILLED, Bench, Lost, Options, Prepare, Row, ask, at_steps, finish, kill_self

FOUR: Options = ("--epochs=4",)


def stopped_in_the_middle(
    bench: Bench, options: Options, step: int, act: Callable[[Path], Prepare] = lambda run: lambda: None
) -> Path:
    """A run that was killed at a step after its progress was told and before last.pt was renamed."""
    run = bench.new()

    def armed() -> None:
        os.replace = lambda *_: kill_self()

    def prepare() -> None:
        act(run)()
        at_steps({step: armed})

    if (status := bench.run(run, options, prepare)) != KILLED:
        raise Lost(f"was not killed: {status} {bench.words(run)}")
    return run


def copied(bench: Bench, run: Path) -> Path:
    """A copy of a run; times of files are kept, and files of several names."""
    copy, known = bench.new(), dict[int, Path]()
    copy.mkdir()
    for path in run.iterdir():
        first = known.setdefault(path.stat().st_ino, copy / path.name)
        if first.exists():
            os.link(first, copy / path.name)
        else:
            shutil.copy2(path, first)
    return copy


def damages(bench: Bench, short: bool) -> list[Row]:
    """Each record bit-flipped at its beginning, middle and end; cut at every kilobyte; and a bit flipped anywhere."""
    reference, original = bench.reference(FOUR), stopped_in_the_middle(bench, FOUR, 8)
    whole, records = (original / LAST).read_bytes(), places(original / LAST)
    flips = [(name, at) for name, (start, end) in records.items() for at in sorted({start, (start + end) // 2, end})]
    flips = flips[1::9] if short else flips
    cuts = range(0, len(whole), 8192 if short else 1024)
    spots = range(0, len(whole), 4099 if short else 67)

    def one(bench: Bench, case: tuple[bytes, str | None]) -> None:
        block, named = case
        run = copied(bench, original)
        times = (run / LAST).stat()
        (run / LAST).unlink()  # its other names are whole
        (run / LAST).write_bytes(block)
        os.utime(run / LAST, ns=(times.st_atime_ns, times.st_mtime_ns))
        trouble = ask(lambda: harmful(run)) if named is None else ask(lambda: unnamed(run, named))
        if trouble:
            raise Lost(trouble)
        finish(bench, run, FOUR, reference)
        shutil.rmtree(run)

    def flipped(at: int) -> bytes:
        return whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :]

    return [
        bench.each(
            Row("a record of last.pt bit-flipped"),
            [(f"{name}, byte {at}", (flipped(at), name)) for name, at in flips],
            one,
        ),
        bench.each(Row("last.pt cut at a kilobyte"), [(f"at {end}", (whole[:end], "")) for end in cuts], one),
        bench.each(
            Row("last.pt with a bit flipped anywhere"), [(f"byte {at}", (flipped(at), None)) for at in spots], one
        ),
    ]


def places(path: Path) -> dict[str, tuple[int, int]]:
    """Where the first and the last byte of each record lie in the file."""
    found = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for info in archive.infolist():
            if info.file_size:
                file.seek(info.header_offset + 26)
                header = file.read(4)
                lengths = int.from_bytes(header[:2], "little") + int.from_bytes(header[2:], "little")
                start = info.header_offset + 30 + lengths
                found[info.filename] = (start, start + info.file_size - 1)
    return found


def unnamed(run: Path, record: str) -> str:
    """Whether a damaged last.pt is passed over for an older file, and named."""
    found, damaged = latest_valid_checkpoint(run)
    if found is None or found.name == LAST:
        return f"{found} is used"
    if not any(LAST in words and record in words for words in damaged):
        return f"it is not named: {damaged}"
    return ""


def harmful(run: Path) -> str:
    """A flipped bit may also lie where it says nothing, such as a time in the archive's table: then it is read."""
    try:
        load(run / LAST)
    except UserError as error:
        return "" if LAST in str(error) else f"it is not named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
