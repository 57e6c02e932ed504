"""What a chart shows is written into files by one key, and no file is overwritten."""

import csv
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fundamentallm.cli import main
from fundamentallm_tui.charts.palette import run_styles
from tests.conftest import delete_folder
from tests.tui.others import Write, overlay


def numbers(path: Path) -> dict[tuple[str, str], list[tuple[float, ...]]]:
    """By run and curve: what each row has besides."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for run, curve, *values in rows:
        found.setdefault((run, curve), []).append(tuple(map(float, values)))
    return found


def toasts(seen: Any) -> list[str]:
    return [notification.message for notification in seen.app._notifications]


async def test_one_key_writes_picture_numbers_and_text_of_what_is_seen(workshop: Any, write: Write) -> None:
    folder = write("shown", 40, top=5.0)
    write("other", 100, top=4.0, epoch=20, seed=7)
    write("third", 10)
    async with workshop.console((80, 24)) as seen:
        await overlay(seen, "third", "other")
        await seen.press("i")
        assert [(run.folder.name, run.hidden) for run in seen.main.loss.beside()] == [
            ("third", True), ("other", False)
        ]  # fmt: skip
        await seen.press("d")
        await seen.until(lambda: (folder / "loss.txt").exists() and "Exported runs/shown/loss.svg" in seen.log)
        assert toasts(seen)[-1].startswith("Exported runs/shown/loss.svg")
        found = numbers(folder / "loss.csv")
        curves = ("train_loss_smoothed", "val_loss")
        assert set(found) == {("shown", "train_loss"), *((run, c) for run in ("shown", "other") for c in curves)}
        assert found["other", "val_loss"] == [(100, 4.0)] and len(found["other", "train_loss_smoothed"]) == 100
        assert found["shown", "train_loss"] == [(step, 5.0 - step / 100) for step in range(1, 41)]
        assert found["shown", "val_loss"] == [(40, 5.0)]
        assert found["shown", "train_loss_smoothed"][1][1] == pytest.approx((0.9 * 4.99 + 4.98) / 1.9)
        texts = [text.text for text in ElementTree.parse(folder / "loss.svg").getroot().iter() if text.text]
        assert "Loss of shown" in texts and "best 5.000 in epoch 1" in "\n".join(texts)
        text = (folder / "loss.txt").read_text()
        assert text.startswith("Loss of shown\n") and "└" in text and "\x1b" not in text

        # zoomed in, by epoch, at the crosshair: the next files
        await seen.press("plus", "plus", "t", "c", "d")
        await seen.until(lambda: (folder / "loss-2.txt").exists())
        low, high = seen.main.loss.window
        rows = numbers(folder / "loss-2.csv")["shown", "train_loss"]
        assert [row[0] for row in rows] == [step for step in range(1, 41) if low <= step <= high] != list(range(1, 41))
        assert all(epoch == pytest.approx(step / 80) for step, epoch, _ in rows)
        assert (folder / "loss-2.csv").read_text().startswith("run,curve,step,epoch,value\n")
        assert (folder / "loss-2.txt").read_text().startswith("Loss of shown, step ")
        assert numbers(folder / "loss.csv") == found, "the first files are as they were"

        # the other chart
        await seen.press("4", "m", "d")
        await seen.until(lambda: (folder / "gradient-norm.txt").exists())
        norms = numbers(folder / "gradient-norm.csv")["shown", "grad_norm"]
        assert {row[-1] for row in norms} == {0.41}


async def test_nothing_is_exported_without_a_run_and_a_refusal_is_said(workshop: Any, write: Write) -> None:
    folder = write("shown", 40)
    async with workshop.console((80, 24)) as seen:
        await seen.press("3", "d")
        assert toasts(seen) == ["There is nothing to export yet."]
        await overlay(seen)
        (folder / "loss.svg").symlink_to(workshop.folder / "elsewhere.svg")
        await seen.press("d")
        await seen.until(lambda: "Exported runs/shown/loss-2.svg, and the same as .csv and .txt" in toasts(seen))
        assert not (workshop.folder / "elsewhere.svg").exists(), "a link is not followed"
        delete_folder(folder)
        await seen.press("d")
        await seen.until(lambda: "runs/shown: the chart could not be exported: " in toasts(seen)[-1])


async def test_a_run_over_another_is_drawn_as_runs_plot_draws_it(workshop: Any, write: Write) -> None:
    """The two pictures are not the same: the console marks what happened to the run that it shows."""
    folder = write("shown", 40, top=5.0)
    write("other", 100, top=4.0, seed=7)
    async with workshop.console() as seen:
        await overlay(seen, "other")
        await seen.press("d")
        await seen.until(lambda: (folder / "loss.txt").exists())
    assert main(["runs", "plot", "shown", "other", "--svg", "plotted.svg"]) == 0
    colour = run_styles([Path("runs/shown"), Path("runs/other")])[Path("runs/other")].colour
    exported, plotted = (ElementTree.parse(path).getroot() for path in (folder / "loss.svg", "plotted.svg"))

    def curves(root: ElementTree.Element) -> list[str]:
        paths = [path for path in root.iter() if path.get("fill") == "none"]
        return [path.get("d", "") for path in paths if path.get("stroke") == colour]

    def numbers_of_axes(root: ElementTree.Element) -> list[float]:
        return [float(text.text) for text in root.iter() if text.text and re.fullmatch(r"[\d.]+", text.text)]

    assert curves(exported) == curves(plotted) != []
    axes = numbers_of_axes(plotted)
    assert numbers_of_axes(exported)[: len(axes)] == axes
