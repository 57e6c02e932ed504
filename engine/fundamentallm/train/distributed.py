"""Several processes that train one run: torch's process group, and all that goes over it.

- Rank 0 runs the trainer: it decides, writes and answers. The others take the steps that rank 0 announces, with the
  settings that it announces, and do nothing else. What stops, pauses or changes a run thus meets all at the same step.
- Each process computes its own rows of a step's batch. DistributedDataParallel adds up their gradients, so that a step
  is the same for any number of processes, but for the order in which numbers are added up.
- Which process is which, and what happens when one dies, is the business of torch's elastic agent (torchrun, `launch`).
- One process joins no group, sends nothing and pays nothing.
"""

import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fundamentallm.config.config import Config
from fundamentallm.errors import UserError, describe_error
from fundamentallm.train.metrics import NotFinite

FOREVER = timedelta(days=3650)  # a run may be paused for long; a process that dies ends the wait of the others at once
END = -1  # in place of a step: there is no other
GONE = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
LOST = (*GONE, "gloo", "NCCL")
STORE = "FUNDAMENTALLM_STORE"  # the environment's name for the file over which the processes of `launch` meet


@dataclass
class _Group:
    """The group that this process has joined. Announcements go over connections of their own, between CPUs."""

    announcements: dist.ProcessGroup
    # What the other processes wait for: the state, a step, or nothing: they compute, or are about to leave.
    awaited: str = "state"
    config: Config | None = None  # as it was announced last


_group: _Group | None = None


def rank() -> int:
    """The number of this process; 0 is the one that decides."""
    return dist.get_rank() if _group else 0


def size() -> int:
    """How many processes train the run."""
    return dist.get_world_size() if _group else 1


@contextmanager
def joined() -> Iterator[None]:
    """Within: this process is one of the group that an agent started. When rank 0 leaves, it lets the others end."""
    global _group
    # Each start has a store of its own: in that of an earlier one, gloo would find the addresses of processes that are
    # gone, and wait half an hour for them.
    own: Any
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if path := os.environ.get(STORE):
        number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        own = dist.FileStore(f"{path}-{start}", -1)  # type: ignore[attr-defined]
    else:
        own, number, count = next(iter(dist.rendezvous("env://")))  # type: ignore[attr-defined]
        if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":  # agents of several machines count their own restarts
            own = dist.PrefixStore(f"start {start}", own)  # type: ignore[attr-defined]
    dist.init_process_group(store=own, rank=number, world_size=count)
    _group = _Group(dist.new_group(backend="gloo", timeout=FOREVER))
    try:
        yield
    finally:
        if rank() == 0:
            with suppress(RuntimeError):  # one of them is gone already
                if _group.awaited == "state":
                    dist.broadcast_object_list([None], 0, group=_group.announcements)
                elif _group.awaited == "step":
                    _announce(END, False, False)
        _group = None
        dist.destroy_process_group()


def is_lost(error: BaseException) -> bool:
    """Whether an error says that another process of the group is gone."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LOST)


def describe_loss(error: BaseException) -> str:
    """Say that another process is gone, and what torch says of it where that is more than a closed connection."""
    words = "" if any(gone in str(error) for gone in GONE) else f" ({describe_error(error)[:200]})"
    return f"another process of the run has ended{words}"


# ---- the state ----


def own_device(device: torch.device) -> torch.device:
    """Return the device of this process: of the GPUs of a machine, each process has its own."""
    return device if size() == 1 or device.type == "cpu" else torch.device(device.type, int(os.environ["LOCAL_RANK"]))


def receive_description() -> Any:
    """Wait for what rank 0 says of the state that it begins with; None if it does not begin, and has said why."""
    assert _group is not None
    received: list[Any] = [None]
    dist.broadcast_object_list(received, 0, group=_group.announcements)
    return received[0]


def share_state(model: nn.Module, tensors: Iterable[Tensor], describe: Callable[[], object]) -> nn.Module:
    """Bring all processes to the state of rank 0. Returns the model to train with, whose gradients are added up.

    A UserError says why a process cannot take part.

    Args:
        tensors: those of the optimizer, which become rank 0's, as the model's weights do.
        describe: what the other processes need to build theirs.
    """
    if _group is None:
        return model
    if rank() == 0:
        dist.broadcast_object_list([describe()], 0, group=_group.announcements)
    _group.awaited = ""
    report("")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 has another name for the option, which 2.6 does not know
        parallel = DistributedDataParallel(model, broadcast_buffers=False)  # takes the weights of rank 0
    for tensor in tensors:
        dist.broadcast(tensor, 0)
    _group.awaited = "step"
    return parallel


def report(problem: str) -> None:
    """Tell the others why this process cannot take part, or "" if it can; a UserError if any cannot."""
    assert _group is not None
    problems: list[Any] = [None] * size()
    where = f"process {rank()} on {socket.gethostname()}: {problem}" if problem else ""
    dist.all_gather_object(problems, where, group=_group.announcements)
    if found := next(filter(None, problems), None):
        raise UserError(found)


# ---- a step ----


def rows_of(config: Config) -> tuple[int, int, int]:
    """Return which rows of a step's batch this process computes: the first, how many, and how many at once.

    A UserError says that the batch cannot be shared over the processes.
    """
    share = share_of(config, size())
    at_once = next(n for n in range(min(config.batch_size, share), 0, -1) if share % n == 0)
    return rank() * share, share, at_once


def share_of(config: Config, processes: int) -> int:
    """Return how many rows of a step's batch each of so many processes computes; a UserError if that is uneven."""
    if config.effective_batch % processes:
        what = f"a step's {config.effective_batch} windows cannot be shared over {processes} processes"
        rule = f"batch size x accumulation steps must be a multiple of {processes}"
        raise UserError(f"--batch-size {config.batch_size}: {what}; {rule}")
    return config.effective_batch // processes


def gradients_stay(model: nn.Module) -> AbstractContextManager[None]:
    """Return the context of a forward pass whose gradients are kept here, to be sent with those of a later one."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def add_up(number: Tensor) -> Tensor:
    """Add up, in place, the numbers of all processes."""
    if _group is not None:
        dist.all_reduce(number)
    return number


def shared_out(function: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """Return `function(items)`, (N, ...) to (N, ...), where each process computes a share of the N and sends it."""
    if _group is None:
        return function(items)
    each = -(-len(items) // size())
    mine = items[rank() * each : (rank() + 1) * each]
    sent, received = items.new_zeros(each, *items.shape[1:]), items.new_empty(size() * each, *items.shape[1:])
    if len(mine):  # the last processes may have none
        sent[: len(mine)] = function(mine)
    dist.all_gather(list(received.chunk(size())), sent)
    return received[: len(items)]


# ---- which step is next ----


@contextmanager
def leading(step: int, config: Config) -> Iterator[bool]:
    """Within, in rank 0: all processes take step number `step` (0, 1, ...) with these settings.

    Yields whether one of the others was asked to stop.
    """
    if _group is None:
        yield False
        return
    changed = config is not _group.config
    _, _, stop = _announce(step, changed, False)
    if changed:
        dist.broadcast_object_list([config], 0, group=_group.announcements)
        _group.config = config
    _group.awaited = ""
    try:
        yield bool(stop)
    except NotFinite:  # all processes meet it, after the same sums; after another they may wait for each other
        _group.awaited = "step"
        raise
    _group.awaited = "step"


def next_step(stop: bool) -> tuple[int, Config | None]:
    """Wait, in the other processes, for the next step (`END`: no other) and the settings if they are not as before.

    `stop`: this process was asked to.
    """
    assert _group is not None
    step, changed, _ = _announce(END, False, stop)
    received: list[Any] = [None]
    if changed:
        dist.broadcast_object_list(received, 0, group=_group.announcements)
    return step, received[0]


def _announce(step: int, changed: bool, stop: bool) -> tuple[int, int, int]:
    """Exchange what rank 0 announces, the step and whether settings changed, and whether any process shall stop."""
    assert _group is not None
    numbers = torch.tensor([step, changed, stop])
    dist.all_reduce(numbers, dist.ReduceOp.MAX, group=_group.announcements)
    step, changed, stop = numbers.tolist()
    return step, changed, stop


# ---- the agent ----


def launch(entry: Callable[..., int], *arguments: object, processes: int, max_restarts: int) -> int:
    """Run `entry(*arguments)` in so many processes of this machine, under torch's elastic agent.

    If one of them is killed or fails, the agent ends the others and starts all again, up to `max_restarts` times. They
    meet over files that only this user can read: torch's usual store is a port that is open to all machines, and what
    the agent reads from it may run code.

    Returns:
        What `entry` returned in rank 0; 128 and the signal's number after a signal, which is passed on to all.

    Raises:
        ChildProcessError: a process was lost once more than it may be.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "600")  # seconds for the step under way and the save
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # or the agent opens a port of its own
    if sys.platform == "linux":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    logging.disable(logging.ERROR)  # the agent's tracebacks of processes that were killed
    with TemporaryDirectory(prefix="fundamentallm-", ignore_cleanup_errors=True) as folder:
        os.environ[STORE] = f"{folder}/processes"
        config = LaunchConfig(
            min_nodes=1, max_nodes=1, nproc_per_node=processes, max_restarts=max_restarts, run_id=f"run-{os.getpid()}",
            rdzv_backend="c10d", rdzv_endpoint=f"{folder}/agent", local_addr="localhost",
            # the file grows with each sign of life, of which the agent otherwise gives one every 5 seconds
            rdzv_configs={"store_type": "file", "keep_alive_interval": 600},
            logs_specs=DefaultLogsSpecs(log_dir=os.devnull),  # or it leaves empty folders among the temporary files
        )  # fmt: skip
        if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup
            config.signals_to_handle = "SIGTERM,SIGINT,SIGQUIT"
        try:
            status: int = elastic_launch(config, entry)(*arguments)[0]
        except SignalException as error:
            status = 128 + error.sigval
        except ChildFailedError as error:
            number, failure = error.get_first_failure()
            how = f"was killed by signal {-failure.exitcode}" if failure.exitcode < 0 else "failed"
            why = f"process {number} {how}; --max-restarts {max_restarts} allows no other start"
            raise ChildProcessError(why) from None
        return status
