"""Statistics and problems of a text, and whether its held-out part can measure anything.

- Accepts any bytes: what is not UTF-8 is counted and located, never raised as an error.
- Imports no torch; `config.estimate` computes what a run would make of a text.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import split
from fundamentallm.config.format import format_count, format_names, format_value
from fundamentallm.data.encoding import describe_guess, name_format, normalize, unmark
from fundamentallm.data.source import Say, Source, Teller, cache_path, keep, recall

# A model hardly learns a character that occurs fewer than RARE_COUNT times; in a short text the limit is 2 and one more
# for every RARE_CHARACTERS characters of the text.
RARE_COUNT, RARE_CHARACTERS = 10, 10_000
SHOWN_PLACES = 5  # places that are listed for one kind of problem

PIECE = 64  # characters: what is as long as this and stands in a text twice is no coincidence
MAX_PIECES = 1000  # of the held-out text that are looked for in the training text
REPEATED = 0.05  # share of the held-out text above which repetitions are worth a warning
UNSEEN = 0.001  # the same for characters that the training text lacks; each costs several nats
FEW_HELD_OUT = 2000  # characters; of fewer the loss is uncertain by several hundredths

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
    (re.compile("\xad"), "soft hyphens (U+00AD), which are not seen; each is learnt like a letter"),
    (re.compile("[\xa0\u2007\u202f]"), "no-break spaces; to the model each is another character than the space"),
    (re.compile("\ufffd"), "U+FFFD, which stands for characters that were lost earlier"),
)
FATAL = (NOT_UTF8, ZERO)
ACCENTED = re.compile("[^\\W\\d_][\u0300-\u036f\u3099\u309a]|[\u1100-\u1112][\u1161-\u1175]")  # and Hangul
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


def compute_text_stats(raw: bytes, path: str = "FILE") -> TextStats:
    """Compute the statistics of a file's bytes; what has another format counts as no text. `path` is for commands."""
    body, encoding = unmark(raw)
    known = name_format(raw, path) if encoding == "utf-8" else ""
    try:
        exact = "" if known else body.decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        at = error.start + len(raw) - len(error.object)  # the error does not count the byte order mark
        known, exact = f"is damaged {encoding[:6].upper()}: {error.reason} at offset {at}", ""
    text = normalize(exact)
    if known:
        problems = [Problem(f"it {known}", 1, (), fatal=True)]
    elif not text.strip():
        problems = [Problem("it has no text; training refuses it, and passes over it among other files", 1, ())]
    else:
        problems = list(_find_problems(raw, exact, encoding, path))
    return TextStats(
        bytes=len(raw),
        text=text,
        lines=len(text.removesuffix("\n").split("\n")) if text else 0,
        words=len(text.split()),
        counts=Counter(text),
        duplicate_lines=_repeated_share(text.split("\n")),
        duplicate_paragraphs=_repeated_share(re.split(r"\n\s*\n", text)),
        problems=tuple(problems),
    )


def name_character(character: str) -> str:
    """Return a character that can be seen by itself, and a name for any other: "newline", "U+00A0", "byte 0xe9"."""
    if NOT_UTF8.match(character):
        return f"byte 0x{ord(character) - 0xDC00:02x}"
    if character in NAMES:
        return NAMES[character]
    seen = character.isprintable() and not unicodedata.combining(character)
    return character if seen else f"U+{ord(character):04X}"


def _find_problems(raw: bytes, exact: str, encoding: str, path: str) -> Iterator[Problem]:
    """Find the problems of a text, which is `exact`: with the line ends of the file, without a byte order mark."""

    def problem(description: str, indices: Iterable[int], count: int, fatal: bool = False) -> Problem:
        places = tuple(_locate(exact, index, encoding, mark) for index in islice(indices, SHOWN_PLACES))
        return Problem(description, count, places, fatal)

    mark = len(raw) - len(unmark(raw)[0])
    if encoding != "utf-8":
        yield Problem(f"it is {encoding[:6].upper()}, not UTF-8; training reads it", 1, ())
    elif mark:
        yield Problem("byte order mark at its start; training leaves it out", 1, (Place(1, 0, "U+FEFF"),))
    for pattern, description in PROBLEMS:
        if count := sum(1 for _ in pattern.finditer(exact)):
            if pattern is NOT_UTF8:
                description += f"; {describe_guess(raw, path)}"
            yield problem(description, (match.start() for match in pattern.finditer(exact)), count, pattern in FATAL)
    apart = [m.end() - 1 for m in ACCENTED.finditer(exact) if len(unicodedata.normalize("NFC", m[0])) == 1]
    together = sum(n for c, n in Counter(exact).items() if apart and len(unicodedata.normalize("NFD", c)) > 1)
    if together:
        description = f"accents apart from their letters (NFD), and {together:,} in one character with them (NFC)"
        description += "; the model learns them as different letters: normalise the text"
        yield problem(description, apart, len(apart))


def _locate(exact: str, index: int, encoding: str, mark: int) -> Place:
    character, before = exact[index], exact[:index]
    line = 1 + before.count("\n") + len(re.findall("\r(?!\n)", before))
    description = name_character(character)
    if NOT_UTF8.match(character):  # in most cases a Windows program wrote it
        guess = bytes([ord(character) - 0xDC00]).decode("cp1252", "replace")
        description += f" ({guess!r} in Windows-1252)" if guess.isprintable() and guess != "\ufffd" else ""
    return Place(line, mark + len(before.encode(encoding, "surrogateescape")), description)


def _repeated_share(pieces: Iterable[str]) -> float:
    """Return which share of the pieces occurred before, spaces around them ignored; empty ones do not count."""
    counts = Counter(filter(None, map(str.strip, pieces)))
    total = counts.total()
    return (total - len(counts)) / total if total else 0.0


def source_warnings(source: Source, config: Config, say: Say = lambda text: None) -> list[str]:
    """Say why the held-out end of a text would measure little: it is short, repeats the training text, or differs.

    Takes a second for 100 million characters, as a sample of the held-out text is looked up; of a long text, the cache
    keeps what was found. `say` is told how far that is, where it takes long.
    """
    if source.documents is not None:
        return _warnings(source, config, lambda done: None)
    facts = source.facts
    characters = sum(facts.characters)
    short = characters - split(characters, config.val_split) < _few(config)
    path = cache_path("held out", facts.fingerprint, config.val_split, short)
    kept = recall(path)
    if isinstance(kept, list) and all(isinstance(each, str) for each in kept):
        return kept
    tell = Teller(say, "comparing the held-out text with the rest", characters)
    warnings = _warnings(source, config, tell)
    keep(path, warnings)
    return warnings


def _few(config: Config) -> int:
    return max(FEW_HELD_OUT, config.max_seq_len + 1)


def _warnings(source: Source, config: Config, tell: Callable[[int], None]) -> list[str]:
    """Find the warnings about a text, which is read twice."""
    characters, vocabulary = sum(source.facts.characters), source.facts.vocabulary
    train = split(characters, config.val_split)
    size = characters - train
    if size < 2 or not train or len(vocabulary) < 2:
        return []  # no run starts, or there is nothing to learn, which the run says
    warnings = []
    if size < _few(config):
        held = f"only {size:,} characters are held out (--val-split {format_value(config.val_split)} of {characters:,})"
        warnings.append(f"{held}: the validation loss will be uncertain; hold out more, or use a longer text")

    # Once for the characters that the training text lacks, and for the places of the held-out text to look for.
    unseen, sample, places = Counter[str](), list[str](), 0
    missing, every = set(vocabulary), max(1, -(-(size // PIECE) // MAX_PIECES))
    for text, end in _split_pieces(source.pieces(), train, tell):
        missing = missing and missing - set(text[:end])
        held_out = text[end:]
        unseen.update(filter(missing.__contains__, held_out))
        first = -places % every * PIECE
        sample += [held_out[at : at + 2 * PIECE - 1] for at in range(first, len(held_out) - PIECE + 1, every * PIECE)]
        places += len(held_out) // PIECE
    if (share := _share_repeated(sample, _split_pieces(source.pieces(), train, tell))) >= REPEATED:
        measured = "there the validation loss measures what was learnt by heart; remove what the text has twice"
        warnings.append(f"{share:.0%} of the held-out text stands in the training text, too: {measured}")
    if unseen.total() >= UNSEEN * size:
        shown = format_names([name_character(character) for character, _ in unseen.most_common()], 8)
        has = f"{format_count(len(unseen), 'character')} that the training text lacks ({shown})"
        cannot = "the model cannot learn them; mix the texts, or name them in another order"
        warnings.append(f"the held-out text has {has}, {unseen.total() / size:.2%} of it: {cannot}")
    return warnings


def _split_pieces(
    documents: Iterable[Iterable[str]], train: int, tell: Callable[[int], None]
) -> Iterator[tuple[str, int]]:
    """Yield the pieces of documents, and how many characters of each are among the first `train`."""
    for piece in chain.from_iterable(documents):
        yield piece, max(0, min(len(piece), train))
        train -= len(piece)
        tell(len(piece) // 2)  # all are read twice


def _share_repeated(sample: Sequence[str], learnt: Iterable[tuple[str, int]]) -> float:
    """Return which share of places of the held-out text also stands in the training text.

    A place is given by the `PIECE` characters from it on, and as many more less one. It counts if a stretch of `PIECE`
    of these does. The training text is looked at in blocks of that length, one after the other: whatever repeats two
    pieces contains such a block. `learnt` has texts, and how many of their characters are for training.
    """
    owners: dict[str, list[int]] = {}
    for number, text in enumerate(sample):
        for start in range(len(text) - PIECE + 1):
            owners.setdefault(text[start : start + PIECE], []).append(number)
    found = set[int]()
    for text, end in learnt if sample else ():
        blocks = (text[at : at + PIECE] for at in range(0, end - PIECE + 1, PIECE))
        for block in filter(owners.__contains__, blocks):
            found.update(owners[block])
    return len(found) / len(sample) if sample else 0.0
