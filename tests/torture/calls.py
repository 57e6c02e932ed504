"""What a run asks of its disk, counted; and what happens when it is killed before one of these calls, or one fails."""

import builtins
import errno
import io
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.torture.bench import KILLED, Bench, Lost, Options, Row
from tests.torture.damages import copied, stopped_in_the_middle
from tests.torture.equal import compare, finish

TWO: Options = ("--epochs=2",)
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)
CALLS = ("write", "sendfile", "fsync", "ftruncate", "replace", "link", "unlink", "mkdir", "open")


class Calls:
    """Counts what a run asks of its disk. `at(n)` is called before the n-th; what it returns is raised."""

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
            said = str(bytes(arguments[1])[:4000], "utf-8", "replace") if name == "write" else Path(str(target)).name
            self.count(f"{name} {said}")
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


def beginnings(bench: Bench) -> dict[str, Callable[[Bench], Path]]:
    """Where a run may start: from nothing, or from what a killed one left."""
    left = stopped_in_the_middle(bench, TWO, 3)
    return {"a new run": lambda bench: bench.new(), "a run that goes on": lambda bench: copied(bench, left)}


def calls_of(bench: Bench, begin: Callable[[Bench], Path]) -> list[str]:
    """What a run asks of its disk, in order, from `begin` to its end."""
    run, report = begin(bench), bench.folder / "calls"
    calls = Calls(run, lambda n: None)

    def prepare() -> None:
        calls.install()
        leave = os._exit

        def told(status: int) -> None:
            report.write_text("\0".join(calls.names))
            leave(status)

        os._exit = told  # type: ignore[assignment]

    if status := bench.run(run, TWO, prepare):
        raise Lost(f"a run whose calls were counted: status {status}, {bench.words(run)}")
    return report.read_text().split("\0")


def chosen(names: list[str], short: bool) -> list[int]:
    """The numbers of the calls to break: every one; in the short form, those at the first epoch's end and some others.

    A save is some hundred writes into a file: of these the short form breaks every fiftieth.
    """
    calls = range(1, len(names) + 1)
    if not short:
        return list(calls)
    ends = [n for n in calls if '"epoch_ended":true' in names[n - 1]]
    after = next(n for n in calls if n > ends[0] and '"phase":"training"' in names[n - 1])
    return [n for n in calls if n % 50 == 0 or (ends[0] <= n <= after and "into a file" not in names[n - 1])]


def cases(bench: Bench, short: bool) -> list[tuple[str, tuple[Callable[[Bench], Path], int]]]:
    """Each beginning with the number of each call after it."""
    found = []
    for name, begin in beginnings(bench).items():
        names = calls_of(bench, begin)
        found += [(f"{name}, call {n}, {names[n - 1][:60]}", (begin, n)) for n in chosen(names, short)]
    return found


def kills_at_calls(bench: Bench, short: bool) -> Row:
    """`kill -9` just before each thing that a run asks of its disk."""
    reference = bench.reference(TWO)

    def one(bench: Bench, case: tuple[Callable[[Bench], Path], int]) -> None:
        begin, number = case
        run = begin(bench)

        def strike(n: int) -> None:
            if n == number:
                os.kill(os.getpid(), signal.SIGKILL)

        if (status := bench.run(run, TWO, Calls(run, strike).install)) != KILLED:
            raise Lost(f"was not killed: {status} {bench.words(run)}")
        finish(bench, run, TWO, reference)
        shutil.rmtree(run)

    return bench.each(Row("kill -9 before each call"), cases(bench, short), one)


def errors_at_calls(bench: Bench, short: bool, count: int) -> Row:
    """Each call fails in turn, and `count` - 1 more after it."""
    reference = bench.reference(TWO)

    def one(bench: Bench, case: tuple[Callable[[Bench], Path], int]) -> None:
        begin, number = case
        run, code = begin(bench), ERRORS[number % len(ERRORS)]

        def refuse(n: int) -> OSError | None:
            return OSError(code, os.strerror(code)) if number <= n < number + count else None

        status = bench.run(run, TWO, Calls(run, refuse).install)
        said = bench.output(run).read_text()
        if status == 0:
            compare(run, reference, failures=True)
        elif status in (1, 2) and said and "Traceback" not in said:
            finish(bench, run, TWO, reference, failures=True)  # it said so; the same command again
        else:
            raise Lost(f"{errno.errorcode[code]}: status {status}: {bench.words(run)}")
        shutil.rmtree(run, ignore_errors=True)

    name = "each call fails" if count == 1 else f"{count} calls in a row fail"
    return bench.each(Row(f"{name} (ENOSPC, EIO, EROFS)"), cases(bench, short), one)
