"""What a process settles with the system: its streams, its threads, and the signals of a user who wants it to end."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from fundamentallm.errors import system_errors

NO_PROCESS = "no other process can be started (see df /dev/shm, ulimit -n, ulimit -u)"


def open_missing_streams() -> None:
    """Connect each standard stream that is closed (`>&-`, a service manager) to the null device.

    Call it first: otherwise the next file that is opened takes the number of the stream and what is printed goes there.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(number, True)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def give_blas_one_thread() -> None:
    """Let NumPy multiply with one thread, unless the environment says otherwise; call it before NumPy is imported.

    It multiplies when a model writes, one token at a time: too little work to share.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def agent_rank() -> int | None:
    """The number of this process among those that torch's elastic agent (torchrun) started for one run.

    None where no agent started it, or it alone.
    """
    agent = "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1
    return int(os.environ["RANK"]) if agent else None


def agent_restarted() -> bool:
    """Whether torch's elastic agent has started this process because an earlier one was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def on_one_machine() -> bool:
    """Whether all processes of a run are on this machine: where no agent started this one, or one without others."""
    return os.environ.get("GROUP_WORLD_SIZE", "1") == "1"


def agent_began() -> float:
    """When the agent that started this process began, in seconds since 1970; 0 where the system does not say."""
    with suppress(OSError):  # no /proc
        ticks = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]  # proc(5): starttime
        boot = re.search(r"^btime (\d+)", Path("/proc/stat").read_text(), re.MULTILINE)
        return int(boot[1]) + int(ticks) / os.sysconf("SC_CLK_TCK") if boot else 0.0
    return 0.0


def start_resource_tracker() -> None:
    """Start multiprocessing's resource tracker, a process, with none of our streams.

    Call it before there is a worker, or a thread that prints. The tracker lives as long as the worker does. With our
    streams, a shell that reads our output would wait for the end of the run, and at that end the tracker would complain
    on the terminal about what a process that detached from its run has left open. A UserError says that the system
    refuses.
    """
    from multiprocessing import resource_tracker

    sys.stdout.flush()
    sys.stderr.flush()
    null = os.open(os.devnull, os.O_RDWR)
    ours = [os.dup(stream) for stream in (0, 1, 2)]
    try:
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        with system_errors(NO_PROCESS):
            resource_tracker.ensure_running()
    finally:
        for stream, file in enumerate(ours):
            os.dup2(file, stream)
            os.close(file)
        os.close(null)


@contextmanager
def obeyed(
    stop: Callable[[int], object], *numbers: int, again: Callable[[int], object] | None = None
) -> Iterator[list[int]]:
    """Within: the first of these signals calls `stop` with its number, later ones `again`.

    Without `again` the second ends the process with 128 + number. A hangup that is ignored (nohup) stays ignored.
    Yields the numbers of the signals received so far.
    """
    received: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if not received:
            received.append(number)
            stop(number)
        elif again is not None:
            again(number)
        else:
            os._exit(128 + number)

    ignored = signal.SIGHUP if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else None
    previous = {number: signal.signal(number, handle) for number in numbers if number != ignored}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
