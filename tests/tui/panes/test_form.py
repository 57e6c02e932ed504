"""The form: its words are the command line's, it keeps what is wrong, shows all of it, and lets it be corrected."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.events import Paste
from textual.widgets import Static

from fundamentallm.config.config import SETTINGS, Config, ConfigError, flags_layer, resolve
from fundamentallm.config.files import load_preset
from fundamentallm.config.format import wrap
from fundamentallm.errors import UserError
from fundamentallm_tui.panes.status import STEPS
from tests.texts import estimate, read_texts
from tests.tui.others import both_sizes


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of presets."""
    folder = tmp_path / "own"
    folder.mkdir()
    shipped = Path(__file__).parents[3] / "presets"
    monkeypatch.setattr("fundamentallm.config.files.preset_folders", lambda: (folder, shipped))
    return folder


WRONG = {
    "num_heads": "7", "dropout": "1.5", "epochs": "many", "stride": "999", "device": "", "lr_schedule": "",
}  # fmt: skip


@both_sizes
async def test_the_form_says_the_command_lines_words(workshop: Any, seen: Any) -> None:
    form = seen.main.form
    for name, value in WRONG.items():
        with pytest.raises(ConfigError) as error:
            resolve(load_preset("tiny").layer, flags_layer({"data": [str(workshop.text)], name: value}))
        [problem] = error.value.problems
        if seen.cells[name].choices:  # a file may hold what cannot be typed
            form.take_values({name: value})
        else:
            await seen.type(**{name: value})
        form.fields.enter(name)
        await seen.pilot.pause()
        assert form.problems == {name: problem.text}
        shown = " ".join(seen.screen.replace("│", " ").split())
        assert wrap(f"{name}: {problem.text}", 30)[0] in shown
        await seen.press("escape", "f5")
        assert seen.runs == [], "nothing starts while something is wrong"
        form.fields.enter(name)
        await seen.press("ctrl+r", "escape")
        assert form.problems == {}


async def test_the_form_names_a_missing_file_and_a_text_that_is_too_short(workshop: Any) -> None:
    with pytest.raises(UserError) as missing:
        read_texts("nowhere.txt")
    (workshop.folder / "short.txt").write_text("too short " * 12)
    async with workshop.console() as seen:
        form = seen.main.form
        await seen.until(lambda: form.run_size.steps)
        await seen.type(data="nowhere.txt")
        await seen.until(lambda: form.problems == {"data": str(missing.value)})
        await seen.type(data="short.txt")
        await seen.until(lambda: "--max-seq-len 107 is the largest that fits" in form.problems.get("max_seq_len", ""))


async def test_a_missing_text_and_wrong_values_are_shown_together(seen: Any) -> None:
    form = seen.main.form
    await seen.type(data="nowhere.txt", num_heads="7", dropout="3")
    await seen.until(lambda: set(form.problems) == {"data", "num_heads", "dropout"})
    await seen.type(num_heads="2")
    assert set(form.problems) == {"data", "dropout"}
    assert all(seen.cells[name].problem for name in form.problems)


async def test_the_form_shows_the_size_of_the_run(workshop: Any, seen: Any) -> None:
    await seen.until(lambda: seen.main.form.run_size.steps)
    steps = estimate(seen.main.form.config, [workshop.text.read_text()]).total_steps
    await seen.see(f"{steps} steps")
    await seen.until(lambda: f"step {0:>{STEPS}}/{steps}" in seen.status)


async def test_every_setting_is_in_the_form_with_its_help(seen: Any) -> None:
    assert set(seen.cells) == {"preset", *SETTINGS}
    seen.main.form.fields.enter("learning_rate")
    await seen.pilot.pause()
    row = SETTINGS["learning_rate"]
    hint = str(seen.main.query_one("#hint").render())
    assert all(words in hint for words in (row.help, row.typical, row.too_high, row.too_low))


async def test_a_broken_preset_cannot_be_trained_under_its_name(workshop: Any, own: Path) -> None:
    (own / "mine.yaml").write_text("epochs: 3\nepochs: 4\n")
    async with workshop.console() as seen:
        await seen.type(preset="mine")
        assert "is set twice" in seen.main.form.problems["preset"]
        await seen.type(epochs="7")
        assert "is set twice" in seen.main.form.problems["preset"], "typing elsewhere does not correct the file"
        await seen.press("f5")
        assert seen.runs == []
        await seen.type(preset="tiny")
        assert seen.main.form.problems == {}
        await seen.started()


async def test_a_presets_wrong_values_are_in_their_fields_and_can_be_corrected(workshop: Any, own: Path) -> None:
    (own / "mine.yaml").write_text(f"data: {workshop.text}\nmodel_dim: 64\nnum_heads: 7\nepochs: 3\n")
    async with workshop.console() as seen:
        await seen.type(preset="mine")
        assert set(seen.main.form.problems) == {"num_heads"} and seen.cells["num_heads"].value == "7"
        await seen.press("f5")
        assert seen.runs == []
        await seen.type(num_heads="4")
        run = await seen.started()
        assert (run.job.config.num_heads, run.job.config.epochs, run.job.folder.name) == (4, 3, "mine-1")


LONG = ["x" * 5000, "x" * 3000, "a/" * 2000, "y, " * 2000, "'" + "z" * 9000]


async def test_a_text_of_any_length_that_is_pasted_is_refused_below_its_field(workshop: Any, seen: Any) -> None:
    for text in LONG:
        await seen.type(data=text, output_dir=text)
        await seen.until(lambda: "data" in seen.main.form.problems)
        await seen.press("escape", "f5")
        await seen.pilot.pause(0.3)
        assert seen.app.is_running and seen.runs == []
        await seen.type(data=str(workshop.text), output_dir="")
        assert seen.main.form.problems == {}


ODD_DATA = ["5", "{a: 1}", "[1, 2]", "[[a]]", "true", "''", "[]", '"a\\nb"', f"[{'x' * 5000}]"]


async def test_a_preset_whose_data_is_wrong_is_shown_with_its_problem(workshop: Any, own: Path) -> None:
    for number, data in enumerate(ODD_DATA):
        (own / f"odd{number}.yaml").write_text(f"data: {data}\nepochs: {number + 3}\n")
    async with workshop.console((120, 36)) as seen:
        seen.main.form.fields.enter("data")
        await seen.press("ctrl+r")
        await seen.press("escape", "f3")
        await seen.until(lambda: len(seen.app.screen_stack) == 2)
        await seen.press("home", *["down"] * (len(ODD_DATA) + 4))  # each is previewed
        await seen.press("escape")
        for number in range(len(ODD_DATA)):
            await seen.type(preset=f"odd{number}")
            await seen.press("escape", "f5")
            await seen.pilot.pause(0.3)
            assert seen.app.is_running and seen.cells["epochs"].value == str(number + 3)
            assert seen.runs == []
            await seen.type(data=str(workshop.text))
            await seen.until(lambda: set(seen.main.form.problems) <= {"preset"})
            seen.main.form.fields.enter("data")
            await seen.press("ctrl+r")


async def test_an_impossible_folder_is_refused_beside_its_field(workshop: Any) -> None:
    async with workshop.console(output_dir="~nobody-at-all/x") as seen:
        await seen.press("f5")
        await seen.until(lambda: "cannot be looked up" in seen.main.form.problems.get("output_dir", ""))
        assert "IDLE" in seen.status and not seen.runs


async def test_text_is_typed_into_an_input_over_the_field_which_moves_with_it(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        fields = seen.main.form.fields
        await seen.press("1", "enter", "tab", "tab")
        assert seen.app.focused is fields.input and seen.cells["include"] is fields.current
        await seen.press(*"*.md", "left", "left", "shift+right", "ctrl+c", "end", "ctrl+v")
        assert values(seen, "include") == ("*.mdm",)
        await seen.press(*["down"] * 14)
        assert fields.scroll_offset.y > 0, "the form scrolls"
        for size in ((80, 24), (120, 36)):
            await seen.pilot.resize_terminal(*size)
            await seen.pilot.pause()
            name, region = fields.current.name, fields.input.region
            line = seen.screen.splitlines()[region.y]
            assert line[region.x :].startswith(fields.current.value or " ") and name[:8] in line[: region.x], name
        await seen.press("escape")
        assert not fields.input.display and seen.app.focused is None


async def test_keys_of_text_leave_a_choice_alone(seen: Any) -> None:
    seen.main.form.fields.enter("lr_schedule")
    await seen.press("ctrl+k", "ctrl+u", "backspace", "delete", "home", "z")
    seen.app.screen.post_message(Paste("wsd"))
    await seen.pilot.pause()
    assert values(seen, "lr_schedule") == ("cosine",)
    await seen.press("w")
    assert values(seen, "lr_schedule") == ("wsd",)
    await seen.press("space", "left", "left")
    assert values(seen, "lr_schedule") == ("step",)


def values(seen: Any, *names: str) -> tuple[str, ...]:
    return tuple(seen.cells[name].value for name in names)


async def test_another_preset_leaves_what_was_typed_and_ctrl_r_takes_it_back(workshop: Any, seen: Any) -> None:
    form = seen.main.form
    form.fields.enter("epochs")
    await seen.press("7")
    assert {cell.name for cell in seen.cells.values() if cell.marked} == {"data", "epochs"}
    shown = [re.sub(r" +", " ", line) for line in seen.screen.splitlines()]
    assert any(" epochs *7" in line for line in shown)
    assert any(f" data *{workshop.text}"[:40] in line for line in shown)
    await seen.type(preset="medium")
    typed = flags_layer({"data": [str(workshop.text)], "epochs": 7})
    medium = replace(resolve(load_preset("medium").layer, typed), stride=None)  # its stride is for its own text
    assert form.config == medium and values(seen, "model_dim") == ("256",)
    form.fields.enter("epochs")
    await seen.press("ctrl+r")
    assert values(seen, "epochs") == ("30",) and not seen.cells["epochs"].marked
    form.fields.enter("seed")
    await seen.press("5", "ctrl+r")
    assert values(seen, "seed") == (str(Config().seed),), "the preset does not name it"


async def test_a_preset_s_stride_holds_for_its_own_text_only(seen: Any) -> None:
    assert seen.main.form.config.stride is None
    seen.main.form.fields.enter("data")
    await seen.press("ctrl+r")
    assert values(seen, "data", "stride") == ("data/samples/sample_data.txt", "32")
    await seen.press("ctrl+u", *"x.txt")
    assert seen.main.form.config.stride is None
    seen.main.form.fields.enter("stride")
    await seen.press(*"16")
    seen.main.form.fields.enter("data")
    await seen.press("ctrl+r")
    assert values(seen, "stride") == ("16",), "the user's own stays"


async def test_a_run_keeps_its_preset_s_name_with_another_text(workshop: Any) -> None:
    async with workshop.training((140, 36)) as (seen, run):
        assert (run.job.preset, run.job.folder.name) == ("tiny", "text-1")
        assert seen.status.startswith(" tiny · runs/text-1 ")


async def test_the_time_is_what_this_machine_takes_for_what_the_form_says(
    workshop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fundamentallm_tui.panes.values.estimate_seconds", lambda config, size: 60.0 * config.epochs)
    async with workshop.console() as seen:
        await seen.until(lambda: "about 5 minutes on this machine" in hint(seen))
        seen.main.form.fields.enter("epochs")
        await seen.press(*"30", "escape")
        await seen.until(lambda: "about 30 minutes on this machine" in hint(seen))


def hint(seen: Any) -> str:
    return str(seen.main.form.query_one("#hint", Static).render())


async def test_a_wide_value_keeps_its_cursor_in_its_field(seen: Any) -> None:
    seen.main.form.fields.enter("project")
    await seen.press(*"雪が降る夜の物語")
    lines = seen.screen.splitlines()
    assert all(cell_len(line) == 120 for line in lines)
    assert any("語" in line for line in lines), "the end, where the cursor is"


async def test_the_form_says_why_the_held_out_text_would_measure_little(workshop: Any) -> None:
    lines = (f"Line {n} is told but once, and {n * n} too.\n" for n in range(900))
    (workshop.folder / "once.txt").write_text("".join(lines))
    async with workshop.console() as seen:
        form = seen.main.form
        await seen.until(lambda: "only 1,720 characters are held out" in hint(seen))
        assert "(and 1 more in the log at the start)" in hint(seen)
        await seen.type(data="once.txt")
        await seen.until(lambda: form.run_size.steps and "held out" not in hint(seen).partition("val_split")[0])
        await seen.type(val_split="0.01")
        await seen.until(lambda: "characters are held out (--val-split 0.01 of" in hint(seen))


async def test_the_size_below_the_form_is_never_cut(workshop: Any) -> None:
    async with workshop.console((60, 20)) as seen:
        form = seen.main.form
        await seen.until(lambda: form.run_size.steps)
        assert " steps · ≈ " in seen.screen and " MiB" in seen.screen and " params · " in seen.screen
        await seen.type(epochs="1000000", model_dim="16384")
        await seen.until(lambda: form.run_size.steps > 1_000_000)
        await seen.until(lambda: "steps · ≈ " in str(form.border_subtitle))
        assert "…" not in seen.screen.splitlines()[-2] and "params" in str(form.border_subtitle)


async def test_steps_that_only_the_tokens_tell_are_called_an_estimate(workshop: Any) -> None:
    async with workshop.console(tokenizer="bpe", vocab_size=300) as seen:
        await seen.until(lambda: re.search(r" ≈ \d+ steps ", seen.screen))


async def test_a_click_enters_a_field_and_another_one_changes_a_choice(seen: Any) -> None:
    fields = seen.main.form.fields

    async def click(name: str) -> None:
        lines = seen.screen.splitlines()
        y = next(n for n, line in enumerate(lines) if f" {name} " in line)
        await seen.pilot.click(offset=(lines[y].index(f" {name} ") + 21, y))

    await click("model_dim")
    await seen.press(*"96")
    await click("num_layers")
    await seen.press(*"3")
    assert values(seen, "model_dim", "num_layers") == ("96", "3")
    await click("num_layers")
    await seen.press("7")
    assert values(seen, "num_layers") == ("37",), "the second click put the cursor behind the text"
    await click("lr_schedule")
    assert values(seen, "lr_schedule") == ("cosine",) and seen.app.focused is fields
    await click("lr_schedule")
    assert values(seen, "lr_schedule") == ("linear",)
    await seen.press("shift+tab", "shift+tab", "tab")
    assert fields.current.name == "learning_rate" and seen.app.focused is fields.input


async def test_enter_shows_all_of_what_is_wrong_with_a_value(workshop: Any) -> None:
    async with workshop.training((120, 36)) as (seen, run):
        await seen.press("1", "enter", *["down"] * 8, "ctrl+a", "ctrl+k", *"0.01", "enter")
        name = seen.main.form.fields.current.name
        await seen.until(lambda: f"{name}: 0.01 is not a whole number, at least 0" in form_text(seen))
        assert run.sent == []


def form_text(seen: Any) -> str:
    """The words in the rows of the form that can be seen."""
    return " ".join(" ".join(line[1:35] for line in seen.screen.splitlines()).split())
