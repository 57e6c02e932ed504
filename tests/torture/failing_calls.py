"""The system calls by which a run uses its disk: it is killed before each of them, and each of them fails."""

import builtins
import errno
import io
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fundamentallm.run.events import NAMES, Intervention
from tests.torture.interventions import Changes, changed, changing, refused
from tests.torture.workbench import (
    KILLED,
    Bench,
    Lost,
    Options,
    Row,
    at_steps,
    compare,
    finish,
    kill_self,
    killed_while_saving,
)

OPTIONS: Options = ("--epochs=2", "--save-every=3")
CHANGES: Changes = {
    1: [("learning_rate", 0.01)],
    5: [("dropout", 0.3), ("learning_rate", 0.03)],
    7: [("epochs", 3), ("eval_every", 3)],
    11: [("weight_decay", 0.01)],
}
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
CALLS = ("write", "sendfile", "fsync", "ftruncate", "replace", "link", "unlink", "mkdir", "open")


class Calls:
    """Counts the calls. `at(n)` is called before the n-th; the error that it returns is raised."""

    def __init__(self, run: Path, at: Callable[[int], OSError | None]) -> None:
        self.run, self.at, self.n = str(run), at, 0
        self.names: list[str] = []

    def install(self) -> None:
        for name in CALLS:
            setattr(os, name, self._wrapped(name, getattr(os, name)))
        builtins.open = io.open = self._wrapped("open", io.open)

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            target = arguments[0]
            if isinstance(target, int):
                ours = target > 2 and os.readlink(f"/proc/self/fd/{target}").startswith(self.run)
            else:
                ours = str(target).startswith(self.run)
            if not ours:
                return real(*arguments, **more)
            detail = str(bytes(arguments[1])[:4000], "utf-8", "replace") if name == "write" else Path(str(target)).name
            self.count(f"{name} {detail}")
            result = real(*arguments, **more)
            mode = arguments[1] if name == "open" and len(arguments) > 1 else ""
            return Written(result, self) if mode in ("w", "wb") else result

        return call

    def count(self, name: str) -> None:
        self.n += 1
        self.names.append(name)
        if (error := self.at(self.n)) is not None:
            raise error


class Written:
    """A file whose writes are counted too."""

    def __init__(self, file: Any, calls: Calls) -> None:
        self._file, self._calls = file, calls

    def write(self, block: Any) -> Any:
        self._calls.count("write into a file")
        return self._file.write(block)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


@dataclass(frozen=True)
class Scene:
    """A run that users change, and where it begins."""

    name: str
    begin: Callable[[Bench], Path]

    def run(
        self,
        bench: Bench,
        run: Path,
        at: Callable[[int], OSError | None],
        before: Callable[[Calls], None] | None = None,
    ) -> int:
        """The status of a run whose calls are counted; `before` is called in its process first."""

        def prepare() -> None:
            changing(run, CHANGES, in_memory=True)()
            calls = Calls(run, at)
            if before is not None:
                before(calls)
            calls.install()

        return bench.run(run, OPTIONS, prepare)

    def calls(self, bench: Bench) -> list[str]:
        """The calls of a run, in order."""
        run, report = self.begin(bench), bench.folder / "calls"

        def report_at_exit(calls: Calls) -> None:
            exit = os._exit

            def report_and_exit(status: int) -> None:
                report.write_text("\0".join(calls.names))
                exit(status)

            os._exit = report_and_exit  # type: ignore[assignment]

        if status := self.run(bench, run, lambda n: None, report_at_exit):
            raise Lost(f"a run whose calls were counted: status {status}, {bench.printed(run)}")
        return report.read_text().split("\0")


def scenes(bench: Bench) -> list[Scene]:
    """A new run, and one that resumes what a killed one left."""
    left = killed_while_saving(bench, OPTIONS, 6, lambda run: changing(run, CHANGES))
    return [Scene("a new run", Bench.new), Scene("a resumed run", lambda bench: bench.copy(left))]


def chosen(names: list[str], short: bool) -> list[int]:
    """The numbers of the calls to break: all, but of the hundreds of writes into files only those of one save.

    The short form breaks those at the first epoch's end, and of the writes into files every hundredth.
    """
    calls = range(1, len(names) + 1)
    ends = [n for n in calls if '"epoch_ended":true' in names[n - 1]]
    after = next(n for n in calls if n > ends[0] and '"phase":"training"' in names[n - 1])
    within = range(ends[0], after + 1)
    if short:
        return [n for n in calls if n % 100 == 0 or (n in within and "into a file" not in names[n - 1])]
    return [n for n in calls if n in within or "into a file" not in names[n - 1]]


def cases(bench: Bench, short: bool) -> list[tuple[str, tuple[Scene, int]]]:
    """The scenes with the numbers of their calls."""
    found = []
    for scene in scenes(bench):
        names = scene.calls(bench)
        found += [(f"{scene.name}, call {n}, {names[n - 1][:60]}", (scene, n)) for n in chosen(names, short)]
    return found


def kills_at_calls(bench: Bench, short: bool) -> Row:
    """`kill -9` just before each call."""
    reference = changed(bench, OPTIONS, CHANGES)

    def one(bench: Bench, case: tuple[Scene, int]) -> None:
        scene, number = case
        run = scene.begin(bench)
        status = scene.run(bench, run, lambda n: kill_self() if n == number else None)
        if status != KILLED:
            raise Lost(f"was not killed: {status} {bench.printed(run)}")
        finish(bench, run, OPTIONS, reference, changing(run, CHANGES))

    return bench.each(Row("kill -9 before each call"), cases(bench, short)[:: 3 if short else 1], one)


def errors_at_calls(bench: Bench, short: bool, count: int) -> Row:
    """Each call fails in turn, and `count` - 1 more after it."""

    def one(bench: Bench, case: tuple[Scene, int]) -> None:
        scene, number = case
        run = scene.begin(bench)
        status = scene.run(bench, run, failing(number, count))
        output, without = bench.output(run).read_text(), refused(run)
        reference = changed(bench, OPTIONS, CHANGES, without)
        if status == 0:
            compare(run, reference, failures=True)
        elif status in (1, 2) and output and "Traceback" not in output:  # a message; the same command again
            finish(bench, run, OPTIONS, reference, changing(run, CHANGES, without), failures=True)
        else:
            raise Lost(f"status {status}: {bench.printed(run)}")
        shutil.rmtree(run, ignore_errors=True)

    name = "each call fails" if count == 1 else f"{count} calls in a row fail"
    found = cases(bench, short)[1 :: min(count + 1, 3)] if short else cases(bench, short)
    return bench.each(Row(f"{name} (ENOSPC, EIO, EROFS)"), found, one)


def failing(number: int, count: int) -> Callable[[int], OSError | None]:
    """Makes `count` calls fail; each number has another error than the next."""
    code = ERRORS[number % len(ERRORS)]
    return lambda n: OSError(code, os.strerror(code)) if number <= n < number + count else None


def refused_changes(bench: Bench, short: bool) -> Row:
    """A change that cannot be recorded is refused; a process that resumes the run must not make it either."""
    scene = scenes(bench)[0]
    names = scene.calls(bench)
    recorded = [n for n, name in enumerate(names, 1) if f'"event":"{NAMES[Intervention]}"' in name]
    found = [
        (f"{count} calls from {n}, {names[n - 1][:60]}", (n, count))
        for first in recorded
        for n in ((first,) if short else (first, first + 1))
        for count in ((2,) if short else (1, 2, 3, 5, 8))
    ]

    def one(bench: Bench, case: tuple[int, int]) -> None:
        number, count = case
        run = scene.begin(bench)
        step = int(re.findall(r'"step":(\d+)', "".join(names[: number + 1]))[-1])

        status = scene.run(bench, run, failing(number, count), lambda calls: at_steps({step + 1: kill_self}))
        if status != KILLED:
            raise Lost(f"was not killed: {status} {bench.printed(run)}")
        without = refused(run)
        reference = changed(bench, OPTIONS, CHANGES, without)
        finish(bench, run, OPTIONS, reference, changing(run, CHANGES, without), failures=True)

    return bench.each(Row("a change that the disk refuses, then kill -9"), found, one)
