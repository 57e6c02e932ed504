"""Parsing one setting; layers, validation and resuming."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.config.config import (
    SETTINGS,
    ConfigError,
    Layer,
    changed_when_resuming,
    flags_layer,
    resolve,
    to_dict,
)
from fundamentallm.config.files import load_config, to_yaml
from fundamentallm.config.format import format_value


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("epochs", "12", 12),
        ("epochs", 12.0, 12),
        ("pin_every", "9" * 20, 10**20 - 1),
        ("inspect_every", 10**20 - 1, 10**20 - 1),
        ("learning_rate", "1e-3", 0.001),
        ("learning_rate", 1, 1.0),
        ("early_stopping", "yes", True),
        ("early_stopping", "off", False),
        ("stride", "auto", None),
        ("stride", "", None),
        ("ff_dim", None, None),
        ("data", "a.txt", ("a.txt",)),
        ("data", ["a.txt", "b.txt"], ("a.txt", "b.txt")),
        ("output_dir", 7, "7"),
    ],
)
def test_a_value_is_read_as_its_type(name: str, raw: Any, value: Any) -> None:
    read = SETTINGS[name].parse(raw)
    assert read == value and type(read) is type(value)


WRONG = [
    ({"epochs": "ten"}, "epochs: ten is not a whole number, at least 1, at most 1,000,000"),
    ({"epochs": True}, "epochs: True is not a whole number"),
    ({"epochs": ""}, "epochs: needs a whole number, at least 1"),
    ({"epochs": math.inf}, "epochs: inf is not a whole number"),
    ({"epochs": "1" * 6000}, "1… is not a whole number"),
    ({"epochs": 1.5}, "epochs: 1.5 is not a whole number, at least 1, at most 1,000,000"),
    ({"epochs": 0}, "epochs: 0 is out of bounds; it must be at least 1, at most 1,000,000"),
    ({"epochs": "9" * 20}, "9 is out of bounds; it must be at least 1, at most 1,000,000"),
    ({"epochs": 10**400}, "epochs: an enormous number is out of bounds; it must be at least 1, at most 1,000,000"),
    ({"pin_every": "1" * 61}, "pin_every: an enormous number is too large; write 60 digits at most"),
    ({"gradient_clip": "inf"}, "gradient_clip: inf is out of bounds; it must be at least 0, at most 1e+30"),
    ({"learning_rate": "nan"}, "learning_rate: nan is not a number, above 0, at most 1"),
    ({"learning_rate": 0}, "learning_rate: 0 is out of bounds; it must be above 0, at most 1"),
    ({"optimizer": "adamv"}, "optimizer: adamv is not one of muon, adamw (did you mean adamw?)"),
    ({"early_stopping": "perhaps"}, "early_stopping: perhaps is not true or false"),
    ({"data": 3}, "data: 3 is not a name or a list of names"),
    ({"data": [3]}, "data: such a list is not a name or a list of names"),
    ({"stride": 300}, "stride: 300 is more than max_seq_len 256; text would be skipped"),
    ({"model_dim": 15}, "model_dim: 15 is odd; 16 would do"),
    ({"model_dim": 12, "num_heads": 5}, "num_heads: 5 does not divide model_dim 12; 1, 2, 3 or 6 do"),
    ({"model_dim": 12, "num_heads": 4}, "num_heads: 4 leaves heads of odd width 3; 1, 2, 3 or 6 do"),
    ({"model_dim": 2, "num_heads": 2}, "num_heads: 2 leaves heads of odd width 1; 1 does"),
    ({"augment": "casings"}, "augment: casings: no such variation; did you mean casing?"),
    ({"augment": "casing,puctuation=0.1"}, "augment: puctuation=0.1: no such variation; did you mean punctuation?"),
    ({"augment": "zz"}, "augment: zz: no such variation; there are casing, punctuation, whitespace"),
    ({"augment": "casing=2"}, "augment: casing=2: the probability must be from 0 to 1, as in casing=0.05"),
    ({"augment": "casing=nan"}, "augment: casing=nan: the probability must be from 0 to 1"),
    ({"augment": "casing=often"}, "augment: casing=often: the probability must be from 0 to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "words"), WRONG)
def test_a_wrong_value_is_answered_with_what_would_be_right(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(Layer(values))
    assert words in str(caught.value) and len(caught.value.problems) == 1


def test_a_value_is_written_as_the_flag_that_gives_it() -> None:
    values = {"learning_rate": 5e-05, "stride": None, "wandb": False, "include": ("*.rst", "a b"), "project": "-x"}
    assert [SETTINGS[name].as_flag(value) for name, value in values.items()] == [
        "--learning-rate 5e-05", "--stride auto", "--no-wandb", "--include '*.rst' --include 'a b'", "--project=-x",
    ]  # fmt: skip
    words = {True: "on", False: "off", None: "auto"}
    mixed = SETTINGS["mixed_precision"]
    assert {value: mixed.as_flag(value) for value in words} == {
        value: f"--mixed-precision {word}" for value, word in words.items()
    }
    assert {mixed.parse(word): word for word in words.values()} == words


def test_every_setting_says_what_it_is_and_its_default_is_valid() -> None:
    for row in SETTINGS.values():
        assert row.help and row.help.endswith(".") and row.group, row.name
        assert row.flag == "--" + row.name.replace("_", "-")
        if row.name != "data":
            assert row.parse(row.default) == row.default
        assert not (row.optional and not row.auto), row.name  # None is explained
        assert not (row.live and row.fixed), row.name


# ---- configurations ----


def test_defaults_are_the_guides() -> None:
    c = resolve()
    assert (c.model_dim, c.num_layers, c.num_heads, c.ff_dim, c.ff_width) == (128, 6, 2, None, 512)
    assert (c.learning_rate, c.batch_size, c.epochs, c.dropout) == (1e-3, 16, 10, 0.1)
    assert (c.max_seq_len, c.val_split, c.lr_schedule, c.optimizer) == (256, 0.1, "cosine", "muon")


def test_a_later_layer_wins_value_by_value() -> None:
    preset = Layer({"epochs": 5, "batch_size": 4, "dropout": 0.2})
    file = Layer({"batch_size": 8, "dropout": 0.3})
    c = resolve(preset, file, flags_layer({"dropout": "0.4"}))
    assert (c.epochs, c.batch_size, c.dropout, c.num_layers) == (5, 8, 0.4, 6)


def test_every_problem_is_said_at_once_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("epochs: 0\n\nlearning_rat: 0.1\ndropout: 2\nbatch_size: many\nmodel_dim: 256\nnum_heads: 7\n")
    with pytest.raises(ConfigError) as caught:
        resolve(load_config(path), flags_layer({"val_split": "1.5"}))
    assert sorted(str(caught.value).splitlines()) == [
        "--val-split: 1.5 is out of bounds; it must be above 0, below 1",
        f"batch_size: many is not a whole number, at least 1, at most 65,536 ({path}, line 5)",
        f"dropout: 2 is out of bounds; it must be at least 0, below 1 ({path}, line 4)",
        f"epochs: 0 is out of bounds; it must be at least 1, at most 1,000,000 ({path}, line 1)",
        f"learning_rat: no such setting; did you mean learning_rate? ({path}, line 3)",
        f"num_heads: 7 does not divide model_dim 256; 1, 2, 4, 8, 16, 32, 64 or 128 do ({path}, line 7)",
    ]


def test_resuming_keeps_the_saved_configuration_under_what_was_typed() -> None:
    saved = resolve(Layer({"data": "a.txt", "epochs": 3, "model_dim": 64, "dropout": 0.2}))
    assert changed_when_resuming(saved, {"epochs": "9"}) == replace(saved, epochs=9)
    assert changed_when_resuming(saved, {"model_dim": 64}) == saved  # typed, but the same


@pytest.mark.parametrize("name", sorted(name for name, row in SETTINGS.items() if row.fixed))
def test_resuming_refuses_a_setting_that_the_saved_state_is_made_of(name: str) -> None:
    saved = resolve(Layer({"data": "a.txt", "model_dim": 64, "num_heads": 2, "stride": 16}))
    other: dict[str, Any] = {"optimizer": "adamw", "num_heads": 4, "val_split": 0.2, "stride": 32, "ff_dim": 99}
    value = other.get(name, getattr(saved, name) and getattr(saved, name) * 2 or 5)
    with pytest.raises(ConfigError) as caught:
        changed_when_resuming(saved, {name: value})
    assert [problem.name or problem.place for problem in caught.value.problems] == [SETTINGS[name].flag]
    assert f"cannot change on resume: the checkpoint has {format_value(getattr(saved, name))};" in str(caught.value)


PATHS = st.text(min_size=1, max_size=20).filter(lambda text: text.strip().lower() not in ("", "auto", "none"))
CONFIGURATIONS = st.fixed_dictionaries(
    {
        "data": st.lists(PATHS, max_size=3),
        "output_dir": st.none() | PATHS,
        "log_dir": PATHS,
        "project": PATHS,
        "augment": st.none() | st.sampled_from(["casing", "casing=0.5,whitespace", "punctuation=1"]),
        "optimizer": st.sampled_from(SETTINGS["optimizer"].choices),
        "learning_rate": st.floats(0, 1, exclude_min=True),
        "gradient_clip": st.floats(0, 1e30),
        "stride": st.none() | st.integers(1, 256),
        "seed": st.integers(0, 2**31 - 1),
        "early_stopping": st.booleans(),
    }
)


@given(values=CONFIGURATIONS)
def test_a_configuration_written_as_yaml_is_read_back_the_same(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = resolve(Layer(values))
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert resolve(load_config(path)) == config == resolve(Layer(to_dict(config)))
