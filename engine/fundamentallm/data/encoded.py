"""A text as tokens: in memory, or in a file of the user's cache that is mapped into it.

- The file of a long text is made once for each content and tokenizer, beside its place, and renamed when it is whole.
  An encoding that was interrupted continues after the pieces that are complete.
- All of its bytes are checked when it is made, and when its size, its time of change or its place on the disk is not as
  it was then; otherwise these three. One that is damaged is made again, which is said.
"""

import fcntl
import hashlib
import json
import mmap
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from fundamentallm.config.estimate import TextSize, character_width
from fundamentallm.config.format import format_count, format_size
from fundamentallm.data.source import BLOCK, CACHE_VERSION, Say, Source, Teller, cache_folder, keep, recall
from fundamentallm.data.tokenizer import FileTokenizer, Tokenizer
from fundamentallm.errors import UserError, system_errors
from fundamentallm.run.folder import write_atomic
from fundamentallm.run.locks import is_at
from fundamentallm.untrusted import from_values, open_for_writing, open_regular_file

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
    """What must be true of a file of tokens; `checksum` is that of its bytes, `state` as it was when they had it."""

    lengths: tuple[int, ...]
    checksum: str
    state: str = ""  # records of earlier versions have none


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


def encode_source(source: Source, tokenizer: Tokenizer, say: Say = lambda text: None) -> Encoded:
    """Encode the text of a run, or open the file that has its tokens.

    `say` is told how far that is, where it takes long. A UserError says that the disk has no room, or what the
    tokenizer does not know.
    """
    name = ", ".join(source.files)
    if source.documents is not None:
        parts = [encode("".join(pieces), tokenizer, name) for pieces in source.pieces()]
        return Encoded(torch.cat(parts) if len(parts) > 1 else parts[0], tuple(map(len, parts)))
    kind = f"{tokenizer.vocabulary}\0{tokenizer.file}" + f"\0{source.without}" * bool(source.without)
    key = hashlib.sha256(f"{CACHE_VERSION} {source.facts.fingerprint} {kind}".encode("utf-8", "surrogatepass"))
    path = cache_folder() / f"{key.hexdigest()}.tokens"
    record = None
    if path.exists() and (wrong := _damage(path, record := _read_record(path))):
        say(f"{path}: {wrong}; it is made again")
        with system_errors(f"{path}: cannot be removed"):
            path.unlink(missing_ok=True)
        record = None
    if record is None:
        with system_errors(f"{path.parent}: the tokens of the text cannot be kept there (see XDG_CACHE_HOME)"):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_old(path.parent)
            _check_room(path, source, tokenizer, name)
            with _alone(path.with_suffix(".pieces"), say) as log:  # another process may have made it meanwhile
                record = _read_record(path) or _write(path, log, source, tokenizer, name, say)
    with open_regular_file(path) as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # nothing is written, but torch wants it so
    mapping.madvise(mmap.MADV_RANDOM)
    return Encoded(torch.frombuffer(mapping, dtype=_kind(tokenizer)), record.lengths, mapping)


def _check_room(path: Path, source: Source, tokenizer: Tokenizer, name: str) -> None:
    """Raise a UserError if the disk has no room for the tokens of a text, or for those that are not there yet."""
    count = source.bytes if tokenizer.file or not tokenizer.vocabulary else sum(source.facts.characters)
    if tokenizer.file:
        count //= 2  # at most, but for a vocabulary that does not fit at all: then the disk says so
    needed, free = count * _kind(tokenizer).itemsize, shutil.disk_usage(path.parent).free
    with suppress(FileNotFoundError):
        needed -= path.with_suffix(".part").stat().st_size
    if needed + SPARE_BYTES > free:
        room = f"its tokens need {format_size(max(0, needed))}, and {format_size(SPARE_BYTES)} must stay free"
        room += f", but {format_size(free)} are free in {path.parent}"
        raise UserError(f"{name}: {room}; free some, or set XDG_CACHE_HOME to a folder on another disk")


@contextmanager
def _alone(path: Path, say: Say) -> Iterator[BinaryIO]:
    """Open a file for reading and writing that no other process has open, and remove it after the body."""
    while True:
        with open(open_for_writing(path, 0), "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("another process encodes this text; this one waits for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            if is_at(file.fileno(), path):  # not removed by the one that was waited for
                yield file
                return path.unlink()


def _write(path: Path, log: BinaryIO, source: Source, tokenizer: Tokenizer, name: str, say: Say) -> _Record:
    """Encode a text into a file; it and its record appear whole or not at all.

    `log` gets the number of tokens and the checksum of each piece that is written. After a kill or a signal it stays,
    with the file, and the next call continues.
    """
    part, width = path.with_suffix(".part"), _kind(tokenizer).itemsize
    say(f"encoding {format_size(source.bytes)} of text once, into {path.parent}")
    tell = Teller(say, f"encoding the text into {path.parent}", source.bytes)
    try:
        with open(open_for_writing(part, 0), "r+b") as file:
            done = iter(_keep_complete(file, log, width, say))

            def append(piece: str) -> int:
                if size := next(done, 0):
                    return size
                raw = encode(piece, tokenizer, name).numpy().tobytes()
                for each, line in ((file, raw), (log, b"%d %d\n" % (len(raw) // width, zlib.crc32(raw)))):
                    each.write(line)
                    each.flush()  # to the system, which outlives this process: a line never comes before its tokens
                return len(raw) // width

            lengths = tuple(_append(pieces, append, tell) for pieces in source.pieces())
            os.fsync(file.fileno())
        record = _Record(lengths, _checksum(part), _state(part))
        write_atomic(path.with_suffix(".json"), json.dumps(vars(record)))
        os.replace(part, path)  # last: where there is a file there is its record
    except Exception:
        for each in (part, path.with_suffix(".pieces")):
            each.unlink(missing_ok=True)
        raise
    return record


def _keep_complete(file: BinaryIO, log: BinaryIO, width: int, say: Say) -> list[int]:
    """Cut both files off after the last piece that is complete; returns how many tokens each piece has."""
    sizes, end = list[int](), 0
    with suppress(ValueError):  # a line that is no two numbers
        for line in log:
            size, checksum = map(int, line.split())
            whole = line.endswith(b"\n") and 0 < size <= 4 * BLOCK  # or the process was killed while it wrote it
            if not whole or zlib.crc32(file.read(size * width)) != checksum:
                break
            sizes.append(size)
            end += len(line)
    if sizes:
        say(f"an interrupted encoding continues after {format_count(len(sizes), 'complete piece')}")
    elif os.fstat(file.fileno()).st_size:
        say("an interrupted encoding has no piece that is complete: it begins anew")
    file.truncate(file.seek(sum(sizes) * width))
    log.truncate(log.seek(end))
    return sizes


def _append(pieces: Iterator[str], append: Callable[[str], int], tell: Callable[[int], None]) -> int:
    """Write the tokens of a document; returns how many it has."""
    count = 0
    for block in _cut(pieces, BLOCK):
        count += append(block)
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
    if not path.exists():
        return None
    with suppress(OSError):  # another user's file, or a disk that is read-only
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))  # it is in use
    values = recall(path.with_suffix(".json"))
    return from_values(_Record, values) if isinstance(values, dict) else None


def _state(path: Path) -> str:
    """What differs once a file is another one: its size in bytes, its time of change in nanoseconds, and its inode."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"


def _damage(path: Path, record: _Record | None) -> str:
    """Say what is wrong with a file of tokens; empty if it is as it was written."""
    if record is None:
        return "is damaged: its record cannot be read"
    try:
        state = _state(path)
        if state == record.state:
            return ""
        if _checksum(path) != record.checksum:
            return "is damaged: it is not as it was written"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    keep(path.with_suffix(".json"), vars(replace(record, state=state)))
    return ""


def _checksum(path: Path) -> str:
    with open_regular_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_old(folder: Path) -> None:
    for path in folder.iterdir():
        with suppress(OSError):
            if time.time() - max(path.stat().st_atime, path.stat().st_mtime) > KEPT_DAYS * 86400:
                path.unlink()
