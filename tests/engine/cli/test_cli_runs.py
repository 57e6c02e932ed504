"""`fundamentallm runs`: what was trained, listed, compared, drawn and exported."""

import csv
import io
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from math import inf, isfinite, log10, nan
from pathlib import Path

import pytest

from fundamentallm.cli import main
from fundamentallm.cli.curves import BRAILLE, Curve, draw, log_ticks, reduce, round_ticks
from fundamentallm.run.history import read_history

Run = Callable[..., tuple[int, str, str]]

TEXT = "".join(random.Random(1).choices("abcdefgh \n", k=3000))
TINY = ["--model-dim=16", "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=32", "--device=cpu"]
DOTS = re.compile("[\u2801-\u28ff]")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs in it; the second went back to its first epoch."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    text, runs = str(folder / "text.txt"), folder / "runs"
    assert main(["train", text, *TINY, "--epochs=2", f"--output-dir={runs / 'one'}"]) == 0
    assert main(["train", text, *TINY, "--epochs=2", "--optimizer=adamw", f"--output-dir={runs / 'two'}"]) == 0
    assert main(["train", "--resume-from", str(runs / "two" / "checkpoint_epoch_1.pt"), "--epochs=3"]) == 0
    return folder


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command beside the runs: status, standard output, standard error."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    capsys.readouterr()

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        return status, *capsys.readouterr()

    return run


def test_list_shows_every_run_the_newest_first(run: Run) -> None:
    status, out, err = run("runs", "list")
    rows = [re.split(r"  +", line) for line in out.splitlines()]
    assert (status, err) == (0, "")
    assert [row[:2] for row in rows[1:]] == [["runs/two", "finished"], ["runs/one", "finished"]]
    assert [row[5] for row in rows[1:]] == ["18/18", "12/12"]
    assert run("runs", "list", "runs/one")[1].count("\n") == 2


def test_list_speaks_json(run: Run) -> None:
    two, one = json.loads(run("runs", "list", "--json")[1])
    assert (one["folder"], one["steps"], one["total_steps"], one["state"]) == ("runs/one", 12, 12, "finished")
    assert two["config"]["optimizer"] == "adamw" and two["best"]["epoch"] in (1, 2, 3)
    assert one["best"]["val_loss"] == min(event.val_loss for event in read_history(Path("runs/one")).evaluations)


def test_no_runs_is_no_error(run: Run, tmp_path: Path) -> None:
    status, out, err = run("runs", "list", str(tmp_path))
    assert (status, out) == (0, "") and err.startswith(f"no runs in {tmp_path} yet; ")
    assert run("runs", "list", "--json", str(tmp_path))[1] == "[]\n"


def test_show_tells_what_was_set_what_was_measured_and_what_there_is(run: Run) -> None:
    out = run("runs", "show", "two")[1]
    settings = dict(line.split() for line in out.split("\n\n")[1].splitlines()[1:])
    assert settings == {
        "data": str(Path.cwd() / "text.txt"), "max_seq_len": "16", "stride": "16", "model_dim": "16", "num_layers": "1",
        "batch_size": "32", "epochs": "3", "optimizer": "adamw", "device": "cpu",
        "output_dir": str(Path("runs/two").absolute()),
    }  # fmt: skip
    table = [line.split() for line in out.split("\n\n")[2].splitlines()[2:]]
    events = read_history(Path("runs/two")).evaluations
    assert [row[:4] for row in table] == [
        [str(event.epoch), str(event.step), f"{event.train_loss:.4f}", f"{event.val_loss:.4f}"] for event in events
    ]
    assert [row[0] for row in table] == ["1", "2", "3"] and sum("lowest" in row for row in table) == 1
    assert {"best.pt", "final_model.pt", "journal.jsonl"} <= set(out.split("files\n")[1].split())


def test_compare_shows_only_settings_that_differ(run: Run) -> None:
    rows = {line.split("  ")[0].strip(): line for line in run("runs", "compare", "one", "runs/two")[1].splitlines()}
    assert list(rows) == [
        "", "epochs", "optimizer", "parameters", "state", "steps", "train_loss", "val_loss", "best val_loss",
    ]  # fmt: skip
    assert rows["optimizer"].split() == ["optimizer", "muon", "adamw"]
    lowest = [min(event.val_loss for event in read_history(Path("runs", name)).evaluations) for name in ("one", "two")]
    marked = [f"{loss:.4f}" + (" (lowest)" if loss == min(lowest) else "") for loss in lowest]
    assert re.split("  +", rows["best val_loss"].strip())[1:] == marked


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


def test_plot_draws_both_curves_without_escapes_where_no_person_looks(run: Run) -> None:
    status, out, err = run("runs", "plot", "one", "two")
    lines = out.splitlines()
    assert (status, err) == (0, "") and "\x1b" not in out
    assert max(map(len, lines)) <= 80 and len(lines) <= 24
    assert DOTS.search(out) and "●" in "".join(lines[:-2]) and "■" in "".join(lines[:-2])
    assert [line.split()[:2] for line in lines[-2:]] == [["●", "runs/one"], ["■", "runs/two"]]
    assert run("runs", "plot", "one", "--log")[0] == 0


def test_plot_is_coloured_on_a_terminal_unless_a_person_says_no(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundamentallm.cli.runs.is_screen", lambda _: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = run("runs", "plot", "one")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    bare = run("runs", "plot", "one")[1]
    assert "\x1b[38" in coloured and "\x1b" not in bare
    strip = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()]
    assert strip == bare.splitlines()


REFUSED = {
    "runs plott": "runs plott: no such command; did you mean plot?",
    "runs show": "Missing argument 'RUN'; see fundamentallm runs show --help",
    "runs show twoo": "twoo: no such run; did you mean runs/two?",
    "runs compare one": "RUN: name two runs or more to compare; fundamentallm runs list shows them",
    "runs compare one zzz": "zzz: no such run; fundamentallm runs list shows those that there are",
    "runs plot zzz": "zzz: no such run; fundamentallm runs list shows those that there are",
    "runs plot early": "early: no steps yet, nothing to plot",
    "runs list nowhere": "nowhere: no such folder",
    "runs export one --csv no/where.csv": "--csv no/where.csv: its folder does not exist",
    "runs export one --csv runs": "--csv runs: is a folder",
    "runs export one --json": "--json: no such option; there are --csv",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_done_is_one_line(run: Run, words: str) -> None:
    Path("early").mkdir(exist_ok=True)
    first = Path("runs/one/journal.jsonl").read_text().splitlines(keepends=True)[0]
    Path("early/journal.jsonl").write_text(first)
    before = sorted(Path().rglob("*"))
    assert run(*words.split()) == (2, "", REFUSED[words] + "\n")
    assert sorted(Path().rglob("*")) == before
    Path("early/journal.jsonl").unlink()


def test_names_from_a_journal_do_not_command_the_terminal(run: Run, tmp_path: Path) -> None:
    hostile = tmp_path / "a\x1b[2Jb"
    hostile.mkdir()
    journal = Path("runs/one/journal.jsonl").read_text().replace("text.txt", "\\u001b[31m\\nx.txt")
    (hostile / "journal.jsonl").write_text(journal)
    for words in (["list", str(tmp_path)], ["show", str(hostile)], ["compare", "one", str(hostile)],
                  ["plot", str(hostile)], ["show", str(hostile / "no")]):  # fmt: skip
        status, out, err = run("runs", *words)
        assert "\x1b" not in out + err, words
    assert run("runs", "list", str(tmp_path))[1].count("\n") == 2


def test_a_chart_is_drawn_of_whatever_the_numbers_are() -> None:
    for ys in ([nan, 1.0], [inf, -inf, 2.0], [0.0, -1.0, 3.0], [5.0], [1e308, 1e-308], [2.0] * 50, [1e-9, 1e9]):
        for log in (False, True):
            curve = Curve(range(1, len(ys) + 1), ys, BRAILLE, "red")
            for colour, ascii in ((True, False), (False, True)):
                lines = draw([curve], 40, 10, log=log, colour=colour, ascii=ascii)
                assert len(lines) in (0, 10) and (not ascii or "".join(lines).isascii()), (ys, log)
    assert draw([Curve([], [], BRAILLE, "red"), Curve([1], [nan], "o", "red")], 40, 10, log=False, colour=False,
                ascii=False) == []  # fmt: skip


def test_a_series_is_reduced_to_the_extremes_of_its_columns() -> None:
    ys = [random.Random(n).random() for n in range(10_000)]
    ys[1234], ys[8765], ys[5000:5100] = -7.0, 7.0, [nan] * 100
    xs, kept = reduce(range(10_000), ys, 100)
    assert len(xs) <= 200 and xs == sorted(set(xs))
    assert (min(kept), max(kept)) == (-7.0, 7.0) and xs[kept.index(-7.0)] == 1234
    assert [x for x, y in zip(xs, kept, strict=True) if not isfinite(y)] == [5000]
    assert reduce([1, 2], [3.0, nan], 100)[0] == [1, 2]


def test_ticks_are_round_and_within_the_axis() -> None:
    assert round_ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10] and round_ticks(1.48, 1.53, 4) == [
        1.48,
        1.49,
        1.5,
        1.51,
        1.52,
        1.53,
    ]
    assert [value for _, value in log_ticks(log10(0.9), log10(60), 6)] == [1, 2, 5, 10, 20, 50]
    dice = random.Random(5)
    for _ in range(500):
        low = dice.uniform(-5, 5) * 10 ** dice.randint(-6, 6)
        high = low + 10 ** dice.uniform(-3, 3) * max(abs(low), 1e-6)
        ticks = round_ticks(low, high, 5)
        slack = 1e-6 * (high - low)
        assert 2 <= len(ticks) <= 12 and all(low - slack <= tick <= high + slack for tick in ticks), (low, high, ticks)


def test_reading_runs_loads_no_torch() -> None:
    probe = (
        "import sys; from fundamentallm.cli import main; main(['runs', 'list']); main(['data', 'list']); "
        "main(['config', 'show']); sys.exit(bool({'torch', 'numpy', 'textual', 'plotext'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True).returncode == 0
