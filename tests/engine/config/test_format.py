"""Numbers as people read them."""

from collections.abc import Callable
from math import inf, nan

import pytest

from fundamentallm.config.format import (
    format_age,
    format_clock,
    format_count,
    format_digits,
    format_duration,
    format_loss,
    format_memory,
    format_norm,
    format_rate,
    format_time,
    format_times,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_count(1, "epoch"), "1 epoch"), (format_count(0, "step"), "0 steps"),
        (format_count(12_345, "step"), "12,345 steps"),
        (format_digits(0.9921, 3), "0.992"), (format_digits(41.25, 2), "41"), (format_digits(256.4, 2), "256"),
        (format_digits(12_345.6, 4), "12,346"), (format_digits(float("inf"), 4), "inf"),
        (format_digits(1e300, 3), "1e+300"),
        (format_times(1.0004), "once"), (format_times(0.5), "0.5 times"), (format_times(1024.2), "1,024 times"),
        (format_memory(0), "0 MiB"), (format_memory(2**30 - 1), "1024 MiB"), (format_memory(22.4 * 2**30), "22.4 GiB"),
        (format_memory(900 * 2**30), "900.0 GiB"), (format_memory(2**41), "2,048.0 GiB"),
    ],
)  # fmt: skip
def test_numbers_have_plain_digits_and_ones_are_singular(text: str, expected: str) -> None:
    assert text == expected


@pytest.mark.parametrize(("write", "texts"), [
    (format_loss, ["nan", "inf", "-inf", "1e+308", "-1e+308", "0.000"]),
    (format_norm, ["nan", "inf", "-inf", "1e+308", "-1e+308", "0.00"]),
    (format_rate, ["–", "–", "–", "∞", "–", "0"]),
    (format_duration, ["–", "–", "–", "99999d", "–", "0:01"]),
    (format_clock, ["–"] * 5 + [format_clock(0.0)]),
    (format_time, ["–"] * 5 + [format_time(0.0)]),
    (format_age, ["just now", "just now", "9999 d ago", "just now", "9999 d ago", "9999 d ago"]),
    (format_times, ["nan times", "inf times", "-inf times", "1e+308 times", "-1e+308 times", "4.94e-324 times"]),
])  # fmt: skip
def test_numbers_that_nothing_measures_are_written_all_the_same(
    write: Callable[[float], str], texts: list[str]
) -> None:
    assert [write(number) for number in (nan, inf, -inf, 1e308, -1e308, 5e-324)] == texts
