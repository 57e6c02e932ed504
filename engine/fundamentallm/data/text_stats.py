"""Statistics and problems of a text, for `fundamentallm data inspect`.

- Accepts any bytes: what is not UTF-8 is counted and located, never raised as an error.
- Knows nothing about training and imports no torch; `config.estimate` computes what a run would make of a text.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

RARE_COUNT = 10  # a model hardly learns a character that occurs less often than this,
RARE_CHARACTERS = 10_000  # or, in a short text, less often than twice and once more for each so many characters
SHOWN_PLACES = 5  # places that are listed for one kind of problem

NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how the error handler `surrogateescape` decodes bytes that are not UTF-8
ZERO = re.compile("\0")
PROBLEMS = (
    (NOT_UTF8, "bytes that are not UTF-8"),
    (ZERO, "zero bytes"),
    (re.compile("\r\n"), "line ends of Windows (CRLF); training reads them as newlines"),
    (re.compile("\r(?!\n)"), "line ends of old Macs (CR); training reads them as newlines"),
    (re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"), "control characters; each is learnt like a letter"),
    (
        re.compile("[\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"),
        "invisible characters; each is learnt like a letter",
    ),
    (re.compile("\ufffd"), "U+FFFD, which stands for characters that were lost earlier"),
)
FATAL = (NOT_UTF8, ZERO)
NAMES = {"\n": "newline", "\t": "tab", " ": "space", "\r": "carriage return"}


@dataclass(frozen=True)
class Place:
    """Where a problem is: its line, counted from 1, and its offset in bytes, counted from 0."""

    line: int
    offset: int
    description: str


@dataclass(frozen=True)
class Problem:
    """One kind of problem, how often it occurs, and the first places. Training refuses a text with a fatal one."""

    description: str
    count: int
    places: tuple[Place, ...]
    fatal: bool = False


@dataclass(frozen=True)
class TextStats:
    """The statistics of one file. `text` and all counts but `bytes` are of the text as training reads it."""

    bytes: int
    text: str
    lines: int
    words: int
    counts: Counter[str]  # of each character
    duplicate_lines: float  # share of the lines that repeat an earlier one; blank lines do not count
    duplicate_paragraphs: float
    problems: tuple[Problem, ...]

    @property
    def vocabulary(self) -> list[str]:
        return sorted(self.counts)

    @property
    def rare(self) -> list[tuple[str, int]]:
        """Characters that are too rare to be learnt, with their counts, the rarest first."""
        enough = min(RARE_COUNT, 2 + len(self.text) // RARE_CHARACTERS)
        rare = [(character, count) for character, count in self.counts.items() if count < enough]
        return sorted(rare, key=lambda pair: (pair[1], pair[0]))


def compute_text_stats(raw: bytes) -> TextStats:
    """Compute the statistics of a file's bytes."""
    exact = raw.decode("utf-8", "surrogateescape")
    text = exact.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return TextStats(
        bytes=len(raw),
        text=text,
        lines=len(text.removesuffix("\n").split("\n")) if text else 0,
        words=len(text.split()),
        counts=Counter(text),
        duplicate_lines=_repeated_share(text.split("\n")),
        duplicate_paragraphs=_repeated_share(re.split(r"\n\s*\n", text)),
        problems=tuple(_find_problems(raw, exact)),
    )


def name_character(character: str) -> str:
    """Return a printable character itself, and a name for any other: "newline", "U+00A0", "byte 0xe9"."""
    if NOT_UTF8.match(character):
        return f"byte 0x{ord(character) - 0xDC00:02x}"
    if character in NAMES:
        return NAMES[character]
    return character if character.isprintable() else f"U+{ord(character):04X}"


def _find_problems(raw: bytes, exact: str) -> Iterator[Problem]:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        yield Problem("it is UTF-16, not UTF-8; save it as UTF-8", 1, (Place(1, 0, "byte order mark"),), fatal=True)
        return
    start = 0
    if exact.startswith("\ufeff"):
        start = 1  # or it would count as an invisible character, too
        yield Problem("byte order mark at its start; training leaves it out", 1, (Place(1, 0, "U+FEFF"),))
    for pattern, description in PROBLEMS:
        count = sum(1 for _ in pattern.finditer(exact, start))
        if count:
            first = islice(pattern.finditer(exact, start), SHOWN_PLACES)
            places = tuple(_locate(exact, match.start()) for match in first)
            yield Problem(description, count, places, pattern in FATAL)


def _locate(exact: str, index: int) -> Place:
    character, before = exact[index], exact[:index]
    line = 1 + before.count("\n") + len(re.findall("\r(?!\n)", before))
    description = name_character(character)
    if NOT_UTF8.match(character):  # in most cases a Windows program wrote it
        guess = bytes([ord(character) - 0xDC00]).decode("cp1252", "replace")
        description += f" ({guess!r} in Windows-1252)" if guess.isprintable() and guess != "\ufffd" else ""
    return Place(line, len(before.encode("utf-8", "surrogateescape")), description)


def _repeated_share(pieces: Iterable[str]) -> float:
    """Return which share of the pieces occurred before, spaces around them ignored; empty ones do not count."""
    counts = Counter(filter(None, map(str.strip, pieces)))
    total = counts.total()
    return (total - len(counts)) / total if total else 0.0
