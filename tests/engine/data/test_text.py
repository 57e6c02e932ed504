"""What is text, and what is wrong with a file that is not."""

from pathlib import Path

import pytest

from fundamentallm.data.text import expand, find_data, read_text, read_texts
from fundamentallm.errors import UserError
from fundamentallm.paths import shipped


def test_line_ends_become_newlines_and_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\xc3\xa9")
    assert read_text(str(path)) == "a\nb\nc\né"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
        (b"ab\0c", "is not a text file (a zero byte at offset 2)"),
        ("é".encode("utf-16"), "is not a text file"),
        (b"a\nb\n\xe9", "is not UTF-8 (byte 0xe9 in line 3, offset 4); save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_text_is_refused_with_the_place(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_text(str(path))
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["none.txt", "data/none.txt", "data/../pyproject.toml", "~nobody-here/x", "x" * 5000, "a\0b", ""]
)
def test_a_file_that_is_not_there_is_refused(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        read_text(path)


def test_a_folder_and_no_file_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder; name a text file"):
        read_text(str(tmp_path))
    with pytest.raises(UserError, match="no data: name a text file"):
        read_texts(())


def test_data_is_looked_up_here_first_then_among_what_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "data/samples/sample_data.txt"
    assert find_data(name) == shipped("data") / "samples" / "sample_data.txt"
    assert len(read_text(name)) >= 60_000
    (tmp_path / "data/samples").mkdir(parents=True)
    (tmp_path / name).write_text("mine")
    assert read_text(name) == "mine"


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name * 3)
    assert read_texts((str(tmp_path / "b"), str(tmp_path / "a"))) == ["bbb", "aaa"]


def test_a_folder_means_the_txt_files_directly_in_it_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    (folder / "deeper").mkdir(parents=True)
    (folder / "d.txt").mkdir()
    for name in ("b.txt", "a.txt", "c.md", "deeper/e.txt", "C.txt"):
        (folder / name).write_text(name)
    (tmp_path / "z.txt").write_text("z")
    paths = (str(tmp_path / "z.txt"), str(folder), str(folder / "c.md"))
    assert read_texts(paths) == ["z", "C.txt", "a.txt", "b.txt", "c.md"]
    assert expand(paths) == [paths[0], *(str(folder / name) for name in ("C.txt", "a.txt", "b.txt")), paths[2]]


def test_a_folder_without_a_txt_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.md").write_text("c")
    with pytest.raises(UserError, match="^.*: holds no \\*.txt file$"):
        read_texts((str(tmp_path),))


def test_one_bad_file_among_many_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_bytes(b"b\xff")
    with pytest.raises(UserError, match=r"b\.txt: is not UTF-8"):
        read_texts((str(tmp_path),))
