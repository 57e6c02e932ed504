"""Downloading a known text: all its files appear, complete and verified, or none."""

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

from fundamentallm.data.download import (
    PYTHON_DOCS,
    TINY_SHAKESPEARE,
    Downloaded,
    KnownText,
    TextFile,
    download,
    find_known_text,
)  # fmt: skip
from fundamentallm.data.text import find_data
from fundamentallm.errors import UserError

TEXT = bytes(32 + n * n % 90 for n in range(300_000))
SERVED = {"/right": TEXT, "/short": TEXT[:-1], "/long": TEXT + b"x" * 10_000_000, "/other": TEXT[::-1]}
SIZES = {"a.txt": 1000, "b.txt": 70_000, "c.txt": len(TEXT)}
COMPLETE = {f"data/raw/x/{name}": TEXT[:size] for name, size in SIZES.items()}
NOWHERE = "http://127.0.0.1:9/nothing"
ADVICE = "name another file or URL: fundamentallm data get x --from FILE_OR_URL"


class Handler(BaseHTTPRequestHandler):
    """Serves `SERVED`, and redirects /moved to /right."""

    sent = 0  # bytes

    def do_GET(self) -> None:
        body = SERVED.get(self.path, b"")
        self.send_response(302 if self.path == "/moved" else 200 if body else 404)
        self.send_header("Location", "/right")
        self.end_headers()
        try:
            for start in range(0, len(body), 1 << 16):
                self.wfile.write(body[start : start + (1 << 16)])
                Handler.sent += 1 << 16
        except OSError:  # the client closed the connection
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
def known(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownText:
    """A text that the server has; the current folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    files = tuple(TextFile(name, size, hashlib.sha256(TEXT[:size]).hexdigest()) for name, size in SIZES.items())
    return KnownText("x", "a text", "data/raw/x", files, f"{server}/right")


@pytest.fixture
def mine(known: KnownText) -> Path:
    """The user's own file of the first file's name."""
    path = Path("data/raw/x/a.txt")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    return path


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refuse(known: KnownText, source: str = "", **arguments: Any) -> str:
    """Expect an error of one line, and that nothing was written; return the error."""
    with pytest.raises(UserError) as caught:
        download(known, source, **arguments)
    assert list(Path().iterdir()) == [] and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_text_is_downloaded_and_cut_to_its_files_and_progress_is_reported(known: KnownText) -> None:
    reports: list[tuple[int, int]] = []
    done = download(known, progress=lambda *report: reports.append(report))
    assert contents() == COMPLETE and done == Downloaded(tuple(map(Path, COMPLETE)), ())
    assert reports == sorted(reports) and reports[-1] == (len(TEXT), len(TEXT)) and len(reports) > 3


def test_a_text_may_come_from_a_file_or_another_url(known: KnownText, tmp_path: Path, server: str) -> None:
    source = tmp_path.with_suffix(".source")
    source.write_bytes(TEXT)
    download(replace(known, url=NOWHERE), str(source), folder=Path("one"))
    download(replace(known, url=NOWHERE), f"{server}/moved", folder=Path("two"))
    assert contents() == {f"{folder}/{path}": raw for folder in ("one", "two") for path, raw in COMPLETE.items()}


def test_only_missing_files_are_downloaded(known: KnownText) -> None:
    download(known)
    assert download(replace(known, url=NOWHERE)).written == ()
    Path("data/raw/x/b.txt").unlink()
    assert download(known).written == (Path("data/raw/x/b.txt"),)
    assert contents() == COMPLETE


def test_a_different_file_of_the_same_name_is_moved_aside(known: KnownText, mine: Path) -> None:
    assert download(known).aside == (Path(f"{mine}.old-1"),)
    mine.write_bytes(b"mine too")
    assert download(known).aside == (Path(f"{mine}.old-2"),)
    assert contents() == COMPLETE | {f"{mine}.old-1": b"mine", f"{mine}.old-2": b"mine too"}


REFUSED = {
    "{server}/short": "is not x: has 299,999 bytes, not 300,000",
    "{server}/other": "is not x: its SHA-256 is different",
    "{server}/none": "cannot be read: the server answered 404 Not Found",
    "http://127.0.0.1:9/": "cannot be read: Connection refused",
    "ftp://example.org/x": "cannot be read: only http and https URLs are supported",
    "none.txt": "cannot be read: No such file or directory",
    "{folder}": "cannot be read: Is a directory",
    "/dev/zero": "cannot be read: it is not a regular file",
    **dict.fromkeys(["http://[", "http://a b", "http://"], "cannot be read: "),
}


@pytest.mark.parametrize("source", REFUSED)
def test_a_wrong_or_unreadable_text_is_refused_and_nothing_is_written(
    source: str, known: KnownText, server: str, tmp_path: Path
) -> None:
    source = source.format(server=server, folder=tmp_path)
    text = refuse(known, source)
    assert text.startswith(
        f"{source}: {REFUSED[source.replace(server, '{server}').replace(str(tmp_path), '{folder}')]}"
    )
    assert text.endswith(f"; {ADVICE}")


def test_no_more_is_read_than_the_text_is_long(known: KnownText, server: str) -> None:
    reports: list[int] = []
    Handler.sent = 0
    text = refuse(known, f"{server}/long", progress=lambda done, _: reports.append(done))
    assert "/long: is not x: is longer, not 300,000;" in text
    assert max(reports) == 300_000 and Handler.sent < 10_000_000


def test_a_server_that_does_not_answer_is_given_up(known: KnownText, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundamentallm.data.download.TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        assert refuse(known, url) == f"{url}: cannot be read: no answer in 0.1 seconds; {ADVICE}"


def test_a_cancelled_download_writes_nothing(known: KnownText) -> None:
    reports: list[int] = []
    text = refuse(known, progress=lambda done, _: reports.append(done), cancelled=lambda: len(reports) == 2)
    assert text == "x: cancelled; nothing was written" and len(reports) == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_full_disk_or_an_interruption_leaves_nothing(
    known: KnownText, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException
) -> None:
    calls: list[int] = []

    def fail(file: int) -> None:
        calls.append(file)
        if len(calls) == failing:
            raise error

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises((UserError, KeyboardInterrupt)) as caught:
        download(known)
    assert list(Path().iterdir()) == []
    if isinstance(error, OSError):
        assert str(caught.value) == "data/raw/x: cannot be written to: No space left on device; nothing was written"


def test_a_failed_download_keeps_what_was_there(known: KnownText, mine: Path, server: str) -> None:
    with pytest.raises(UserError):
        download(known, f"{server}/other")
    mine.with_name("b.txt").mkdir()
    with pytest.raises(UserError, match=r"b\.txt: is a folder; move it away"):
        download(known)
    assert contents() == {str(mine): b"mine"} and mine.with_name("b.txt").is_dir()


def test_the_python_documentation_needs_no_network(tmp_path: Path) -> None:
    (path,) = download(PYTHON_DOCS, folder=tmp_path).written
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "data/raw/python-docs/python-docs.txt"
    assert 400_000 < len(text) < 700_000 and 'The "assert" statement' in text
    assert download(PYTHON_DOCS, folder=tmp_path).written == ()
    with pytest.raises(UserError, match="--from a: python-docs is made on this machine; leave the option out"):
        download(PYTHON_DOCS, "a", folder=tmp_path)


def test_tiny_shakespeare_is_the_known_text() -> None:
    assert TINY_SHAKESPEARE.url.startswith("https://raw.githubusercontent.com/karpathy/char-rnn/")
    assert TINY_SHAKESPEARE.paths[0] == "data/raw/shakespeare/shakespeare25k.txt"
    assert {file.name: file.size for file in TINY_SHAKESPEARE.files} == {
        "shakespeare25k.txt": 25_000, "shakespeare100k.txt": 100_000, "shakespeare1mil.txt": 1_115_394
    }  # fmt: skip
    assert TINY_SHAKESPEARE.files[-1].sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


PATHS = {
    "data/raw/shakespeare/shakespeare25k.txt": "shakespeare",
    "./data/raw/../raw/shakespeare/shakespeare1mil.txt": "shakespeare",
    "data/raw/shakespeare": "shakespeare",
    "data/raw/python-docs/python-docs.txt": "python-docs",
    **dict.fromkeys(
        ["data/raw/shakespeare/shakespeare50k.txt", "shakespeare25k.txt", "/data/raw/shakespeare/shakespeare25k.txt"]
    ),
    **dict.fromkeys(["", "a\0b"]),
}


@pytest.mark.parametrize("path", PATHS)
def test_the_error_for_a_missing_known_text_names_the_command_that_downloads_it(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = PATHS[path]
    assert find_known_text(path) == name
    if name:
        assert find_known_text(str(tmp_path / path)) == name
        with pytest.raises(UserError) as caught:
            find_data(path)
        assert str(caught.value) == f"{path}: no such file; fundamentallm data get {name} downloads it"
