"""One row of the table: parsing and bounds."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.config.config import SETTINGS
from fundamentallm.errors import UserError


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("epochs", "12", 12),
        ("epochs", 12.0, 12),
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


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("epochs", "ten", "ten is not a whole number, at least 1, at most 1,000,000"),
        ("epochs", 1.5, "1.5 is not a whole number"),
        ("epochs", True, "True is not a whole number"),
        ("epochs", 0, "0 is out of bounds; it must be at least 1, at most 1,000,000"),
        ("epochs", "", "needs a value; a whole number, at least 1"),
        ("epochs", math.inf, "inf is not a whole number"),
        ("learning_rate", 0, "0 is out of bounds; it must be above 0, at most 1"),
        ("learning_rate", "nan", "nan is not a number, above 0, at most 1"),
        ("dropout", 1, "1 is out of bounds; it must be at least 0, below 1"),
        ("val_split", 1.0, "1 is out of bounds; it must be above 0, below 1"),
        ("optimizer", "adamv", "adamv is not one of muon, adamw (did you mean adamw?)"),
        ("early_stopping", "perhaps", "perhaps is not true or false"),
        ("data", 3, "3 is not a path or a list of paths"),
        ("data", [3], "such a list is not a path or a list of paths"),
    ],
)
def test_a_wrong_value_is_answered_with_what_would_be_right(name: str, raw: Any, words: str) -> None:
    with pytest.raises(UserError) as caught:
        SETTINGS[name].parse(raw)
    assert words in str(caught.value)


GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from(sorted(SETTINGS)), raw=GARBAGE)
def test_garbage_is_read_or_refused_with_words_and_never_raises_anything_else(name: str, raw: Any) -> None:
    try:
        value = SETTINGS[name].parse(raw)
    except UserError as error:
        assert str(error) and len(str(error)) < 300
    else:
        assert SETTINGS[name].parse(value) == value


def test_an_enormous_number_is_refused_in_one_short_line() -> None:
    for raw in (10**400, 10**5000, -(10**5000), "1" * 6000):
        with pytest.raises(UserError) as caught:
            SETTINGS["epochs"].parse(raw)
        assert len(str(caught.value)) < 200


def test_every_setting_says_what_it_is_and_its_default_is_valid() -> None:
    for row in SETTINGS.values():
        assert row.help and row.help.endswith(".") and row.group, row.name
        assert row.flag == "--" + row.name.replace("_", "-")
        if row.name != "data":
            assert row.parse(row.default) == row.default
        assert not (row.optional and not row.auto), row.name  # None is explained
        assert not (row.live and row.fixed), row.name
