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


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_lost(torture: Callable[[str], list[dict[str, Any]]], part: str) -> None:
    rows = torture(part)
    assert rows and all(row["lost"] == [] for row in rows), rows
    skipped = [row["skipped"] for row in rows if row["skipped"]]
    assert all(row["skipped"] or row["tried"] > 0 for row in rows), rows
    if skipped:
        pytest.skip(skipped[0])
