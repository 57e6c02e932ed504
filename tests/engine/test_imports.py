"""What may be imported without torch, and what the engine never imports."""

import json
import subprocess
import sys
from pathlib import Path

import fundamentallm

ENGINE = Path(fundamentallm.__file__).parent
PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""
LIGHT = [  # and all of config, run and process
    "errors", "paths", "untrusted", "data.text", "data.text_stats", "data.tokenizer", "data.download",
]  # fmt: skip


def modules_after(*names: str) -> set[str]:
    """What is in `sys.modules` after importing modules in a new interpreter."""
    done = subprocess.run([sys.executable, "-c", PROBE, *names], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


def test_what_describes_a_run_is_imported_without_torch() -> None:
    rooms = [f"{room}.{path.stem}" for room in ("config", "run", "process") for path in (ENGINE / room).glob("*.py")]
    names = {f"fundamentallm.{name.removesuffix('.__init__')}" for name in (*LIGHT, *rooms)}
    found = modules_after(*names)
    assert found > names and not found & {"torch", "numpy", "textual", "plotext"}


def test_the_engine_never_imports_the_console_nor_torchs_slow_parts() -> None:
    found = modules_after("fundamentallm.train.trainer")
    assert "torch" in found
    slow = {"torch._dynamo", "torch._inductor", "tensorboard", "wandb"}
    assert not found & {"textual", "plotext", "fundamentallm_tui", *slow}
