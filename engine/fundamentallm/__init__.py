"""Train small transformer language models and understand what happens while they learn.

`import fundamentallm` costs nothing: torch is imported by the modules that compute (`trainer`, `generate`, ...), never
by those that describe (`config`, `events`, `run`, `session`), so that a console can use the latter alone.
"""

import os

__version__ = "0.1.0"

# How long a thread of GNU OpenMP, which torch for Linux uses, spins before it sleeps while it waits for others; read
# when torch is imported. As it comes, threads spin so long that with one of two cores busy elsewhere training takes two
# to three times as long. On idle cores this costs 5 % at tiny and 1 % at small (tests/benchmarks/RESULTS.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "8000")
