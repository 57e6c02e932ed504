"""Pictures of screens as files: what is written is read again, and what differs is said."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.tui.pictures import MAX_DIFFERENCES, Picture, check, decode, differences

BRIGHT, DIM = "ffffff on 000000 bold; 000000 on ffffff bold", "888888 on 000000; 777777 on ffffff"
PICTURE = Picture(
    name="two-4x3",
    themes=("dark", "light"),
    rows=("a bc", "", "漢 x"),
    colours=((BRIGHT, BRIGHT, DIM, DIM), (DIM,) * 4, (DIM,) * 4),
)


def test_a_picture_is_read_as_it_was_written_and_equal_rows_of_colours_share_a_line() -> None:
    assert decode(PICTURE.encode()) == PICTURE
    assert PICTURE.encode().splitlines()[-2:] == ["1 a2 b2", "2-3 b4"]
    many = tuple(f"{n:06x} on 000000; {n:06x} on ffffff" for n in range(120))  # more than there are letters
    wide = replace(PICTURE, rows=("x" * 120,), colours=(many,))
    assert decode(wide.encode()) == wide


def test_rows_that_differ_are_shown_and_where_only_colours_do_the_text_that_has_them() -> None:
    other = replace(
        PICTURE, rows=("a bd", "", "漢 x"), colours=(PICTURE.colours[0], (DIM,) * 4, (DIM, DIM, DIM, BRIGHT))
    )
    assert differences(PICTURE, other).splitlines() == [
        "  1 - a bc", "  1 + a bd", f"  3   columns 4-4, 'x': {DIM} is now {BRIGHT}",
    ]  # fmt: skip
    long = replace(PICTURE, rows=tuple(map(str, range(100))), colours=())
    shown = differences(replace(long, rows=("",) * 100), long).splitlines()
    assert len(shown) == MAX_DIFFERENCES + 1 and shown[-1] == "… and 140 more"


def test_a_picture_that_is_missing_or_differs_fails_and_says_how_it_is_renewed(tmp_path: Path) -> None:
    path = tmp_path / "snapshots" / "two-4x3.txt"
    for committed in (None, replace(PICTURE, rows=("a b", "", ""))):
        if committed is not None:
            check(committed, path, update=True)
        with pytest.raises(AssertionError, match=r"(?s)  1 \+ a bc.*pytest --update-snapshots tests/tui"):
            check(PICTURE, path, update=False)
    check(PICTURE, path, update=True)
    check(PICTURE, path, update=False)
