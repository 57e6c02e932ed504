"""Train small transformer language models and understand what happens while they learn.

`import fundamentallm` costs nothing: what it offers is imported when it is asked for, and torch by what computes. The
names in `__all__` are stable; docs/library.md shows them.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "Evaluation": "train.evaluate", "Model": "train.loaded", "RunHistory": "run.history", "RunSummary": "run.summary",
    "SamplingOptions": "config.sampling", "Score": "train.loaded", "UserError": "errors", "load": "train.loaded",
    "read_run": "library", "train_model": "library",
}  # fmt: skip
__all__ = ["__version__", *_MODULES]  # their types are in the stub beside this file


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"fundamentallm.{_MODULES[name]}"), name)


# How long a thread of GNU OpenMP, which torch for Linux uses, spins before it sleeps while it waits for others; read
# when torch is imported. As it comes, threads that share each operation spin so long that with one of two cores busy
# elsewhere they take two to three times as long. On idle cores this costs 5 % (tests/benchmarks/RESULTS.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "8000")
