"""A run whose end could not be saved: every command says so, and what the file that it uses holds."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run.history import read_history
from fundamentallm.train import checkpoints
from fundamentallm.train.checkpoint import load
from tests.compare_runs import difference
from tests.engine.cli.conftest import TINY, Run

WHY = "No space left on device"
STATE = f"finished, NOT saved: {WHY}"


@pytest.fixture
def unsaved(run: Run, monkeypatch: pytest.MonkeyPatch) -> str:
    """The messages of a training in the folder `full`, whose disk is full after the first of three epochs."""
    Path("text.txt").write_text("the sea was old and grey, and dawn came slowly over the boats\n" * 40)
    save = checkpoints.save

    def refuse(checkpoint: Any, folder: Path, names: list[str]) -> Any:
        if folder.name == "full" and checkpoint.counters["best_epoch"] not in (None, 1):
            raise OSError(28, WHY)
        return save(checkpoint, folder, names)

    monkeypatch.setattr(checkpoints, "save", refuse)
    assert run("train", "text.txt", *TINY, "--epochs=3", "--output-dir=whole")[0] == 0
    status, _, err = run("train", "text.txt", *TINY, "--epochs=3", "--output-dir=full")
    monkeypatch.setattr(checkpoints, "save", save)
    assert status == 1
    return err


def test_the_end_of_training_says_so_and_how_to_resume(unsaved: str) -> None:
    first = read_history(Path("full")).evaluations[0]
    lines = unsaved.splitlines()
    assert f"best validation loss {first.val_loss:.4f} (epoch 1)" in lines  # not the lower ones that no file holds
    assert f"the end could NOT be saved: {WHY}" in lines
    assert lines[-2] == "resume with: fundamentallm train --resume auto --output-dir full"
    assert lines[-1].startswith("try it with: fundamentallm generate full/best.pt")


def test_list_show_compare_and_json_tell_the_state_and_the_best_that_a_file_holds(unsaved: str, run: Run) -> None:
    evaluations = read_history(Path("full")).evaluations
    assert min(event.val_loss for event in evaluations) < evaluations[0].val_loss
    best = f"{evaluations[0].val_loss:.4f}"
    (row,) = [re.split("  +", line) for line in run("runs", "list", ".")[1].splitlines() if line.startswith("full")]
    assert row[1] == STATE and row[-2:] == [best, "1/3"]
    shown = run("runs", "show", "full")[1]
    assert re.search(f"state +{STATE}\n", shown) and re.search(f"best val_loss +{best}\n  best epoch +1, step", shown)
    assert shown.endswith("\nresume with: fundamentallm train --resume auto --output-dir full\n")
    compared = {re.split("  +", line)[0]: re.split("  +", line)[1:] for line in
                run("runs", "compare", "full", "whole")[1].splitlines()}  # fmt: skip
    assert compared["state"] == [STATE, "finished"] and compared["best val_loss"][0] == best
    found = {Path(row["folder"]).name: row for row in json.loads(run("runs", "list", ".", "--json")[1])}
    assert (found["full"]["state"], found["full"]["unsaved"], found["whole"]["unsaved"]) == ("finished", WHY, "")
    assert found["full"]["best"]["val_loss"] == evaluations[0].val_loss


@pytest.mark.parametrize("words", [["generate", "full", "--max-tokens=3"], ["evaluate", "full", "text.txt"]])
def test_generate_and_evaluate_name_the_step_of_the_file(unsaved: str, run: Run, words: list[str]) -> None:
    step = load(Path("full/best.pt")).progress().step
    expected = f"full: the end of that run was NOT saved: {WHY}; this is best.pt, of step {step}\n"
    assert run(*words)[::2] == (0, expected)
    assert run(words[0], "full/best.pt", *words[2:])[2] == "" == run(words[0], "whole", *words[2:])[2]


def test_the_resume_that_is_offered_completes_the_run(unsaved: str, run: Run) -> None:
    assert run("train", "--resume", "auto", "--output-dir", "full")[0] == 0
    assert difference(Path("full"), Path("whole")) == ""
    assert "finished" in run("runs", "list", "full")[1] and "NOT" not in run("runs", "list", "full")[1]
