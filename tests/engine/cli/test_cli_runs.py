"""`fundamentallm runs`: what was trained, listed, compared, plotted and exported."""

import csv
import io
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from fundamentallm.cli import main
from fundamentallm.run.health import assess_run
from fundamentallm.run.history import read_history
from fundamentallm.run.summary import summarize
from fundamentallm_tui.charts.palette import run_styles
from tests.conftest import file_contents
from tests.engine.cli.conftest import TINY, Refused, Run
from tests.engine.run.conftest import CONFIG, evaluated, saved, started, write_journal

TEXT = "".join(random.Random(1).choices("abcdefgh \n", k=3000))
BRAILLE = re.compile("[\u2801-\u28ff]")


@pytest.fixture(scope="module")
def trained_twice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs in it; the second was resumed from its first epoch."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    start, two = ["train", str(folder / "text.txt"), *TINY, "--batch-size=32", "--epochs=2"], folder / "runs" / "two"
    assert main([*start, f"--output-dir={folder / 'runs' / 'one'}"]) == 0
    assert main([*start, "--optimizer=adamw", f"--output-dir={two}"]) == 0
    assert main(["train", "--resume-from", str(two / "checkpoint_epoch_1.pt"), "--epochs=3"]) == 0
    return folder


@pytest.fixture(autouse=True)
def beside_the_runs(run: Run, trained_twice: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained_twice)


def test_list_shows_every_run_the_newest_first(run: Run) -> None:
    status, out, err = run("runs", "list")
    rows = [re.split(r"  +", line) for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert [row[:2] for row in rows[1:]] == [["runs/two", "finished"], ["runs/one", "finished"]]
    assert [row[5] for row in rows[1:]] == ["18/18", "12/12"]
    assert rows[0] == ["run", "state", "started", "data", "parameters", "steps", "best val_loss", "best epoch"]
    assert run("runs", "list", "runs/one")[1].count("\n") == 2


def test_list_prints_json(run: Run) -> None:
    two, one = json.loads(run("runs", "list", "--json")[1])
    assert (one["folder"], one["steps"], one["total_steps"], one["state"]) == ("runs/one", 12, 12, "finished")
    assert two["config"]["optimizer"] == "adamw" and two["best"]["epoch"] in (1, 2, 3)
    assert one["best"]["val_loss"] == min(event.val_loss for event in read_history(Path("runs/one")).evaluations)


def test_no_runs_is_no_error(run: Run, tmp_path: Path) -> None:
    status, out, err = run("runs", "list", str(tmp_path))
    assert (status, out) == (0, "") and err.startswith(f"no runs in {tmp_path} yet; ")
    assert run("runs", "list", "--json", str(tmp_path))[1] == "[]\n"


def test_show_has_settings_evaluations_and_files(run: Run) -> None:
    out = run("runs", "show", "two")[1]
    settings = dict(line.split() for line in out.split("\n\n")[1].splitlines()[1:])
    assert settings == {
        "data": str(Path.cwd() / "text.txt"), "max_seq_len": "16", "stride": "16", "model_dim": "16", "num_layers": "1",
        "batch_size": "32", "epochs": "3", "optimizer": "adamw", "device": "cpu",
        "output_dir": str(Path("runs/two").absolute()),
    }  # fmt: skip
    table = [line.split() for line in out.split("\n\n")[2].splitlines()[2:]]
    events = read_history(Path("runs/two")).evaluations
    best = min(events, key=lambda event: event.val_loss)
    epoch = best.epoch
    assert [row[:4] for row in table] == [
        [str(event.epoch), str(event.step), f"{event.train_loss:.4f}", f"{event.val_loss:.4f}"] for event in events
    ]
    assert [row[0] for row in table] == ["1", "2", "3"] and [row[0] for row in table if "best" in row] == [str(epoch)]
    about = dict(re.split(r"  +", line.strip(), maxsplit=1) for line in out.split("\n\n")[0].splitlines()[1:])
    assert about["train_loss"] == f"{events[-1].train_loss:.4f}" and about["val_loss"] == f"{events[-1].val_loss:.4f}"
    assert about["best val_loss"] == f"{best.val_loss:.4f}" and about["best epoch"] == f"{epoch}, step {best.step}"
    verdict = assess_run(read_history(Path("runs/two")))
    assert verdict is not None and about["health"] == verdict.sentence  # there is nothing to learn in its text
    assert verdict.sentence.startswith(f"the loss is not falling: {events[-2].train_loss:.3f}, then ")
    assert {"best.pt", "final_model.pt", "journal.jsonl"} <= set(out.split("files\n")[1].split())


def test_compare_shows_only_settings_that_differ(run: Run) -> None:
    rows = {line.split("  ")[0].strip(): line for line in run("runs", "compare", "one", "runs/two")[1].splitlines()}
    best = [summarize(Path("runs", name)).best for name in ("one", "two")]
    assert rows["best epoch"].split()[2:] == [str(evaluated.epoch) for evaluated in best if evaluated]
    assert list(rows) == [
        "", "epochs", "optimizer", "changed", "parameters", "state", "steps", "train_loss", "val_loss",
        "best val_loss", "best epoch",
    ]  # fmt: skip
    assert rows["optimizer"].split() == ["optimizer", "muon", "adamw"]
    lowest = [min(event.val_loss for event in read_history(Path("runs", name)).evaluations) for name in ("one", "two")]
    marked = [f"{loss:.4f}" + (" (lowest)" if loss == min(lowest) else "") for loss in lowest]
    assert re.split("  +", rows["best val_loss"].strip())[1:] == marked


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ({}, {}, ""),
        ({}, {"data": ["/elsewhere/sea.txt"]}, ""),
        ({}, {"data": ["texts/land.txt"]}, "other text"),
        ({"fingerprint": "0"}, {}, ""),  # an older engine wrote none
        ({"fingerprint": "0"}, {"fingerprint": "0", "data": ["land.txt"]}, ""),
        ({"fingerprint": "0"}, {"fingerprint": "1", "vocab_size": 31}, "other text, other vocabulary"),
        ({}, {"tokenizer": "bytes"}, "other tokenizer"),
        ({}, {"vocab_size": 31, "val_split": 0.2}, "other vocabulary, other val_split"),
    ],
)
def test_compare_says_whose_losses_do_not_compare(
    run: Run, here: Path, a: dict[str, Any], b: dict[str, Any], why: str
) -> None:
    for name, values in ("a", a), ("b", b):
        facts = {name: value for name, value in values.items() if name in ("fingerprint", "vocab_size")}
        settings = {name: value for name, value in values.items() if name not in facts}
        start = started(config={**CONFIG, **settings}, **facts)
        write_journal(Path("runs", name), start, evaluated(10, 2.0), saved(10))
    status, out, err = run("runs", "compare", "a", "b")
    assert (status, err) == (0, "")
    last = out.splitlines()[-1]
    assert last == f"the losses of runs/b and runs/a do not compare: {why}" if why else last.startswith("best epoch")
    assert ("(lowest)" in out) == (not why)


def test_export_has_a_row_for_each_step_and_none_twice(run: Run, tmp_path: Path) -> None:
    status, out, err = run("runs", "export", "two", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (status, err) == (0, "")
    assert [int(row["step"]) for row in rows] == list(range(1, 19))
    assert [int(row["epoch"]) for row in rows] == [1] * 6 + [2] * 6 + [3] * 6
    history = read_history(Path("runs/two"))
    for name in ("train_loss", "learning_rate", "grad_norm"):
        assert [float(row[name]) for row in rows] == list(getattr(history, name))
    assert {row["step"]: float(row["val_loss"]) for row in rows if row["val_loss"]} == {
        str(event.step): event.val_loss for event in history.evaluations
    }
    assert run("runs", "export", "two", "--csv", str(tmp_path / "a.csv")) == (0, "", "")
    assert (tmp_path / "a.csv").read_bytes().decode() == out == run("runs", "export", "two", "--csv", "-")[1]


def test_plot_draws_both_runs_without_escapes_into_a_pipe(run: Run) -> None:
    status, out, err = run("runs", "plot", "one", "two")
    lines = out.splitlines()
    assert (status, err) == (0, "") and "\x1b" not in out
    assert max(map(len, lines)) <= 80 and len(lines) <= 24
    styles = run_styles([Path("runs/one"), Path("runs/two")])
    marks = [styles[Path("runs", name)].mark for name in ("one", "two")]
    assert BRAILLE.search(out) and all(mark in "".join(lines[:-2]) for mark in marks)
    assert [line.split()[:2] for line in lines[-2:]] == [[marks[0], "one"], [marks[1], "two"]]
    assert lines[-1].endswith("epochs 3, optimizer adamw"), "how it differs from the first"
    assert run("runs", "plot", "one", "--log")[0] == 0


def test_plot_writes_the_same_as_a_picture(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "loss.svg"
    assert run("runs", "plot", "one", "two", "one", "--svg", str(file)) == (0, "", "")
    root = ElementTree.parse(file).getroot()
    svg = {"svg": "http://www.w3.org/2000/svg"}
    assert [title.text for title in root.findall("svg:title", svg)] == ["Loss of one, two"]
    styles = run_styles([Path("runs/one"), Path("runs/two")])
    for name in ("one", "two"):
        colour, losses = styles[Path("runs", name)].colour, read_history(Path("runs", name)).evaluations
        marks = [path for path in root.iter() if path.get("class") == "mark" and path.get("stroke") == colour]
        assert len(marks) == len(losses) + 1, "one of them in the legend"
    assert any("epochs 3, optimizer adamw" in (text.text or "") for text in root.iterfind(".//svg:text", svg))
    assert run("runs", "plot", "one", "--svg", str(file)) == (0, "", ""), "a picture replaces a picture"
    refused = run("runs", "plot", "one", "--svg", str(tmp_path / "no" / "loss.svg"))
    assert refused[0] == 2 and "its folder does not exist" in refused[2]


def test_plot_is_coloured_on_a_terminal_unless_the_user_says_no(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundamentallm.cli.runs.is_screen", lambda _: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = run("runs", "plot", "one")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    bare = run("runs", "plot", "one")[1]
    assert "\x1b[38;5;" in coloured and "\x1b" not in bare
    strip = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()]
    assert strip == bare.splitlines()


A_RUN, A_MODEL, ELSE = "is a file of a run", "is a file of a model", "is there already and holds something else"
KEPT = {  # the file that a command is to write, and why it does not
    "runs plot one --svg runs/one/best.pt": A_RUN,
    "runs plot one --svg runs/one/config.yaml": A_RUN,
    "runs plot one --svg text.txt": ELSE,
    "runs export one --csv runs/one/journal.jsonl": A_RUN,
    "runs export one --csv runs/one/checkpoint_epoch_9.pt": A_RUN,
    "runs export one --csv text.txt": ELSE,
    "runs report one --output runs/one/notes.json": A_RUN,
    "evaluate one text.txt --output runs/one/journal.jsonl": A_RUN,
    "evaluate one text.txt --output text.txt": ELSE,
    "generate one --prompt=a --output-file runs/one/last.pt": A_RUN,
    "generate one --prompt=a --output-file link.txt": A_RUN,
    "generate one --prompt=a --output-file copy.pt": A_MODEL,
    "generate one --prompt=a --output-file text.txt": "is there already and is not empty",
}


@pytest.mark.parametrize("command", KEPT)
def test_no_output_replaces_a_file_of_a_run_or_of_another_kind(run: Run, tmp_path: Path, command: str) -> None:
    shutil.copytree("runs/one", "kept/runs/one", dirs_exist_ok=True)  # what a fault would destroy, others need
    os.chdir("kept")
    Path("text.txt").write_text(TEXT)
    shutil.copy("runs/one/best.pt", "copy.pt")
    if not os.path.lexists("link.txt"):
        os.symlink("runs/one/best.pt", "link.txt")
    before = file_contents(Path())
    *_, flag, name = command.replace("=a", "").split()
    assert run(*command.split()) == (2, "", f"{flag} {name}: {KEPT[command]}; name another file\n")
    assert file_contents(Path()) == before


REFUSED = {
    "runs plott": "runs plott: no such command; did you mean plot?",
    "runs show": "Missing argument 'RUN'; see fundamentallm runs show --help",
    "runs show twoo": "twoo: no such run; did you mean runs/two?",
    "runs compare one": "RUN: name two runs or more to compare; fundamentallm runs list shows them",
    "runs compare one zzz": "zzz: no such run; fundamentallm runs list shows the runs that there are",
    "runs plot zzz": "zzz: no such run; fundamentallm runs list shows the runs that there are",
    "runs show one/bset.pt": "one/bset.pt: no such file or run; fundamentallm runs list shows the runs that there are",
    "runs plot early": "early: no steps yet, nothing to plot",
    "runs list nowhere": "nowhere: no such folder",
    "runs export one --csv no/where.csv": "--csv no/where.csv: its folder does not exist",
    "runs export one --csv runs": "--csv runs: is a folder",
    "runs export one --json": "--json: no such option; there are --csv",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_done_is_refused_in_one_line(refused: Refused, words: str) -> None:
    Path("early").mkdir(exist_ok=True)
    first = Path("runs/one/journal.jsonl").read_text().splitlines(keepends=True)[0]
    Path("early/journal.jsonl").write_text(first)
    assert refused(*words.split()) == [REFUSED[words]]
    Path("early/journal.jsonl").unlink()


def test_reading_runs_imports_no_torch(loaded: Callable[..., set[str]], trained_twice: Path) -> None:
    modules = loaded(["runs", "list"], ["data", "list"], ["config", "show"])
    assert not {"torch", "numpy", "textual", "plotext"} & modules
    assert not {"torch", "textual"} & loaded(["runs", "plot", str(trained_twice / "runs" / "one")])
