"""The form holds on to what is wrong, shows all of it, and lets it be mended."""

from pathlib import Path
from typing import Any

import pytest

from fundamentallm_tui.panes.fields import Cell, Fields, Row


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's folder of presets."""
    folder = tmp_path / "own"
    folder.mkdir()
    shipped = Path(__file__).parents[3] / "presets"
    monkeypatch.setattr("fundamentallm.config.files.preset_folders", lambda: (folder, shipped))
    return folder


async def choose(seen: Any, name: str) -> None:
    fields = seen.main.form.fields
    fields.enter("preset")
    while fields.cells["preset"].value != name:
        await seen.pilot.press("right")
    await seen.pilot.pause(0.3)  # the text was measured meanwhile


async def test_a_broken_preset_cannot_be_trained_under_its_name(workshop: Any, own: Path) -> None:
    (own / "mine.yaml").write_text("epochs: 3\nepochs: 4\n")
    async with workshop.console() as seen:
        await seen.until(lambda: seen.main.form.total_steps)
        await choose(seen, "mine")
        assert "is set twice" in seen.main.form.problems["preset"]
        seen.main.form.fields.enter("epochs")
        await seen.pilot.press("7")
        await seen.pilot.pause(0.3)
        assert "is set twice" in seen.main.form.problems["preset"], "typing elsewhere does not mend the file"
        await seen.pilot.press("f5")
        assert seen.runs == []
        await choose(seen, "tiny")
        assert seen.main.form.problems == {}
        await seen.started()


async def test_a_presets_wrong_values_stand_in_their_fields_and_can_be_mended(workshop: Any, own: Path) -> None:
    (own / "mine.yaml").write_text(f"data: {workshop.text}\nmodel_dim: 64\nnum_heads: 7\nepochs: 3\n")
    async with workshop.console() as seen:
        await choose(seen, "mine")
        form = seen.main.form
        assert set(form.problems) == {"num_heads"} and form.fields.cells["num_heads"].value == "7"
        await seen.pilot.press("f5")
        assert seen.runs == []
        form.fields.enter("num_heads")
        await seen.pilot.press("4")
        run = await seen.started()
        assert (run.job.config.num_heads, run.job.config.epochs, run.job.folder.name) == (4, 3, "mine-1")


async def test_a_missing_text_and_wrong_values_are_shown_together(workshop: Any) -> None:
    async with workshop.console() as seen:
        form = seen.main.form
        form.fields.show_values({"data": "nowhere.txt", "num_heads": "7", "dropout": "3"})
        form._check()
        await seen.until(lambda: set(form.problems) == {"data", "num_heads", "dropout"})
        form.fields.show_values({"num_heads": "2"})
        form._check()
        await seen.pilot.pause(0.3)
        assert set(form.problems) == {"data", "dropout"}
        assert all(form.fields.cells[name].problem for name in form.problems)


async def test_ctrl_k_deletes_to_the_end(workshop: Any) -> None:
    async with workshop.console() as seen:
        seen.main.form.fields.enter("learning_rate")
        await seen.pilot.press("1", "2", "3", "left", "left", "ctrl+k")
        assert seen.main.form.fields.cells["learning_rate"].value == "1"


def test_ctrl_k_leaves_a_choice_alone() -> None:
    fields = Fields([Row([Cell("a", "a", "x", ("x", "y"))])], id="f")
    fields.action_cut()
    assert fields.cells["a"].value == "x"
