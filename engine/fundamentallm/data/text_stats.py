"""A close look at a text before a model learns from it: what it is made of, and what is wrong with it, where.

- Looks at any bytes: what is not UTF-8 is counted and placed, never a reason to stop.
- Knows no training: what a run makes of a text is `estimate`'s to say. No torch.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

RARE = 10  # a character with fewer examples is hardly learnt; in short texts one in RARE_IN is enough
RARE_IN = 10_000
PLACES = 5  # how many places of one problem are told

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
INVISIBLE = re.compile("[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how `surrogateescape` decodes single bytes
ZERO = re.compile("\0")
REFUSED = (NOT_UTF8, ZERO)


@dataclass(frozen=True)
class Place:
    """`line` counts from 1, `offset` in bytes from 0, as `od` and editors do."""

    line: int
    offset: int
    what: str


@dataclass(frozen=True)
class Finding:
    """One kind of problem, how often it occurs, and where first. `refused`: no model is trained on such a text."""

    what: str
    count: int
    places: tuple[Place, ...]
    refused: bool = False


@dataclass(frozen=True)
class Survey:
    """What there is to say of a text. Its characters are those that training sees: line ends are newlines."""

    bytes: int
    text: str
    lines: int
    words: int
    counts: Counter[str]
    duplicate_lines: float  # share of the lines that repeat an earlier one; blank ones do not count
    duplicate_paragraphs: float
    findings: tuple[Finding, ...]

    @property
    def vocabulary(self) -> list[str]:
        return sorted(self.counts)

    @property
    def rare(self) -> list[tuple[str, int]]:
        """Characters with too few examples to be learnt, the rarest first."""
        least = min(RARE, 2 + len(self.text) // RARE_IN)
        rare = [(character, count) for character, count in self.counts.items() if count < least]
        return sorted(rare, key=lambda pair: (pair[1], pair[0]))


def survey(raw: bytes) -> Survey:
    """Look at a text as it stands in a file."""
    exact = raw.decode("utf-8", "surrogateescape")
    text = exact.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return Survey(
        bytes=len(raw),
        text=text,
        lines=text.count("\n") + (not text.endswith("\n") and bool(text)),
        words=len(text.split()),
        counts=Counter(text),
        duplicate_lines=_repeated(line.strip() for line in text.split("\n")),
        duplicate_paragraphs=_repeated(paragraph.strip() for paragraph in re.split(r"\n\s*\n", text)),
        findings=tuple(_findings(raw, exact)),
    )


def name_of(character: str) -> str:
    """A character in words where it cannot be seen: "U+00A0", "newline"; itself where it can."""
    if NOT_UTF8.match(character):
        return f"byte 0x{ord(character) - 0xDC00:02x}"
    words = {"\n": "newline", "\t": "tab", " ": "space", "\r": "carriage return"}
    return words.get(character) or (character if character.isprintable() else f"U+{ord(character):04X}")


def _findings(raw: bytes, exact: str) -> Iterable[Finding]:
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        yield Finding("it is UTF-16, not UTF-8; save it as UTF-8", 1, (Place(1, 0, "byte order mark"),), True)
        return
    if exact.startswith("\ufeff"):
        yield Finding("byte order mark at its start; training leaves it out", 1, (Place(1, 0, "U+FEFF"),))
    body = exact.removeprefix("\ufeff")
    shift = len(exact) - len(body)
    kinds = (
        (NOT_UTF8, "bytes that are not UTF-8"),
        (ZERO, "zero bytes"),
        (re.compile("\r\n"), "line ends of Windows (CRLF); training reads them as newlines"),
        (re.compile("\r(?!\n)"), "line ends of old Macs (CR); training reads them as newlines"),
        (re.compile(r"(?![\0\r])" + CONTROL.pattern), "control characters; each is learnt like a letter"),
        (INVISIBLE, "invisible characters; each is learnt like a letter"),
        (re.compile("\ufffd"), "U+FFFD, what is left of characters that were lost earlier"),
    )
    for pattern, what in kinds:
        if first := [match.start() for match, _ in zip(pattern.finditer(body), range(PLACES), strict=False)]:
            count = sum(1 for _ in pattern.finditer(body))
            yield Finding(what, count, tuple(_place(exact, at + shift) for at in first), pattern in REFUSED)


def _place(exact: str, at: int) -> Place:
    before = exact[:at]
    line = 1 + before.count("\n") + len(re.findall("\r(?!\n)", before))
    what = name_of(exact[at])
    if NOT_UTF8.match(exact[at]):  # most often it was written by Windows
        guess = bytes([ord(exact[at]) - 0xDC00]).decode("cp1252", "replace")
        what += f" ({guess!r} in Windows-1252)" if guess.isprintable() and guess != "\ufffd" else ""
    return Place(line, len(before.encode("utf-8", "surrogateescape")), what)


def _repeated(pieces: Iterable[str]) -> float:
    """The share of pieces that occurred before; empty ones do not count."""
    counts = Counter(piece for piece in pieces if piece)
    total = counts.total()
    return (total - len(counts)) / total if total else 0.0
