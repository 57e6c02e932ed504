"""Two nodes, each a network namespace with torchrun's agent in it: one is killed, the other continues alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run import events
from tests.conftest import journal_events, until
from tests.end_to_end.test_processes import PATIENCE, SETTINGS, TOLERANCE, wait
from tests.engine.conftest import steps_in

NODES = [f"fllm-{os.getpid()}-{n}" for n in (1, 2)]
LINKS = [f"fl{os.getpid()}-{n}" for n in (1, 2)]
ADDRESSES = ["10.77.0.1", "10.77.0.2"]
QUICK = "last_call_timeout=5,keep_alive_interval=2,keep_alive_max_attempt=5"  # seconds: for a node that is gone


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def nodes() -> Iterator[None]:
    """Two namespaces with a wire between them."""
    try:
        ip("netns", "add", NODES[0])
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to make network namespaces")
    try:
        ip("netns", "add", NODES[1])
        ip("link", "add", LINKS[0], "type", "veth", "peer", "name", LINKS[1])
        for node, link, address in zip(NODES, LINKS, ADDRESSES, strict=True):
            ip("link", "set", link, "netns", node)
            ip("-n", node, "addr", "add", f"{address}/24", "dev", link)
            for device in ("lo", link):
                ip("-n", node, "link", "set", device, "up")
        yield
    finally:
        for node in NODES:
            kill(node)
            with suppress(subprocess.CalledProcessError):
                ip("netns", "del", node)


def kill(node: str) -> None:
    """Kill everything that runs on a node."""
    with suppress(subprocess.CalledProcessError):
        for pid in ip("netns", "pids", node).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def start(number: int, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start the agent of a node, which starts one process."""
    agent = [
        "--nnodes=1:2", "--nproc-per-node=1", "--max-restarts=3", "--rdzv-backend=c10d", "--rdzv-id=7",
        f"--rdzv-endpoint={ADDRESSES[0]}:29400", f"--rdzv-conf={QUICK},is_host={1 - number}",
        f"--local-addr={ADDRESSES[number]}",
    ]  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", *agent, "-m", "fundamentallm", *SETTINGS, *options]
    with open(folder / f"node{number}", "w") as log:
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": LINKS[number], "OMP_NUM_THREADS": "1"}
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # as docs/scale.md says
        node = ["ip", "netns", "exec", NODES[number]]
        return subprocess.Popen([*node, *command], cwd=folder, stdout=log, stderr=log, env=environment)


@pytest.mark.slow
def test_a_node_that_is_killed_leaves_the_run_to_the_other(
    nodes: None, tiny: list[str], tmp_path: Path, launch: Callable[..., Any]
) -> None:
    folder = tmp_path / "run"
    options = ["--output-dir=run", "--resume=auto", "--max-steps=300", "--save-every=10"]
    agents = [start(number, tmp_path, *options) for number in (0, 1)]
    # Rank 0 may be on either node; the one that is killed is the one without the meeting point.
    until(lambda: len(steps_in(folder)) > 20 or agents[0].poll() is not None, timeout=PATIENCE)
    assert agents[0].poll() is None, (tmp_path / "node0").read_text()
    assert journal_events(folder, events.RunStarted)[0].processes == 2
    kill(NODES[1])
    assert agents[0].wait(timeout=2 * PATIENCE) == 0, (tmp_path / "node0").read_text()
    agents[1].wait()
    first, *_, last = journal_events(folder, events.RunStarted)
    assert (first.processes, last.processes) == (2, 1) and 0 < last.step < 300
    notices = [event.text for event in journal_events(folder, events.Notice)]
    assert any("not to the same bits: processes 2 then, 1 now" in text for text in notices)
    assert wait(launch(*SETTINGS, "--max-steps=300", "--output-dir=alone")) == [0]
    ours, alone = steps_in(folder), steps_in(tmp_path / "alone")
    assert list(ours) == list(alone) == list(range(1, 301))
    assert max(abs(ours[step] - alone[step]) for step in range(1, 201)) < TOLERANCE
