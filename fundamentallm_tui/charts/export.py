"""What a chart shows as files: a picture, its numbers, and text for a terminal or an e-mail."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from fundamentallm_tui.charts.chart import Chart, text_lines
from fundamentallm_tui.charts.runs import Entry, aligned
from fundamentallm_tui.charts.svg import to_svg


@dataclass(frozen=True)
class Sight:
    """What is seen.

    Attributes:
        chart: with lines for a picture; `to_svg` says how long they may be.
        size: the columns and rows of the chart on the screen.
        numbers: each point of each curve: the run, the curve, the step, what x counts there, the value.
    """

    title: str
    chart: Chart
    entries: Sequence[Entry]
    size: tuple[int, int]
    numbers: Iterable[tuple[str, str, float, float, float]]


def export(sight: Sight, folder: Path, name: str) -> list[Path]:
    """Write `name`.svg, .csv and .txt in a folder, or name-2 and so on: no file is overwritten.

    Raises:
        OSError: one of them cannot be written.
    """
    files = {".svg": to_svg(sight.chart, sight.title, sight.entries), ".csv": _numbers(sight), ".txt": _text(sight)}
    for number in count(1):
        stem = name if number == 1 else f"{name}-{number}"
        paths = [folder / f"{stem}{suffix}" for suffix in files]
        if not any(map(os.path.lexists, paths)):
            break
    for path, text in zip(paths, files.values(), strict=True):
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    return paths


def _numbers(sight: Sight) -> str:
    """A row for each point; x has a column of its own unless it is the step."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    x_label = {"time": "seconds", "step": ""}.get(sight.chart.x_label, sight.chart.x_label)
    writer.writerow(["run", "curve", "step", *([x_label] if x_label else []), "value"])
    for run, curve, step, x, value in sight.numbers:
        writer.writerow([run, curve, f"{step:.15g}", *([f"{x:.15g}"] if x_label else []), value])
    return buffer.getvalue()


def _text(sight: Sight) -> str:
    rows = [sight.title, "", *text_lines(sight.chart, *sight.size, colour=False, ascii=False), ""]
    legend = zip(sight.entries, aligned(sight.entries), strict=True)
    return "\n".join([*rows, *(f"{entry.style.mark or '─'}  {text}" for entry, text in legend)]) + "\n"
