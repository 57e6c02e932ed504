"""Bytes to text: which encodings are read, and what a file is that cannot be read as text.

- UTF-8 is read, and UTF-16 and UTF-32 that begin with a byte order mark.
- Everything else is refused with its likely name and a command that converts it. The name is a guess: bytes do not
  say what they mean.
- Reads no files and imports no torch. No command that it suggests writes over a file that is there, but for the text
  that is converted.
"""

import codecs
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from io import IncrementalNewlineDecoder
from itertools import chain, count

from fundamentallm.errors import UserError
from fundamentallm.paths import quoted_path
from fundamentallm.run.folder import STDIN

MARKS = (  # UTF-32's first: it begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
GZIP, ZSTD, JSON_LINES = ".gz", ".zst", ".jsonl"
FILTER = " < {path} > {out}"  # ends a command that may stand in a pipe
PANDOC = "save it as plain text: pandoc -t plain -o {out} {path}"
UNPACK = "unpack it and name the texts in it"
SIGNATURES = (  # how formats that are not text begin, what they are, and what makes a text of one
    (rb"PK\x03\x04.{26}mimetypeapplication/epub", "an EPUB book", PANDOC),
    (rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis", "an OpenDocument file", "save it as plain text"),
    (rb"PK\x03\x04.{,4000}word/", "a Word document", PANDOC),
    (rb"PK\x03\x04", "a ZIP archive or an office document", "unpack it, or save it as plain text"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Word, Excel or PowerPoint document", "save it as plain text"),
    (rb"\x1f\x8b", "compressed with gzip", f"unpack it: gzip -dc{FILTER}"),
    (rb"BZh[1-9]1AY", "compressed with bzip2", f"unpack it: bzip2 -dc{FILTER}"),
    (rb"\xfd7zXZ\0", "compressed with xz", f"unpack it: xz -dc{FILTER}"),
    (rb"\x28\xb5\x2f\xfd", "compressed with zstd", f"unpack it: zstd -dc{FILTER}"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (rb".{257}ustar", "a tar archive", UNPACK),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP|II\*\0|MM\0\*", "an image", ""),
    (rb"RIFF.{4}WAVE|ID3[\x02-\x04]|OggS|fLaC|.{4}ftyp|\x1aE\xdf\xa3", "a sound or a film", ""),
    (rb"\x7fELF|MZ.{,100}\0|\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe|\xca\xfe\xba\xbe", "a program", ""),
    (rb"SQLite format 3\0", "an SQLite database", ""),
)
PROBE = 1 << 16  # bytes of the beginning that are looked at to guess what a file is
FEW = 0.2  # a text in the Latin alphabet has fewer letters beyond ASCII than this share of its bytes


def unmark(raw: bytes) -> tuple[bytes, str]:
    """Return a file's bytes without their byte order mark, and the encoding that the mark names; UTF-8 without one."""
    for mark, encoding in MARKS:
        if raw.startswith(mark):
            return raw[len(mark) :], encoding
    return raw, "utf-8"


def normalize(text: str) -> str:
    """Return a text as the model reads it: line ends become newlines, a byte order mark is dropped."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def decode(blocks: Iterable[bytes], path: str) -> Iterator[str]:
    """Decode a file's bytes block by block, and `normalize` them.

    A UserError says what they are instead, and what to do with it.
    """
    rest = iter(blocks)
    raw = next(rest, b"")
    first, encoding = unmark(raw)
    if encoding == "utf-8" and (why := name_format(raw, path)):
        raise UserError(f"{path}: {why}")
    decoder = IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(), translate=True)
    no_text = f"{path}: is not a text file: it has a zero character"
    # Where a block begins, the one before it, and whether there was more than ASCII.
    offset, line, previous, beyond = len(raw) - len(first), 1, b"", False
    for block in chain([first], rest, [b""]):
        if encoding == "utf-8" and b"\0" in block:
            raise UserError(no_text)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            begun = len(error.object) - len(block)  # bytes of a character that the block before ends with
            at, line = offset - begun + error.start, line + error.object.count(b"\n", 0, error.start)
            why = f"is damaged {encoding[:6].upper()}: {error.reason} at offset {at}; save it as UTF-8"
            if encoding == "utf-8":
                place = f"byte 0x{error.object[error.start]:02x} in line {line}, offset {at}"
                why = f"is not UTF-8 ({place}): {describe_guess(previous + block, path, beyond)}"
            raise UserError(f"{path}: {why}") from None
        if "\0" in text:
            raise UserError(no_text)
        yield text.removeprefix("\ufeff") if block is first else text
        offset, line, previous = offset + len(block), line + text.count("\n"), block
        beyond = beyond or not text.isascii()


def name_format(raw: bytes, path: str) -> str:
    """Say what a file is that has a known format other than text, and what to do; empty for any other."""
    zero = raw.find(b"\0")
    if raw.startswith(b"%PDF-"):
        return "is a PDF, not plain text; " + _command("save it as text: pdftotext {path} {out}", path)
    if zero < 0 and _is_utf8(raw[:PROBE]):
        return ""
    for pattern, what, todo in SIGNATURES:
        if re.match(pattern, raw[:PROBE], re.DOTALL):
            return f"is {what}, not plain text" + (f"; {_command(todo, path)}" if todo else "")
    encoding = "" if zero < 0 else _guess_utf16(raw)
    return f"is {encoding} without a byte order mark, not UTF-8; {_conversion(encoding, path)}" if encoding else ""


def describe_guess(raw: bytes, path: str, beyond: bool = False) -> str:
    """Say in which encoding a text that is not UTF-8 may be, and what converts it.

    `beyond`: whether UTF-8 beyond ASCII comes before `raw`, if that is only a part of the text.
    """
    text = raw.decode("utf-8", "surrogateescape")
    bad = sum(1 for _ in re.finditer("[\udc80-\udcff]", text))
    if beyond or bad < sum(1 for _ in re.finditer("[^\0-\x7f\udc80-\udcff]", text)):
        return f"it is damaged UTF-8; {_command(f'without its wrong bytes: iconv -c -f UTF-8 -t UTF-8{FILTER}', path)}"
    if _is_latin(raw):
        return f"it looks like Latin-1 or Windows-1252; {_conversion('WINDOWS-1252', path)}"
    return "it does not look like Windows-1252 either; save it as UTF-8"


def _is_latin(raw: bytes) -> bool:
    """Whether bytes that are not UTF-8 are likely to be a text in the Latin alphabet.

    Latin-1 and Windows-1252 are the same but for 0x80 to 0x9f, which in a text are the quotes and dashes of Windows.
    """
    high = raw.translate(None, bytes(range(0x80)))
    characters = high[:PROBE].decode("cp1252", "replace")
    usual = sum(character.isalpha() or character in "“”‘’„‚–—…«»¡¿°§·•€£\xa0\xad" for character in characters)
    return len(high) <= FEW * len(raw) and usual >= 0.9 * len(characters)


def _guess_utf16(raw: bytes) -> str:
    """Return "UTF-16LE" or "UTF-16BE" if the zero bytes stand where those of such a text do; else nothing."""
    probe = raw[: min(PROBE, len(raw) - len(raw) % 2)]
    even, odd = probe[::2].count(0), probe[1::2].count(0)
    name, zeros, others = ("UTF-16LE", odd, even) if odd > even else ("UTF-16BE", even, odd)
    likely = zeros > 0.3 * len(probe) or not _is_utf8(probe)  # Latin letters have a zero byte each, Chinese ones none
    if others or len(raw) % 2 or not likely:
        return ""
    try:
        text = codecs.getincrementaldecoder(name)().decode(probe)
    except UnicodeDecodeError:
        return ""
    strange = sum(unicodedata.category(c) in ("Cc", "Cn", "Co") and c not in "\t\n\r" for c in text)
    return name if strange <= 0.01 * len(text) else ""


def _is_utf8(raw: bytes) -> bool:
    """Whether bytes are UTF-8; a character that is cut off at the end does not count."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw)
    except UnicodeDecodeError:
        return False
    return True


def _conversion(encoding: str, path: str) -> str:
    """A command that replaces a plain file by its UTF-8 form, so that a folder with it can be read afterwards."""
    text = f"convert it: iconv -f {encoding} -t UTF-8"
    if _is_packed(path):
        return text
    before, after = quoted_path(path), quoted_path(_free_name(path, ".utf8", path))
    return f"{text} {before} > {after} && mv {after} {before}"


def _command(text: str, path: str) -> str:
    """Complete "what to do: a command" for a file; of a packed one, the program if it is a `FILTER`."""
    if _is_packed(path):
        return text.removesuffix(FILTER) if text.endswith(FILTER) else text.partition(": ")[0]
    stem, ending = os.path.splitext(path)
    out = _free_name(stem, ending if ending.lower() in (".md", JSON_LINES) else ".txt", path)
    return text.format(path=quoted_path(path), out=quoted_path(out))


def _is_packed(path: str) -> bool:
    """Whether a text is not in a file as it is: it is compressed there, or comes by standard input."""
    return path == STDIN or path.lower().endswith((GZIP, ZSTD))


def _free_name(stem: str, ending: str, path: str) -> str:
    """The first of <stem>.txt, <stem>.text.txt, ... that is neither there nor `path`."""
    names = (f"{stem}{'.text' * n}{ending}" for n in count())
    return next(name for name in names if name != path and not os.path.lexists(name))
