"""Fetching a text: it comes whole and right, or not at all."""

import errno
import hashlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.data.download import CORPORA, Corpus, Piece, corpus_of, get, missing_data_hint
from fundamentallm.data.text import find_data
from fundamentallm.errors import UserError

TEXT = bytes(32 + n * n % 90 for n in range(300_000))
SERVED: dict[str, bytes] = {
    "/right": TEXT, "/short": TEXT[:-1], "/long": TEXT + b"x" * 10_000_000, "/other": TEXT[::-1],
}  # fmt: skip


def piece(name: str, size: int) -> Piece:
    return Piece(f"data/raw/x/{name}", size, hashlib.sha256(TEXT[:size]).hexdigest())


class Handler(BaseHTTPRequestHandler):
    """Serves `SERVED`, and leads from /moved to /right."""

    sent = 0

    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/right")
            self.end_headers()
            return
        body = SERVED.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        try:
            for start in range(0, len(body or b""), 1 << 16):
                self.wfile.write((body or b"")[start : start + (1 << 16)])
                Handler.sent += 1 << 16
        except OSError:  # nobody wants the rest
            pass

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def corpus(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    return Corpus(
        "x", "a text", (piece("a.txt", 1000), piece("b.txt", 70_000), piece("c.txt", len(TEXT))), f"{server}/right"
    )


def here() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


WHOLE = {"data/raw/x/a.txt": TEXT[:1000], "data/raw/x/b.txt": TEXT[:70_000], "data/raw/x/c.txt": TEXT}


def refused(corpus: Corpus, source: str = "", **arguments: Any) -> str:
    """The one line with which it is refused; nothing is left behind."""
    with pytest.raises(UserError) as caught:
        get(corpus, source, **arguments)
    assert list(Path().iterdir()) == []
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_text_is_fetched_from_its_address_and_cut_to_its_files(corpus: Corpus) -> None:
    heard: list[tuple[int, int]] = []
    fetched = get(corpus, progress=lambda done, total: heard.append((done, total)))
    assert here() == WHOLE
    assert (fetched.written, fetched.aside) == (tuple(map(Path, WHOLE)), ())
    assert heard == sorted(heard) and heard[-1] == (len(TEXT), len(TEXT)) and len(heard) > 3


def test_it_may_come_from_a_file_or_another_address(corpus: Corpus, tmp_path: Path, server: str) -> None:
    lost = replace(corpus, address="http://127.0.0.1:9/nothing")
    source = tmp_path.with_suffix(".source")
    source.write_bytes(TEXT)
    get(lost, str(source), folder=Path("one"))
    get(lost, f"{server}/moved", folder=Path("two"))
    assert here() == {f"{folder}/{path}": raw for folder in ("one", "two") for path, raw in WHOLE.items()}


def test_what_is_there_and_right_is_not_fetched_again(corpus: Corpus) -> None:
    get(corpus)
    lost = replace(corpus, address="http://127.0.0.1:9/nothing")
    assert get(lost).written == ()
    Path("data/raw/x/b.txt").unlink()
    assert get(corpus).written == (Path("data/raw/x/b.txt"),)
    assert here() == WHOLE


def test_a_different_file_in_the_way_is_moved_aside(corpus: Corpus) -> None:
    Path("data/raw/x").mkdir(parents=True)
    Path("data/raw/x/a.txt").write_text("mine")
    assert get(corpus).aside == (Path("data/raw/x/a.txt.old-1"),)
    Path("data/raw/x/a.txt").write_text("mine too")
    assert get(corpus).aside == (Path("data/raw/x/a.txt.old-2"),)
    assert here() == WHOLE | {"data/raw/x/a.txt.old-1": b"mine", "data/raw/x/a.txt.old-2": b"mine too"}


def test_what_is_not_the_text_leaves_nothing_behind(corpus: Corpus, server: str) -> None:
    hint = "name another file or address: fundamentallm data get x --from FILE_OR_URL"
    assert refused(corpus, f"{server}/short") == f"{server}/short: is not x: has 299,999 bytes, not 300,000; {hint}"
    assert refused(corpus, f"{server}/other") == f"{server}/other: is not x: its SHA-256 is another; {hint}"
    assert refused(corpus, f"{server}/none") == f"{server}/none: the server answered 404 Not Found; {hint}"
    assert refused(replace(corpus, address="http://127.0.0.1:9/")).endswith(hint)
    assert refused(corpus, "ftp://example.org/x") == (
        f"ftp://example.org/x: only http and https addresses are fetched; {hint}"
    )
    assert refused(corpus, "none.txt") == f"none.txt: cannot be read: No such file or directory; {hint}"
    assert refused(corpus, "http://[") and refused(corpus, "http://a b") and refused(corpus, "http://")


def test_no_more_is_read_than_the_text_is_long(corpus: Corpus, server: str, tmp_path: Path) -> None:
    heard: list[int] = []
    Handler.sent = 0
    text = refused(corpus, f"{server}/long", progress=lambda done, _: heard.append(done))
    assert "/long: is not x: is longer, not 300,000;" in text
    assert max(heard) == 300_000 and Handler.sent < 10_000_000
    assert "is not a file" in refused(corpus, str(tmp_path))
    if Path("/dev/zero").exists():
        assert "is not a file" in refused(corpus, "/dev/zero")


def test_a_server_that_does_not_answer_is_not_waited_for(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundamentallm.data.download.TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        assert f"{address}: cannot be reached: no answer in 0.1 seconds; name another" in refused(corpus, address)


def test_a_cancelled_fetch_leaves_nothing_behind(corpus: Corpus) -> None:
    heard: list[int] = []
    text = refused(corpus, progress=lambda done, _: heard.append(done), cancelled=lambda: len(heard) == 2)
    assert text == "x: cancelled; nothing was written" and len(heard) == 2


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_full_disk_leaves_nothing_behind(corpus: Corpus, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    calls: list[int] = []

    def full(_: int) -> None:
        calls.append(1)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fundamentallm.data.download.os.fsync", full)
    assert refused(corpus) == "data/raw/x: cannot be written to: No space left on device; nothing was left behind"


def test_an_interrupted_fetch_leaves_nothing_behind(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fundamentallm.data.download.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get(corpus)
    assert list(Path().iterdir()) == []


def test_a_failed_fetch_keeps_what_was_there(corpus: Corpus, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("data/raw/x").mkdir(parents=True)
    Path("data/raw/x/a.txt").write_text("mine")
    with pytest.raises(UserError):
        get(corpus, f"{server}/other")
    Path("data/raw/x/b.txt").mkdir()
    with pytest.raises(UserError, match=r"b\.txt: is a folder, and in the way"):
        get(corpus)
    assert here() == {"data/raw/x/a.txt": b"mine"} and Path("data/raw/x/b.txt").is_dir()


def test_the_python_documentation_needs_no_network(tmp_path: Path) -> None:
    docs = CORPORA["python-docs"]
    (path,) = get(docs, folder=tmp_path).written
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "data/raw/python-docs/python-docs.txt"
    assert 400_000 < len(text) < 700_000 and 'The "assert" statement' in text
    assert get(docs, folder=tmp_path).written == ()
    with pytest.raises(UserError, match="--from a: python-docs is made on this machine; leave it out"):
        get(docs, "a", folder=tmp_path)


def test_tiny_shakespeare_is_known_by_its_bytes() -> None:
    corpus = CORPORA["shakespeare"]
    assert corpus.address.startswith("https://raw.githubusercontent.com/karpathy/char-rnn/")
    assert [(Path(piece.path).name, piece.size) for piece in corpus.pieces] == [
        ("shakespeare25k.txt", 25_000), ("shakespeare100k.txt", 100_000), ("shakespeare1mil.txt", 1_115_394)
    ]  # fmt: skip
    assert corpus.whole.sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


PATHS: dict[str, str | None] = {
    "data/raw/shakespeare/shakespeare25k.txt": "shakespeare",
    "./data/raw/../raw/shakespeare/shakespeare1mil.txt": "shakespeare",
    "data/raw/shakespeare": "shakespeare",
    "data/raw/python-docs/python-docs.txt": "python-docs",
    "data/raw/shakespeare/shakespeare50k.txt": None,
    "shakespeare25k.txt": None,
    "/data/raw/shakespeare/shakespeare25k.txt": None,
    "": None,
    "a\0b": None,
}


@pytest.mark.parametrize("path", PATHS)
def test_a_missing_text_that_can_be_fetched_says_how(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = PATHS[path]
    assert corpus_of(path) == name
    assert missing_data_hint(path) == (name and f"fundamentallm data get {name}")
    if name:
        assert corpus_of(str(tmp_path / path)) == name
        with pytest.raises(UserError) as caught:
            find_data(path)
        assert str(caught.value) == f"{path}: no such file; fundamentallm data get {name} fetches it"
