"""Where to compute, how precisely, and how much memory there is."""

import math
import os
import platform
import re
import resource
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import torch

from fundamentallm.errors import UserError

# What a RuntimeError says when memory ran out. An "illegal memory access" is something else.
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


# The narrowest model that a processor with 16-bit arithmetic trains faster in it; tests/benchmarks/RESULTS.md.
MIXED_PRECISION_WIDTH = 128
BFLOAT16_ON_CPU = "bfloat16 but for attention"  # see `Attention`


def choose_device(name: str) -> torch.device:
    """Return the device that `name` means; "auto" is the fastest there is. A UserError if there is no such device."""
    if name == "auto" and torch.cuda.is_available():
        name = "cuda"
    elif name == "auto":
        name = "mps" if torch.backends.mps.is_available() else "cpu"
    device = None
    with suppress(RuntimeError):  # torch knows no such name
        device = torch.device(name)
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {name}: no such device; there are cpu, cuda, cuda:1, mps and auto")
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not count:
            why = f"no CUDA device here that torch {torch.__version__} can use"
            raise UserError(f"--device {name}: {why}; try --device cpu")
        if (device.index or 0) >= count:
            raise UserError(f"--device {name}: this machine has {count}: cuda:0 to cuda:{count - 1}")
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: Metal is not available here; try --device cpu")
    return device


def hardware(device: torch.device) -> str:
    """Name what computes, as far as the bits of a result depend on it.

    Such as "cpu AVX512 AuthenticAMD", "cuda NVIDIA H200" or "mps". The maker of a processor counts: matrix products are
    summed up in another order on Intel's than on AMD's. Checkpoints of 0.1.0 lack it.
    """
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        return f"cpu {torch.backends.cpu.get_cpu_capability()} {_processor_maker()}"
    return device.type


def same_hardware(then: str, now: str) -> bool:
    """Whether two names of hardware are the same, as far as both say it."""
    return now == then or now.startswith(f"{then} ")


def _processor_maker() -> str:
    with suppress(OSError):
        found = re.search(r"^(?:vendor_id|CPU implementer)\s*: (\S+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.machine()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that memory ran out, a GPU's or the machine's; torch has several for it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


class Precision:
    """The number format of the forward pass. Weights and optimizer state are float32 in any case.

    `mixed`: whether it shall have 16 bits; None: if a model so wide is known to train faster with them there, which on
    a GPU nobody has measured. `why_not` says why mixed precision was asked for and is off; empty otherwise.
    """

    def __init__(self, device: torch.device, mixed: bool | None, model_dim: int = 0) -> None:
        self._device, self.dtype, self.why_not = device, torch.float32, ""
        if mixed is None:
            mixed = device.type == "cpu" and _cpu_has_bf16() and model_dim >= MIXED_PRECISION_WIDTH
        if mixed and device.type == "cpu" and not _cpu_has_bf16():
            why = "this processor has no 16-bit arithmetic"
            self.why_not = f"mixed precision is off: {why}; training continues in float32"
        elif mixed:
            has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
            self.dtype = torch.bfloat16 if has_bf16 else torch.float16

    @property
    def name(self) -> str:
        """What computes, as far as the bits of a result depend on it: such as "float32"."""
        on_cpu = self._device.type == "cpu" and self.dtype == torch.bfloat16
        return BFLOAT16_ON_CPU if on_cpu else str(self.dtype).removeprefix("torch.")

    def forward(self) -> AbstractContextManager[object]:
        """Return the context in which the model computes."""
        if self.dtype == torch.float32:
            return nullcontext()
        # No cache: a forward pass casts each weight once, and two threads must not share what one of them made.
        return torch.autocast(self._device.type, self.dtype, cache_enabled=False)


def available_memory(device: torch.device, before: int) -> float:
    """Return the bytes that a run may take, those that it holds included; infinite where the system does not say.

    `before`: what `memory_in_use` returned before the run took any.
    """
    return _free_memory(device) + memory_in_use(device) - before


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # which torch uses again
        return torch.cuda.mem_get_info(device)[0] + cached
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return math.inf
    return min(free, free_in_cgroup(Path("/sys/fs/cgroup")), _free_address_space())


def free_in_cgroup(group: Path) -> float:
    """Return the bytes that a container may still take; infinite without a limit. The kernel gives up cached files."""
    try:
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return limit - used + int(stat["inactive_file"])
    except (OSError, ValueError, KeyError):  # the limit is the word "max": there is none
        return math.inf


def _free_address_space() -> float:
    """Return the bytes that this process may still take under its own limit (`ulimit -v`); infinite without one."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return math.inf if limit == resource.RLIM_INFINITY else max(0, limit - _own_memory(0))


def _own_memory(column: int) -> int:
    """Return the bytes of this process's address space (column 0), or of those the ones that are in memory (1)."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * os.sysconf("SC_PAGE_SIZE")


def memory_in_use(device: torch.device) -> int:
    """Return the bytes that training holds: of the GPU's memory, or of this process's."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.current_allocated_memory()
    try:
        return _own_memory(1)
    except OSError:  # macOS has no /proc: the peak has to do
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _cpu_has_bf16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
