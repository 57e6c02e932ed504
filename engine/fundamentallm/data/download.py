"""Texts to learn from that do not travel with the program: where they come from, and how they get here.

- What was fetched is known by its size and its SHA-256; anything else is refused and leaves nothing behind.
- Files appear whole or not at all, and a different file that is in the way is moved aside, never written over.
- Knows no screen: progress is a callback. No torch, and no network module before something is fetched.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fundamentallm.errors import UserError

TIMEOUT = 20.0  # seconds without a byte
BLOCK = 1 << 16  # bytes between two looks at `cancelled`

Progress = Callable[[int, int], None]  # bytes so far, bytes in all


@dataclass(frozen=True)
class Piece:
    """A file that a corpus is cut to: its first `size` bytes. Nothing is known of one that is made here."""

    path: str  # from the folder in which a person works, with slashes
    size: int | None = None
    sha256: str = ""


@dataclass(frozen=True)
class Corpus:
    """A known text. The last piece is the whole of it; one without an address is made on this machine."""

    name: str
    about: str
    pieces: tuple[Piece, ...]
    address: str = ""

    @property
    def whole(self) -> Piece:
        return self.pieces[-1]


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "shakespeare",
            "Tiny Shakespeare: 40,000 lines of his plays",
            (
                Piece(
                    "data/raw/shakespeare/shakespeare25k.txt",
                    25_000,
                    "6a8401bf15adb45835c86319655e44100914eba070068d2474dcde3153295710",
                ),
                Piece(
                    "data/raw/shakespeare/shakespeare100k.txt",
                    100_000,
                    "caad989adf87f2482e346c9a77d1fb03c6c033aa8689e2e97aee2de90b0f8839",
                ),
                Piece(
                    "data/raw/shakespeare/shakespeare1mil.txt",
                    1_115_394,
                    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                ),
            ),
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        ),
        Corpus(
            "python-docs",
            "the Python documentation that this Python carries",
            (Piece("data/raw/python-docs/python-docs.txt"),),
        ),
    )
}


@dataclass(frozen=True)
class Fetched:
    """What `get` did. Nothing was `written` where every file was there and right."""

    written: tuple[Path, ...]
    aside: tuple[Path, ...]  # where different files of these names are now


def corpus_of(path: str) -> str | None:
    """The known corpus that would put a file at this path, seen from the current folder."""
    try:
        wanted = Path(path).expanduser().absolute()
        here = Path.cwd()
    except (OSError, RuntimeError, ValueError):
        return None
    wanted = Path(os.path.normpath(wanted))
    for corpus in CORPORA.values():
        if any(wanted in (here / piece.path, (here / piece.path).parent) for piece in corpus.pieces):
            return corpus.name
    return None


def missing_data_hint(path: str) -> str | None:
    """The command that puts a file at this path, if one does."""
    name = corpus_of(path)
    return f"fundamentallm data get {name}" if name else None


def get(
    corpus: Corpus,
    source: str = "",
    *,
    folder: Path = Path(),
    progress: Progress = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Fetched:
    """Put the files of a corpus in their places below `folder`, where they are not there already.

    Args:
        source: a file or an address to take it from in place of the public one.
        progress: hears of every block; called from the thread that calls `get`.
        cancelled: asked between two blocks; waiting for an answer from the network ends by itself in 20 s.

    Raises:
        UserError: it cannot be had, is not what it should be, or the disk does not take it; or it was cancelled.
            No file has come or changed.
    """
    if corpus.address:
        wrong = [piece for piece in corpus.pieces if not _right(folder / piece.path, piece)]
        if not wrong:
            return Fetched((), ())
        raw = _read(corpus, source, progress, cancelled)
        contents = {folder / piece.path: raw[: piece.size] for piece in wrong}
    else:
        if source:
            raise UserError(f"--from {source}: {corpus.name} is made on this machine; leave it out")
        raw = _python_docs()
        contents = {folder / corpus.whole.path: raw}
        if _same(folder / corpus.whole.path, raw):
            return Fetched((), ())
    return _place(contents)


# ---- where the bytes come from ----


def _read(corpus: Corpus, source: str, progress: Progress, cancelled: Callable[[], bool]) -> bytes:
    """The whole text of a corpus, checked."""
    size = corpus.whole.size
    assert size is not None
    address = source or corpus.address
    other = f"name another file or address: fundamentallm data get {corpus.name} --from FILE_OR_URL"
    raw = bytearray()
    try:
        with _opened(address) as read:
            while len(raw) <= size and (block := read(min(BLOCK, size + 1 - len(raw)))):
                raw += block
                progress(min(len(raw), size), size)
                if cancelled():
                    raise UserError(f"{corpus.name}: cancelled; nothing was written")
    except UserError:
        raise
    except Exception as error:  # urllib, http and ssl have dozens of their own
        verb = "reached" if "://" in address else "read"
        raise UserError(f"{address}: {_why(error, verb)}; {other}") from None
    if len(raw) != size:
        length = f"has {len(raw):,} bytes" if len(raw) < size else "is longer"
        raise UserError(f"{address}: is not {corpus.name}: {length}, not {size:,}; {other}")
    if hashlib.sha256(raw).hexdigest() != corpus.whole.sha256:
        raise UserError(f"{address}: is not {corpus.name}: its SHA-256 is another; {other}")
    return bytes(raw)


@contextmanager
def _opened(address: str) -> Iterator[Callable[[int], bytes]]:
    """A file or an address, as a function that reads up to so many bytes: what has arrived, nothing at the end."""
    if "://" not in address:
        path = Path(address).expanduser()
        if path.exists() and not path.is_file():
            raise OSError(0, "is not a file")
        with path.open("rb") as file:
            yield file.read
        return
    if address.split("://")[0].lower() not in ("http", "https"):
        raise OSError(0, "only http and https addresses are fetched")
    from urllib.request import Request, urlopen  # 40 ms, and needed once in a person's life

    with urlopen(Request(address, headers={"User-Agent": "fundamentallm"}), timeout=TIMEOUT) as answer:
        yield answer.read1


def _why(error: Exception, verb: str) -> str:
    """Why an address or a file could not be read, in one line."""
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return f"the server answered {code} {getattr(error, 'reason', '')}".rstrip()
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return f"cannot be {verb}: no answer in {TIMEOUT:g} seconds"
    if isinstance(reason, OSError) and reason.errno == 0:
        return str(reason.strerror)
    words = (isinstance(reason, OSError) and reason.strerror) or str(reason) or type(reason).__name__
    return f"cannot be {verb}: {words}".replace("\n", " ")


def _python_docs() -> bytes:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UserError("python-docs: this Python does not carry its documentation (pydoc_data)") from None
    return ("\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n").encode()


# ---- onto the disk ----


def _right(path: Path, piece: Piece) -> bool:
    """Whether the file of a piece is there and what it should be."""
    try:
        if not path.is_file() or path.stat().st_size != piece.size:
            return False
        return hashlib.sha256(path.read_bytes()).hexdigest() == piece.sha256
    except OSError:
        return False


def _same(path: Path, raw: bytes) -> bool:
    try:
        return path.is_file() and path.stat().st_size == len(raw) and path.read_bytes() == raw
    except OSError:
        return False


def _place(contents: dict[Path, bytes]) -> Fetched:
    """Write all files under other names, then rename them: what can fail, fails while nothing has changed."""
    made: list[Path] = []
    parts = {path.with_name(f".{path.name}.{os.getpid()}.part"): path for path in contents}
    try:
        for part, path in parts.items():
            if path.is_dir():
                raise UserError(f"{path}: is a folder, and in the way of the file of that name")
            missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
            path.parent.mkdir(parents=True, exist_ok=True)
            made += missing
            with part.open("wb") as file:
                file.write(contents[path])
                file.flush()
                os.fsync(file.fileno())
        aside = tuple(_move_aside(path) for path in contents if path.exists())
        for part, path in parts.items():
            part.replace(path)
    except BaseException as error:
        for part in parts:
            with suppress(OSError):
                part.unlink()
        for folder in made:
            with suppress(OSError):  # somebody else uses it by now
                folder.rmdir()
        if isinstance(error, OSError):
            where = next(iter(contents)).parent
            raise UserError(f"{where}: cannot be written to: {error.strerror}; nothing was left behind") from None
        raise
    return Fetched(tuple(contents), aside)


def _move_aside(path: Path) -> Path:
    """Rename a file to `<name>.old-<n>`, which no folder of *.txt files takes in."""
    n = 1
    while (aside := path.with_name(f"{path.name}.old-{n}")).exists():
        n += 1
    return path.rename(aside)
