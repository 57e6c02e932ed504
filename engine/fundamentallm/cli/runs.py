"""`fundamentallm runs`: the runs that there are, how they ended, and their numbers."""

import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import click

from fundamentallm.cli.options import Group, files, output_path, write_output
from fundamentallm.cli.terminal import columns, complain, fit, is_screen, is_unicode, one_line, width
from fundamentallm.config.format import format_age, format_count, format_digits, format_size, format_time, format_value
from fundamentallm.errors import UserError
from fundamentallm.paths import quoted_path, resume_command, user_path
from fundamentallm.run.events import encode, to_line
from fundamentallm.run.folder import LAST, REPORT, RUNS
from fundamentallm.run.health import assess_run
from fundamentallm.run.history import read_history, read_started
from fundamentallm.run.summary import (
    RunSummary,
    changed_from_defaults,
    differing_settings,
    find_run,
    find_runs,
    summarize,
    why_incomparable,
)
from fundamentallm.untrusted import printable

EXPORTED = ("step", "epoch", "train_loss", "learning_rate", "grad_norm", "val_loss", "perplexity")


@click.group(cls=Group)
def command() -> None:
    """List, compare, plot and export runs."""


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
    runs = find_runs(top, unread=complain)
    if as_json:
        print("[" + ",\n ".join(to_line(_values(run)) for run in runs) + "]")
    elif not runs:
        complain(f"no runs in {top or RUNS} yet; fundamentallm train --preset tiny starts one")
    else:
        head = ("run", "state", "started", "data", "parameters", "steps", "best val_loss", "best epoch")
        print("\n".join(columns([head, *map(_row, runs)], right=(4, 5, 6, 7))))


@command.command()
@click.argument("run", shell_complete=files)
def show(run: str) -> None:
    """Show one run: its settings, evaluations and files."""
    folder = find_run(run)
    history = read_history(folder)
    summary, evaluations = summarize(folder, history), history.evaluations
    rows = [
        ("state", summary.state_text + (f": {summary.why}" if summary.why else "")),
        ("started", f"{format_time(summary.started)}, {format_age(summary.started)}"),
        ("last event", f"{format_time(summary.last_event)}, {format_age(summary.last_event)}"),
        ("parameters", f"{summary.parameters:,}"),
        ("steps", f"{_steps(summary)}, epoch {summary.epoch}/{summary.epochs}"),
        ("train_loss", _loss(summary.train_loss)),
        ("val_loss", _loss(summary.val_loss)),
    ]
    if summary.best is not None:
        rows.append(("best val_loss", _best(summary)))
        left_behind = ", left behind" * summary.best_left_behind
        rows.append(("best epoch", f"{summary.best.epoch}, step {summary.best.step:,}{left_behind}"))
    if (verdict := assess_run(history)) is not None:
        rows.append(("health", verdict.sentence))
    about = (
        ("note", summary.note), ("tags", ", ".join(summary.tags)), ("parent", summary.parent),
        ("changed", ", ".join(summary.changed)),
    )  # fmt: skip
    rows[1:1] = [(name, text) for name, text in about if text]
    print(one_line(folder))
    print("\n".join(columns((f"  {name}", text) for name, text in rows)))

    changed = changed_from_defaults(summary.config)
    print("\nsettings that differ from the defaults")
    print("\n".join(columns((f"  {name}", format_value(value)) for name, value in changed.items())))
    if evaluations:
        table = [("  epoch", "step", "train_loss", "val_loss", "perplexity", "bits/byte", "")]
        for event in evaluations:
            losses = _loss(event.train_loss), _loss(event.val_loss), format_digits(event.perplexity, 4)
            bits = _loss(event.bits_per_byte)  # a journal of an older engine has none
            table.append((str(event.epoch), f"{event.step:,}", *losses, bits, "best" * (event == summary.best)))
        print("\nevaluations")
        print("\n".join(columns(table, right=(0, 1, 2, 3, 4, 5))))
    print("\nfiles")
    print("\n".join(columns(_files(folder), right=(1,))))
    if summary.unsaved:  # last.pt may be older than another checkpoint
        print(f"\nresume with: {resume_command(folder)}")
    elif summary.resumable and (folder / LAST).is_file():
        print(f"\nresume with: fundamentallm train --resume-from {quoted_path(folder / LAST)}")


@command.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, shell_complete=files)
def compare(runs: tuple[str, ...]) -> None:
    """Compare runs side by side: settings that differ, and losses."""
    if len(runs) < 2:
        raise UserError("RUN: name two runs or more to compare; fundamentallm runs list shows them")
    summaries = [summarize(find_run(name)) for name in runs]
    rows: list[Sequence[str]] = [("", *(str(run.folder) for run in summaries))]
    for name, values in differing_settings([run.config for run in summaries]):
        rows.append((name, *(value or "-" for value in values)))
    incomparable = [why_incomparable(summaries[0], run) for run in summaries]
    losses = [run.best.val_loss for run in summaries if run.best is not None]
    lowest = min(losses, default=None) if not any(incomparable) else None
    bests = [_best(run) + " (lowest)" * (run.best is not None and run.best.val_loss == lowest) for run in summaries]
    if any(run.changed for run in summaries):
        rows.append(("changed", *(", ".join(run.changed) or "-" for run in summaries)))
    rows += [
        ("parameters", *(f"{run.parameters:,}" for run in summaries)),
        ("state", *(run.state_text for run in summaries)),
        ("steps", *map(_steps, summaries)),
        ("train_loss", *(_loss(run.train_loss) for run in summaries)),
        ("val_loss", *(_loss(run.val_loss) for run in summaries)),
        ("best val_loss", *bests),
        ("best epoch", *(str(run.best.epoch) if run.best else "-" for run in summaries)),
    ]
    print("\n".join(columns(rows)))
    for run, why in zip(summaries, incomparable, strict=True):
        if why:
            print(one_line(f"the losses of {run.folder} and {summaries[0].folder} do not compare: {why}"))


@command.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=files)
@click.option("--log", is_flag=True, help="Use a logarithmic loss axis.")
@click.option("--svg", metavar="FILE", shell_complete=files, help="Write a picture to FILE instead.")
def plot(runs: tuple[str, ...], log: bool, svg: str | None) -> None:
    """Plot the losses of runs: training, smoothed, as a line, validation as marks.

    The legend says how the settings of each differ from those of the first, and whether their losses compare.
    """
    from fundamentallm_tui.charts.chart import ASCII, text_lines
    from fundamentallm_tui.charts.runs import losses_of_runs
    from fundamentallm_tui.charts.svg import POINTS, to_svg

    target = output_path("--svg", svg, begins="<")
    histories = [(folder, read_started(folder)) for folder in dict.fromkeys(map(find_run, runs))]
    chart, legend = losses_of_runs(histories, 2 * width() if target is None else POINTS, log)
    if not any(history.steps or history.evaluations for _, history in histories):
        raise UserError(f"{', '.join(runs)}: no steps yet, nothing to plot")
    if target is not None:
        write_output("--svg", target, to_svg(chart, f"Loss of {', '.join(entry.name for entry in legend)}", legend))
        return
    ascii = not is_unicode(sys.stdout)
    height = max(10, min(40, get_terminal_size().lines - len(legend) - 3))
    colour_wanted = is_screen(sys.stdout) and not os.environ.get("NO_COLOR")
    picture = text_lines(chart, width(), height, colour=colour_wanted, ascii=ascii)
    marks = [entry.style.mark.translate(ASCII) if ascii else entry.style.mark for entry in legend]
    rows = columns((mark, *entry.cells) for mark, entry in zip(marks, legend, strict=True))
    print("\n".join([*picture, *(fit([row], width()) for row in rows)]))


@command.command()
@click.argument("run", shell_complete=files)
@click.option(
    "--csv", "target", metavar="[FILE|-]", shell_complete=files, is_flag=False, flag_value="-", default="-",
    help="Write comma-separated values to FILE, or to standard output.",
)  # fmt: skip
def export(run: str, target: str) -> None:
    """Export the numbers of a run: a row for each step."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(EXPORTED)
    writer.writerows(_export(find_run(run)))
    path = output_path("--csv", None if target == "-" else target, begins="step,epoch,")
    if path is None:
        print(buffer.getvalue(), end="")
    else:
        write_output("--csv", path, buffer.getvalue())


@command.command()
@click.argument("run", shell_complete=files)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one array with an object an answer.")
def samples(run: str, as_json: bool) -> None:
    """Show what a run answered to its pinned prompts, by prompt and step."""
    folder = find_run(run)
    history = read_started(folder)
    if as_json:
        print("[" + ",\n ".join(map(encode, history.pinned)) + "]")
    elif not history.pinned:
        complain(f"{folder}: has answered no pinned prompts; fundamentallm train --pin TEXT makes a run answer one")
    else:
        seconds = sum(answer.seconds for answer in history.pinned)
        for prompt in dict.fromkeys(answer.prompt for answer in history.pinned):
            for answer in history.pinned:
                if answer.prompt == prompt:
                    print(f"--- step {answer.step:,}\n{printable(prompt + answer.text)}")
        complain(
            f"{format_count(len(history.pinned), 'answer')} took {format_digits(seconds, 2)} seconds of the run's time"
        )


@command.command()
@click.argument("run", shell_complete=files)
@click.option("--output", metavar="FILE", shell_complete=files, help="[default: report.md in the run's folder]")
def report(run: str, output: str | None) -> None:
    """Write a report of a run as Markdown, with a picture of its curves beside it.

    It has the numbers, the settings and how to repeat the run, what was changed while it ran, and the samples.
    """
    from fundamentallm.cli.run_report import write_report

    folder = find_run(run)
    target = output_path("--output", output) or folder / REPORT
    write_report(folder, target)
    print(one_line(target))


def _export(folder: Path) -> Iterator[Sequence[Any]]:
    """Rows by step; an evaluation whose step is missing has a row of its own."""
    history = read_started(folder)
    numbers = zip(history.train_loss, history.learning_rate, history.grad_norm, strict=True)
    steps = dict(zip(history.steps, numbers, strict=True))
    evaluations = {event.step: (event.val_loss, event.perplexity) for event in history.evaluations}
    for step in sorted(steps.keys() | evaluations.keys()):
        yield step, history.epoch_of(step), *steps.get(step, ("", "", "")), *evaluations.get(step, ("", ""))


def _values(run: RunSummary) -> dict[str, Any]:
    best = run.best
    return {
        **vars(run),
        "folder": str(run.folder),
        "last_heard": run.last_event,  # as scripts know it
        "best": None if best is None else {"val_loss": best.val_loss, "epoch": best.epoch, "step": best.step},
    }


def _row(run: RunSummary) -> tuple[str, ...]:
    epoch = f"{run.best.epoch}/{run.epochs}" if run.best else "-"
    size = f"{run.parameters:,}"
    return str(run.folder), run.state_text, format_age(run.started), run.data, size, _steps(run), _best(run), epoch


def _files(folder: Path) -> list[tuple[str, str]]:
    rows = []
    for path in sorted(path for path in folder.iterdir() if not path.is_dir()):
        with suppress(OSError):  # the run has just removed or renamed it
            rows.append((f"  {path.name}", format_size(path.stat().st_size)))
    return rows


def _steps(run: RunSummary) -> str:
    return f"{run.steps:,}/{run.total_steps:,}"


def _best(run: RunSummary) -> str:
    return _loss(run.best.val_loss if run.best else None)


def _loss(value: float | None) -> str:
    """With four decimals: runs are compared here, which a log never does."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1e4 else format_digits(value, 3)
