"""`fundamentallm config show`: every setting, its value, and where that came from."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fundamentallm.cli import main
from fundamentallm.config.config import SETTINGS, Config, Layer, flags_layer, origins, resolve, to_dict
from fundamentallm.config.files import load_config, load_preset

Run = Callable[..., tuple[int, str, str]]

WORDS = ("text.txt", "--preset", "small", "--config", "c.yaml", "--seed", "4", "--early-stopping")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `config show` beside a configuration file: status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("c.yaml").write_text("# mine\nepochs: 7\n\nseed: 3\n")
    capsys.readouterr()

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["config", "show", *arguments])
        return status, *capsys.readouterr()

    return run


def test_each_value_names_the_layer_that_it_came_from(run: Run) -> None:
    told = json.loads(run(*WORDS, "--json")[1])
    assert list(told) == list(SETTINGS)
    from_elsewhere = {name: row["origin"] for name, row in told.items() if row["origin"] != "default"}
    small = load_preset("small").layer.places
    from_preset = ("model_dim", "num_heads", "num_layers", "batch_size", "learning_rate", "stride")
    assert from_elsewhere == {
        "data": "argument", "epochs": "c.yaml, line 2", "seed": "--seed", "early_stopping": "--early-stopping",
        **{name: f"preset small, {small[name].rsplit(', ', 1)[1]}" for name in from_preset},
    }  # fmt: skip
    assert told["model_dim"]["origin"].startswith("preset small, line ")
    assert all(told[name]["help"] == row.help for name, row in SETTINGS.items())


def test_the_values_are_those_that_train_would_use(run: Run) -> None:
    expected = resolve(
        load_preset("small").layer, Layer({"epochs": 7}), Layer({"seed": 4, "data": "text.txt", "early_stopping": True})
    )
    told = json.loads(run(*WORDS, "--json")[1])
    assert {name: row["value"] for name, row in told.items()} == to_dict(expected)
    assert {name: row["value"] for name, row in json.loads(run("--json")[1]).items()} == to_dict(Config())


def test_the_yaml_is_read_back_to_the_same_configuration(run: Run) -> None:
    status, out, err = run(*WORDS, "--yaml")
    assert (status, err) == (0, "")
    Path("again.yaml").write_text(out)
    assert run("--config", "again.yaml", "--yaml")[1] == out
    assert resolve(load_config(Path("again.yaml"))).epochs == 7


def test_people_see_every_setting_with_its_help(run: Run) -> None:
    out = run(*WORDS)[1]
    rows = {line.split()[0]: re.split("  +", line.strip()) for line in out.splitlines() if re.match("  [a-z]", line)}
    assert list(rows) == list(SETTINGS)
    assert rows["epochs"][1:] == ["7", "c.yaml, line 2"]
    assert rows["early_stopping"][1:] == ["on", "--early-stopping"]
    assert rows["ff_dim"][1:] == ["auto (4 x model_dim)", "default"]
    assert rows["learning_rate"][1] == "0.001"
    flat = " ".join(out.split())
    assert all(" ".join(row.help.split()) in flat for row in SETTINGS.values())


def test_the_later_layer_is_named() -> None:
    found = origins(Layer({"epochs": 1, "seed": 2}, {"epochs": "a", "seed": "b"}), flags_layer({"epochs": 3}))
    assert (found["epochs"], found["seed"], found["dropout"]) == ("--epochs", "b", "default")


REFUSED = {
    "--epochs 0 --dropout x": [
        "--epochs: 0 is out of bounds; it must be at least 1, at most 1,000,000",
        "--dropout: x is not a number, at least 0, below 1",
    ],
    "--preset tinny": ["--preset tinny: no such preset; did you mean tiny?"],
    "--config none.yaml": ["none.yaml: cannot be read: No such file or directory"],
    "--config bad.yaml": ["epoch: no such setting; did you mean epochs? (bad.yaml, line 1)"],
    "--preset small --num-heads 7": ["--num-heads: 7 does not divide model_dim 128; 1, 2, 4, 8, 16, 32 or 64 do"],
    "--json --yaml": ["--yaml: --json was given too; leave one out"],
    "--epoch 3": ["--epoch: no such option; did you mean --epochs?"],
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_train_would_refuse_is_refused_in_the_same_words(run: Run, words: str) -> None:
    Path("bad.yaml").write_text("epoch: 3\n")
    status, out, err = run(*words.split())
    assert (status, out, err.splitlines()) == (2, "", REFUSED[words])
