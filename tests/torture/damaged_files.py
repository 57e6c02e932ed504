"""Damaged files: the newest checkpoint with flipped bits, or truncated; a journal whose last line is cut."""

import os
import zipfile
from pathlib import Path

from fundamentallm.errors import UserError
from fundamentallm.run import events
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.folder import LAST
from fundamentallm.run.journal import Journal
from fundamentallm.train.checkpoint import latest_valid_checkpoint, load
from tests.torture.interventions import MANY, OPTIONS, changed, changing
from tests.torture.workbench import Bench, Lost, Options, Row, ask, finish, kill_self, killed_while_saving

FOUR: Options = ("--epochs=4",)
LINES: tuple[tuple[type[events.Event], int], ...] = (
    (events.RunStarted, 1),
    (events.Progress, 8),
    (events.Evaluated, 4),
    (events.CheckpointSaved, 5),
    (events.Intervention, 3),
    (events.Answered, 3),
    (events.Finished, 1),
)


def damaged_checkpoints(bench: Bench, short: bool) -> list[Row]:
    """Each record bit-flipped at its beginning, middle and end; cut at every kilobyte; and a bit flipped anywhere."""
    reference, original = bench.reference(FOUR), killed_while_saving(bench, FOUR, 8)
    intact, records = (original / LAST).read_bytes(), record_places(original / LAST)
    flips = [(name, at) for name, (start, end) in records.items() for at in sorted({start, (start + end) // 2, end})]
    flips = flips[1::9] if short else flips
    cuts = range(0, len(intact), 8192 if short else 1024)
    spots = range(0, len(intact), 4099 if short else 67)

    def one(bench: Bench, case: tuple[bytes, str | None]) -> None:
        """A damaged file, and the record that the message must name; None where the damage may be harmless."""
        content, record = case
        run = bench.copy(original)
        times = (run / LAST).stat()
        (run / LAST).unlink()  # its other names stay valid
        (run / LAST).write_bytes(content)
        os.utime(run / LAST, ns=(times.st_atime_ns, times.st_mtime_ns))
        if found := ask(lambda: refusal_fault(run) if record is None else skipping_fault(run, record)):
            raise Lost(found)
        finish(bench, run, FOUR, reference)

    def flipped(at: int) -> bytes:
        return intact[:at] + bytes([intact[at] ^ 16]) + intact[at + 1 :]

    in_records = [(f"{name}, byte {at}", (flipped(at), name)) for name, at in flips]
    truncated = [(f"at {end}", (intact[:end], "")) for end in cuts]
    anywhere = [(f"byte {at}", (flipped(at), None)) for at in spots]
    return [
        bench.each(Row("a record of last.pt bit-flipped"), in_records, one),
        bench.each(Row("last.pt cut at a kilobyte"), truncated, one),
        bench.each(Row("last.pt with a bit flipped anywhere"), anywhere, one),
    ]


def record_places(path: Path) -> dict[str, tuple[int, int]]:
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


def skipping_fault(run: Path, record: str) -> str:
    """What is wrong where a damaged last.pt must be skipped for an older file, and named."""
    found, _, damaged = latest_valid_checkpoint(run)
    if found is None or found.name == LAST:
        return f"{found} is used"
    if not any(LAST in words and record in words for words in damaged):
        return f"it is not named: {damaged}"
    return ""


def refusal_fault(run: Path) -> str:
    """What is wrong where last.pt is read or refused: a bit may lie where it means nothing, as in a time."""
    try:
        load(run / LAST)
    except UserError as error:
        return "" if LAST in str(error) else f"it is not named: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


# ---- journals ----


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
