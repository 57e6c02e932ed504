"""The short form of `make torture`: whatever is done to a run, nothing of it is lost."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.torture.__main__ import PARTS

FAULTS = {
    "kills": ["kill -9 at a random instant"],
    "SIGTERM": ["SIGTERM at a random instant"],
    "interventions": ["users' changes, then kill -9 twice"],
    "kills at calls": ["kill -9 before each call"],
    "errors at calls": ["each call fails (ENOSPC, EIO, EROFS)"],
    "errors in a row": ["7 calls in a row fail (ENOSPC, EIO, EROFS)"],
    "refused changes": ["a change that the disk refuses, then kill -9"],
    "full disks": [
        "disk full for some steps", "disk full to the end", "disk full, then kill -9",
        "folder read-only for some steps", "mount gone for some steps",
    ],
    "damaged checkpoints": [
        "a record of last.pt bit-flipped", "last.pt cut at a kilobyte", "last.pt with a bit flipped anywhere",
    ],
    "cut journals": ["the journal's last line cut at a byte"],
}  # fmt: skip
# One case of each is all that a short form has time for, and other tests have it: tests/end_to_end/test_detach.py,
# tests/engine/process/test_worker.py and tests/end_to_end/test_console.py.
ONLY_IN_FULL = ("detached", "consoles")

# Runs the parts that standard input names. One process for all: it takes seconds to import torch, and only one
# that has computed nothing may fork.
SERVER = """
import json, os, sys
from tests.torture.__main__ import Options, torture
parts, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
for name in parts:
    print(json.dumps([vars(row) for row in torture(name.strip(), Options())]), file=answers, flush=True)
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists() or not hasattr(os, "fork"), reason="forks; asks /proc"
)


@pytest.fixture(scope="module")
def torture() -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """Runs a part of the torture and returns its rows."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    parts, answers = process.stdin, process.stdout

    def run(part: str) -> list[dict[str, Any]]:
        print(part, file=parts, flush=True)
        return json.loads(answers.readline())  # type: ignore[no-any-return]

    yield run
    parts.close()
    process.wait()


@pytest.mark.parametrize("part", FAULTS)
def test_nothing_is_lost(torture: Callable[[str], list[dict[str, Any]]], part: str) -> None:
    rows = torture(part)
    assert [row["fault"] for row in rows] == FAULTS[part]
    assert all(row["lost"] == [] for row in rows), rows
    skipped = [row["skipped"] for row in rows if row["skipped"]]
    assert all(row["skipped"] or row["tried"] > 0 for row in rows), rows
    if skipped:
        pytest.skip(skipped[0])


def test_every_part_is_tested() -> None:
    assert [*FAULTS] == [part for part in PARTS if part not in ONLY_IN_FULL]
