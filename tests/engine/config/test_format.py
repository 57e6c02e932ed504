"""Numbers as people read them."""

from math import inf, nan
from typing import Any

import pytest

from fundamentallm.config import format

TEXTS: dict[str, list[tuple[Any, str]]] = {  # by the kind of number
    "loss": [(1.92, "1.920"), (12.3, "12.30"), (123.4, "123.4"), (1e5, "1e+05"), (None, "–")],
    "norm": [(0.414, "0.41"), (12.34, "12.3"), (1234.5, "1234"), (1e5, "1e+05")],
    "rate": [(850, "850"), (24_100, "24.1k"), (999_600, "1.00M"), (1e15, "∞"), (-1, "–")],
    "parameters": [(9_999, "9,999"), (12_345, "12.3 k"), (790_000, "0.79 M"), (1.3e9, "1.30 B")],
    "size": [(512, "512 B"), (1_600_000, "1.6 MB"), (2.5e9, "2.5 GB")],
    "memory": [
        (0, "0 MiB"), (2**30 - 1, "1024 MiB"), (22.4 * 2**30, "22.4 GiB"), (900 * 2**30, "900.0 GiB"),
        (2**41, "2,048.0 GiB"),
    ],
    "duration": [(4.2, "0:05"), (3599, "59:59"), (7500, "2h05m"), (1_054_800, "12d05h"), (None, "–")],
    "estimate": [
        (10, "less than a minute"), (60, "about 1 minute"), (150, "about 2 minutes"), (5_000, "about 83 minutes"),
        (6_000, "about 2 hours"), (86_400 * 3, "about 3 days"), (86_400 * 900, "more than a year"), (-1, "–"),
    ],
    "times": [(1.0004, "once"), (0.5, "0.5 times"), (1024.2, "1,024 times")],
    "value": [(None, "auto"), (False, "off"), (0.1, "0.1"), (("a", "b"), "a, b"), (3, "3")],
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_numbers_are_short_and_plain(kind: str) -> None:
    for value, text in TEXTS[kind]:
        assert getattr(format, f"format_{kind}")(value) == text


def test_one_of_anything_is_singular_and_a_number_has_as_many_digits_as_asked_for() -> None:
    counts = {(1, "epoch"): "1 epoch", (0, "step"): "0 steps", (12_345, "step"): "12,345 steps"}
    assert {asked: format.format_count(*asked) for asked in counts} == counts
    digits = {
        (0.9921, 3): "0.992", (41.25, 2): "41", (256.4, 2): "256", (12_345.6, 4): "12,346", (inf, 4): "inf",
        (1e300, 3): "1e+300",
    }  # fmt: skip
    assert {asked: format.format_digits(*asked) for asked in digits} == digits


NOTHING_MEASURES = (nan, inf, -inf, 1e308, -1e308, 5e-324)
ABSURD = {
    "loss": ["nan", "inf", "-inf", "1e+308", "-1e+308", "0.000"],
    "norm": ["nan", "inf", "-inf", "1e+308", "-1e+308", "0.00"],
    "rate": ["–", "–", "–", "∞", "–", "0"],
    "duration": ["–", "–", "–", "99999d", "–", "0:01"],
    "estimate": ["–", "more than a year", "–", "more than a year", "–", "less than a minute"],
    "clock": ["–"] * 5 + [format.format_clock(0.0)],
    "time": ["–"] * 5 + [format.format_time(0.0)],
    "age": ["just now", "just now", "9999 d ago", "just now", "9999 d ago", "9999 d ago"],
    "times": ["nan times", "inf times", "-inf times", "1e+308 times", "-1e+308 times", "4.94e-324 times"],
}


@pytest.mark.parametrize("kind", ABSURD)
def test_numbers_that_nothing_measures_are_written_all_the_same(kind: str) -> None:
    assert [getattr(format, f"format_{kind}")(number) for number in NOTHING_MEASURES] == ABSURD[kind]
