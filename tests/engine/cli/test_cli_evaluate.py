"""`fundamentallm evaluate`: the loss that training had, and the classes of characters that make it up."""

import json
from collections.abc import Callable
from math import exp, log
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.config.config import Config
from fundamentallm.run.events import Evaluated
from fundamentallm.train.evaluate import CLASSES, by_class
from tests.engine.cli.conftest import Run

Measure = Callable[..., tuple[int, dict[str, Any], str]]


def test_classes_of_characters_add_up_to_the_whole() -> None:
    text = "Ab1 c\nÉ\u6f22.\t" * 40
    vocabulary = ["", *sorted(set(text)), " the"]  # the first is a part of a character
    counts = [[float(i + 1), 2.0 * i, 1.0] for i in range(len(vocabulary))]
    classes = by_class(vocabulary, counts)
    assert list(classes) == list(CLASSES)
    sizes = {name: row["tokens"] for name, row in classes.items()}
    at = {character: i + 1 for i, character in enumerate(vocabulary)}
    assert sizes == {
        "parts of characters": at[""],
        "lower case": at["b"] + at["c"] + at[" the"], "upper case": at["A"] + at["É"], "other letters": at["\u6f22"],
        "digits": at["1"], "spaces": at[" "], "line ends": at["\n"], "punctuation, other": at["."] + at["\t"],
    }  # fmt: skip
    for column, name in ((1, "loss"), (2, "accuracy")):
        total = sum(row["tokens"] * row[name] for row in classes.values())
        assert total == pytest.approx(sum(row[column] for row in counts))
    assert by_class("ab", [[0.0, 0.0, 0.0], [2.0, 3.0, 1.0]]) == {
        "lower case": {"tokens": 2, "loss": 1.5, "accuracy": 0.5}
    }


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must succeed; its standard output."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("changes", [{}, {"mixed_precision": True}, {"augment": "whitespace=0.5", "eval_every": 7}])
def test_the_command_gives_the_loss_that_training_logged_for_its_best(
    train: Callable[..., Any], small: Callable[..., Config], command: Callable[..., str], tmp_path: Path, text: str,
    changes: dict[str, Any],
) -> None:  # fmt: skip
    ran = train(small(epochs=3, learning_rate=0.01, **changes))
    tail = tmp_path / "tail.txt"
    tail.write_text(text[2250:])
    numbers = json.loads(command("evaluate", ran.folder / "best.pt", tail, "--json", "--device", "cpu"))
    assert numbers["loss"] == pytest.approx(ran.result.best_val_loss, abs=1e-6)
    assert numbers["loss"] == min(event.val_loss for event in ran.of(Evaluated))
    assert numbers["tokens"] == 249 == sum(row["tokens"] for row in numbers["classes"].values())
    assert numbers["perplexity"] == pytest.approx(exp(numbers["loss"]))
    assert numbers["bits_per_character"] == pytest.approx(numbers["loss"] / log(2))
    for name, whole in (("loss", numbers["loss"]), ("accuracy", numbers["accuracy"])):
        total = sum(row["tokens"] * row[name] for row in numbers["classes"].values())
        assert total / 249 == pytest.approx(whole, abs=1e-9)


def test_the_table_and_the_file_tell_the_same(
    train: Callable[..., Any], small: Callable[..., Config], command: Callable[..., str], tmp_path: Path, data: str
) -> None:
    ran = train(small(epochs=1))
    out = command("evaluate", ran.folder, data, "--output", tmp_path / "n.json", "--device", "cpu")
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers == json.loads(command("evaluate", ran.folder, data, "--json", "--device", "cpu"))
    rows = dict(line.split(maxsplit=1) for line in out.split("\n\n")[0].splitlines())
    assert rows["loss"] == f"{numbers['loss']:.4f} nats a token" and rows["tokens"] == "2,499"
    assert rows["bits"] == f"{numbers['bits_per_character']:.4f} a character, {numbers['bits_per_byte']:.4f} a byte"
    table = out.split("\n\n")[1].splitlines()
    assert table[0].split() == ["characters", "tokens", "loss", "accuracy"]
    assert [line.split("  ")[0] for line in table[1:]] == list(numbers["classes"])


@pytest.fixture
def measure(trained: Path, run: Run) -> Measure:
    """Runs `evaluate` with a small model: status, numbers, standard error."""

    def measure(*arguments: str) -> tuple[int, dict[str, Any], str]:
        status, out, err = run("evaluate", str(trained), *arguments, "--json", "--device=cpu")
        return status, json.loads(out) if out else {}, err

    return measure


def test_unknown_characters_are_counted_and_left_out(measure: Measure) -> None:
    Path("plain.txt").write_text("the sea\nwas old")
    Path("other.txt").write_text("\ufeffthe X\u00e9sea\r\n\u00e9\u6f22was \u00e9old")
    status, plain, err = measure("plain.txt", "--strict")
    assert (status, plain["left_out"], plain["tokens"], err) == (0, 0, 14, "")
    status, numbers, err = measure("other.txt")
    assert (status, numbers) == (0, {**plain, "left_out": 5})
    assert err == (
        "left out 5 of 20 characters (25.00%) that the model has never seen: '\u00e9' 3 x, 'X' 1 x, '\u6f22' 1 x\n"
    )


def test_strict_refuses_unknown_characters_and_says_where_the_first_is(measure: Measure) -> None:
    Path("a.txt").write_text("the sea\n")
    Path("b.txt").write_text("was\r\nold X and \u00e9")
    status, _, err = measure("a.txt", "b.txt", "--strict")
    assert status == 2 and err.startswith(
        "b.txt, line 2, column 5: the text has characters that the model has never seen: 'X', '\u00e9'; it knows "
    )
    assert err.endswith("; without --strict they are left out\n") and err.count("\n") == 1


def test_several_files_and_folders_are_one_text(measure: Measure) -> None:
    Path("whole.txt").write_text("the sea was old\nthe dawn came so early")
    Path("parts").mkdir()
    for name, text in {
        "1.txt": "the sea ",
        "2.TXT": "was old\n",
        "3.pdf": "no",
        "4.md": "the dawn ",
        ".5.txt": "no",
    }.items():
        Path("parts", name).write_text(text)
    Path("last").write_text("came so early")
    whole, parts = measure("whole.txt"), measure("parts", "last")
    assert parts[:2] == whole[:2] and whole[2] == ""
    read, left_out = parts[2].splitlines()
    assert read == "read 4 files with 38 characters: parts/1.txt, parts/2.TXT, parts/4.md, last"
    assert left_out.startswith("left out: parts/.5.txt, parts/3.pdf; ")


def test_two_tokens_suffice(measure: Measure) -> None:
    refused = {
        "": "x.txt: has no text",
        "t": "x.txt: one token leaves nothing to predict; 2 are needed",
        "t\u00e9": "x.txt: one token leaves nothing to predict; 2 are needed",
        "\u00e9": "x.txt: the model knows none of its characters",
    }
    for text, why in refused.items():
        Path("x.txt").write_text(text)
        status, _, err = measure("x.txt")
        assert (status, err.splitlines()[-1]) == (2, why)
    Path("x.txt").write_text("th")
    status, numbers, err = measure("x.txt")
    assert (status, numbers["tokens"], err) == (0, 1, "")
