"""The text of a run, of any size: what it is made of, and its pieces.

- A short text is kept in memory. A long one is read in pieces whenever it is needed; what was found in it the first
  time is remembered in the user's cache for as long as its files stay as they are.
- Imports no torch.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from math import log2
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from fundamentallm.config.config import BPE, BYTES, CHAR, Config
from fundamentallm.config.estimate import TextSize, character_width
from fundamentallm.config.format import format_count, format_names, format_size
from fundamentallm.data.encoding import JSON_LINES
from fundamentallm.data.text import (
    SHOWN_NAMES,
    Selection,
    describe_left_out,
    find_data,
    has_fields,
    read_bytes,
    read_pieces,
    select,
    text_bytes,
)
from fundamentallm.data.tokenizer import ByteTokenizer, FileTokenizer, Tokenizer, train_bpe
from fundamentallm.errors import UserError, system_errors
from fundamentallm.paths import quoted, user_folder, user_path
from fundamentallm.run.folder import STDIN, write_atomic
from fundamentallm.untrusted import from_values, open_regular_file

IN_MEMORY = 1 << 23  # bytes of text that are kept in memory: a step reads its windows there as fast as it can
BLOCK = 1 << 20  # characters that are hashed, measured or encoded at once
BPE_CHARACTERS = 50_000_000  # that a vocabulary is learnt from; of a longer text it is pieces from all of it
SAY_SECONDS = 5.0  # between two messages about a long task
MAX_RECORD_BYTES = 1 << 28
MAX_PROBLEMS = 100  # lines; a folder of pictures that are called .txt would fill the screen
CACHE_VERSION = 1  # another one where the cache's files change their meaning

Say = Callable[[str], None]


@dataclass(frozen=True)
class Facts:
    """What was found in a text. `characters` and `bytes` (of UTF-8) are those of each file, of which some are empty."""

    fingerprint: str
    vocabulary: str
    characters: tuple[int, ...]
    bytes: tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """The text of a run: each file is a document. `documents` are in memory; None where they are too long for that.

    `without`: characters that are left out when the text is read; the facts count them. `states`: of a long text, what
    differs once one of its files is another one than when the facts were found.
    """

    files: tuple[str, ...]
    facts: Facts
    text_field: str
    documents: tuple[str, ...] | None = None
    notices: list[str] = field(default_factory=list)
    without: str = ""
    states: tuple[object, ...] = ()

    def pieces(self) -> Iterator[Iterator[str]]:
        """Yield the pieces of each document; a UserError at the end says that the text changed meanwhile."""
        left_out = dict.fromkeys(map(ord, self.without))
        for number, path in enumerate(self.files):
            pieces = iter([self.documents[number]]) if self.documents else read_pieces(path, self.text_field)
            yield (piece.translate(left_out) for piece in pieces) if left_out else pieces
        if self.states and _states(self.files) != self.states:
            raise UserError(f"{', '.join(self.files)}: changed while it was read; run the command again")

    def text(self) -> str:
        """Return the whole text, which may be too long for that."""
        return "".join(chain.from_iterable(self.pieces()))

    @property
    def bytes(self) -> int:
        return sum(self.facts.bytes)


def make_source(files: Iterable[str], documents: Sequence[str]) -> Source:
    """Make the source of texts that are in memory already, none of which is blank; `files` are their names."""
    return Source(tuple(files), _examine(iter([text]) for text in documents), "", tuple(documents))


def read_source(config: Config, say: Say = lambda text: None) -> Source:
    """Find and examine the text that a configuration names; a UserError says why it cannot be used.

    `say` is told how far that is, where it takes long.
    """
    if not config.data:
        raise UserError("no data: name a text file to learn from, or a preset or configuration file that does")
    chosen, documents, states = select(config.data, config.include), None, tuple[object, ...]()
    if chosen.problems or not is_long(chosen.files):
        documents = _read_documents(chosen, config.text_field)
        facts = _examine(iter([text]) for text in documents)
    else:
        states = _states(chosen.files)
        record = cache_path(config.text_field, *states)
        recalled = _recall_facts(record, len(chosen.files))
        tell = Teller(say, "reading the text", sum(map(text_bytes, chosen.files)))
        facts = recalled or _examine((read_pieces(path, config.text_field) for path in chosen.files), tell)
        if recalled is None:
            keep(record, asdict(facts))
    files = [path for path, size in zip(chosen.files, facts.characters, strict=True) if size]
    empty = [path for path, size in zip(chosen.files, facts.characters, strict=True) if not size]
    if chosen.problems:
        more = len(chosen.problems) - MAX_PROBLEMS
        rest = [f"and {format_count(more, 'more file')} with problems"] if more > 0 else []
        raise UserError("\n".join([*chosen.problems[:MAX_PROBLEMS], *rest]))
    if not files:
        raise UserError(f"{', '.join(empty)}: has no text")
    notices = list[str]()
    if len(chosen.files) > 1 or chosen.left_out:
        read, length = format_count(len(files), "file"), format_count(sum(facts.characters), "character")
        notices.append(f"read {read} with {length}: {format_names(files, SHOWN_NAMES)}")
        if empty:
            notices.append(f"passed over, because empty: {format_names(empty, SHOWN_NAMES)}")
        if chosen.left_out:
            notices.append(describe_left_out(chosen.left_out))
    notices += [f"--include {quoted(pattern)}: fits no file in a folder of the data" for pattern in chosen.unused]
    if config.text_field != Config.text_field and not any(map(has_fields, chosen.files)):
        notices.append(f"--text-field {quoted(config.text_field)}: no file of the data ends in {JSON_LINES}")
    if documents is not None:
        documents = tuple(text for text, size in zip(documents, facts.characters, strict=True) if size)
    states = tuple(state for state, size in zip(states, facts.characters, strict=False) if size)
    facts = Facts(
        facts.fingerprint, facts.vocabulary, *(tuple(filter(None, s)) for s in (facts.characters, facts.bytes))
    )
    return Source(tuple(files), facts, config.text_field, documents, notices, states=states)


def _read_documents(chosen: Selection, text_field: str) -> tuple[str, ...]:
    """Read files into memory; one that cannot be read is empty, and adds to the problems."""
    documents = list[str]()
    for path in chosen.files:
        try:
            documents.append("".join(read_pieces(path, text_field)))
        except UserError as error:
            chosen.problems.append(str(error))
            documents.append("")
    return tuple(documents)


def is_long(files: Sequence[str]) -> bool:
    """Whether files have more text than is kept in memory; False where one cannot be read, which its reading says."""
    with suppress(UserError):
        return sum(map(text_bytes, files)) > IN_MEMORY
    return False


def _examine(documents: Iterable[Iterator[str]], tell: Callable[[int], None] = lambda done: None) -> Facts:
    """Read documents once. A document without text does not count, but for its place in the lists."""
    sha, known = hashlib.sha256(), set[str]()
    characters, sizes, begun = list[int](), list[int](), False
    for pieces in documents:
        count = size = 0
        blank = ""  # a document of spaces only is no text
        for piece in pieces:
            for start in range(0, len(piece), BLOCK):
                block = blank + piece[start : start + BLOCK] if not count else piece[start : start + BLOCK]
                if not count and not block.strip():
                    blank = block
                    continue
                raw = block.encode()
                if not count and begun:
                    sha.update(b"\0")
                sha.update(raw)
                known.update(raw.translate(None, "".join(c for c in known if c < "\x80").encode()).decode()
                             if block.isascii() else block)  # fmt: skip
                count, size, begun = count + len(block), size + len(raw), True
                tell(len(raw))
        characters.append(count)
        sizes.append(size)
    return Facts(sha.hexdigest(), "".join(sorted(known)), tuple(characters), tuple(sizes))


class Teller:
    """Says from time to time how much of a long task is done; called with the bytes that were done since."""

    def __init__(self, say: Say, what: str, total: int) -> None:
        self._say, self._what, self._total, self._done = say, what, max(1, total), 0
        self._next = time.monotonic() + SAY_SECONDS

    def __call__(self, done: int) -> None:
        self._done += done
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SAY_SECONDS
            share = min(1.0, self._done / self._total)
            self._say(f"{self._what}: {share:.0%} of {format_size(self._total)}")


# ---- what is remembered of a long text ----


def cache_folder() -> Path:
    """Return where what was made of long texts is kept; XDG_CACHE_HOME moves it."""
    return user_folder(user_cache_path) / "texts"


def cache_path(*key: object) -> Path:
    """Return where what was found out about `key`, plain values, is kept in the cache."""
    return cache_folder() / f"{hashlib.sha256(json.dumps([CACHE_VERSION, *key]).encode()).hexdigest()}.json"


def recall(path: Path) -> Any:
    """Return what was kept, as JSON has it; None where that is nothing, or damaged."""
    try:
        with open_regular_file(path) as file:
            values = json.loads(file.read(MAX_RECORD_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    with suppress(OSError):  # another user's file, or a disk that is read-only
        os.utime(path)  # it is in use
    return values


def keep(path: Path, values: object) -> None:
    """Keep what was found out, if the disk lets us; otherwise it is found out again at the next start."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(values))


def _states(files: Sequence[str]) -> tuple[object, ...]:
    """What differs once a file is another one: its place, its size or its time of change."""
    seen = list[object]()
    for path in files:
        with system_errors(f"{path}: cannot be read"):
            if path == STDIN:
                seen.append(hashlib.sha256(read_bytes(path)).hexdigest())
                continue
            found = find_data(path)
            state = found.stat()
        seen.append((str(found.resolve()), state.st_size, state.st_mtime_ns, state.st_ino))
    return tuple(seen)


def _recall_facts(path: Path, count: int) -> Facts | None:
    values = recall(path)
    facts = from_values(Facts, values) if isinstance(values, dict) else None
    return facts if facts is not None and len(facts.characters) == len(facts.bytes) == count else None


# ---- its tokenizer, and what is known of its size before it is encoded ----


def make_tokenizer(
    config: Config, source: Source, begun: Tokenizer | None = None, say: Say = lambda text: None
) -> Tokenizer:
    """Make the tokenizer of a new run, or enlarge that of the weights it begins with by the text's characters.

    A UserError says that a tokenizer.json does not fit.
    """
    if config.tokenizer == CHAR:
        return Tokenizer.fit(source.facts.vocabulary, begun.vocabulary if begun is not None else "")
    if begun is not None:
        return begun
    if config.tokenizer == BYTES:
        return ByteTokenizer()
    return _learn(config, source, say) if config.tokenizer == BPE else read_tokenizer(config.tokenizer)


def read_tokenizer(path: str) -> Tokenizer:
    """Read a tokenizer.json; a UserError says why it cannot be used."""
    file = user_path(path)
    if not file.exists():
        raise UserError(f"--tokenizer {path}: no such file; {CHAR}, {BYTES} and {BPE} need none")
    if file.suffix == ".model":
        what = "is a SentencePiece model, which is not read here"
        raise UserError(f"--tokenizer {path}: {what}; name a tokenizer.json that keeps every byte, as that of GPT-2")
    with system_errors(f"--tokenizer {path}: cannot be read"), open_regular_file(file) as opened:
        content = opened.read(MAX_RECORD_BYTES)
    return FileTokenizer(content.decode("utf-8", "replace"), f"--tokenizer {path}")


def _learn(config: Config, source: Source, say: Say) -> Tokenizer:
    """Learn a vocabulary; that of a long text is kept, for learning takes as long as reading gigabytes."""
    path = cache_path(BPE, source.facts.fingerprint, config.vocab_size)
    if source.documents is None and isinstance(kept := recall(path), str):
        with suppress(UserError):  # it is damaged
            return FileTokenizer(kept)
    every = -(-sum(source.facts.characters) // BPE_CHARACTERS)
    say(f"learning a vocabulary of {config.vocab_size:,} tokens")
    blocks = (
        piece[at : at + BLOCK] for pieces in source.pieces() for piece in pieces for at in range(0, len(piece), BLOCK)
    )
    tokenizer = train_bpe(islice(blocks, 0, None, every), config.vocab_size)
    if source.documents is None:
        keep(path, tokenizer.file)
    return tokenizer


def guess_size(config: Config, files: Sequence[str]) -> TextSize:
    """Guess what `measure_source` would find in a long text, from its beginning and its size."""
    beginnings = [next(read_pieces(path, config.text_field), "")[:BLOCK] for path in files[:1]]
    found = _examine(iter([text]) for text in beginnings)
    share = found.characters[0] / max(1, found.bytes[0])
    sizes = tuple(map(text_bytes, files))
    facts = Facts("", found.vocabulary, tuple(round(size * share) for size in sizes), sizes)
    return measure_source(config, Source(tuple(files), facts, config.text_field))


def measure_source(config: Config, source: Source) -> TextSize:
    """Measure a text as the tokenizer of a configuration would cut it; for bpe and a file that is an estimate."""
    facts = source.facts
    width, mapped = character_width(facts.vocabulary), source.documents is None
    if config.tokenizer == CHAR:
        return TextSize(facts.characters, len(facts.vocabulary), width, mapped)
    vocab_size = 256 if config.tokenizer == BYTES else config.vocab_size
    if config.tokenizer not in (BYTES, BPE):
        vocab_size = len(read_tokenizer(config.tokenizer))
    shorter = 1 + 0.6 * log2(max(1, vocab_size / 256))  # bytes a token, roughly, of English
    lengths = tuple(max(1, round(size / shorter)) for size in facts.bytes)
    return TextSize(lengths, vocab_size, width, mapped)
