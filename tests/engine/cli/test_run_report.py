"""`fundamentallm runs report`: a page about a run, whose command trains it again to the same losses."""

import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fundamentallm.cli import main
from fundamentallm.run.events import Answered, Intervention, Sampled
from fundamentallm.run.history import read_history
from fundamentallm.run.notes import write_notes
from tests.conftest import file_contents
from tests.engine.cli.conftest import TEXT, TINY, Run
from tests.engine.run.conftest import evaluated, finished, progress, saved, started, write_journal

FIRST, DAY = "it's a [sea] | text.txt", "-dawn's `text`.txt"


def section(report: str, title: str) -> str:
    return report.split(f"## {title}\n", 1)[1].split("\n## ")[0].strip()


def command_in(report: str) -> list[str]:
    """The words of the command that the report gives, as a shell takes them."""
    return shlex.split(section(report, "How to repeat it").removeprefix("```bash\n").split("\n```")[0])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with unusual names and settings, and one that began with its weights."""
    folder = tmp_path_factory.mktemp("reports")
    (folder / FIRST).write_text(TEXT)
    (folder / DAY).write_text(TEXT[:2000])
    out = folder / "runs" / "night run"
    settings = ["--epochs=2", "--learning-rate=0.0030000000000000005", "--augment=casing"]
    command = ["train", str(folder / FIRST), *TINY, *settings, f"--output-dir={out}", "--quiet"]
    assert main(command) == 0
    child = ["train", str(folder / DAY), f"--init-from={out}", "--batch-size=16", "--epochs=1", "--stride=16"]
    assert main([*child, f"--output-dir={folder / 'runs' / 'child'}", "--quiet"]) == 0
    resumed, short = folder / "runs" / "resumed", ["--max-steps=6", "--quiet"]
    assert main(["train", str(folder / FIRST), *TINY, *short, f"--output-dir={resumed}"]) == 0
    assert main(["train", f"--resume-from={resumed}", "--max-steps=9", "--quiet"]) == 0
    return folder


@pytest.mark.parametrize("name", ["night run", "child", "resumed"])
def test_the_command_in_a_report_trains_the_run_again_to_the_same_losses(
    run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(runs)
    status, out, err = run("runs", "report", name)
    assert (status, out, err) == (0, f"runs/{name}/report.md\n", "")
    program, *words = command_in(Path(out.strip()).read_text())
    assert program == "fundamentallm" and run(*words, "--quiet")[0] == 0
    first, again = (read_history(Path("runs", folder)) for folder in (name, f"{name}-again-1"))
    assert again.train_loss == first.train_loss and len(again.train_loss) > 5
    assert again.evaluations[-1].val_loss == first.evaluations[-1].val_loss
    assert words[-2:] == ["--output-dir", f"runs/{name}-again-1"]
    monkeypatch.chdir(Path("runs", name))  # the folder has no name there
    assert run("runs", "report", ".")[0] == 0
    assert command_in(Path("report.md").read_text())[-1] == str(Path.cwd().with_name(f"{name}-again-2"))


def test_settings_that_only_a_start_can_change_are_those_of_the_last_and_lists_are_repeated(
    run: Run, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs)
    Path("old.txt").write_text(TEXT)
    assert run("train", "old.txt", *TINY, "--max-steps=6", "--output-dir=runs/moved", "--quiet")[0] == 0
    Path("old.txt").rename("new.txt")
    assert run("train", "new.txt", "--resume-from=runs/moved", "--max-steps=9", "--pin=the", "--quiet")[0] == 0
    assert run("runs", "report", "moved")[0] == 0
    _, *words = command_in(Path("runs/moved/report.md").read_text())
    assert run(*words, "--quiet")[0] == 0
    first, second = (read_history(Path("runs", name)) for name in ("moved", "moved-again-1"))
    assert second.train_loss == first.train_loss and len(second.train_loss) == 9
    stopped = ["--output-dir=runs/stopped", "--resume=auto", "--quiet"]
    assert run(*words, *stopped, "--max-steps=3")[0] == 0  # before the changes, of which one is a list
    assert run("train", *stopped, "--max-steps=9")[0] == 0
    assert len(read_history(Path("runs/stopped")).train_loss) == 9


def test_a_report_has_numbers_settings_changes_rewinds_and_samples(run: Run, tmp_path: Path) -> None:
    folder = Path("runs/night")
    write_journal(
        folder,
        started(
            config={"data": ["a.txt"], "epochs": 4, "learning_rate": 0.002}, preset="tiny", host="lab-3", processes=2
        ),
        progress(1, 10), evaluated(10, 2.5, train_loss=2.25, perplexity=12.18), saved(10),
        Sampled(step=10, id="a", prompt="The ", text="se"),
        Sampled(step=10, id="a", prompt="The ", text="a\n```\x1b", done=True),
        Sampled(step=10, id="a", prompt="The ", text="owl", done=True, number=1),
        Intervention(step=10, setting="dropout", old=0.1, new=0.2, who="ada"),
        Answered(step=10, id="q", command="set", ok=True),
        progress(11, 19),
        started(10, config={"data": ["a.txt"], "epochs": 4}, resumed_from="runs/night/best.pt", changes={"epochs": 9}),
        progress(11, 40), evaluated(40, 2.75, train_loss=1.5),
        finished(40, seconds=61.0, tokens=4000),
    )  # fmt: skip
    write_notes(folder, note="a <b>note</b>", tags=("good",))
    assert run("runs", "report", "night", "--output", "page.md") == (0, "page.md\n", "")
    report = Path("page.md").read_text()
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", report, re.M))
    assert "\n# night\n\na \\<b>note\\</b>\n" in report and rows["tags"] == "good" and rows["preset"] == "tiny"
    assert rows["machine"] == "lab-3, cpu, 2 processes, each with 1 thread"
    assert "--processes 2" in " ".join(command_in(report)) and rows["version"] == "fundamentallm 0, PyTorch 2"
    assert rows["last train_loss, val_loss"] == "1.5000, 2.7500" and rows["steps"] == "40 of 40"
    assert rows["best val_loss"] == "2.5000, perplexity 12.18 (epoch 1, step 10)"
    assert rows["training took"] == "1:01, 4,000 tokens"
    assert "| learning_rate | 0.002 |" in report and "data" not in rows
    assert "| 10 | 19 | runs/night/best.pt | epochs 9 |" in section(report, "Resumed")
    assert (
        section(report, "Samples")
        == "After step 10:\n\n````\nThe sea\n```\ufffd\n````\n\nAfter step 10:\n\n```\nThe owl\n```"
    )
    assert re.search(r"\n\*\*[a-z ]+\*\*: .*2\.750", report), "how the run stands, with its evidence"
    assert "![Losses of each step and of each evaluation](page.svg)" in report
    assert ElementTree.parse("page.svg").getroot().tag.endswith("svg") and not (folder / "report.md").exists()


def test_a_best_loss_that_the_run_went_back_before_is_called_left_behind(run: Run) -> None:
    back = started(10, resumed_from="runs/night/checkpoint_step_10.pt")
    write_journal(Path("runs/night"), started(), progress(1, 20), evaluated(20, 2.5), saved(20), back, progress(11, 12))
    assert run("runs", "report", "night", "--output", "page.md")[0] == 0
    assert ", step 20, left behind)" in Path("page.md").read_text()


@pytest.mark.parametrize("recovered", [False, True], ids=["again", "--resume auto, before the first save"])
def test_of_a_run_that_was_begun_anew_the_last_beginning_is_repeated_and_of_a_branch_what_came_later(
    run: Run, recovered: bool
) -> None:
    a, b = ({"data": ["a.txt"], "learning_rate": rate} for rate in (0.002, 0.004))
    write_journal(Path("runs/anew"), started(config=a), progress(1, 3), started(config=b, recovered=recovered))
    branch, later = (
        started(10, config=a, resumed_from="x/best.pt", changes={"epochs": 9}),
        {"data": ["b.txt"], "epochs": 12},
    )
    resumed = started(20, config=a, resumed_from="runs/branch/last.pt", changes=later)
    write_journal(Path("runs/branch"), branch, progress(11, 20), resumed, progress(21, 30))
    for name in ("anew", "branch"):
        assert run("runs", "report", name)[0] == 0
    anew, branched = (command_in(Path(f"runs/{name}/report.md").read_text()) for name in ("anew", "branch"))
    assert "| learning_rate | 0.004 |" in Path("runs/anew/report.md").read_text()
    assert anew == ["fundamentallm", "train", "a.txt", "--learning-rate", "0.004", "--output-dir", "runs/anew-again-1"]
    assert branched[:7] == ["fundamentallm", "train", "--resume-from", "x/best.pt", "b.txt", "--epochs", "9"]
    assert branched[7:] == ["--apply-interventions", "runs/branch", "--output-dir", "runs/branch-again-1"]


def test_a_change_that_holds_is_in_the_report(run: Run) -> None:
    change = Intervention(step=10, setting="dropout", old=0.1, new=0.2, who="a|da")
    write_journal(Path("runs/x"), started(), progress(1, 10), change, progress(11, 20))
    assert run("runs", "report", "x")[0] == 0
    report = Path("runs/x/report.md").read_text()
    assert section(report, "Changes while it ran").endswith("\n| 10 | dropout | 0.1 | 0.2 | a\\|da |")
    assert "`--apply-interventions` makes the changes of live settings below again, each after the same step;" in report
    assert command_in(report)[-4:-2] == ["--apply-interventions", "runs/x"]


def test_an_older_report_is_replaced_and_nothing_else(run: Run, tmp_path: Path) -> None:
    folder, mine = Path("runs/x"), tmp_path / "mine"
    write_journal(folder, started(), progress(1, 3))
    mine.write_text("mine")
    assert run("runs", "report", "x")[0] == run("runs", "report", "x")[0] == 0
    (folder / "report.svg").unlink()
    assert run("runs", "report", "x")[0] == 0 and Path(folder, "report.svg").is_file(), "made again"
    (folder / "report.svg").unlink()
    (folder / "report.svg").symlink_to(mine)
    way = "is there already and is no report of a run; name another file with --output\n"
    assert run("runs", "report", "x") == (2, "", f"runs/x/report.svg: {way}") and mine.read_text() == "mine"
    (folder / "report.svg").unlink()
    (folder / "report.svg").write_text("<svg>mine</svg>")
    before = file_contents(tmp_path)
    assert run("runs", "report", "x") == (2, "", f"runs/x/report.svg: {way}"), "the picture may be the user's own"
    assert file_contents(tmp_path) == before
    (folder / "report.md").write_text("# My thoughts\n")
    (tmp_path / "b.svg").write_text("<svg/>")
    before = file_contents(tmp_path)
    assert run("runs", "report", "x") == (2, "", f"runs/x/report.md: {way}")
    assert run("runs", "report", "x", "--output", "b.md") == (2, "", f"b.svg: {way}")
    assert run("runs", "report", "x", "--output", "b.svg")[2].startswith("--output b.svg: is the name of the picture;")
    assert run("runs", "report", "x", "--output", "no/b.md") == (2, "", "--output no/b.md: its folder does not exist\n")
    assert file_contents(tmp_path) == before
