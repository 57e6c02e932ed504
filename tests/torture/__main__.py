"""Break runs on purpose, resume them with `--resume auto`, and compare the end with that of an undisturbed run.

Prints a table: fault, tried, survived, lost. The exit status is 1 if anything was lost. Needs Linux; what needs the
right to mount a file system is skipped without it.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.torture.cut_journals import cut_journals
from tests.torture.failing_calls import errors_at_calls, kills_at_calls
from tests.torture.full_disks import full_disks
from tests.torture.random_kills import kills
from tests.torture.workbench import Bench, Row, workbench

PARTS: dict[str, Callable[[Bench, bool], list[Row]]] = {
    "kills": lambda bench, short: [kills(bench, short)],
    "kills at calls": lambda bench, short: [kills_at_calls(bench, short)],
    "errors at calls": lambda bench, short: [errors_at_calls(bench, short, 1)],
    "errors in a row": lambda bench, short: [errors_at_calls(bench, short, 7)],
    "full disks": full_disks,
    "cut journals": lambda bench, short: [cut_journals(bench, short)],
}


def torture(name: str, short: bool) -> list[Row]:
    """Run one part in a folder of its own."""
    began = time.monotonic()
    with workbench() as bench:
        rows = PARTS[name](bench, short)
    lost = sum(len(row.lost) for row in rows)
    print(f"{name}: {time.monotonic() - began:.0f} s, {lost} lost", file=sys.stderr, flush=True)
    return rows


def table(rows: list[Row]) -> str:
    width = max(len(row.fault) for row in rows)
    lines = [f"{'fault':<{width}}  tried  survived  lost"]
    for row in rows:
        note = f"  skipped: {row.skipped}" if row.skipped else ""
        lines.append(f"{row.fault:<{width}} {row.tried:6} {row.tried - len(row.lost):9} {len(row.lost):5}{note}")
    lines += [f"lost: {row.fault}: {words}" for row in rows for words in row.lost]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="run for a minute")
    parser.add_argument("--only", default="", metavar="WORDS", help="run the parts whose names contain this")
    found = parser.parse_args()
    if not Path("/proc/self/fd").exists() or not hasattr(os, "fork"):
        parser.exit(2, "this needs Linux: it forks, and asks /proc which file a call is about\n")
    rows = [row for name in PARTS if found.only in name for row in torture(name, found.short)]
    print(table(rows))
    return int(any(row.lost or not (row.tried or row.skipped) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
