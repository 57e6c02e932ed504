"""Starts `fundamentallm` many times in processes of their own without importing torch each time.

This process has imported everything and computed nothing; each of its children is what `fundamentallm ARGUMENTS` is
after its imports. Orders come as JSON lines on standard input, answers go out on standard output:

- {"arguments", "folder", "prepare", "out", "err"}: fork; `prepare` is Python that the child runs first. The pid.
- {"wait": pid, "seconds": s}: the exit status, negative for a signal; null where it still runs.

Modules that its arguments name are imported, too. When standard input ends, children that still run are killed.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

import fundamentallm.cli.control
import fundamentallm.cli.train
import fundamentallm.train.trainer  # noqa: F401
from fundamentallm.cli import main


def become(order: dict[str, Any]) -> None:
    """Turn into the program."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for target, path in ((0, os.devnull), (1, order["out"]), (2, order["err"])):
        os.dup2(os.open(path, flags if target else os.O_RDONLY, 0o644), target)
    os.closerange(3, 64)
    os.chdir(order["folder"])
    exec(order["prepare"], {})
    sys.exit(main(order["arguments"]))


def wait(pid: int, seconds: float) -> int | None:
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.005)


def serve() -> None:
    answers, orders = os.dup(1), os.fdopen(os.dup(0))
    os.dup2(2, 1)
    living: set[int] = set()
    for line in orders:
        order = json.loads(line)
        if "wait" in order:
            answer = wait(order["wait"], order["seconds"])
            if answer is not None:
                living.discard(order["wait"])
        else:
            answer = os.fork()
            if not answer:
                become(order)
            living.add(answer)
        os.write(answers, json.dumps(answer).encode() + b"\n")
    for pid in living:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    for module in sys.argv[1:]:
        import_module(module)
    serve()
