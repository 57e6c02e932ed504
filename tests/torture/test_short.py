"""The short form of `make torture`: whatever is done to a run, nothing of it is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FAULTS = [
    "kill -9 at a random instant",
    "SIGTERM at a random instant",
    "persons' changes, then kill -9 twice",
    "kill -9 of a detached worker",
    "kill -9 before each call",
    "each call fails (ENOSPC, EIO, EROFS)",
    "7 calls in a row fail (ENOSPC, EIO, EROFS)",
    "a change that the disk refuses, then kill -9",
    "disk full for some steps",
    "disk full to the end",
    "disk full, then kill -9",
    "folder read-only for some steps",
    "mount gone for some steps",
    "a record of last.pt bit-flipped",
    "last.pt cut at a kilobyte",
    "last.pt with a bit flipped anywhere",
    "the journal's last line torn at a byte",
    "console killed",
    "console hung (SIGSTOP)",
    "console that never reads its queue",
    "two consoles on one run",
]

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists() or not hasattr(os, "fork"), reason="forks; asks /proc"
)


@pytest.fixture(scope="module")
def table() -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-m", "tests.torture", "--short", "--json"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.stdout, done.stderr
    return {row["fault"]: row for row in json.loads(done.stdout)}


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_is_lost(table: dict[str, dict[str, Any]], fault: str) -> None:
    row = table.pop(fault)
    if row["skipped"]:
        pytest.skip(row["skipped"])
    assert row["lost"] == [] and row["survived"] == row["tried"] > 0


def test_every_fault_of_the_table_is_asked_for(table: dict[str, dict[str, Any]]) -> None:
    assert table == {}
