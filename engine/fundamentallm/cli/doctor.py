"""`fundamentallm doctor` and `bench`: what this machine is and has, and what it does."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
from platformdirs import user_cache_path, user_config_path

from fundamentallm import __version__
from fundamentallm.cli.options import Count, devices, presets
from fundamentallm.cli.terminal import columns, complain, is_screen, is_unicode, one_line
from fundamentallm.config.files import load_preset, preset_folders, preset_names
from fundamentallm.config.format import format_memory, format_size
from fundamentallm.paths import user_folder
from fundamentallm.run.events import to_line
from fundamentallm.run.folder import RUNS

PACKAGES = ("torch", "numpy", "textual", "rich", "plotext", "click", "safetensors", "tensorboard")
OPTIONAL = ("transformers", "wandb", "mlflow", "trackio")
THREADS = (
    "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_PROC_BIND", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
)  # fmt: skip
TERMINAL = ("TERM", "COLORTERM", "NO_COLOR", "TERM_PROGRAM", "TMUX", "SSH_CONNECTION")
MIN_FREE_BYTES = 2**30
MIN_COLUMNS, MIN_ROWS = 60, 20

_seconds = click.option(
    "--seconds", type=Count(0, 600), default=10, metavar="N",
    help="About how long each measurement takes. [default: 10]",
)  # fmt: skip
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")


@click.command
@click.option("--speed", is_flag=True, help="Measure what `fundamentallm bench` measures, too.")
@_seconds
@_json
def command(speed: bool, seconds: float, as_json: bool) -> int:
    """Show what this program finds on this machine, and what is wrong with it.

    Versions, devices, threads, 16-bit arithmetic, the terminal, and the folders that are written. The exit status is 1
    if there is a problem. Nothing is changed; whether a folder can be written to is asked, not tried.
    """
    found: dict[str, dict[str, Any]] = {
        "versions": dict(_versions()), "machine": dict(_machine()), "terminal": dict(_terminal()),
        "folders": dict(_folders()),
    }  # fmt: skip
    problems = list(_problems(found))
    measured = _measure([], seconds) if speed else []
    if as_json:
        print(to_line({**found, "problems": problems, "speed": measured}))
        return bool(problems)
    for title, rows in found.items():
        print("\n".join([f"{title}:", *columns([(f"  {name}", _shown(value)) for name, value in rows.items()])]) + "\n")
    if measured:
        print(f"speed:\n{_speeds(measured)}\n")
    print("\n".join(f"problem: {one_line(problem)}" for problem in problems) or "no problem found")
    return bool(problems)


@click.command
@click.option("--preset", "chosen", multiple=True, metavar="NAME", shell_complete=presets,
              help="Measure this preset only; may be given again.")  # fmt: skip
@click.option("--device", default="auto", metavar="TEXT", shell_complete=devices,
              help="cpu, cuda, cuda:1, mps, or auto: the fastest there is.")  # fmt: skip
@_seconds
@_json
def bench(chosen: tuple[str, ...], device: str, seconds: float, as_json: bool) -> None:
    """Measure what this machine does: matrix products, attention, and training steps of each preset.

    The share is that of the limit, the 2048-wide float32 product. A preset whose step takes too long is measured with
    fewer windows at once, which the table names. Other programs on the machine count: close them.
    """
    measured = _measure(list(chosen), seconds, device)
    print(to_line({"machine": dict(_machine(device)), "speed": measured}) if as_json else _speeds(measured))


def _measure(names: list[str], seconds: float, device: str = "auto") -> list[dict[str, Any]]:
    from fundamentallm.train.bench import measure  # imports torch
    from fundamentallm.train.device import choose_device

    for name in names:
        load_preset(name)  # an unknown one is refused before anything is measured
    measured = []
    for speed in measure(choose_device(device), names or preset_names(), seconds):
        measured.append(vars(speed))
        if is_screen(sys.stderr):
            complain(f"{speed.name}: {speed.flops / 1e9:,.1f} GFLOP/s")
    return measured


def _speeds(measured: list[dict[str, Any]]) -> str:
    rows = [("", "GFLOP/s", "share", "tokens/s", "windows")]
    for speed in measured:
        tokens = "" if speed["windows"] is None else f"{speed['tokens_per_second']:,.0f}"
        numbers = f"{speed['flops'] / 1e9:,.1f}", f"{speed['share']:.0%}"
        rows.append((speed["name"], *numbers, tokens, str(speed["windows"] or "")))
    return "\n".join(columns(rows, right=(1, 2, 3, 4)))


def _versions() -> Iterator[tuple[str, str | None]]:
    yield "fundamentallm", __version__
    yield "python", f"{platform.python_version()} {sys.executable}"
    yield "system", platform.platform()
    for name in (*PACKAGES, *OPTIONAL):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, None


def _machine(device: str = "auto") -> Iterator[tuple[str, Any]]:
    import torch

    from fundamentallm.train.device import Precision, available_memory, choose_device, hardware, memory_in_use

    chosen = choose_device(device)
    yield "device", str(chosen)
    yield "hardware", hardware(chosen)
    yield "cuda", [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield "mps", torch.backends.mps.is_available()
    yield "free_memory", available_memory(chosen, memory_in_use(chosen))
    yield "cores", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "threads", torch.get_num_threads()
    for name in THREADS:
        yield name, os.environ.get(name)
    half = Precision(chosen, True)
    yield "16-bit", half.why_not or str(half.dtype).removeprefix("torch.")


def _terminal() -> Iterator[tuple[str, Any]]:
    yield "screen", is_screen(sys.stdout)
    yield "unicode", is_unicode(sys.stdout)
    yield "size", list(shutil.get_terminal_size())
    for name in TERMINAL:
        yield name, os.environ.get(name)


def _folders() -> Iterator[tuple[str, dict[str, Any]]]:
    named = {
        "configuration": user_folder(user_config_path), "presets": preset_folders()[0],
        "cache": user_folder(user_cache_path), "current": Path.cwd(), "runs": Path.cwd() / RUNS,
    }  # fmt: skip
    for name, path in named.items():
        there = next(folder for folder in (path, *path.parents) if os.path.exists(folder))
        writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        yield name, {"path": str(path), "writable": writable, "free": shutil.disk_usage(there).free}


def _problems(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name in PACKAGES:
        if found["versions"][name] is None:
            yield f"{name} is not installed; install the program again"
    for folder in found["folders"].values():
        if not folder["writable"]:
            yield f"{folder['path']}: cannot be written to"
        elif folder["free"] < MIN_FREE_BYTES:
            yield f"{folder['path']}: {format_size(folder['free'])} are free, and a run needs more"
    machine, terminal = found["machine"], found["terminal"]
    if machine["threads"] > machine["cores"]:
        yield f"{machine['threads']} threads on {machine['cores']} cores are slow; set OMP_NUM_THREADS lower"
    if not terminal["unicode"]:
        yield "the console needs a locale with UTF-8; set LANG=C.UTF-8"
    if terminal["screen"] and (terminal["size"][0] < MIN_COLUMNS or terminal["size"][1] < MIN_ROWS):
        yield f"the console needs {MIN_COLUMNS} columns and {MIN_ROWS} rows"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case dict():
            about = f"{format_size(value['free'])} free" if value["writable"] else "not writable"
            return f"{value['path']} ({about})"
        case list():
            return " x ".join(map(str, value)) or "none"
        case float() | int() if value > 2**20:
            return format_memory(int(value)) if value < float("inf") else "not known"
    return str(value)


COMMANDS = {"doctor": command, "bench": bench}
