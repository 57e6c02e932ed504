"""Which runs a filter finds, and their order."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config, to_dict
from fundamentallm.errors import UserError
from fundamentallm.run.notes import write_notes
from fundamentallm.run.summary import RunSummary
from fundamentallm_tui.screens.run_table import arrange, as_tree
from tests.events import evaluated


def run(name: str, state: str = "finished", best: float | None = None, **settings: Any) -> RunSummary:
    """A run with 100 steps for each letter of its name."""
    tags = {"red": ("Good", "night"), "blue": ("bad",)}.get(name, ())
    config = to_dict(Config(data=(f"{name}.txt",), **settings))
    return RunSummary(
        folder=Path("runs", name), state=state, started=1.0, last_event=float(len(name)), config=config, parameters=1,
        steps=100 * len(name), total_steps=900, epoch=1, epochs=9, train_loss=1.0, val_loss=best, note=f"try {name}",
        best=evaluated(5, best) if best else None, tags=tags, preset="tiny",
    )  # fmt: skip


RUNS = [
    run("red", best=2.0, learning_rate=0.003, lr_schedule="linear"),
    run("blue", "failed", learning_rate=0.001),
    run("green", best=1.5, learning_rate=0.01, tensorboard=True),
    run("training", "training", best=3.0, learning_rate=0.001, max_steps=7),
]
FOUND = {
    "": ["training", "green", "blue", "red"],
    "RE": ["green", "red"],
    "try re": ["green", "red"],
    "tag:good": ["red"],
    "state:fin": ["green", "red"],
    "good": ["red"],
    "learning_rate=1e-3": ["training", "blue"],
    "learning_rate>0.001 best<2": ["green"],
    "learning_rate>=0.003 learning_rate<=0.01": ["green", "red"],
    "best>0": ["training", "green", "red"],
    "steps<400": ["red"],
    "lr_schedule=LINEAR": ["red"],
    "tensorboard=on": ["green"],
    "max_steps=auto": ["green", "blue", "red"],
    "data=blue.txt": ["blue"],
    "x:y": [],
}


@pytest.mark.parametrize("expression", FOUND)
def test_a_filter_finds_runs_by_words_tags_states_settings_and_numbers(expression: str) -> None:
    assert [found.folder.name for found in arrange(RUNS, expression, "newest")] == FOUND[expression]


WRONG = {
    "learning_rat>1": "learning_rat: no such setting; did you mean learning_rate?",
    "best<": "best<: a number must follow <",
    "best<x": "best<x: a number must follow <",
    "seed=": "seed=: a value must follow =",
    "newest>3": "newest: no such setting",
    "best<nan": "best<nan: nothing compares with nan",
    "best==2": "best==2: write a name, one of < > <= >= =, and a value, without spaces between them",
    ">0.1": ">0.1: write a name, one of < > <= >= =, and a value, without spaces between them",
}


@pytest.mark.parametrize("expression", WRONG)
def test_a_wrong_filter_is_said_in_one_line(expression: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(WRONG[expression])}"):
        arrange(RUNS, f"red {expression}", "newest")


ORDERED = {
    "newest": ["training", "green", "blue", "red"],
    "name": ["training", "blue", "green", "red"],
    "steps": ["training", "green", "blue", "red"],
    "best loss": ["training", "green", "red", "blue"],
    "-best": ["training", "red", "green", "blue"],
    "-newest": ["training", "red", "blue", "green"],
    "-best loss": ["training", "red", "green", "blue"],
    "learning_rate": ["training", "blue", "red", "green"],
    "-learning_rate": ["training", "green", "red", "blue"],
    "lr_schedule": ["training", "blue", "green", "red"],
}


@pytest.mark.parametrize("order", ORDERED)
def test_runs_are_sorted_by_any_setting_or_number_live_ones_first_and_unknown_values_last(order: str) -> None:
    assert [found.folder.name for found in arrange(RUNS, "", order)] == ORDERED[order]


def branch(name: str, parent: str) -> RunSummary:
    return replace(run(name), parent=f"runs/{parent}/last.pt" if parent else "")


@pytest.mark.parametrize(
    ("runs", "tree"),
    [
        ([("b", "a"), ("c", ""), ("a", "")], ["a", " b", "c"]),
        ([("d", "b"), ("c", "a"), ("b", "a"), ("a", "")], ["a", " c", " b", "  d"]),
        ([("b", "gone"), ("a", "")], ["b", "a"]),
        ([("a", "b"), ("b", "a"), ("c", "c")], ["a", " b", "c"]),  # journals that nobody can have written
    ],
)
def test_a_branch_stands_below_the_run_that_it_came_from(
    runs: list[tuple[str, str]], tree: list[str], here: Path
) -> None:
    depths = as_tree([branch(name, parent) for name, parent in runs])
    assert [" " * depth + folder.name for folder, depth in depths.items()] == tree
    renamed = here / "runs" / "z"
    renamed.mkdir(parents=True)
    (renamed / "journal.jsonl").touch()
    write_notes(renamed, former_names=["a"])
    assert as_tree([branch("b", "a"), branch("z", "")]) == {Path("runs/z"): 0, Path("runs/b"): 1}
    deep = as_tree([branch(f"n{n}", f"n{n - 1}") for n in range(3000)])
    assert [*deep.values()] == [*range(3000)]
