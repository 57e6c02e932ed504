"""What may be imported without torch, and what the engine never imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


NEVER = {  # modules, and what they do not bring with them
    "fundamentallm.process.worker fundamentallm.train.trainer": {
        "textual", "plotext", "fundamentallm_tui", "torch._dynamo", "torch._inductor", "tensorboard", "wandb",
    },
    "fundamentallm.process.session": {"multiprocessing", "torch"},  # which attaches to runs
    "fundamentallm_tui.app fundamentallm.process.session": {"torch", "numpy", "plotext"},
    "fundamentallm_tui.__main__": {"textual", "rich", "yaml"},  # a worker's process imports it again
}  # fmt: skip


@pytest.mark.parametrize("modules", NEVER)
def test_what_is_seldom_needed_is_not_imported(modules: str) -> None:
    found = modules_after(*modules.split())
    assert found > set(modules.split()) and not found & NEVER[modules]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("8000", None)), ({"GOMP_SPINCOUNT": "5"}, ("5", None)), ({"OMP_WAIT_POLICY": "active"}, (None, "active")),
    ],
)  # fmt: skip
def test_threads_wait_as_the_user_says_or_a_short_time(given: dict[str, str], expected: tuple[str | None, ...]) -> None:
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    environment = {name: value for name, value in os.environ.items() if name not in names} | given
    for module in ("fundamentallm.cli", "fundamentallm_tui.app"):
        code = f"import os, {module}; print([os.environ.get(name) for name in {names}])"
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
        assert done.stdout.strip() == str(list(expected))


@pytest.mark.parametrize(("given", "expected"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
@pytest.mark.parametrize("module", ["fundamentallm.cli", "fundamentallm_tui.__main__"])
def test_numpy_has_one_thread_or_as_many_as_the_user_says(module: str, given: dict[str, str], expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"} | given
    code = f"""
import atexit, os, sys
from {module} import main
atexit.register(lambda: print(os.environ.get("OPENBLAS_NUM_THREADS"), "numpy" in sys.modules))
main(["--version"])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == f"{expected} False"
