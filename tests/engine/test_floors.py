"""What may be imported without torch, and what the engine never imports."""

import json
import subprocess
import sys

import pytest

LIGHT = [
    "config", "presets", "settings", "estimate", "events", "commands", "run", "session", "job", "text", "worker",
    "resources", "errors", "tokenizer",
    "fetch", "survey", "library",
]  # fmt: skip
PROBE = "import sys, json, importlib; importlib.import_module(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"


def modules(name: str) -> set[str]:
    """What stands in `sys.modules` after importing one module in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", PROBE, name], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("name", LIGHT)
def test_what_describes_a_run_is_imported_without_torch(name: str) -> None:
    found = modules(f"fundamentallm.{name}")
    assert f"fundamentallm.{name}" in found
    assert not found & {"torch", "numpy", "textual", "plotext"}


def test_the_engine_never_imports_the_console_nor_torchs_slow_parts() -> None:
    found = modules("fundamentallm.train.trainer")
    assert "torch" in found
    assert not found & {"textual", "plotext", "fundamentallm_tui", "torch._dynamo", "torch._inductor"}
