"""What sending costs between the processes of a run: the inputs of the formulas in docs/scale.md.

torchrun --nproc-per-node 2 -m tests.benchmarks.communication [--megabytes N]

Prints, as the best of many: the seconds that an announcement of rank 0 takes, which is almost all latency, and the
bytes a second at which gradients of N megabytes are added up. Start it on the nodes as a run is started there.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.distributed as dist

from fundamentallm.train.device import choose_device
from fundamentallm.train.distributed import joined, own_device, size


def best(action: Callable[[], object], times: int) -> float:
    """The shortest time of an action in seconds."""
    taken = []
    for _ in range(times):
        dist.barrier()
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=16)
    count = parser.parse_args().megabytes * 250_000
    with joined():
        device = own_device(choose_device("auto"))
        small, large = torch.zeros(3), torch.zeros(count, device=device)

        def add_up() -> None:
            dist.all_reduce(large)
            large[:1].cpu()  # waits for a GPU

        latency, seconds = best(lambda: dist.all_reduce(small), 200), best(add_up, 20)
        if dist.get_rank() == 0:
            sent = 2 * (size() - 1) / size() * 4 * count
            rate = f"gradients {sent / seconds / 1e9:.2f} GB/s ({4 * count / 1e6:.0f} MB in {seconds * 1e3:.1f} ms)"
            print(f"{size()} processes on {device.type}: announcement {latency * 1e6:.0f} us, {rate}")


if __name__ == "__main__":
    main()
