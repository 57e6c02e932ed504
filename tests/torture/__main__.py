"""Breaks runs on purpose, goes on with `--resume auto`, and compares the end with that of a run left alone.

python -m tests.torture [--short] [--json] [--only WORDS] [--seed N] [--kills N] [--jobs N]

Prints a table: fault, tried, survived, lost; ends with status 1 if anything was lost. Needs Linux; what needs the right
to mount a file system is skipped without it.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.torture.bench import Bench, Row, workbench
from tests.torture.calls import errors_at_calls, kills_at_calls, refusals
from tests.torture.consoles import consoles, two_consoles
from tests.torture.damages import damages
from tests.torture.disks import disks
from tests.torture.instants import kills, terminations
from tests.torture.journals import torn_journals
from tests.torture.people import interventions
from tests.torture.workers import workers


def torture(short: bool, count: int, seed: int, only: str, jobs: int) -> list[Row]:
    parts: dict[str, Callable[[Bench], Row | list[Row]]] = {
        "kills": lambda bench: kills(bench, count, seed),
        "SIGTERM": lambda bench: terminations(bench, count // 2, seed),
        "people": lambda bench: interventions(bench, count // 2, seed),
        "workers": lambda bench: workers(bench, max(1, count // 10), seed),
        "kill calls": lambda bench: kills_at_calls(bench, short),
        "error calls": lambda bench: errors_at_calls(bench, short, 1),
        "errors in a row": lambda bench: errors_at_calls(bench, short, 7),
        "refusals": lambda bench: refusals(bench, short),
        "disks": lambda bench: disks(bench, short),
        "damages": lambda bench: damages(bench, short),
        "journal": lambda bench: torn_journals(bench, short),
        "consoles": lambda bench: consoles(bench, short),
        "two": two_consoles,
    }
    rows: list[Row] = []
    for name, part in parts.items():
        if only in name:
            began = time.monotonic()
            with workbench(jobs) as bench:
                made = part(bench)
            rows += made if isinstance(made, list) else [made]
            lost = sum(len(row.lost) for row in rows)
            print(f"{name}: {time.monotonic() - began:.0f} s, {lost} lost so far", file=sys.stderr, flush=True)
    return rows


def table(rows: list[Row]) -> str:
    width = max(len(row.fault) for row in rows)
    lines = [f"{'fault':<{width}}  tried  survived  lost"]
    for row in rows:
        note = f"  skipped: {row.skipped}" if row.skipped else f"  {row.note}" if row.note else ""
        lines.append(f"{row.fault:<{width}} {row.tried:6} {row.tried - len(row.lost):9} {len(row.lost):5}{note}")
    lines += [f"lost: {row.fault}: {words}" for row in rows for words in row.lost]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a minute's worth")
    parser.add_argument("--json", action="store_true", help="the table for programs")
    parser.add_argument("--only", default="", metavar="WORDS", help="parts whose names have these words")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, help="how many at random instants (200; 12 in the short form)")
    parser.add_argument("--jobs", type=int, default=2, help="how many runs at once (2)")
    options = parser.parse_args()
    if not Path("/proc/self/fd").exists() or not hasattr(os, "fork"):
        parser.exit(2, "this needs Linux: it forks, and asks /proc which file a call is about\n")
    count = options.kills or (12 if options.short else 200)
    rows = torture(options.short, count, options.seed, options.only, options.jobs)
    if options.json:
        print(json.dumps([{**vars(row), "survived": row.tried - len(row.lost)} for row in rows]))
    else:
        print(table(rows))
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
