"""Reading texts: what is refused, with which words, and which files a path stands for."""

from pathlib import Path

import pytest

from fundamentallm.data.text import expand, find_data, read_text, read_texts
from fundamentallm.errors import UserError
from fundamentallm.paths import shipped


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_line_ends_become_newlines_and_a_byte_order_mark_is_dropped() -> None:
    Path("t.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\xc3\xa9")
    assert read_text("t.txt") == "a\nb\nc\né"


def test_every_text_of_several_is_checked_and_named() -> None:
    Path("t.txt").write_bytes("é".encode("utf-16"))
    Path("good.txt").write_text("a")
    with pytest.raises(UserError, match=r"^t\.txt: is not a text file"):
        read_texts(("good.txt", "t.txt"))


def test_what_is_no_file_is_refused() -> None:
    missing = ["none.txt", "data/none.txt", "data/../pyproject.toml", "~nobody-here/x", "x" * 5000, "a\0b"]
    refused = {**dict.fromkeys(missing, "no such file|cannot be looked up"), **dict.fromkeys(("", "."), "is a folder;")}
    for path, words in refused.items():
        with pytest.raises(UserError, match=words):
            read_text(path)
    with pytest.raises(UserError, match="no data: name a text file"):
        read_texts(())


def test_a_data_file_in_the_current_folder_wins_over_a_shipped_one() -> None:
    name = "data/samples/sample_data.txt"
    assert find_data(name) == shipped("data") / "samples" / "sample_data.txt"
    assert len(read_text(name)) >= 60_000
    Path(name).parent.mkdir(parents=True)
    Path(name).write_text("mine")
    assert read_text(name) == "mine"


def test_files_are_read_in_order_and_a_folder_means_its_txt_files_by_name() -> None:
    Path("many/deeper").mkdir(parents=True)
    Path("many/d.txt").mkdir()
    for path in ("z.txt", "many/b.txt", "many/a.txt", "many/c.md", "many/deeper/e.txt", "many/C.txt"):
        Path(path).write_text(path)
    files = ["z.txt", "many/C.txt", "many/a.txt", "many/b.txt", "many/c.md"]
    assert read_texts(("z.txt", "many", "many/c.md")) == files == expand(("z.txt", "many", "many/c.md"))
    with pytest.raises(UserError, match=r"^many/d\.txt: holds no \*\.txt file$"):
        read_texts(("many/d.txt",))
