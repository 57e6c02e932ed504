"""What a chart shows as files: a picture, its numbers, and text for a terminal or an e-mail."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

from fundamentallm_tui.charts.chart import Chart, text_lines
from fundamentallm_tui.charts.runs import Entry, aligned
from fundamentallm_tui.charts.svg import to_svg


def export(
    path: Path,
    title: str,
    chart: Chart,
    entries: Sequence[Entry],
    size: tuple[int, int],
    numbers: Iterable[tuple[str, str, float, float, float]],
) -> list[Path]:
    """Write `path`.svg, .csv and .txt, or path-2 and so on: no file is overwritten.

    Args:
        chart: with lines for a picture; `to_svg` says how long they may be.
        size: the columns and rows of the chart on the screen.
        numbers: each point of each curve: the run, the curve, the step, what x counts there, the value.

    Raises:
        OSError: one of them cannot be written.
    """
    lines = [title, "", *text_lines(chart, *size, colour=False, ascii=False), ""]
    lines += [f"{entry.style.mark or '─'}  {text}" for entry, text in zip(entries, aligned(entries), strict=True)]
    files = {
        ".svg": to_svg(chart, title, entries),
        ".csv": _table(chart.x_label, numbers),
        ".txt": "\n".join(lines) + "\n",
    }
    for number in count(1):
        stem = path.name if number == 1 else f"{path.name}-{number}"
        paths = [path.with_name(f"{stem}{suffix}") for suffix in files]
        if not any(map(os.path.lexists, paths)):
            break
    for file_path, text in zip(paths, files.values(), strict=True):
        with file_path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    return paths


def _table(x_label: str, numbers: Iterable[tuple[str, str, float, float, float]]) -> str:
    """A row for each point; x has a column of its own unless it is the step."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    x_label = {"time": "seconds", "step": ""}.get(x_label, x_label)
    writer.writerow(["run", "curve", "step", *([x_label] if x_label else []), "value"])
    for run, curve, step, x, value in numbers:
        writer.writerow([run, curve, f"{step:.15g}", *([f"{x:.15g}"] if x_label else []), value])
    return buffer.getvalue()
