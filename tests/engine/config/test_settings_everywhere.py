"""Every setting of the table appears in the help, in the docs, in the console's form and in YAML: the four agree."""

import re
import runpy
from pathlib import Path

import pytest
import yaml

from fundamentallm.cli import main
from fundamentallm.config.config import SETTINGS, Config, Layer, resolve, to_dict
from fundamentallm.config.files import to_yaml
from fundamentallm.config.format import format_value
from fundamentallm_tui.panes.form import Form
from fundamentallm_tui.panes.values import PRESET
from fundamentallm_tui.state.launch import Options

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def help_text(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """`fundamentallm train --help`, each option on one line."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["train", "--help"]) == 0
    return re.sub(r"\n {10,}", " ", capsys.readouterr().out)


def in_help(text: str) -> dict[str, str]:
    """The words of each setting; the argument DATA has none."""
    of_settings, _, others = text.partition("\nOther:\n")
    rows = re.findall(r"^  --([a-z-]+)(?: / --no-([a-z-]+)| [A-Z]+| \[.*?\])\s+(.*)$", of_settings, re.MULTILINE)
    assert all(no in ("", name) for name, no, _ in rows)
    data = {"data": ""} if "[DATA]..." in others else {}
    return data | {name.replace("-", "_"): words for name, _, words in rows}


def in_docs() -> dict[str, str]:
    """What stands below the heading of each setting."""
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    parts = re.split(r"^### (.+)$", text, flags=re.MULTILINE)[1:]
    return {name: re.split(r"^## ", body, flags=re.MULTILINE)[0] for name, body in zip(*[iter(parts)] * 2, strict=True)}


def in_form() -> dict[str, str]:
    """The value that the console's form shows for each setting."""
    cells = Form(Options(), lambda values: None, id="config").fields.cells
    return {name: cell.value for name, cell in cells.items() if name != PRESET}


def test_the_help_the_docs_the_form_and_yaml_have_the_same_settings(help_text: str) -> None:
    in_yaml = yaml.safe_load(to_yaml(Config()))
    assert list(in_help(help_text)) == list(in_docs()) == list(in_yaml) == list(SETTINGS)
    assert sorted(in_form()) == sorted(SETTINGS)


def test_the_help_and_the_docs_say_what_the_table_says(help_text: str) -> None:
    help_of, docs = in_help(help_text), in_docs()
    for name, row in SETTINGS.items():
        text = "".join(help_of[name].split())  # where lines were broken no longer matters
        if name != "data":
            assert text.startswith("".join(row.help.split()))
            assert not row.typical or "".join(f"typical: {row.typical}".split()) in text
            default = row.auto if row.default is None else format_value(row.default)
            assert not default or "".join(f"default: {default}".split()) in text
            assert f"`{row.flag}`" in docs[name]
        flat = " ".join(docs[name].split())
        assert all(text in flat for text in (row.help, row.typical, row.bounds, row.too_high, row.too_low, row.auto))
        assert all(choice in flat for choice in row.choices)


def test_the_settings_page_is_what_its_script_makes() -> None:
    page = runpy.run_path(str(DOCS / "settings.py"))["page"]()
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == page, "run `make docs`"


def test_what_the_form_shows_are_the_defaults() -> None:
    shown = {name: text or None for name, text in in_form().items()}
    assert to_dict(resolve(Layer(shown | dict.fromkeys(("data", "include", "pin", "track"), ())))) == to_dict(Config())
