"""Reading texts: what is refused, with which words, and which files a path stands for."""

import io
import re
import sys
from pathlib import Path

import pytest

from fundamentallm.config.config import Config
from fundamentallm.data.source import read_source
from fundamentallm.data.text import (
    find_data,
    read_standard_input,
    select,
    select_before_include,
)
from fundamentallm.errors import UserError
from fundamentallm.paths import shipped
from tests.texts import read_texts

pytestmark = pytest.mark.usefixtures("here")


def error_of(*paths: str) -> str:
    """What reading these paths is refused with."""
    with pytest.raises(UserError) as caught:
        read_texts(*paths)
    return str(caught.value)


def test_line_ends_become_newlines_and_a_byte_order_mark_is_dropped() -> None:
    Path("t.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\xc3\xa9")
    assert read_texts("t.txt")[0] == "a\nb\nc\né"


def test_what_is_no_file_is_refused() -> None:
    missing = ["none.txt", "data/none.txt", "data/../pyproject.toml", "~nobody-here/x", "x" * 5000, "a\0b"]
    for path in missing:
        assert re.search("no such file|cannot be looked up", error_of(path))
    assert error_of(".") == ".: holds no .txt or .md file; name its files, or a pattern with --include"
    assert error_of().startswith("no data: name a text file")


def test_a_data_file_in_the_current_folder_wins_over_a_shipped_one() -> None:
    name = "data/samples/sample_data.txt"
    assert find_data(name) == shipped("data") / "samples" / "sample_data.txt"
    assert len(read_texts(name)[0]) >= 60_000
    Path(name).parent.mkdir(parents=True)
    Path(name).write_text("mine")
    assert read_texts(name)[0] == "mine"


@pytest.fixture
def many() -> None:
    """A folder of texts and other things, beside a text."""
    Path("many/deeper").mkdir(parents=True)
    Path("many/d.txt").mkdir()
    names = ("b.txt", "a.txt", "c.md", "deeper/e.txt", "C.TXT", "notes.rst", "photo.jpg", ".hidden.txt", ".DS_Store")
    for path in ("z.txt", *(f"many/{name}" for name in names)):
        Path(path).write_text(path)
    Path("many/empty.txt").write_text("\n \n")


def test_a_folder_stands_for_its_texts_by_name_and_says_what_else_is_there(many: None) -> None:
    texts = read_source(Config(data=("z.txt", "many")))
    assert texts.documents == texts.files == ("z.txt", "many/C.TXT", "many/a.txt", "many/b.txt", "many/c.md")
    assert texts.notices == [
        "read 5 files with 44 characters: z.txt, many/C.TXT, many/a.txt, many/b.txt, many/c.md",
        "passed over, because empty: many/empty.txt",
        "left out: many/.hidden.txt, many/d.txt/, many/deeper/, many/notes.rst, many/photo.jpg; a folder stands for "
        "the .txt and .md files directly in it, and those that --include names",
    ]
    assert read_source(Config(data=("z.txt",))).notices == []  # a file that is named and read needs no word
    included = read_source(Config(data=("many",), include=("*.rst", "*", "deep*", "*.rts")))
    assert len(included.files) == 6  # a pattern takes no hidden file, and no empty one
    unused = [f"--include '{pattern}': fits no file in a folder of the data" for pattern in ("deep*", "*.rts")]
    assert included.notices[-2:] == unused
    assert read_source(Config(data=("z.txt",), include=("*.rts",))).notices == unused[1:]
    assert (
        error_of("many/d.txt") == "many/d.txt: holds no .txt or .md file; name its files, or a pattern with --include"
    )
    assert select_before_include(("z.txt", "many")) == (
        "z.txt", "many/.hidden.txt", "many/a.txt", "many/b.txt", "many/empty.txt",
    )  # fmt: skip


def test_every_file_that_cannot_be_read_is_named_at_once() -> None:
    Path("texts").mkdir()
    for name, raw in {"a.txt": b"fine", "b.txt": b"%PDF-1.7 \xe2\xe3", "c.txt": b"the caf\xe9", "d.txt": b""}.items():
        Path("texts", name).write_bytes(raw)
    assert [line.split(";")[0] for line in error_of("none.txt", "texts", "gone").splitlines()] == [
        f"none.txt: no such file (looked in {Path.cwd()})",
        f"gone: no such file (looked in {Path.cwd()})",
        "texts/b.txt: is a PDF, not plain text",
        "texts/c.txt: is not UTF-8 (byte 0xe9 in line 1, offset 7): it looks like Latin-1 or Windows-1252",
    ]
    for n in range(120):
        Path("texts", f"x{n:03}.txt").write_bytes(b"\xff")
    lines = error_of("texts").splitlines()
    assert len(lines) == 101 and lines[-1] == "and 22 more files with problems"


def test_empty_files_alone_are_an_error() -> None:
    for name in ("a.txt", "b.txt"):
        Path(name).write_text("")
    assert error_of("a.txt", "b.txt") == "a.txt, b.txt: has no text" and error_of("a.txt") == "a.txt: has no text"


def test_a_dash_stands_for_standard_input_which_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read_standard_input.cache_clear()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("sea\r\né".encode())))
    assert read_texts("-") == read_texts("-") == ["sea\né"] and select(("-",)).files == ["-"]
    assert select(("-", "-")).problems == ["-: stands for standard input, which can be read once; name it once"]
    terminal = type("Terminal", (), {"isatty": lambda self: True})()
    for stdin, error in (
        (None, "-: standard input is closed"),
        (open("/dev/null"), "-: has no text"),  # noqa: SIM115
        (terminal, "-: standard input is a terminal; pipe a text into it: cat FILE | fundamentallm train -"),
    ):
        read_standard_input.cache_clear()
        monkeypatch.setattr(sys, "stdin", stdin)
        assert error_of("-") == error
    read_standard_input.cache_clear()
