"""Pictures of screens as files: one that is missing or differs fails, and the message says where."""

from pathlib import Path

import pytest

from tests.tui.pictures import MAX_DIFFERENCES, check, encode

BRIGHT, DIM = "ffffff on 000000 bold; 000000 on ffffff bold", "888888 on 000000; 777777 on ffffff"


def picture(*rows: str, last: str = DIM) -> str:
    return encode("two", ("dark", "light"), rows, [[BRIGHT, DIM], [DIM, DIM], [DIM, last]])


def test_a_picture_that_is_missing_or_differs_fails_and_says_how_it_is_renewed(tmp_path: Path) -> None:
    path, now = tmp_path / "snapshots" / "two.txt", picture("a b", "", "漢 x")
    assert now.endswith("\ncells by row\n1 a1 b1\n2-3 b2\n")
    with pytest.raises(AssertionError, match=r"(?s)\n\+a b\n.*pytest --update-snapshots tests/tui"):
        check("two", now, path, update=False)
    check("two", now, path, update=True)
    check("two", now, path, update=False)
    for other, shown in ((picture("a c", "", "漢 x"), "-a b"), (picture("a b", "", "漢 x", last=BRIGHT), "-2-3 b2")):
        with pytest.raises(AssertionError, match=f"\n{shown}\n"):
            check("two", other, path, update=False)
    with pytest.raises(AssertionError, match=r"… and \d+ more"):
        check("two", picture(*map(str, range(2 * MAX_DIFFERENCES))), path, update=False)
