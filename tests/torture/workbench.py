"""Where the torture works: real runs in processes of their own, runs to compare them with, and rows of the table.

Every run is the real `fundamentallm train`, forked from a process that has imported torch and computed nothing: a new
interpreter needs seconds to import it.
"""

import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

os.environ["OMP_NUM_THREADS"] = "1"  # on busy cores, threads that wait for each other take ten times as long

import torch

from fundamentallm.cli import main as command
from fundamentallm.cli import train as _imported_before_the_first_fork  # noqa: F401
from fundamentallm.run.events import Event
from fundamentallm.run.journal import read_journal
from fundamentallm.train.trainer import Trainer
from tests.compare_runs import difference

T = TypeVar("T")
Prepare = Callable[[], object]
Options = tuple[str, ...]

TINY = [
    "--model-dim=16", "--num-layers=1", "--num-heads=2", "--max-seq-len=16", "--stride=16", "--batch-size=4",
    "--accumulation-steps=2", "--dropout=0.1", "--optimizer=muon", "--learning-rate=0.02", "--device=cpu",
    "--augment=casing=0.1,punctuation=0.2", "--save-every=1", "--eval-every=2", "--quiet",
]  # fmt: skip
TIMEOUT = 120.0  # seconds until a process counts as hung, and the run as lost
KILLED = -signal.SIGKILL


class Lost(Exception):
    """What was lost."""


@dataclass
class Row:
    """One row of the table. `lost` has a line for each loss."""

    fault: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    skipped: str = ""
    note: str = ""

    def take(self, case: str, attempt: Callable[[], object]) -> None:
        """Try one case."""
        self.add(case, loss_of(attempt))

    def add(self, case: str, loss: str) -> None:
        self.tried += 1
        if loss:
            self.lost.append(f"{case}: {loss}")


def loss_of(attempt: Callable[[], object]) -> str:
    """What an attempt lost; empty if nothing. An error of the torture itself is a loss as well."""
    try:
        attempt()
    except Lost as lost:
        return str(lost)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return ""


# ---- processes ----


def fork(body: Callable[[], int], output: Path | None = None) -> int:
    """Run `body` in a new process; its value is the exit status. What it prints goes to `output`, or to stderr."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        target = 2 if output is None else os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
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


def wait(pid: int, timeout: float = TIMEOUT) -> int:
    """The exit status of a child, negative for a signal; one that hangs is killed: 124."""
    deadline = time.monotonic() + timeout
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 124
        time.sleep(0.002)


def start_asking(question: Callable[[], T]) -> Callable[[], T]:
    """Ask a process that may use torch; the function that is returned waits for its answer.

    Raises (later):
        Lost: there is no answer.
    """
    reader, writer = os.pipe()

    def write_answer() -> int:
        os.close(reader)
        with open(writer, "wb") as pipe:
            pickle.dump(question(), pipe)
        return 0

    pid = fork(write_answer)
    os.close(writer)

    def read_answer() -> T:
        with open(reader, "rb") as pipe:
            block = pipe.read()
        if wait(pid) or not block:
            raise Lost("a question could not be answered")
        answer: T = pickle.loads(block)
        return answer

    return read_answer


def ask(question: Callable[[], T]) -> T:
    """The answer of a process that may use torch."""
    return start_asking(question)()


def comes_about(condition: Callable[[], bool]) -> bool:
    """Wait for something; False if it did not come."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# ---- runs ----


@dataclass
class Bench:
    """A folder with a text and runs. `jobs` processes work in it at once, each in a `lane` of its own."""

    folder: Path
    jobs: int = 1
    lane: str = "0"
    count: int = 0

    @property
    def text(self) -> Path:
        return self.folder / "text.txt"

    def new(self) -> Path:
        self.count += 1
        return self.folder / f"run-{self.lane}-{self.count}"

    def copy(self, run: Path) -> Path:
        """A copy of a run with the times of its files and with files that have several names."""
        copy, first_names = self.new(), dict[int, Path]()
        copy.mkdir()
        for path in run.iterdir():
            first = first_names.setdefault(path.stat().st_ino, copy / path.name)
            if first.exists():
                os.link(first, copy / path.name)
            else:
                shutil.copy2(path, first)
        return copy

    def arguments(self, run: Path, options: Options) -> list[str]:
        return ["train", str(self.text), *TINY, *options, f"--output-dir={run}", "--resume=auto"]

    def start(self, run: Path, options: Options, prepare: Prepare | None = None) -> int:
        """Start `fundamentallm train ... --resume auto`, in a child that calls `prepare` first. Returns its pid."""

        def body() -> int:
            if prepare is not None:
                prepare()
            return command(self.arguments(run, options))

        return fork(body, self.output(run))

    def run(self, run: Path, options: Options, prepare: Prepare | None = None) -> int:
        """The exit status of such a run."""
        return wait(self.start(run, options, prepare))

    def run_killed(self, run: Path, options: Options, prepare: Prepare) -> Path:
        """A run whose process kills itself.

        Raises:
            Lost: it ended in another way.
        """
        if (status := self.run(run, options, prepare)) != KILLED:
            raise Lost(f"was not killed: {status} {self.printed(run)}")
        return run

    def output(self, run: Path) -> Path:
        return self.folder / f"{run.name}.out"

    def printed(self, run: Path) -> str:
        """The end of what a run's processes printed, in one line."""
        with suppress(OSError):
            return self.output(run).read_text()[-300:].replace("\n", " / ")
        return ""

    def undisturbed(self, run: Path, options: Options, prepare: Prepare | None = None) -> Path:
        """A run that nobody disturbs, unless it is there already."""
        if not run.exists() and (status := self.run(run, options, prepare)):
            raise Lost(f"a run that nobody disturbed: status {status}, {self.printed(run)}")
        return run

    def reference(self, options: Options) -> Path:
        """The run that others are compared with."""
        return self.undisturbed(self.folder / f"reference{''.join(options)}", options)

    def duration(self, options: Options) -> float:
        """How many seconds a run takes, here and now."""
        began = time.monotonic()
        self.undisturbed(self.new(), options)
        return time.monotonic() - began

    def each(self, row: Row, cases: Sequence[tuple[str, T]], one: Callable[["Bench", T], None]) -> Row:
        """Try `one` with every case, `jobs` at once; fills the row."""

        def lane(number: int) -> list[tuple[int, str]]:
            bench = replace(self, lane=f"{self.count}.{number}", count=0)
            mine = range(number, len(cases), self.jobs)
            return [(at, loss_of(lambda at=at: one(bench, cases[at][1]))) for at in mine]  # type: ignore[misc]

        self.count += 1  # no two names are the same
        pending = [start_asking(lambda number=number: lane(number)) for number in range(self.jobs)]  # type: ignore[misc]
        for at, loss in sorted(pair for answer in pending for pair in answer()):
            row.add(cases[at][0], loss)
        return row


@contextmanager
def workbench(jobs: int) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        bench = Bench(Path(name), jobs)
        words = ["The sea,", "a boat;", "her crew", "went out", "at Dawn:", "who? why!", "and old."]
        bench.text.write_text(" ".join(random.Random(5).choices(words, k=52)))
        yield bench


def events_in(run: Path, kind: type[Event]) -> list[Any]:
    return [event for event in read_journal(run) if isinstance(event, kind)]


def finish(
    bench: Bench,
    run: Path,
    options: Options,
    reference: Path,
    prepare: Prepare | None = None,
    *,
    failures: bool = False,
) -> list[Event]:
    """Resume a run to its end, compare it with the reference, and delete it. Returns its journal.

    Raises:
        Lost: it did not reach its end, or another one.
    """
    if status := bench.run(run, options, prepare):
        raise Lost(f"resumed, and ended with status {status}: {bench.printed(run)}")
    compare(run, reference, failures=failures)
    journal = list(read_journal(run))
    shutil.rmtree(run)
    return journal


def compare(run: Path, reference: Path, *, failures: bool = False) -> None:
    """
    Raises:
        Lost: the end of a run differs from the reference's.
    """
    if found := ask(lambda: difference(run, reference, failures=failures)):
        raise Lost(found)


# ---- what a child does to itself ----


def at_steps(plan: dict[int, Callable[[], Any]]) -> None:
    """Call functions when so many steps are done."""
    step = Trainer.step

    def take_step(self: Trainer) -> None:
        step(self)
        if act := plan.get(self.state.step):
            act()

    Trainer.step = take_step  # type: ignore[method-assign]


def kill_self() -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_while_saving(
    bench: Bench, options: Options, step: int, act: Callable[[Path], Prepare] = lambda run: lambda: None
) -> Path:
    """A run that was killed after a step was reported and before last.pt was renamed."""
    run = bench.new()

    def kill_when_renaming() -> None:
        os.replace = lambda *_: kill_self()

    def prepare() -> None:
        act(run)()
        at_steps({step: kill_when_renaming})

    return bench.run_killed(run, options, prepare)
