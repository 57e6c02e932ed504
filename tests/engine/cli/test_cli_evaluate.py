"""`fundamentallm evaluate`: the loss that training had, and the classes of characters that make it up."""

import json
from collections.abc import Callable
from math import exp, log
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli import main
from fundamentallm.cli.evaluate import CLASSES, by_class
from fundamentallm.config.config import Config
from fundamentallm.run.events import Evaluated


def test_classes_of_characters_add_up_to_the_whole() -> None:
    text = "Ab1 c\nÉ\u6f22.\t" * 40
    vocabulary = "".join(sorted(set(text)))
    counts = [[float(i + 1), 2.0 * i, 1.0] for i in range(len(vocabulary))]
    classes = by_class(vocabulary, counts)
    assert list(classes) == list(CLASSES)
    sizes = {name: n for name, (n, _, _) in classes.items()}
    at = {character: i + 1 for i, character in enumerate(vocabulary)}
    assert sizes == {
        "lower case": at["b"] + at["c"], "upper case": at["A"] + at["É"], "other letters": at["\u6f22"],
        "digits": at["1"], "spaces": at[" "], "line ends": at["\n"], "punctuation, other": at["."] + at["\t"],
    }  # fmt: skip
    assert sum(n * loss for n, loss, _ in classes.values()) == pytest.approx(sum(row[1] for row in counts))
    assert sum(n * hits for n, _, hits in classes.values()) == pytest.approx(sum(row[2] for row in counts))
    assert by_class("ab", [[0.0, 0.0, 0.0], [2.0, 3.0, 1.0]]) == {"lower case": (2, 1.5, 0.5)}


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
    assert rows["bits"] == f"{numbers['bits_per_character']:.4f} a character"
    table = out.split("\n\n")[1].splitlines()
    assert table[0].split() == ["characters", "tokens", "loss", "accuracy"]
    assert [line.split("  ")[0] for line in table[1:]] == list(numbers["classes"])
