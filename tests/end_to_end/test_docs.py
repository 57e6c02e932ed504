"""README and docs are true: their commands run, their links lead somewhere, their tables are complete."""

import io
import json
import re
import runpy
import shlex
from dataclasses import fields
from pathlib import Path

import click
import pytest
import yaml

import fundamentallm
from fundamentallm.cli import main, root
from fundamentallm.config.config import SETTINGS
from fundamentallm.run import commands, events
from fundamentallm_tui import __main__ as console
from fundamentallm_tui.keymap import checked_keymap
from fundamentallm_tui.keys import TABLES
from tests.conftest import opened_console

HOME = Path(__file__).parents[2]
PAGES = [HOME / "README.md", HOME / "CONTRIBUTING.md", HOME / "SECURITY.md", *sorted((HOME / "docs").glob("*.md"))]
SAMPLE = HOME / "data" / "samples" / "sample_data.txt"
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)

FEWER = {"5": "1", "10": "2", "20": "1", "30": "2", "40": "3", "50": "2"}  # epochs
SMALLER = {"--model-dim": "32", "--num-layers": "1", "--max-seq-len": "32", "--stride": "32", "--epochs": "1"}
SMALL = [part for pair in SMALLER.items() for part in pair]
# What is not run: it needs a network or stays open in a browser.
EXCEPTED = {"fundamentallm data get shakespeare", "pip install wandb", "tensorboard --logdir runs/"}
COMPLETION = 'eval "$(fundamentallm completion bash)"'


def commands_of(page: Path) -> list[str]:
    """Every command of a page, in order."""
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with short texts of the names that the pages use."""
    monkeypatch.chdir(tmp_path)
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
    text = SAMPLE.read_text(encoding="utf-8")[:2000]
    shakespeare = [f"data/raw/shakespeare/shakespeare{size}.txt" for size in ("25k", "100k", "1mil")]
    for name in ("data/samples/sample_data.txt", *shakespeare, "my_book.txt", "one.txt", "two.txt", "more/three.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def shorter(words: list[str]) -> list[str]:
    """A training with fewer epochs, and, where it begins anew, a small model."""
    words = [FEWER[word] if before == "--epochs" else word for before, word in zip(["", *words], words, strict=False)]
    words = [str(10**9) if before == "--at-step" else word for before, word in zip(["", *words], words, strict=False)]
    if words[0] == "find-lr":
        words += ["--steps", "50"]
    if "--resume-from" not in words and words[0] != "branch":
        words += [part for flag, value in SMALLER.items() if flag not in words for part in (flag, value)]
    return words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in commands_of(page):
        words, typed = shlex.split(line, comments=True), ""
        if " ".join(words) in EXCEPTED or line == COMPLETION:
            continue
        with monkeypatch.context() as patch:
            if words[0] in ("echo", "cat"):
                typed = words[1] + "\n" if words[0] == "echo" else Path(words[1]).read_text()
                words = words[words.index("|") + 1 :]
            while "=" in words[0]:
                patch.setenv(*words.pop(0).split("=", 1))
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed.encode())))
            program, *arguments = words
            if program == "make":
                assert re.search(rf"^{arguments[0]}:", (HOME / "Makefile").read_text(), re.MULTILINE), line
            elif program == "fllm-tui":
                options, config = opened_console(arguments, patch)
                assert options.start == ("--start" in arguments)
                typed_values = dict(zip(arguments, arguments[1:], strict=False))
                assert options.preset.name == typed_values.get("--preset", "tiny"), line
                assert config.output_dir == typed_values.get("--output-dir")
                assert "--data" not in arguments or config.data == (typed_values["--data"],), line
            else:
                assert program == "fundamentallm", line
                assert main(shorter(arguments) if arguments[0] in ("train", "branch", "find-lr") else arguments) == 0, (
                    line
                )


def test_completion_is_switched_on_by_the_documented_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert COMPLETION in commands_of(HOME / "docs" / "commands.md")
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == 0
        assert "_FUNDAMENTALLM_COMPLETE" in capsys.readouterr().out


COMPLETED = {
    "r": ["plain,runs", "plain,resume"],
    "tr": ["plain,train"],
    "completion z": ["plain,zsh"],
    "runs pl": ["plain,plot"],
    "train --model": ["plain,--model-dim"],
    "train --lr-schedule c": ["plain,cosine", "plain,constant"],
    "train --preset sm": ["plain,small"],
    "train x --tokenizer b": ["file,b", "plain,bytes", "plain,bpe"],
    "train --device c": ["plain,cpu", "plain,cuda"],
    "bench --device m": ["plain,mps"],
    "train data/sam": ["file,data/sam"],
    "train --resume-from my": ["file,my"],
    "generate my": ["file,my"],
    "data get py": ["plain,python-docs"],
}


@pytest.mark.parametrize("begun", COMPLETED)
def test_a_shell_completes(begun: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_FUNDAMENTALLM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"fundamentallm {begun}")
    monkeypatch.setenv("COMP_CWORD", str(len(begun.split())))
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines() == COMPLETED[begun]


def test_every_example_of_the_page_about_python_runs_in_order_and_has_five_lines_at_most(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (HOME / "docs" / "library.md").read_text(encoding="utf-8")
    examples = PYTHON.findall(text)
    assert len(examples) == 6
    for example in examples:
        assert len([line for line in example.splitlines() if line]) <= 5
        capsys.readouterr()
        exec(compile(example, "library.md", "exec"), {"__name__": "example"})
        assert capsys.readouterr().out
    assert not {name for name in fundamentallm.__all__ if name not in text} - {"__version__"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target.split("#")[0]).exists(), target


def test_the_command_reference_is_complete() -> None:
    text = (HOME / "docs" / "commands.md").read_text(encoding="utf-8")
    ctx = click.Context(root)
    for name in root.list_commands(ctx):
        command = root.get_command(ctx, name)
        assert command is not None
        heading = rf"^## (?:[^\n]*, )?{name}(?:, [^\n]*)?\n"  # some stand together
        [section] = re.findall(rf"{heading}(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        below = list(command.commands.values()) if isinstance(command, click.Group) else []
        assert all(f"fundamentallm {name} {one.name}" in section for one in below)
        flags = {flag for one in (command, *below) for parameter in one.params for flag in parameter.opts}
        settings = (
            {row.flag for row in SETTINGS.values()} if name in ("train", "branch", "find-lr", "config") else set()
        )
        taken = {"--preset", "--config"} if name == "config" else set()
        missing = {flag for flag in flags - settings - taken if flag.startswith("--") and flag not in section}
        assert not missing


def test_the_reference_has_every_option_of_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        console.main(["--help"])
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    text = (HOME / "docs" / "commands.md").read_text(encoding="utf-8")
    [section] = re.findall(r"^## fllm-tui\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)) == flags


def test_the_page_of_keys_is_what_its_script_makes_and_has_every_name() -> None:
    text = (HOME / "docs" / "keys.md").read_text(encoding="utf-8")
    assert text == runpy.run_path(str(HOME / "docs" / "keys.py"))["page"](), "run `make docs`"
    names = {binding.id for table in TABLES for command in table for binding in command.bindings()}
    assert names == set(re.findall(r"\| `([^`|]+)` \|$", text, re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "docs/keys.md"])
def test_the_keys_that_a_page_gives_to_commands_can_be_theirs(page: str) -> None:
    text = (HOME / page).read_text(encoding="utf-8")
    example = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)[0])
    assert checked_keymap(example) == (example, [])


# ---- the page about runs ----


def tables(text: str) -> dict[str, list[str]]:
    """The names in the first column of the tables of a part, by heading; "" is before the first."""
    parts = ["", *re.split(r"^### (.+)$", text, flags=re.MULTILINE)]
    return {
        name: re.findall(r"^\| `([^`]+)` \|", body, re.MULTILINE) for name, body in zip(*[iter(parts)] * 2, strict=True)
    }


def parts_of_runs() -> dict[str, str]:
    pieces = re.split(r"^## (.+)$", (HOME / "docs" / "runs.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(*[iter(pieces[1:])] * 2, strict=True))


def test_the_journal_is_described_event_by_event_and_field_by_field() -> None:
    common = ["event", *(field.name for field in fields(events.Event)), "step"]
    expected = {"": common} | {
        name: [field.name for field in fields(kind) if field.name not in common] for kind, name in events.NAMES.items()
    }
    assert tables(parts_of_runs()["The journal"]) == expected


def test_the_commands_are_described_one_by_one_and_field_by_field() -> None:
    common = ["command", *(field.name for field in fields(commands.Command))]
    expected = {"": common} | {
        name: [field.name for field in fields(kind) if field.name not in common]
        for kind, name in commands.NAMES.items()
    }
    assert tables(parts_of_runs()["Commands"]) == expected


def test_every_file_of_a_run_is_described(here: Path) -> None:
    described = tables(parts_of_runs()["Files"])[""]
    assert main(["train", "my_book.txt", "--output-dir", "run", *SMALL]) == 0
    written = {re.sub(r"\d+", "N", path.name) for path in Path("run").iterdir()}
    assert written <= set(described)
    others = {"checkpoint_step_N.pt", "commands.jsonl", "engine.log", "input.txt", "notes.json", "trace.json", "wandb"}
    assert set(described) - written == others | {"events.out.tfevents.*", ".NAME.PID.tmp"}


def test_every_field_of_the_list_of_runs_is_described(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "my_book.txt", "--output-dir", "run", *SMALL]) == 0
    capsys.readouterr()
    assert main(["runs", "list", "--json"]) == 0
    [run] = json.loads(capsys.readouterr().out)
    assert tables(parts_of_runs()["The list as JSON"])[""] == [*run]
