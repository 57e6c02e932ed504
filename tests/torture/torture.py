"""Breaks runs on purpose, goes on with `--resume auto`, and compares the end with that of a run left alone.

python tests/torture/torture.py [--short] [--json] [--only WORDS] [--seed N] [--kills N]

Prints a table: fault, tried, survived, lost; ends with status 1 if anything was lost. Every run is the real
`fundamentallm train` in a process of its own, forked from this one, which has imported torch and computed nothing: a
process that starts from nothing takes seconds to import it.
"""

import argparse
import errno
import io
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # waiting threads on busy cores take ten times as long

import torch

from fundamentallm import events, trainer
from fundamentallm.checkpoint import load
from fundamentallm.cli import main as command
from fundamentallm.cli import train as _imported_before_the_first_fork  # noqa: F401
from fundamentallm.commands import Pause, Resume, Save, Stop
from fundamentallm.errors import UserError
from fundamentallm.library import read_history
from fundamentallm.recover import newest_whole
from fundamentallm.run import is_held, read_journal, tell
from fundamentallm.session import Attached

TINY = [
    "--model-dim=16", "--num-layers=1", "--num-heads=2", "--max-seq-len=16", "--stride=16", "--batch-size=4",
    "--accumulation-steps=2", "--dropout=0.1", "--optimizer=muon", "--learning-rate=0.02", "--device=cpu",
    "--augment=casing=0.1,punctuation=0.2", "--save-every=1", "--eval-every=2", "--quiet",
]  # fmt: skip
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
PATIENCE = 120.0  # seconds until a process counts as hung: lost
KILLED = -signal.SIGKILL


@dataclass
class Row:
    """One line of the table. `lost` says of each loss what was lost."""

    fault: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    skipped: str = ""

    def take(self, trouble: str, what: str) -> None:
        self.tried += 1
        if trouble:
            self.lost.append(f"{what}: {trouble}")


# ---- processes ----


def fork(body: Callable[[], int], output: Path) -> int:
    """Run `body` in a new process; its value is the exit status. Returns the pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(target, 1)
        os.dup2(target, 2)
        torch.set_num_threads(1)
        status = body()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(pid: int) -> int:
    """The exit status of a child, negative for a signal; one that hangs is killed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 124
        time.sleep(0.002)


def ask(question: Callable[[], Any]) -> Any:
    """The answer of a question that needs torch, from a process that may use it."""
    reader, writer = os.pipe()

    def answer() -> int:
        os.close(reader)
        with open(writer, "wb") as pipe:
            pickle.dump(question(), pipe)
        return 0

    pid = fork(answer, Path(os.devnull))
    os.close(writer)
    with open(reader, "rb") as pipe:
        block = pipe.read()
    if wait(pid) or not block:
        return "the comparison itself failed"
    return pickle.loads(block)


@dataclass
class Bench:
    """Where a torture works: a text, and what runs that nobody disturbed came to."""

    folder: Path
    count: int = 0

    @property
    def text(self) -> Path:
        return self.folder / "text.txt"

    def new(self) -> Path:
        self.count += 1
        return self.folder / f"run-{self.count}"

    def start(self, run: Path, epochs: int, prepare: Callable[[], None] | None = None) -> int:
        """`fundamentallm train ... --resume auto`, in a child that is first prepared. Returns its pid."""

        def body() -> int:
            if prepare is not None:
                prepare()
            return command(
                ["train", str(self.text), *TINY, f"--epochs={epochs}", f"--output-dir={run}", "--resume=auto"]
            )

        return fork(body, self.output(run))

    def output(self, run: Path) -> Path:
        return self.folder / f"{run.name}.out"

    def words(self, run: Path) -> str:
        """The last that a run's processes printed."""
        with suppress(OSError):
            return self.output(run).read_text()[-300:].replace("\n", " / ")
        return ""

    def finish(self, run: Path, epochs: int, reference: Path, *, failures: bool = False) -> str:
        """Go on to the end and compare; what is wrong, or nothing."""
        status = wait(self.start(run, epochs))
        if status:
            return f"went on to status {status}: {self.words(run)}"
        return str(ask(lambda: difference(run, reference, failures=failures)))

    def reference(self, epochs: int) -> Path:
        """A run that nobody disturbs."""
        run = self.folder / f"reference-{epochs}"
        if not run.exists():
            status = wait(self.start(run, epochs))
            assert status == 0, self.words(run)
        return run


@contextmanager
def workbench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        bench = Bench(Path(name))
        dice = random.Random(5)
        words = ["The sea,", "a boat;", "her crew", "went out", "at Dawn:", "who? why!", "and old."]
        bench.text.write_text(" ".join(dice.choices(words, k=52)))
        yield bench


# ---- what must be equal in the end ----


def difference(run: Path, reference: Path, *, failures: bool = False) -> str:
    """How a run's end differs from another's; empty where all is the same, bit for bit.

    With `failures`, a file that could not be saved, and said so, may be missing or older: but never last and final.
    """
    told = list(read_journal(run))
    if not told or not isinstance(told[-1], events.Finished) or told[-1].reason != "completed":
        return f"the journal does not end with the run's end but with {told[-1:]}"
    unsaved = {event.path for event in told if isinstance(event, events.CheckpointFailed)} if failures else set()
    unsaved -= {"last.pt", "final_model.pt"}
    if left := [path.name for path in run.glob(".*.tmp")]:
        return f"left over: {left}"
    names, wanted = ({path.name for path in folder.glob("*.pt")} for folder in (run, reference))
    if names - wanted or wanted - names - unsaved:
        return f"has {sorted(names)} and not {sorted(wanted)}"
    for name in sorted(names):
        try:
            a, b = load(run / name), load(reference / name)
        except UserError as error:
            return str(error)
        if name in unsaved and a.counters["step"] != b.counters["step"]:
            continue
        for part in ("model", "optimizer"):
            x, y = getattr(a, part), getattr(b, part)
            if x.keys() != y.keys() or not all(torch.equal(x[key], y[key]) for key in x):
                return f"{name}: another {part}"
        if {**a.counters, "seconds": 0} != {**b.counters, "seconds": 0}:
            return f"{name}: counters {a.counters} and not {b.counters}"
    a, b = read_history(run), read_history(reference)
    if list(a.step) != list(b.step) or list(a.train_loss) != list(b.train_loss):
        missing = set(b.step) - set(a.step)
        return f"other losses; of steps that are not told: {sorted(missing)}"
    if [(e.step, e.val_loss) for e in a.evaluations] != [(e.step, e.val_loss) for e in b.evaluations]:
        return "other evaluations"
    return ""


# ---- kills ----


def kills(bench: Bench, count: int, dice: random.Random) -> Row:
    """`kill -9` at random instants; one run may be killed several times."""
    row, epochs = Row("kill -9 at a random instant"), 4
    reference = bench.reference(epochs)
    began = time.monotonic()
    assert bench.finish(timed := bench.new(), epochs, reference) == ""
    length = time.monotonic() - began
    shutil.rmtree(timed)
    while row.tried < count:
        run, many, hit = bench.new(), dice.choice((1, 1, 1, 2, 3)), 0
        for _ in range(many):
            pid = bench.start(run, epochs)
            time.sleep(dice.uniform(0.005, length))
            os.kill(pid, signal.SIGKILL)
            hit += wait(pid) == KILLED
        trouble = bench.finish(run, epochs, reference)
        row.tried += max(0, hit - 1)
        if hit or trouble:
            row.take(trouble, run.name)
        shutil.rmtree(run, ignore_errors=True)
    return row


# ---- the calls of a run, counted, and what happens at one of them ----


class Calls:
    """Counts what a run asks of its disk. `at(n)` is called before the n-th; what it returns is raised."""

    def __init__(self, run: Path, at: Callable[[int], OSError | None]) -> None:
        self.run, self.at, self.n = str(run), at, 0
        self.names: list[str] = []

    def install(self) -> None:
        for module, name in ((os, "write"), (os, "fsync"), (os, "replace"), (os, "link"), (os, "open"), (io, "open")):
            setattr(module, name, self._wrapped(name, getattr(module, name)))

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            target = arguments[0]
            if isinstance(target, int):
                ours = target > 2 and os.readlink(f"/proc/self/fd/{target}").startswith(self.run)
            else:
                ours = str(target).startswith(self.run)
            if not ours:
                return real(*arguments, **more)
            said = bytes(arguments[1]) if name == "write" else b""
            self.count(name, said)
            result = real(*arguments, **more)
            mode = arguments[1] if name == "open" and len(arguments) > 1 else ""
            return Written(result, self) if mode == "wb" else result

        return call

    def count(self, name: str, said: bytes = b"") -> None:
        self.n += 1
        self.names.append(f"{name} {said[:4000].decode('utf-8', 'replace')}".strip())
        if (error := self.at(self.n)) is not None:
            raise error


class Written:
    """A file whose writes are counted too."""

    def __init__(self, file: Any, calls: Calls) -> None:
        self._file, self._calls = file, calls

    def write(self, block: Any) -> Any:
        self._calls.count("file write")
        return self._file.write(block)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def calls_of(bench: Bench, epochs: int) -> list[str]:
    """What a run asks of its disk, in order."""
    run, report = bench.new(), bench.folder / "calls.json"
    calls = Calls(run, lambda n: None)

    def body() -> int:
        calls.install()
        status = command(
            ["train", str(bench.text), *TINY, f"--epochs={epochs}", f"--output-dir={run}", "--resume=auto"]
        )
        report.write_text(json.dumps(calls.names))
        return status

    assert wait(fork(body, bench.output(run))) == 0, bench.words(run)
    found: list[str] = json.loads(report.read_text())
    return found


def chosen(names: list[str], short: bool) -> list[int]:
    """The numbers of the calls to break: those of the save at the first epoch's end; in the long form also those of
    the start and of everything from the last epoch's end on. Of the writes within a file, some."""
    calls = list(enumerate(names, 1))
    ends = [n for n, name in calls if '"epoch_ended":true' in name]
    trains = [n for n, name in calls if '"phase":"training"' in name]
    spans = [(ends[0], next(n for n in trains if n > ends[0]))]
    spans += [] if short else [(1, trains[0]), (ends[-1], len(calls))]
    every = 20 if short else 5
    return [n for n, name in calls for a, b in spans if a <= n <= b and (name != "file write" or n % every == 0)]


def kills_at_calls(bench: Bench, short: bool) -> Row:
    """`kill -9` just before each thing that a run asks of its disk."""
    row, epochs = Row("kill -9 before each call of saving"), 2
    reference, names = bench.reference(epochs), calls_of(bench, epochs)
    for number in chosen(names, short):
        run = bench.new()

        def strike(n: int, number: int = number) -> None:
            if n == number:
                os.kill(os.getpid(), signal.SIGKILL)

        status = wait(bench.start(run, epochs, Calls(run, strike).install))
        trouble = "" if status == KILLED else f"was not killed: {status} {bench.words(run)}"
        row.take(trouble or bench.finish(run, epochs, reference), f"call {number}, {names[number - 1][:60]}")
        shutil.rmtree(run, ignore_errors=True)
    return row


def errors_at_calls(bench: Bench, short: bool, count: int) -> Row:
    """Each call fails in turn, and `count` - 1 more after it."""
    row, epochs = Row(f"{'each call fails' if count == 1 else f'{count} calls in a row fail'} (ENOSPC, EIO, EROFS)"), 3
    reference, names = bench.reference(epochs), calls_of(bench, epochs)
    for number in chosen(names, short)[:: 1 if count == 1 else 3]:
        run, code = bench.new(), ERRORS[number % len(ERRORS)]

        def refuse(n: int, number: int = number, code: int = code) -> OSError | None:
            return OSError(code, os.strerror(code)) if number <= n < number + count else None

        status = wait(bench.start(run, epochs, Calls(run, refuse).install))
        if status == 0:
            trouble = str(ask(lambda run=run: difference(run, reference, failures=True)))
        elif status in (1, 2) and "Traceback" not in bench.output(run).read_text():
            trouble = bench.finish(run, epochs, reference, failures=True)  # it said so; the same command again
        else:
            trouble = f"status {status}: {bench.words(run)}"
        row.take(trouble, f"call {number}, {names[number - 1][:60]}, {errno.errorcode[code]}")
        shutil.rmtree(run, ignore_errors=True)
    return row


# ---- disks ----


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
    disk.mkdir(exist_ok=True)
    place.mkdir(exist_ok=True)
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


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            with suppress(OSError):
                while file.write(b"x" * size) == size:
                    pass


def disks(bench: Bench) -> list[Row]:
    """A disk that is full, a folder that is read-only, a mount that is gone: from step 5 to step 12, or to the end."""
    rows = [Row("disk full for some steps"), Row("disk full to the end"), Row("folder read-only for some steps")]
    rows += [Row("mount gone for some steps")]
    epochs = 5
    reference = bench.reference(epochs)
    try:
        with small_disk(bench) as (disk, place):
            acts: list[tuple[Callable[[], None], Callable[[], None] | None]] = [
                (lambda: fill(disk), (disk / "filler").unlink),
                (lambda: fill(disk), None),
                (lambda: read_only(disk, place), lambda: unmounted(str(place))),
                (lambda: unmounted("-l", str(place)), lambda: mounted("--bind", str(disk), str(place))),
            ]
            for number, (row, (spoil, mend)) in enumerate(zip(rows, acts, strict=True)):
                run = place / f"run-{number}"
                plan = {5: spoil, **({12: mend} if mend else {})}
                status = wait(bench.start(run, epochs, lambda plan=plan: at_steps(plan)))
                (disk / "filler").unlink(missing_ok=True)
                row.take(after_disk(bench, run, epochs, reference, status, mended=mend is not None), run.name)
                shutil.rmtree(run)
    except OSError as error:
        for row in rows:
            row.skipped = str(error) if not row.tried else ""
    return rows


def read_only(disk: Path, place: Path) -> None:
    mounted("--bind", str(disk), str(place))
    mounted("-o", "remount,bind,ro", str(place))


def after_disk(bench: Bench, run: Path, epochs: int, reference: Path, status: int, *, mended: bool) -> str:
    if not mended:
        if status != 1:
            return f"status {status} although the end could not be saved: {bench.words(run)}"
        return bench.finish(run, epochs, reference)
    if status:
        return f"status {status}: {bench.words(run)}"
    failed = {event.step for event in read_journal(run) if isinstance(event, events.CheckpointFailed)}
    if not {6, 7, 8, 9, 10, 11} <= failed or failed - set(range(5, 13)):
        return f"failures to save were told of steps {sorted(failed)}"
    return str(ask(lambda: difference(run, reference, failures=True)))


def at_steps(plan: dict[int, Callable[[], None]]) -> None:
    """In a child: do things when so many steps are done."""
    step = trainer.Trainer._take_step

    def take_step(self: trainer.Trainer) -> None:
        step(self)
        if act := plan.get(self._counters.step):
            act()

    trainer.Trainer._take_step = take_step  # type: ignore[method-assign]


# ---- damaged files ----


def stopped_in_the_middle(bench: Bench, epochs: int) -> Path:
    """A run that was killed at step 8 after its progress was told and before last.pt was renamed."""
    run = bench.new()
    state = {"step": 0}

    def prepare() -> None:
        at_steps({8: lambda: state.update(step=8)})
        replace = os.replace

        def strike(source: Any, target: Any) -> None:
            if state["step"]:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = strike  # type: ignore[assignment]

    status = wait(bench.start(run, epochs, prepare))
    assert status == KILLED, bench.words(run)
    return run


def copied(bench: Bench, run: Path) -> Path:
    """A copy of a run, files of several names included, the times of its files kept."""
    copy = bench.new()
    shutil.copytree(run, copy)
    return copy


def damages(bench: Bench, short: bool) -> list[Row]:
    """The newest checkpoint with a bit flipped in each of its records, and cut at every kilobyte."""
    rows, epochs = [Row("a record of last.pt bit-flipped"), Row("last.pt cut at a kilobyte")], 4
    reference, original = bench.reference(epochs), stopped_in_the_middle(bench, epochs)
    whole = (original / "last.pt").read_bytes()
    with zipfile.ZipFile(original / "last.pt") as archive:
        records = [(info.filename, _middle(archive, info)) for info in archive.infolist() if info.file_size]
    flipped = [(name, bytes([*whole[:at], whole[at] ^ 16]) + whole[at + 1 :]) for name, at in records]
    cut = [(f"at {end}", whole[:end]) for end in range(0, len(whole), 1024)]
    for row, variants in zip(rows, (flipped, cut), strict=True):
        named = row is rows[0]
        for number, (name, block) in enumerate(variants):
            run = copied(bench, original)
            times = (original / "last.pt").stat()
            (run / "last.pt").write_bytes(block)
            os.utime(run / "last.pt", ns=(times.st_atime_ns, times.st_mtime_ns))
            trouble = str(ask(lambda run=run, name=name if named else "": unnamed(run, name)))
            if not trouble and (not short or number % 12 == 0):
                trouble = bench.finish(run, epochs, reference)
            row.take(trouble, name)
            shutil.rmtree(run)
    return rows


def _middle(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Where the middle of a record lies in the file."""
    with archive.open(info) as record:
        record.read(1)
    file = archive.fp
    assert file is not None
    file.seek(info.header_offset + 26)
    header = file.read(4)
    lengths = int.from_bytes(header[:2], "little") + int.from_bytes(header[2:], "little")
    return info.header_offset + 30 + lengths + info.file_size // 2


def unnamed(run: Path, record: str) -> str:
    """Whether a damaged last.pt is passed over for an older file, and named."""
    found, damaged = newest_whole(run)
    if found is None or found.name == "last.pt":
        return f"{found} is used"
    if not any("last.pt" in words and record in words for words in damaged):
        return f"it is not named: {damaged}"
    return ""


def torn_journals(bench: Bench, short: bool) -> Row:
    """The last line of the journal cut at every byte."""
    row, epochs = Row("the journal's last line torn at a byte"), 4
    reference, original = bench.reference(epochs), stopped_in_the_middle(bench, epochs)
    lines = (original / "journal.jsonl").read_bytes().splitlines(keepends=True)
    while b'"event":"progress"' not in lines[-1]:
        lines.pop()
    start = sum(map(len, lines[:-1]))
    for end in range(start, start + len(lines[-1]) + 1, 23 if short else 1):
        run = copied(bench, original)
        (run / "journal.jsonl").write_bytes(b"".join(lines)[:end])
        row.take(bench.finish(run, epochs, reference), f"at {end - start} of {len(lines[-1])}")
        shutil.rmtree(run)
    return row


# ---- consoles ----

CONSOLE = """
import sys, time
from pathlib import Path
from fundamentallm import session
from fundamentallm.config import Layer, resolve
from fundamentallm.job import Job

if __name__ == "__main__":
    if sys.argv[3] == "deaf":
        session.QUEUE_SIZE = 3
        session.Session._receive = lambda self: None
    values = dict(data=sys.argv[2], model_dim=16, num_layers=1, max_seq_len=16, stride=16, batch_size=64, epochs=10**6,
                  keep_checkpoints=1, device="cpu")
    kept = session.Session(Job(resolve(Layer(values)), Path(sys.argv[1])))
    time.sleep(600)
"""


def consoles(bench: Bench) -> list[Row]:
    """A console killed, one that hangs, and one that never reads its queue: the run goes on."""
    rows = [Row("console killed"), Row("console hung (SIGSTOP)"), Row("console that never reads its queue")]
    script = bench.folder / "console.py"
    script.write_text(CONSOLE)
    kinds = ("killed", "hung", "deaf")
    runs = [bench.new() for _ in kinds]
    started = [
        subprocess.Popen([sys.executable, str(script), str(run), str(bench.text), kind], stderr=subprocess.DEVNULL)
        for run, kind in zip(runs, kinds, strict=True)
    ]
    try:
        for run in runs:
            until(lambda run=run: steps(run) > 5)
        os.kill(started[0].pid, signal.SIGKILL)
        os.kill(started[1].pid, signal.SIGSTOP)
        for row, run in zip(rows, runs, strict=True):
            before = steps(run)
            went = until(lambda run=run, before=before: steps(run) > before + 30)
            tell(run, Stop())
            ended = went and until(lambda run=run: not is_held(run))
            last = list(read_journal(run))[-1]
            fine = ended and isinstance(last, events.Finished) and last.reason == "stopped" and not last.unsaved
            row.take("" if fine else f"stood at step {steps(run)}, {last}", run.name)
    finally:
        for process in started:
            process.kill()
            process.wait()
        for run in runs:
            tell(run, Stop())
    return rows


def steps(run: Path) -> int:
    last = [event for event in read_journal(run) if isinstance(event, events.Progress)]
    return events.last_step(last[-1]) if last else 0


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def two_consoles(bench: Bench) -> Row:
    """Two consoles attached to one run: both act, both see all, and who did it."""
    row, run = Row("two consoles on one run"), bench.new()
    pid = bench.start(run, 100_000)
    until(lambda: steps(run) > 3)
    consoles = [Attached(run), Attached(run)]
    seen: list[list[events.Event]] = [[], []]
    said = [Pause(who="ada"), Save(who="bob"), Resume(who="bob"), Stop(who="ada")]
    for told, by in zip(said, (0, 1, 1, 0), strict=True):
        consoles[by].send(told)

        def answered(told: Any = told) -> bool:
            for heard, console in zip(seen, consoles, strict=True):
                heard += console.events(0.02)
            return all(any(getattr(event, "id", "") == told.id for event in heard) for heard in seen)

        row.take("" if until(answered) else "it was not answered for both", f"{told}")
    status = wait(pid)
    for heard, console in zip(seen, consoles, strict=True):
        heard += console.events(0.1)
    journal = list(read_journal(run))
    answers = [(e.command, e.who, e.ok) for e in journal if isinstance(e, events.Answered)]
    wanted = [("pause", "ada", True), ("save", "bob", True), ("resume", "bob", True), ("stop", "ada", True)]
    fine = status == 0 and seen == [journal, journal] and answers == wanted
    row.take("" if fine else f"status {status}, {answers}, saw {[len(s) for s in seen]} of {len(journal)}", "all of it")
    return row


# ---- the table ----


def torture(short: bool, kill_count: int, seed: int, only: str) -> list[Row]:
    dice = random.Random(seed)
    parts: dict[str, Callable[[Bench], Row | list[Row]]] = {
        "kills": lambda bench: kills(bench, kill_count, dice),
        "kill calls": lambda bench: kills_at_calls(bench, short),
        "error calls": lambda bench: errors_at_calls(bench, short, 1),
        "errors in a row": lambda bench: errors_at_calls(bench, short, 7),
        "disks": disks,
        "damages": lambda bench: damages(bench, short),
        "journal": lambda bench: torn_journals(bench, short),
        "consoles": consoles,
        "two": two_consoles,
    }
    rows: list[Row] = []
    with workbench() as bench:
        for name, part in parts.items():
            if only in name:
                began = time.monotonic()
                made = part(bench)
                rows += made if isinstance(made, list) else [made]
                print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a minute's worth")
    parser.add_argument("--json", action="store_true", help="the table for programs")
    parser.add_argument("--only", default="", metavar="WORDS", help="parts whose names have these words")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, help="how many (200; 20 in the short form)")
    options = parser.parse_args()
    rows = torture(options.short, options.kills or (20 if options.short else 200), options.seed, options.only)
    if options.json:
        print(json.dumps([{**vars(row), "survived": row.tried - len(row.lost)} for row in rows]))
    else:
        width = max(len(row.fault) for row in rows)
        print(f"{'fault':<{width}}  tried  survived  lost")
        for row in rows:
            note = f"  skipped: {row.skipped}" if row.skipped else ""
            print(f"{row.fault:<{width}} {row.tried:6} {row.tried - len(row.lost):9} {len(row.lost):5}{note}")
        for row in rows:
            for words in row.lost:
                print(f"lost: {row.fault}: {words}")
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
