"""The form holds on to what is wrong, shows all of it, and lets it be mended."""

from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.widgets import Static

from fundamentallm.config.config import Config
from fundamentallm_tui.panes.fields import Cell, Fields, Row
from tests.tui.others import screen_text


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


def values(seen: Any, *names: str) -> tuple[str, ...]:
    return tuple(seen.main.form.fields.cells[name].value for name in names)


async def test_another_preset_leaves_what_was_typed_and_ctrl_r_takes_it_back(workshop: Any) -> None:
    async with workshop.console() as seen:
        form = seen.main.form
        form.fields.enter("epochs")
        await seen.pilot.press("7")
        assert {cell.name for cell in form.fields.cells.values() if cell.marked} == {"data", "epochs"}
        assert "epochs       *7" in screen_text(seen.app) and f"data         *{workshop.text}"[:40] in screen_text(
            seen.app
        )
        await choose(seen, "medium")
        assert values(seen, "epochs", "data", "model_dim") == ("7", str(workshop.text), "256")
        form.fields.enter("epochs")
        await seen.pilot.press("ctrl+r")
        assert values(seen, "epochs") == ("30",) and not form.fields.cells["epochs"].marked
        form.fields.enter("seed")
        await seen.pilot.press("5", "ctrl+r")
        assert values(seen, "seed") == (str(Config().seed),), "the preset does not name it"


async def test_a_preset_s_stride_holds_for_its_own_text_only(workshop: Any) -> None:
    async with workshop.console() as seen:
        assert seen.main.form.config.stride is None
        seen.main.form.fields.enter("data")
        await seen.pilot.press("ctrl+r")
        assert values(seen, "data", "stride") == ("data/samples/sample_data.txt", "32")
        await seen.pilot.press("ctrl+u", *"x.txt")
        assert seen.main.form.config.stride is None
        seen.main.form.fields.enter("stride")
        await seen.pilot.press(*"16")
        seen.main.form.fields.enter("data")
        await seen.pilot.press("ctrl+r")
        assert values(seen, "stride") == ("16",), "the user's own stays"


async def test_a_run_keeps_its_preset_s_name_with_another_text(workshop: Any) -> None:
    async with workshop.console() as seen:
        run = await seen.started()
        assert (run.job.preset, run.job.folder.name) == ("tiny", "text-1")
        assert seen.status.startswith(" tiny ")


async def test_the_time_is_what_this_machine_takes_for_what_the_form_says(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fundamentallm_tui.panes.form.estimate_seconds", lambda config, size: 60.0 * config.epochs)
    async with workshop.console() as seen:
        await seen.until(lambda: "about 5 minutes on this machine" in hint(seen))
        seen.main.form.fields.enter("epochs")
        await seen.pilot.press(*"30", "escape")
        await seen.until(lambda: "about 30 minutes on this machine" in hint(seen))


def hint(seen: Any) -> str:
    return str(seen.main.form.query_one("#hint", Static).render())


async def test_a_wide_value_keeps_its_cursor_in_its_field(workshop: Any) -> None:
    async with workshop.console() as seen:
        seen.main.form.fields.enter("project")
        await seen.pilot.press(*"雪が降る夜の物語")
        lines = screen_text(seen.app).splitlines()
        assert all(cell_len(line) == 120 for line in lines)
        assert any("語" in line for line in lines), "the end, where the cursor is"
