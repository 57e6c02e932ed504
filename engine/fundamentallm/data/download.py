"""Public texts that are too large to ship: where they come from, and how `fundamentallm data get` downloads them.

- A download is accepted only if its size and its SHA-256 are the expected ones; otherwise nothing is written.
- Either all files appear, complete, or none. A different file of the same name is moved aside, never overwritten.
- Knows no screen: progress is reported to a callback. Imports no torch, and no network module before it needs one.
- Datasets of Hugging Face are read by its library `datasets`, where that is installed.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from io import BufferedIOBase
from pathlib import Path
from tempfile import TemporaryDirectory

from fundamentallm.errors import UserError, describe_error
from fundamentallm.paths import user_path
from fundamentallm.run.folder import free_name, synced_file
from fundamentallm.untrusted import open_regular_file

TIMEOUT = 20.0  # seconds without a byte from the server
BLOCK = 1 << 16  # bytes between two calls of `progress` and `cancelled`
HUB = "hf:"  # before the name of a dataset of Hugging Face
HUB_FOLDER = Path("data/raw")


@dataclass(frozen=True)
class TextFile:
    """A file with the first `size` bytes of a text. What is made on this machine has no expected size and hash."""

    name: str
    size: int | None = None
    sha256: str = ""


@dataclass(frozen=True)
class KnownText:
    """A text that `fundamentallm data get` knows by its name, and the files that it becomes."""

    name: str
    description: str
    folder: str  # relative to the current folder, with slashes
    files: tuple[TextFile, ...]  # the last one is the complete text
    url: str = ""  # empty: the text is made on this machine

    @property
    def paths(self) -> list[str]:
        return [f"{self.folder}/{file.name}" for file in self.files]

    @property
    def size(self) -> int | None:
        return self.files[-1].size


TINY_SHAKESPEARE = KnownText(
    "shakespeare",
    "Tiny Shakespeare: 40,000 lines of his plays",
    "data/raw/shakespeare",
    (
        TextFile("shakespeare25k.txt", 25_000, "6a8401bf15adb45835c86319655e44100914eba070068d2474dcde3153295710"),
        TextFile("shakespeare100k.txt", 100_000, "caad989adf87f2482e346c9a77d1fb03c6c033aa8689e2e97aee2de90b0f8839"),
        TextFile("shakespeare1mil.txt", 1_115_394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),
    ),
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
)
PYTHON_DOCS = KnownText(
    "python-docs",
    "the Python documentation that comes with this Python",
    "data/raw/python-docs",
    (TextFile("python-docs.txt"),),
)
KNOWN_TEXTS = {text.name: text for text in (TINY_SHAKESPEARE, PYTHON_DOCS)}


@dataclass(frozen=True)
class Downloaded:
    """What `download` did. `written` is empty if every file was already there and correct."""

    written: tuple[Path, ...]
    aside: tuple[Path, ...]  # where different files of the same names are now


def find_known_text(path: str) -> str | None:
    """Return the name of the known text that has a file, or its folder, at `path` relative to the current folder."""
    with suppress(UserError):
        wanted = Path(os.path.normpath(user_path(path).absolute()))
        for known in KNOWN_TEXTS.values():
            if wanted in [Path.cwd() / path for path in (known.folder, *known.paths)]:
                return known.name
    return None


def download(
    known: KnownText,
    source: str = "",
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Downloaded:
    """Write the files of a known text below the current folder, unless they are already there.

    Args:
        source: a file or a URL to read the text from instead of its public URL.
        progress: called with the bytes so far and the total after each block, in the thread that called `download`.
        cancelled: asked after each block. A server that does not answer is given up after `TIMEOUT` seconds.

    Raises:
        UserError: no file was created or changed: the text is not there or another one, or it was cancelled.
    """
    files, raw = known.files, b""
    if not known.url:
        if source:
            raise UserError(f"--from {source}: {known.name} is made on this machine; leave the option out")
        raw = _make_python_docs()
        files = (replace(files[-1], size=len(raw), sha256=hashlib.sha256(raw).hexdigest()),)
    target = Path(known.folder)
    wrong = [file for file in files if not _is_correct(target / file.name, file)]
    if not wrong:
        return Downloaded((), ())
    if known.url:
        raw = _read(known, source or known.url, progress, cancelled)
    return _write(target, {file.name: raw[: file.size] for file in wrong})


def fetch_dataset(name: str) -> dict[Path, list[str]]:
    """Write each split of a dataset into a file of JSON lines below data/raw, all or none.

    Args:
        name: "hf:OWNER/NAME" means the Hub; "hf:" and a path that begins with ".", "/" or "~" a folder of this
            machine. ":" and a configuration may follow.

    Returns:
        The files, and the columns of each.

    Raises:
        UserError: the library is not installed, there is no such dataset, its files are there already, or the disk
            refuses.
    """
    dataset, _, configuration = name.removeprefix(HUB).partition(":")
    parts = [part for part in (*Path(dataset).parts, *Path(configuration).parts) if part not in ("..", "/", "~")]
    if not parts:
        raise UserError(f"{name}: names no dataset; write hf:OWNER/NAME, such as hf:roneneldan/TinyStories")
    local = dataset.startswith((".", "/", "~"))
    if not local and os.path.isdir(dataset):  # which the library would take in place of the dataset
        how = f"write hf:./{dataset} for the folder, or go to another one for the dataset of Hugging Face"
        raise UserError(f"{name}: {dataset} is a folder here, too; {how}")
    if local and not user_path(dataset).is_dir():
        raise UserError(f"{name}: no such folder")
    folder = HUB_FOLDER.joinpath(*parts)
    if there := sorted(map(str, folder.glob("*.jsonl"))):
        raise UserError(f"{name}: is there already: {', '.join(there)}; to fetch it again, move that away")
    try:
        import datasets
    except ImportError:
        raise UserError(f"{name}: datasets are read by another program; install it: pip install datasets") from None
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it says six times that it cannot reach the Hub
    advice = "" if local else "; check the name and the network"
    try:
        splits = datasets.load_dataset(str(user_path(dataset)) if local else dataset, configuration or None)
        advice = ""
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            for split, rows in splits.items():
                rows.to_json(Path(temporary, f"{split}.jsonl"), force_ascii=False)
            for split in splits:
                os.replace(Path(temporary, f"{split}.jsonl"), folder / f"{split}.jsonl")
    except Exception as error:  # the library raises dozens of kinds
        raise UserError(f"{name}: cannot be fetched: {describe_error(error)}{advice}") from None
    return {folder / f"{split}.jsonl": list(rows.column_names) for split, rows in splits.items()}


def _is_correct(path: Path, file: TextFile) -> bool:
    with suppress(OSError), open_regular_file(path) as found:
        same_size = os.fstat(found.fileno()).st_size == file.size
        return same_size and hashlib.file_digest(found, "sha256").hexdigest() == file.sha256
    return False


def _make_python_docs() -> bytes:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UserError("python-docs: this Python comes without its documentation (pydoc_data)") from None
    return ("\n\n".join(topics[name].strip() for name in sorted(topics)) + "\n").encode()


def _read(known: KnownText, source: str, progress: Callable[[int, int], None], cancelled: Callable[[], bool]) -> bytes:
    """Read and verify the complete text; never read more than one byte beyond its expected size."""
    size = known.size
    assert size is not None, "only a text with a URL is read"
    advice = f"name another file or URL: fundamentallm data get {known.name} --from FILE_OR_URL"
    raw = bytearray()
    try:
        with _open(source) as file:
            while len(raw) <= size and (block := file.read1(min(BLOCK, size + 1 - len(raw)))):
                raw += block
                progress(min(len(raw), size), size)
                if cancelled():
                    raise UserError(f"{known.name}: cancelled; nothing was written")
    except UserError:
        raise
    except Exception as error:  # urllib, http and ssl raise dozens of kinds
        raise UserError(f"{source}: cannot be read: {_explain(error)}; {advice}") from None
    if len(raw) != size:
        length = f"has {len(raw):,} bytes" if len(raw) < size else "is longer"
        raise UserError(f"{source}: is not {known.name}: {length}, not {size:,}; {advice}")
    if hashlib.sha256(raw).hexdigest() != known.files[-1].sha256:
        raise UserError(f"{source}: is not {known.name}: its SHA-256 is different; {advice}")
    return bytes(raw)


def _open(source: str) -> BufferedIOBase:
    """Open a file or a URL for reading; its `read1` returns what has arrived, and b"" at the end."""
    scheme, separator, _ = source.partition("://")
    if not separator:
        return open_regular_file(user_path(source))
    if scheme.lower() not in ("http", "https"):
        raise ValueError("only http and https URLs are supported")
    from urllib.request import Request, urlopen  # takes 40 ms to import

    response: BufferedIOBase = urlopen(Request(source, headers={"User-Agent": "fundamentallm"}), timeout=TIMEOUT)
    return response


def _explain(error: Exception) -> str:
    """Return why a file or a URL could not be read, in one line."""
    if isinstance(code := getattr(error, "code", None), int):  # urllib's HTTPError
        return f"the server answered {code} {getattr(error, 'reason', '')}".rstrip()
    cause = getattr(error, "reason", error)  # urllib's URLError holds the system's error
    if isinstance(cause, TimeoutError):
        return f"no answer in {TIMEOUT:g} seconds"
    return describe_error(cause) if isinstance(cause, Exception) else str(cause)


def _write(folder: Path, contents: dict[str, bytes]) -> Downloaded:
    """Write all files into a temporary folder, then move them to `folder`; after an error nothing has changed."""
    paths = [folder / name for name in contents]
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    old: list[tuple[Path, Path]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            if path.is_dir():
                raise UserError(f"{path}: is a folder; move it away, a file of that name belongs here")
        with TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            for name, raw in contents.items():
                with synced_file(Path(temporary, name)) as file:
                    file.write(raw)
            old = [(path, free_name(path)) for path in paths if os.path.lexists(path)]  # not *.txt: not trained on
            with ExitStack() as undo:  # all are renamed or none, as far as the system lets them be renamed back
                for source, target in [*old, *((Path(temporary, path.name), path) for path in paths)]:
                    undo.callback(_rename_back, source, target)  # first: an interruption can come right after a rename
                    os.rename(source, target)
                undo.pop_all()
    except BaseException as error:
        for parent in created:
            with suppress(OSError):  # it was never created, or is no longer empty
                parent.rmdir()
        if isinstance(error, OSError):
            aside = [str(path) for _, path in old if os.path.lexists(path)]
            done = f"the old files are now {', '.join(aside)}" if aside else "nothing was written"
            raise UserError(f"{folder}: cannot be written to: {describe_error(error)}; {done}") from None
        raise
    return Downloaded(tuple(paths), tuple(path for _, path in old))


def _rename_back(source: Path, target: Path) -> None:
    if not os.path.lexists(source):
        with suppress(OSError):  # the error that is reported is the first one
            os.rename(target, source)
