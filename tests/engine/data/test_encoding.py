"""Bytes that are read as text, and what every other file is called, with a command that mends it."""

import gzip
import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from fundamentallm.data.encoding import decode as decode_blocks
from fundamentallm.errors import UserError

GERMAN = "Die Bäume rauschen, “sagte” er – und ging über die Straße.\n" * 30
IMAGES = (b"\x89PNG\r\n\x1a\n\0\0", b"\xff\xd8\xff\xe0\0\x10JFIF", b"GIF89a\x01\0\x01\0")
CHINESE = "大海在夜里歌唱，人们都睡了。\n" * 30


def archive(*names: str, mimetype: str = "") -> bytes:
    """A ZIP file with these members."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as file:
        if mimetype:
            file.writestr(zipfile.ZipInfo("mimetype"), mimetype)
        for name in names:
            file.writestr(zipfile.ZipInfo(name), "x" * 100)
    return raw.getvalue()


def decode(raw: bytes, path: str = "t.txt") -> str:
    return "".join(decode_blocks([raw], path))


def refusal(raw: bytes, path: str = "t.txt") -> str:
    with pytest.raises(UserError) as caught:
        decode(raw, path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("text", [GERMAN, CHINESE, "😀", "a"])
def test_utf8_and_whatever_begins_with_a_mark_are_read(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding), "t.txt") == text


def test_utf16_of_the_other_byte_order_is_read() -> None:
    assert decode(b"\xfe\xff" + CHINESE.replace("\n", "\r\n").encode("utf-16-be"), "t.txt") == CHINESE


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (
            GERMAN.encode("utf-16-le"),
            "is UTF-16LE without a byte order mark, not UTF-8; convert it: iconv -f UTF-16LE ",
        ),
        (
            CHINESE.encode("utf-16-be"),
            "is UTF-16BE without a byte order mark, not UTF-8; convert it: iconv -f UTF-16BE ",
        ),
        (GERMAN.encode("cp1252"), "line 1, offset 5): it looks like Latin-1 or Windows-1252; convert it: iconv -f "),
        (
            "Café für alle".encode("latin-1"),
            "it looks like Latin-1 or Windows-1252; convert it: iconv -f WINDOWS-1252 ",
        ),
        (CHINESE.encode("gb18030"), "it does not look like Windows-1252 either; save it as UTF-8"),
        ("Дети спят".encode("cp1251"), "it does not look like Windows-1252 either"),
        (GERMAN.encode() + b"\xe9\xff", "it is damaged UTF-8; without its wrong bytes: iconv -c -f UTF-8 -t UTF-8 "),
        (GERMAN.encode("utf-16")[:-1], "is damaged UTF-16: truncated data at offset 3540; save it as UTF-8"),
        ("a\0b".encode("utf-16"), "is not a text file: it has a zero character"),
        (b"\0" * 100, "is not a text file: it has a zero character"),
        (bytes(range(256)) * 4, "is not a text file: it has a zero character"),
    ],
)
def test_another_encoding_is_named_with_the_command_that_converts_it(raw: bytes, words: str) -> None:
    assert words in refusal(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"%PDF-1.4\nall in ASCII", "is a PDF, not plain text; save it as text: pdftotext book.pdf book.txt"),
        (archive("word/document.xml"), "is a Word document, not plain text; save it as plain text: pandoc"),
        (
            archive("a", mimetype="application/epub+zip"),
            "is an EPUB book, not plain text; save it as plain text: pandoc",
        ),
        (archive("a", mimetype="application/vnd.oasis.opendocument.text"), "is an OpenDocument file, not plain text"),
        (archive("a.txt"), "is a ZIP archive or an office document, not plain text; unpack it"),
        (
            gzip.compress(b"text" * 99, mtime=0),
            "is compressed with gzip, not plain text; unpack it: gzip -dc < book.pdf > book.txt",
        ),
        *((raw, "is an image, not plain text") for raw in IMAGES),
        *((raw, "is a program, not plain text") for raw in (b"\x7fELF\x02\x01\x01\0", b"MZ\x90\0\x03\0")),
        (b"SQLite format 3\0\x10\0", "is an SQLite database, not plain text"),
    ],
)
def test_files_that_are_no_text_get_a_word_of_their_own(raw: bytes, words: str) -> None:
    assert refusal(raw, "book.pdf").startswith(words)


def test_a_text_that_begins_like_another_format_is_a_text() -> None:
    for text in ("MZ is a label", "GIF89a was a format", "ID3 tags", "II. The sea", "BZh91AY"):
        assert decode(text.encode(), "t.txt") == text


@pytest.mark.skipif(not shutil.which("iconv"), reason="no iconv here")
@pytest.mark.parametrize("name", ["a.txt", "-f", "two words.txt", 'it\'s "so".txt'])
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (GERMAN.encode("utf-16-le"), GERMAN),
        (GERMAN.encode("cp1252"), GERMAN),
        (GERMAN.encode() + b"\xff", GERMAN),
        (gzip.compress(GERMAN.encode(), mtime=0), GERMAN),
    ],
)
def test_the_command_works_as_printed(raw: bytes, expected: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(raw)
    command = refusal(raw, name).rsplit(": ", 1)[1]
    subprocess.run(command, shell=True, cwd=tmp_path, check="-c" not in command.split())
    written = [path for path in tmp_path.iterdir() if path.name != name] or [tmp_path / name]
    assert [decode(path.read_bytes(), "") for path in written] == [expected]


@pytest.mark.parametrize("path", ["-", "b.txt.zst", "B.GZ"])
@pytest.mark.parametrize(
    ("raw", "end"),
    [
        (GERMAN.encode("cp1252"), "convert it: iconv -f WINDOWS-1252 -t UTF-8"),
        (GERMAN.encode("utf-16-le"), "convert it: iconv -f UTF-16LE -t UTF-8"),
        (GERMAN.encode() + b"\xff", "without its wrong bytes: iconv -c -f UTF-8 -t UTF-8"),
        (gzip.compress(b"x", mtime=0), "unpack it: gzip -dc"),
        (b"%PDF-1.4\n", "is a PDF, not plain text; save it as text"),
    ],
)
def test_for_what_is_packed_or_piped_the_program_is_named(raw: bytes, end: str, path: str) -> None:
    assert refusal(raw, path).endswith(end)
