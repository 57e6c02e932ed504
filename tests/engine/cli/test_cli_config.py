"""`fundamentallm config show`: every setting, its value, and where that came from."""

import json
import re
from pathlib import Path

import pytest

from fundamentallm.config.config import SETTINGS, Config, Layer, flags_layer, origins, resolve, to_dict
from fundamentallm.config.files import load_config, load_preset
from tests.engine.cli.conftest import Run

FLAGS = ("text.txt", "--preset", "small", "--config", "c.yaml", "--seed", "4", "--early-stopping")


@pytest.fixture
def show(run: Run) -> Run:
    """Runs `config show` beside a configuration file."""
    Path("c.yaml").write_text("# mine\nepochs: 7\n\nseed: 3\n")
    return lambda *arguments: run("config", "show", *arguments)


def test_json_has_each_value_that_train_would_use_and_its_origin(show: Run) -> None:
    rows = json.loads(show(*FLAGS, "--json")[1])
    assert list(rows) == list(SETTINGS)
    from_elsewhere = {name: row["origin"] for name, row in rows.items() if row["origin"] != "default"}
    small = load_preset("small").layer
    from_preset = ("model_dim", "num_heads", "num_layers", "batch_size", "learning_rate")  # no stride for another text
    assert from_elsewhere == {
        "data": "argument", "epochs": "c.yaml, line 2", "seed": "--seed", "early_stopping": "--early-stopping",
        **{name: f"preset small, {small.places[name].rsplit(', ', 1)[1]}" for name in from_preset},
    }  # fmt: skip
    assert rows["model_dim"]["origin"].startswith("preset small, line ")
    assert all(rows[name]["help"] == row.help for name, row in SETTINGS.items())
    typed = Layer({"epochs": 7, "seed": 4, "data": "text.txt", "early_stopping": True, "stride": None})
    assert {name: row["value"] for name, row in rows.items()} == to_dict(resolve(small, typed))
    assert {name: row["value"] for name, row in json.loads(show("--json")[1]).items()} == to_dict(Config())


def test_the_yaml_is_read_back_to_the_same_configuration(show: Run) -> None:
    status, out, err = show(*FLAGS, "--yaml")
    assert (status, err) == (0, "")
    Path("again.yaml").write_text(out)
    assert show("--config", "again.yaml", "--yaml")[1] == out
    assert resolve(load_config(Path("again.yaml"))).epochs == 7


def test_the_table_has_every_setting_with_its_help(show: Run) -> None:
    out = show(*FLAGS)[1]
    rows = {line.split()[0]: re.split("  +", line.strip()) for line in out.splitlines() if re.match("  [a-z]", line)}
    assert list(rows) == list(SETTINGS)
    assert rows["epochs"][1:] == ["7", "c.yaml, line 2"]
    assert rows["early_stopping"][1:] == ["on", "--early-stopping"]
    assert rows["ff_dim"][1:] == ["auto (4 x model_dim)", "default"]
    assert rows["learning_rate"][1] == "0.001"
    flat = " ".join(out.split())
    assert all(" ".join(row.help.split()) in flat for row in SETTINGS.values())


@pytest.mark.parametrize(
    ("arguments", "data", "mixed"),
    [
        ("a.txt", ["a.txt"], None),
        ("a.txt --mixed-precision", ["a.txt"], True),
        ("--mixed-precision a.txt", ["a.txt"], True),
        ("--mixed-precision on a.txt", ["a.txt"], True),
        ("--mixed-precision=off a.txt", ["a.txt"], False),
        ("--mixed-precision False a.txt", ["a.txt"], False),
        ("a.txt -- --mixed-precision", ["a.txt", "--mixed-precision"], None),
        ("--preset medium --mixed-precision off", None, False),
        ("--preset medium --mixed-precision auto", None, None),
        ("--preset medium --no-mixed-precision", None, False),
        ("--preset medium", None, True),
    ],
)
def test_a_flag_that_may_stand_alone_takes_no_text_for_its_word(
    run: Run, arguments: str, data: list[str] | None, mixed: bool | None
) -> None:
    status, out, _ = run("config", "show", "--json", *arguments.split())
    found = json.loads(out)
    assert (status, found["mixed_precision"]["value"]) == (0, mixed)
    assert data is None or found["data"]["value"] == data
    status, _, err = run("config", "show", "--mixed-precision=maybe")
    assert (status, err) == (2, "--mixed-precision: maybe is not one of auto, off, on\n")


def test_the_origin_is_the_later_layer() -> None:
    found = origins(Layer({"epochs": 1, "seed": 2}, {"epochs": "a", "seed": "b"}), flags_layer({"epochs": 3}))
    assert (found["epochs"], found["seed"], found["dropout"]) == ("--epochs", "b", "default")
