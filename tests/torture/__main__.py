"""Break runs on purpose, resume them with `--resume auto`, and compare the end with that of an undisturbed run.

python -m tests.torture [--short] [--only WORDS] [--seed N] [--kills N] [--jobs N]

Prints a table: fault, tried, survived, lost. The exit status is 1 if anything was lost. Needs Linux; what needs the
right to mount a file system is skipped without it.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.torture.consoles import broken_consoles
from tests.torture.damaged_files import cut_journals, damaged_checkpoints
from tests.torture.failing_calls import errors_at_calls, kills_at_calls, refused_changes
from tests.torture.full_disks import full_disks
from tests.torture.interventions import interventions
from tests.torture.random_kills import detached_runs, kills, terminations
from tests.torture.workbench import Bench, Row, workbench


@dataclass
class Options:
    short: bool = True
    kills: int = 8  # how many at random instants
    seed: int = 1
    jobs: int = 2


PARTS: dict[str, Callable[[Bench, Options], list[Row]]] = {
    "kills": lambda bench, options: [kills(bench, options.kills, options.seed)],
    "SIGTERM": lambda bench, options: [terminations(bench, options.kills // 2, options.seed)],
    "interventions": lambda bench, options: [interventions(bench, options.kills // 2, options.seed)],
    "detached": lambda bench, options: [detached_runs(bench, max(1, options.kills // 10), options.seed)],
    "kills at calls": lambda bench, options: [kills_at_calls(bench, options.short)],
    "errors at calls": lambda bench, options: [errors_at_calls(bench, options.short, 1)],
    "errors in a row": lambda bench, options: [errors_at_calls(bench, options.short, 7)],
    "refused changes": lambda bench, options: [refused_changes(bench, options.short)],
    "full disks": lambda bench, options: full_disks(bench, options.short),
    "damaged checkpoints": lambda bench, options: damaged_checkpoints(bench, options.short),
    "cut journals": lambda bench, options: [cut_journals(bench, options.short)],
    "consoles": lambda bench, options: broken_consoles(bench, options.short),
}


def torture(name: str, options: Options) -> list[Row]:
    """Run one part in a folder of its own."""
    began = time.monotonic()
    with workbench(options.jobs) as bench:
        rows = PARTS[name](bench, options)
    lost = sum(len(row.lost) for row in rows)
    print(f"{name}: {time.monotonic() - began:.0f} s, {lost} lost", file=sys.stderr, flush=True)
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
    parser.add_argument("--short", action="store_true", help="run for a minute")
    parser.add_argument("--only", default="", metavar="WORDS", help="run the parts whose names contain this")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, help="how many at random instants (200; 8 in the short form)")
    parser.add_argument("--jobs", type=int, default=2, help="how many runs at once (2)")
    found = parser.parse_args()
    if not Path("/proc/self/fd").exists() or not hasattr(os, "fork"):
        parser.exit(2, "this needs Linux: it forks, and asks /proc which file a call is about\n")
    options = Options(found.short, found.kills or (8 if found.short else 200), found.seed, found.jobs)
    rows = [row for name in PARTS if found.only in name for row in torture(name, options)]
    print(table(rows))
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
