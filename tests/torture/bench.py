"""Where a torture works: real runs in processes of their own, what undisturbed runs came to, and rows of the table.

Every run is the real `fundamentallm train`, forked from a process that has imported torch and computed nothing: one
that starts from nothing takes seconds to import it.
"""

import os
import pickle
import random
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

os.environ["OMP_NUM_THREADS"] = "1"  # waiting threads on busy cores take ten times as long

import torch

from fundamentallm.cli import main as command
from fundamentallm.cli import train as _imported_before_the_first_fork  # noqa: F401
from fundamentallm.train.trainer import Trainer as _so_is_the_loop  # noqa: F401
from tests.compare_runs import difference

T = TypeVar("T")
Prepare = Callable[[], object]
Options = tuple[str, ...]

TINY = [
    "--model-dim=16", "--num-layers=1", "--num-heads=2", "--max-seq-len=16", "--stride=16", "--batch-size=4",
    "--accumulation-steps=2", "--dropout=0.1", "--optimizer=muon", "--learning-rate=0.02", "--device=cpu",
    "--augment=casing=0.1,punctuation=0.2", "--save-every=1", "--eval-every=2", "--quiet",
]  # fmt: skip
PATIENCE = 120.0  # seconds until a process counts as hung: lost
KILLED = -signal.SIGKILL


class Lost(Exception):
    """What was lost, in words."""


@dataclass
class Row:
    """One line of the table. `lost` says of each loss what was lost."""

    fault: str
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    skipped: str = ""
    note: str = ""

    def take(self, what: str, attempt: Callable[[], None]) -> None:
        """Try something; what it raises is a loss."""
        self.tried += 1
        if trouble := troubled(attempt):
            self.lost.append(f"{what}: {trouble}")


def troubled(attempt: Callable[[], None]) -> str:
    """What was lost by an attempt, or nothing. A mistake of the torture itself is a loss as well."""
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
    """Run `body` in a new process; its value is the exit status. Returns the pid.

    What it prints goes to `output`, or to standard error.
    """
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


def wait(pid: int, patience: float = PATIENCE) -> int:
    """The exit status of a child, negative for a signal; one that hangs is killed: 124."""
    deadline = time.monotonic() + patience
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 124
        time.sleep(0.002)


def asked(question: Callable[[], T]) -> Callable[[], T]:
    """Ask a process that may use torch, and go on; what this returns waits for the answer.

    Raises (later):
        Lost: there is none.
    """
    reader, writer = os.pipe()

    def answer() -> int:
        os.close(reader)
        with open(writer, "wb") as pipe:
            pickle.dump(question(), pipe)
        return 0

    pid = fork(answer)
    os.close(writer)

    def heard() -> T:
        with open(reader, "rb") as pipe:
            block = pipe.read()
        if wait(pid) or not block:
            raise Lost("a question could not be answered")
        answered: T = pickle.loads(block)
        return answered

    return heard


def ask(question: Callable[[], T]) -> T:
    """The answer of a process that may use torch."""
    return asked(question)()


def until(condition: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Wait for something; False if it did not come."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# ---- the bench ----


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

    def arguments(self, run: Path, options: Options) -> list[str]:
        return ["train", str(self.text), *TINY, *options, f"--output-dir={run}", "--resume=auto"]

    def start(self, run: Path, options: Options, prepare: Prepare | None = None) -> int:
        """`fundamentallm train ... --resume auto`, in a child that is first prepared. Returns its pid."""

        def body() -> int:
            if prepare is not None:
                prepare()
            return command(self.arguments(run, options))

        return fork(body, self.output(run))

    def run(self, run: Path, options: Options, prepare: Prepare | None = None) -> int:
        """The exit status of such a run."""
        return wait(self.start(run, options, prepare))

    def output(self, run: Path) -> Path:
        return self.folder / f"{run.name}.out"

    def words(self, run: Path) -> str:
        """The last that a run's processes printed."""
        with suppress(OSError):
            return self.output(run).read_text()[-300:].replace("\n", " / ")
        return ""

    def undisturbed(self, run: Path, options: Options, prepare: Prepare | None = None) -> Path:
        """A run that goes through, unless it did before."""
        if not run.exists() and (status := self.run(run, options, prepare)):
            raise Lost(f"a run that nobody disturbed: status {status}, {self.words(run)}")
        return run

    def reference(self, options: Options) -> Path:
        """What a run comes to that nobody disturbs."""
        return self.undisturbed(self.folder / f"reference{''.join(options)}", options)

    def length(self, options: Options) -> float:
        """How many seconds a run takes, here and now."""
        began = time.monotonic()
        self.undisturbed(self.new(), options)
        return time.monotonic() - began

    def each(self, row: Row, cases: Sequence[tuple[str, T]], one: Callable[["Bench", T], None]) -> Row:
        """Try `one` with every case, `jobs` at once; fills the row."""

        def lane(number: int) -> list[tuple[int, str]]:
            bench = replace(self, lane=f"{self.count}.{number}", count=0)
            mine = range(number, len(cases), self.jobs)
            return [(at, troubled(lambda at=at: one(bench, cases[at][1]))) for at in mine]  # type: ignore[misc]

        self.count += 1  # no two names are the same
        pending = [asked(lambda number=number: lane(number)) for number in range(self.jobs)]  # type: ignore[misc]
        for at, trouble in sorted(pair for heard in pending for pair in heard()):
            row.tried += 1
            if trouble:
                row.lost.append(f"{cases[at][0]}: {trouble}")
        return row


@contextmanager
def workbench(jobs: int) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        bench = Bench(Path(name), jobs)
        dice = random.Random(5)
        words = ["The sea,", "a boat;", "her crew", "went out", "at Dawn:", "who? why!", "and old."]
        bench.text.write_text(" ".join(dice.choices(words, k=52)))
        yield bench


def finish(
    bench: Bench,
    run: Path,
    options: Options,
    reference: Path,
    prepare: Prepare | None = None,
    *,
    failures: bool = False,
) -> None:
    """Resume a run to its end and compare it with the reference.

    Raises:
        Lost: it did not reach its end, or another one.
    """
    if status := bench.run(run, options, prepare):
        raise Lost(f"resumed, and ended with status {status}: {bench.words(run)}")
    compare(run, reference, failures=failures)


def compare(run: Path, reference: Path, *, failures: bool = False) -> None:
    """
    Raises:
        Lost: the end of a run differs from the reference's.
    """
    if found := ask(lambda: difference(run, reference, failures=failures)):
        raise Lost(found)


def at_steps(plan: dict[int, Callable[[], Any]]) -> None:
    """In a child: do things when so many steps are done."""
    from fundamentallm.train.trainer import Trainer

    step = Trainer.step

    def take_step(self: Trainer) -> None:
        step(self)
        if act := plan.get(self.state.step):
            act()

    Trainer.step = take_step  # type: ignore[method-assign]


def kill_self() -> Any:
    os.kill(os.getpid(), signal.SIGKILL)
