"""Text files, presets and YAML: what the user chooses elsewhere comes into the form, and the form into a file."""

import os
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli.presets import command
from fundamentallm.config.config import resolve
from fundamentallm.config.files import load_preset, preset_folders
from fundamentallm_tui.app import Console
from fundamentallm_tui.screens.file_picker import FilePicker
from fundamentallm_tui.screens.main import MainScreen
from fundamentallm_tui.screens.presets import Presets
from tests.tui.others import both_sizes


@pytest.fixture
def texts(workshop: Any) -> Path:
    """A folder of files of every kind, from where the console is started."""
    folder: Path = workshop.folder / "texts"
    (folder / "[b]er").mkdir(parents=True)
    (folder / "[b]er" / "inside.txt").write_text("inside")
    (folder / "crlf.txt").write_bytes(b"\xef\xbb\xbfA first line\r\nand \x1b[31man evil one\r\n")
    (folder / "latin.txt").write_bytes(b"caf\xe9 au lait " * 9)
    (folder / "zero.txt").write_bytes(b"text" * 300_000 + b"\0")
    (folder / "paper.pdf").write_bytes(b"%PDF-1.7 \0\1\2")
    (folder / "empty.md").touch()
    os.mkfifo(folder / "pipe")
    (folder / "long.txt").write_text("naïve " * 400_000)
    (folder / ".hidden").touch()
    return folder


SAID = {
    "[b]er/": "a folder: space marks it, for all its .txt and .md files",
    "crlf.txt": "34 characters, 20 different",
    "empty.md": "empty",
    "latin.txt": "not UTF-8 text",
    "long.txt": "2,400,000 characters, 6 different",
    "paper.pdf": "is a PDF, not plain text",
    "pipe": "unreadable: it is not a regular file",
    "zero.txt": "binary: it has zero bytes",
}


@both_sizes
async def test_the_picker_says_what_is_in_a_file_and_takes_several(seen: Any, texts: Path) -> None:
    await seen.type(data="texts")
    await seen.press("f2")
    await seen.until(lambda: "crlf.txt" in seen.screen)
    assert "  texts/" in seen.screen
    for name, words in SAID.items():
        await seen.press("down")
        await seen.see(words)
        assert f"  {name}" in seen.screen
    assert ".hidden" not in seen.screen
    await seen.press("home", "down", "down")
    await seen.see("A first line")
    assert "\x1b" not in seen.screen and "·[31man evil one" in seen.screen
    await seen.press("up", "enter")
    await seen.see("inside.txt")
    await seen.press("down", "space")
    await seen.press("space", "up", "up", "left", "left", "down", "down", "space", "space", "up", "space", "enter")
    assert not isinstance(seen.app.screen, FilePicker)
    assert seen.cells["data"].value == "texts/[b]er/inside.txt, texts/crlf.txt, texts/empty.md"
    assert seen.cells["data"].marked
    await seen.press("f2")
    await seen.see("inside.txt")
    await seen.press("down", "escape")
    assert isinstance(seen.app.screen, MainScreen) and "empty.md" in seen.cells["data"].value, "nothing changed"


async def test_the_picker_begins_where_the_users_texts_are_not_where_the_programs_are(workshop: Any, seen: Any) -> None:
    await seen.type(data="data/samples/sample_data.txt")
    await seen.press("f2")
    await seen.see(workshop.text.name)


async def test_a_file_that_is_too_long_is_called_huge(
    workshop: Any, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fundamentallm_tui.screens.file_picker.MAX_BYTES", 1 << 20)
    async with workshop.console() as seen:
        await seen.type(data="texts/long.txt")
        await seen.press("f2")
        await seen.see("long.txt")
        await seen.press("down", "down", "down", "down", "down")
        await seen.see("huge, 2.8 MB: more than 898,779 characters, 6 different")


async def test_a_folder_with_very_many_files_is_listed_in_part_and_says_so(
    workshop: Any, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fundamentallm_tui.screens.file_picker.MAX_ENTRIES", 3)
    async with workshop.console() as seen:
        await seen.type(data="texts")
        await seen.press("f2")
        await seen.see("a folder: space marks it, for all its .txt and .md files; 3 of its entries are listed")
        await seen.until(lambda: sum(f"  {name}" in seen.screen for name in (*SAID, "paper.pdf")) >= 2)
        assert len(seen.app.screen._tree.root.children) == 3


@both_sizes
async def test_presets_are_compared_loaded_and_saved_as_ones_own(workshop: Any, size: tuple[int, int]) -> None:
    async with workshop.console(size, epochs=7) as seen:
        await seen.press("f3")
        await seen.see("Loading it changes nothing.")
        assert "What you have changed stays: data, epochs." in seen.screen
        await seen.press("down")
        await seen.see("num_layers")
        [line] = [line for line in seen.screen.splitlines() if re.search("num_layers  .* 2 .* 4", line)]
        assert line.partition("num_layers")[2].replace("│", " ").split()[:2] == ["2", "4"]
        await seen.press("enter")
        assert [seen.cells[name].value for name in ("preset", "num_layers", "epochs")] == ["small", "4", "7"]

        await seen.press("f3", "s", *"a b", "enter")
        await seen.see("A name has 1 to 40 letters")
        await seen.press("backspace", "backspace", "enter")
        await seen.until(lambda: isinstance(seen.app.screen, MainScreen))
        preset = load_preset("a")
        assert preset.path == preset_folders()[0] / "a.yaml" and resolve(preset.layer) == seen.main.form.config
        assert seen.main.form.preset_name == "a" and not any(cell.marked for cell in seen.cells.values())

        await seen.type(epochs="9")
        await seen.press("escape", "f3", "s", "a", "enter")
        await seen.see("There is a preset a.")
        await seen.press("c")
        assert isinstance(seen.app.screen, Presets) and resolve(load_preset("a").layer).epochs == 7
        await seen.press("s", "a", "enter", "r")
        await seen.until(lambda: resolve(load_preset("a").layer).epochs == 9)


async def test_what_a_preset_would_change_can_be_scrolled(workshop: Any) -> None:
    async with workshop.console((80, 24)) as seen:
        await seen.press("f3", "end")
        await seen.see("num_layers")
        assert "What you have changed stays" not in seen.screen
        await seen.press("tab", "end")
        await seen.see("What you have changed stays: data.")
        await seen.press("shift+tab", "enter")
        assert seen.cells["preset"].value == "large"


def test_the_command_line_lists_a_preset_that_was_saved(workshop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from fundamentallm_tui.screens.presets import save_preset

    save_preset("mine", resolve(load_preset("tiny").layer), "about 3 minutes")
    command.main([], standalone_mode=False)
    [block] = [block for block in capsys.readouterr().out.split("\n\n") if block.startswith("mine")]
    assert block.splitlines()[0] == "mine    Saved from the console." and "about 3 minutes" in block


@pytest.fixture
def editor(workshop: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes $EDITOR do these replacements in turn."""
    monkeypatch.setattr(Console, "suspend", lambda app: nullcontext())
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)

    def use(*commands: str) -> None:
        script = workshop.folder / "editor"
        script.write_text('#!/bin/sh\necho >> "$0.calls"\ncase $(wc -l < "$0.calls") in\n')
        with script.open("a") as file:
            for n, line in enumerate(commands, 1):
                file.write(f"*{n}) {line};;\n")
            file.write("esac\n")
        script.chmod(0o700)
        monkeypatch.setenv("EDITOR", str(script))

    return use


async def test_the_form_is_edited_as_yaml_and_problems_are_at_their_fields(seen: Any, editor: Any) -> None:
    await seen.press("e")
    await seen.until(lambda: "Set EDITOR to your editor" in seen.log)
    editor("sed -i 's/^epochs: .*/epochs: many/; s/^model_dim: .*/model_dim: 96/' $1")
    await seen.type(dropout="7")
    await seen.press("escape", "e")
    assert set(seen.main.form.problems) == {"dropout", "epochs"}, "what was wrong before is not lost"
    assert [seen.cells[name].value for name in ("epochs", "model_dim", "dropout")] == ["many", "96", "7"]
    assert {name for name, cell in seen.cells.items() if cell.marked} == {"data", "dropout", "epochs", "model_dim"}


async def test_yaml_that_cannot_be_read_can_be_edited_again(seen: Any, editor: Any) -> None:
    editor("echo 'epochs: [3' > $1", "sed -i 's/\\[//; $aepoch: 4' $1", "sed -i '$d' $1", "exit 3")
    await seen.press("e")
    await seen.see("form.yaml, line 2: is not YAML")
    assert seen.cells["epochs"].value == "5"
    await seen.press("e")
    await seen.see("epoch: no such setting; did you mean epochs?")
    assert "line 2)" in seen.screen
    await seen.press("e")
    assert isinstance(seen.app.screen, MainScreen) and seen.cells["epochs"].value == "3"
    await seen.press("e")
    await seen.until(lambda: "ended with status 3" in seen.log)


async def test_while_a_run_is_under_way_the_form_s_files_are_locked(seen: Any, run: Any) -> None:
    await seen.press("f2", "f3", "e")
    assert isinstance(seen.app.screen, MainScreen)
