"""Paths as users type them, and as terminals write what is dropped on them."""

from pathlib import Path

import pytest

from fundamentallm_tui.panes.values import join_paths, split_paths


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "b.txt", "a, b.txt", "tale, of cities.txt", "'quoted'.txt"):
        Path(name).touch()


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("", []),
        ("a.txt", ["a.txt"]),
        (" my tales.txt ", ["my tales.txt"]),
        ("a.txt, b.txt", ["a.txt", "b.txt"]),
        ("a.txt,b.txt", ["a.txt", "b.txt"]),
        ("a, b.txt", ["a, b.txt"]),
        ("tale, of cities.txt", ["tale, of cities.txt"]),
        ("c,d.txt", ["c,d.txt"]),
        ("'quoted'.txt", ["'quoted'.txt"]),
        ("'/x/my tales.txt'", ["/x/my tales.txt"]),
        ("'/x/it'\\''s.txt' ", ["/x/it's.txt"]),
        ('"/x/my tales.txt"', ["/x/my tales.txt"]),
        ("/x/my\\ tales\\,\\ two.txt", ["/x/my tales, two.txt"]),
        ("file:///x/my%20tales.txt", ["/x/my tales.txt"]),
        ("'/x/a b.txt' '/x/c.txt'", ["/x/a b.txt", "/x/c.txt"]),
        ("a.txt, 'c, d.txt'", ["a.txt", "c, d.txt"]),
        ("'/x/not clos", ["'/x/not clos"]),
        ("it's.txt", ["it's.txt"]),
    ],
)
def test_paths_are_understood_as_they_are_typed_or_dropped(text: str, paths: list[str]) -> None:
    assert split_paths(text) == paths


@pytest.mark.parametrize(
    "paths", [["a.txt"], ["a.txt", "b.txt"], ["a, b.txt"], ["new, one.txt", "b.txt"], ["it's, here.txt"], ["x\\y.txt"]]
)
def test_paths_are_read_back_as_they_were_written(paths: list[str]) -> None:
    assert split_paths(join_paths(paths)) == paths
