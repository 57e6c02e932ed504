"""A text as tokens: in memory, or in a file of the user's cache that is mapped into it.

- The file of a long text is made once for each content and tokenizer, beside its place, and renamed when it is whole.
- It is checked whenever it is opened: one that is damaged is made again, which is said.
"""

import hashlib
import json
import mmap
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from fundamentallm.config.estimate import TextSize, character_width
from fundamentallm.config.format import format_size
from fundamentallm.data.source import BLOCK, CACHE_VERSION, Say, Source, Teller, cache_folder
from fundamentallm.data.tokenizer import FileTokenizer, Tokenizer
from fundamentallm.errors import UserError, system_errors
from fundamentallm.run.folder import synced_file, temporary_path, write_atomic
from fundamentallm.untrusted import from_values, open_regular_file

PIECE = 1 << 15  # characters that a tokenizer.json encodes at once; several of them in parallel
SPARE_BYTES = 1 << 28  # that stay free on the disk
KEPT_DAYS = 30  # after which what nobody used is removed from the cache


@dataclass(frozen=True)
class Encoded:
    """The tokens of a text, (n,), in the smallest integer type that holds them, and how many each document has."""

    tokens: Tensor
    lengths: tuple[int, ...]
    mapping: mmap.mmap | None = None

    @property
    def mapped(self) -> bool:
        return self.mapping is not None

    def size(self, tokenizer: Tokenizer, source: Source) -> TextSize:
        return TextSize(self.lengths, len(tokenizer), character_width(source.facts.vocabulary), self.mapped)

    def release(self) -> None:
        """Give back the memory of what was read; the system still has it, as long as nobody else needs the room."""
        if self.mapping is not None:
            self.mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class _Record:
    """What must be true of a file of tokens; `checksum` is that of its bytes."""

    bytes: int
    lengths: tuple[int, ...]
    checksum: str


def encode(text: str, tokenizer: Tokenizer, name: str = "the text") -> Tensor:
    """Return a text's tokens in the smallest integer type that holds them, (n,).

    What `Tokenizer.encode` does, many times as fast: in UTF-32 every character is one number, in ASCII one byte.
    """
    if isinstance(tokenizer, FileTokenizer):
        rows = tokenizer.encode_many(list(_cut([text])), name=name)
        return torch.tensor(list(chain.from_iterable(rows)), dtype=_kind(tokenizer))
    if not tokenizer.vocabulary:
        return _bytes(text.encode(), torch.uint8)
    known = _code_points(tokenizer.vocabulary)
    ascii = bytes(byte for byte in map(ord, tokenizer.vocabulary) if byte < 0x80)  # its tokens: 0, 1, 2, ...
    table = bytes.maketrans(ascii, bytes(range(len(ascii))))
    tokens = torch.empty(len(text), dtype=_kind(tokenizer))
    for start in range(0, len(text), BLOCK):
        block = text[start : start + BLOCK]
        if block.isascii() and not (raw := block.encode()).translate(None, ascii):
            tokens[start : start + BLOCK] = _bytes(raw.translate(table), torch.uint8)
            continue
        codes = _code_points(block)
        found = torch.searchsorted(known, codes).clamp_(max=len(known) - 1)  # the vocabulary is sorted
        if not torch.equal(known[found], codes):
            raise UserError(tokenizer.describe_unknown(text, name))
        tokens[start : start + BLOCK] = found
    return tokens


def encode_texts(documents: Sequence[str], tokenizer: Tokenizer, name: str = "the text") -> Encoded:
    """Encode documents in memory."""
    parts = [encode(text, tokenizer, name) for text in documents]
    return Encoded(torch.cat(parts) if len(parts) > 1 else parts[0], tuple(map(len, parts)))


def encode_source(source: Source, tokenizer: Tokenizer, say: Say = lambda text: None) -> Encoded:
    """Encode the text of a run, or open the file that has its tokens.

    `say` is told how far that is, where it takes long. A UserError says that the disk has no room, or what the
    tokenizer does not know.
    """
    name = ", ".join(source.files)
    if source.documents is not None:
        return encode_texts(source.documents, tokenizer, name)
    kind = f"{tokenizer.vocabulary}\0{tokenizer.file}"
    key = hashlib.sha256(f"{CACHE_VERSION} {source.facts.fingerprint} {kind}".encode("utf-8", "surrogatepass"))
    path = cache_folder() / f"{key.hexdigest()}.tokens"
    record = _read_record(path)
    if path.exists() and (wrong := _damage(path, record)):
        say(f"{path}: {wrong}; it is made again")
        record = None
    if record is None:
        with system_errors(f"{path.parent}: the tokens of the text cannot be kept there"):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_old(path.parent)
            record = _write(path, source, tokenizer, name, say)
    with open_regular_file(path) as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # nothing is written, but torch wants it so
    if hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)
    return Encoded(torch.frombuffer(mapping, dtype=_kind(tokenizer)), record.lengths, mapping)


def _write(path: Path, source: Source, tokenizer: Tokenizer, name: str, say: Say) -> _Record:
    """Encode a text into a file; it and its record appear whole or not at all."""
    width = _kind(tokenizer).itemsize
    count = source.bytes if tokenizer.file or not tokenizer.vocabulary else sum(source.facts.characters)
    if tokenizer.file:
        count //= 2  # at most, but for a vocabulary that does not fit at all: then the disk says so
    needed, free = count * width + SPARE_BYTES, shutil.disk_usage(path.parent).free
    if needed > free:
        room = f"its tokens need {format_size(needed)}, and {format_size(free)} are free in {path.parent}"
        raise UserError(f"{name}: {room}; free some, or set XDG_CACHE_HOME to a folder on another disk")
    tell = Teller(say, f"encoding the text into {path.parent}", source.bytes)
    say(f"encoding {format_size(source.bytes)} of text once, into {path.parent}")
    temporary = temporary_path(path)
    try:
        with synced_file(temporary) as file:
            lengths = tuple(_append(file, pieces, tokenizer, name, tell) for pieces in source.pieces())
        record = _Record(temporary.stat().st_size, lengths, _checksum(temporary))
        os.replace(temporary, path)
        write_atomic(path.with_suffix(".json"), json.dumps(vars(record)))
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return record


def _append(file: BinaryIO, pieces: Iterator[str], tokenizer: Tokenizer, name: str, tell: Callable[[int], None]) -> int:
    """Write the tokens of a document; returns how many it has."""
    count = 0
    for block in _cut(pieces, BLOCK):
        tokens = encode(block, tokenizer, name)
        file.write(tokens.numpy().tobytes())
        count += len(tokens)
        tell(len(block) if block.isascii() else len(block.encode()))
    return count


def _cut(pieces: Iterable[str], size: int = PIECE) -> Iterator[str]:
    """Cut a text into pieces of at most `size` characters, where it can be after a line that another one follows.

    No token goes over such a place, if the tokenizer splits words first, as most do: whether the text is cut there
    makes no difference to its tokens.
    """
    text = ""
    for piece in pieces:
        text, start = text + piece, 0
        while len(text) - start > size:
            end = text.rfind("\n", start, start + size)
            while end > start and (text[end - 1].isspace() or text[end + 1].isspace()):
                end = text.rfind("\n", start, end)
            end = end + 1 if end > start else start + size
            yield text[start:end]
            start = end
        text = text[start:]
    if text:
        yield text


def _kind(tokenizer: Tokenizer) -> torch.dtype:
    """The type of a token: its bits are those of an unsigned one, for which torch has few operations."""
    size = len(tokenizer)
    return torch.uint8 if size <= 2**8 else torch.int16 if size <= 2**15 else torch.int32


def _code_points(text: str) -> Tensor:
    return _bytes(text.encode("utf-32-le"), torch.int32)


def _bytes(raw: bytes, kind: torch.dtype) -> Tensor:
    return torch.frombuffer(bytearray(raw), dtype=kind) if raw else torch.empty(0, dtype=kind)


def _read_record(path: Path) -> _Record | None:
    try:
        with open_regular_file(path.with_suffix(".json")) as file:
            values = json.loads(file.read())
        for each in (path, path.with_suffix(".json")):
            os.utime(each)  # it is in use
    except (OSError, ValueError, RecursionError):
        return None
    return from_values(_Record, values) if isinstance(values, dict) else None


def _damage(path: Path, record: _Record | None) -> str:
    """Say what is wrong with a file of tokens; empty if it is as it was written."""
    if record is None:
        return "is damaged: its record cannot be read"
    try:
        if path.stat().st_size != record.bytes:
            return "is damaged: it has another size than it was written with"
        return "" if _checksum(path) == record.checksum else "is damaged: it is not as it was written"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _checksum(path: Path) -> str:
    """The sum of a file's bytes, eight at a time: seconds faster than a CRC, and a flipped bit changes it."""
    total, buffer = 0, bytearray(1 << 24)
    with open_regular_file(path) as file:
        while size := file.readinto(buffer):
            buffer[size:] = bytes(len(buffer) - size)
            block = int(torch.frombuffer(buffer, dtype=torch.int64).sum())
            total = (3 * total + block) & (2**64 - 1)  # so that blocks cannot change places
    return f"{total:016x}"


def _remove_old(folder: Path) -> None:
    """Remove what was not used for long."""
    for path in folder.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_DAYS * 86400:
                path.unlink()
