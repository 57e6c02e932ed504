"""Where the time of a step goes: a trace for a viewer, and a table. Changes no step, and costs nothing unless used."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from fundamentallm.paths import quoted_path

if TYPE_CHECKING:
    from fundamentallm.train.trainer import Trainer

WARM_UP = 3  # steps before those that are recorded
TRACE = "trace{}.json"
OPERATIONS = 12  # lines of the table of operations
PARTS = ("batch", "forward", "backward", "optimizer")  # as the step names them
HALVED = ("forward", "backward")  # those of which two threads may do half each, at once
STEP = "a step"
SCHEDULED = "ProfilerStep*"  # as torch names the time from one step to the next


@contextmanager
def profiled(trainer: "Trainer", steps: int, show: Callable[[str], object]) -> Iterator[None]:
    """Record `steps` steps of what `trainer` does within, or as many as there are, and show the table.

    The trace, which chrome://tracing and Perfetto open, goes into the run's folder.
    """
    take_step, first = trainer.step, trainer.state.step + WARM_UP
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler prints when it starts and stops, also to stdout
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (trainer.state.device.type == "cuda")
    recorded = schedule(wait=WARM_UP - 1, warmup=1, active=steps, repeat=1)

    def end(recorder: profile) -> None:
        if trainer.state.step <= first:  # the run ended before a step was recorded
            return
        names = (trainer.spec.folder / TRACE.format(f"-{n}" if n else "") for n in count())
        path = next(path for path in names if not os.path.lexists(path))
        recorder.export_chrome_trace(str(path))
        show(f"{_table(recorder)}\n\nthe trace is in {quoted_path(path)}")

    def step() -> None:
        with record_function(STEP):
            take_step()
        recorder.step()

    threads = None
    with suppress(TypeError):  # torch 2.6 records the main thread alone
        threads = _ExperimentalConfig(profile_all_threads=True)
    with profile(activities=kinds, schedule=recorded, on_trace_ready=end, experimental_config=threads) as recorder:
        trainer.step = step  # type: ignore[method-assign]
        yield
    if trainer.state.step <= first:
        show(f"--profile recorded nothing: it begins after step {first}")


def _table(recorder: profile) -> str:
    events = recorder.key_averages()
    total = {event.key: event.cpu_time_total / 1e3 for event in events}
    counts = {event.key: event.count for event in events}
    steps, recorded = counts[STEP], [name for name in PARTS if name in total]
    at_once = counts.get("forward", 0) / counts["batch"]  # 2 where each of two threads computes half of a batch
    parts = {name: total[name] / (at_once if name in HALVED else 1) for name in recorded}
    rest = "norm, clip, rest" if at_once else "forward, backward, rest"
    parts |= {rest: total[STEP] - sum(parts.values()), STEP: total[STEP]}
    lines = [f"{'':<32}  {'ms':>9}  share", *(_row(name, ms / steps, ms / total[STEP]) for name, ms in parts.items())]
    own = sorted((e for e in events if e.key not in (*parts, SCHEDULED)), key=lambda e: -e.self_cpu_time_total)
    lines += ["", "the operations that take longest, a step, of the time of all operations in all threads:"]
    own_ms = {event.key: event.self_cpu_time_total / 1e3 for event in own}
    longest = list(own_ms.items())[:OPERATIONS]
    return "\n".join([*lines, *(_row(name, ms / steps, ms / sum(own_ms.values())) for name, ms in longest)])


def _row(name: str, ms: float, share: float) -> str:
    return f"{name[:32]:<32}  {ms:9.3f}  {share:5.1%}"
