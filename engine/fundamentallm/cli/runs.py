"""`fundamentallm runs`: the runs that there are, what became of them, and their numbers."""

import csv
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import click

from fundamentallm.cli.options import Group, files
from fundamentallm.cli.terminal import columns, complain, is_screen, one_line, quoted, width
from fundamentallm.config.config import SETTINGS
from fundamentallm.config.format import format_size
from fundamentallm.errors import UserError
from fundamentallm.paths import user_path
from fundamentallm.run.events import to_line
from fundamentallm.run.folder import LAST
from fundamentallm.run.history import (
    RUNS,
    RunHistory,
    RunSummary,
    changed_from_defaults,
    find_run,
    find_runs,
    read_history,
    summarize,
)

COLUMNS = ("step", "epoch", "train_loss", "learning_rate", "grad_norm", "val_loss", "perplexity")


@click.group(cls=Group)
def command() -> None:
    """List, compare, plot and export what was trained."""


@command.command("list")
@click.argument("folder", required=False, shell_complete=files)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one array with an object a run.")
def list_(folder: str | None, as_json: bool) -> None:
    """List the runs below FOLDER, the newest first.

    Without FOLDER: those below runs, and those whose folders lie in the current one.
    """
    top = None if folder is None else user_path(folder)
    if top is not None and not top.is_dir():
        raise UserError(f"{folder}: no such folder")
    runs = find_runs(top)
    if as_json:
        print("[" + ",\n ".join(to_line(_values(run)) for run in runs) + "]")
    elif not runs:
        complain(f"no runs in {top or RUNS} yet; fundamentallm train --preset tiny starts one")
    else:
        head = ("run", "state", "started", "data", "parameters", "steps", "best val_loss", "epoch")
        print("\n".join(columns([head, *map(_row, runs)], right=(4, 5, 6, 7))))


@command.command()
@click.argument("run", shell_complete=files)
def show(run: str) -> None:
    """Show one run: its settings, evaluations and files."""
    folder = find_run(run)
    summary, history = summarize(folder), read_history(folder)
    lines = [("state", summary.state + (f": {summary.why}" if summary.why else ""))]
    lines.append(("started", f"{_moment(summary.started)}, {_age(summary.started)}"))
    lines.append(("last heard", f"{_moment(summary.last_heard)}, {_age(summary.last_heard)}"))
    lines.append(("parameters", f"{summary.parameters:,}"))
    lines.append(("steps", f"{_steps(summary)}, epoch {summary.epoch}/{summary.epochs}"))
    lines.append(("train_loss", _loss(summary.train_loss)))
    lines.append(("val_loss", _loss(summary.val_loss)))
    if summary.best is not None:
        lines.append(("best", f"{summary.best.val_loss:.4f}, epoch {summary.best.epoch}, step {summary.best.step:,}"))
    print(one_line(str(folder)))
    print("\n".join(columns((f"  {name}", text) for name, text in lines)))

    print("\nsettings that differ from the defaults")
    print(
        "\n".join(
            columns((f"  {name}", _shown(value)) for name, value in changed_from_defaults(summary.config).items())
        )
    )
    if history.evaluations:
        print("\nevaluations")
        lowest = min(history.evaluations, key=lambda event: (event.val_loss != event.val_loss, event.val_loss))
        head = ("  epoch", "step", "train_loss", "val_loss", "perplexity", "")
        table = [
            (
                str(event.epoch),
                f"{event.step:,}",
                _loss(event.train_loss),
                _loss(event.val_loss),
                f"{event.perplexity:.4g}",
                "lowest" if event is lowest else "",
            )
            for event in history.evaluations
        ]
        print("\n".join(columns([head, *table], right=(0, 1, 2, 3, 4))))
    print("\nfiles")
    print("\n".join(columns(_files(folder), right=(1,))))
    if summary.state in ("stopped", "failed", "interrupted") and (folder / LAST).is_file():
        print(f"\ngo on with: fundamentallm train --resume-from {quoted(folder / LAST)}")


@command.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, shell_complete=files)
def compare(runs: tuple[str, ...]) -> None:
    """Set runs side by side: settings that differ, and losses."""
    if len(runs) < 2:
        raise UserError("RUN: name two runs or more to compare; fundamentallm runs list shows them")
    summaries = [summarize(find_run(name)) for name in runs]
    rows: list[Sequence[str]] = [("", *(str(run.folder) for run in summaries))]
    for name in SETTINGS:
        values = [_shown(run.config[name]) if name in run.config else "-" for run in summaries]
        if name != "output_dir" and len(set(values)) > 1:
            rows.append((name, *values))
    rows.append(("parameters", *(f"{run.parameters:,}" for run in summaries)))
    rows.append(("state", *(run.state for run in summaries)))
    rows.append(("steps", *map(_steps, summaries)))
    rows.append(("train_loss", *(_loss(run.train_loss) for run in summaries)))
    rows.append(("val_loss", *(_loss(run.val_loss) for run in summaries)))
    least = min((run.best.val_loss for run in summaries if run.best is not None), default=None)
    bests = [f"{_best(run)}{' (lowest)' if run.best and run.best.val_loss == least else ''}" for run in summaries]
    rows.append(("best val_loss", *bests))
    rows.append(("  in epoch", *(str(run.best.epoch) if run.best else "-" for run in summaries)))
    print("\n".join(columns(rows)))


@command.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=files)
@click.option("--log", is_flag=True, help="A logarithmic loss axis.")
def plot(runs: tuple[str, ...], log: bool) -> None:
    """Draw loss curves: training a line, validation marks."""
    from fundamentallm.cli.curves import BRAILLE, COLOURS, LETTERS, MARKS, Curve, draw

    ascii = "utf" not in (sys.stdout.encoding or "").lower()
    colour = is_screen(sys.stdout) and not os.environ.get("NO_COLOR")
    curves, legend = [], []
    for place, folder in enumerate(map(find_run, runs)):
        history = read_history(folder)
        mark = (LETTERS if ascii else MARKS)[place % len(MARKS)]
        ink = COLOURS[place % len(COLOURS)]
        steps = [event.step for event in history.evaluations]
        losses = [event.val_loss for event in history.evaluations]
        curves.append(Curve(history.steps, history.train_loss, BRAILLE, ink))
        curves.append(Curve(steps, losses, mark, ink))
        train = _loss(history.train_loss[-1] if history.train_loss else None)
        legend.append((mark, str(folder), f"train_loss {train}", f"val_loss {_loss(losses[-1] if losses else None)}"))
    # validation last: a later line takes over a cell
    curves.sort(key=lambda curve: curve.marker != BRAILLE)
    height = max(10, min(40, get_terminal_size().lines - len(legend) - 3))
    picture = draw(curves, width(), height, log=log, colour=colour, ascii=ascii)
    if not picture:
        raise UserError(f"{', '.join(runs)}: no steps yet, nothing to plot")
    print("\n".join(picture))
    print("\n".join(columns(legend)))


@command.command()
@click.argument("run", shell_complete=files)
@click.option(
    "--csv", "target", metavar="[FILE|-]", shell_complete=files, is_flag=False, flag_value="-", default="-",
    help="Write comma-separated values to FILE, or to standard output.",
)  # fmt: skip
def export(run: str, target: str) -> None:
    """Write the numbers of a run: a row for each step."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_export(read_history(find_run(run))))
    if target == "-":
        print(buffer.getvalue(), end="")
        return
    path = user_path(target)
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--csv {target}: {'is a folder' if path.is_dir() else 'its folder does not exist'}")
    try:
        path.write_text(buffer.getvalue(), encoding="utf-8", newline="")
    except OSError as error:
        raise UserError(f"--csv {target}: cannot be written: {error.strerror}") from None


def _export(history: RunHistory) -> Iterator[Sequence[Any]]:
    """Rows by step; an evaluation whose step got lost has a row of its own."""
    steps = dict(
        zip(history.steps, zip(history.train_loss, history.learning_rate, history.grad_norm, strict=True), strict=True)
    )
    evaluations = {event.step: (event.val_loss, event.perplexity) for event in history.evaluations}
    for step in sorted(steps.keys() | evaluations.keys()):
        yield step, history.epoch_of(step), *steps.get(step, ("", "", "")), *evaluations.get(step, ("", ""))


def _values(run: RunSummary) -> dict[str, Any]:
    best = run.best
    return {
        **vars(run),
        "folder": str(run.folder),
        "best": None if best is None else {"val_loss": best.val_loss, "epoch": best.epoch, "step": best.step},
    }


def _row(run: RunSummary) -> tuple[str, ...]:
    epoch = f"{run.best.epoch}/{run.epochs}" if run.best else "-"
    state = run.state
    return (
        str(run.folder), state, _age(run.started), run.data, f"{run.parameters:,}", _steps(run), _best(run), epoch
    )  # fmt: skip


def _files(folder: Path) -> list[tuple[str, str]]:
    rows = []
    for path in sorted(folder.iterdir()):
        try:
            rows.append((f"  {path.name}", format_size(path.stat().st_size)))
        except OSError:  # gone in this moment
            continue
    return rows


def _steps(run: RunSummary) -> str:
    return f"{run.steps:,}/{run.total_steps:,}"


def _best(run: RunSummary) -> str:
    return _loss(run.best.val_loss if run.best else None)


def _loss(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3g}"


def _shown(value: Any) -> str:
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "on" if value else "off"
    return (
        ", ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:.12g}"
        if isinstance(value, float)
        else str(value)
    )


def _moment(seconds: float) -> str:
    """Local date and time."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "-"


def _age(seconds: float) -> str:
    """How long ago a moment was: "5 min ago"."""
    age = max(0.0, time.time() - seconds)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if age >= unit:
            return f"{age / unit:.0f} {name} ago"
    return "just now"
