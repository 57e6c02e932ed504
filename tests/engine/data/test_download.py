"""Downloading a known text: all its files appear, complete and verified, or none."""

import errno
import hashlib
import os
import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from fundamentallm.data.download import PYTHON_DOCS, TINY_SHAKESPEARE, KnownText, TextFile, download, find_known_text
from fundamentallm.data.text import find_data
from fundamentallm.errors import UserError
from tests.conftest import file_contents

TEXT = bytes(32 + n * n % 90 for n in range(300_000))
SERVED = {"/right": TEXT, "/short": TEXT[:-1], "/long": TEXT + b"x" * 10_000_000, "/other": TEXT[::-1]}
SIZES = {"a.txt": 1000, "b.txt": 70_000, "c.txt": len(TEXT)}
COMPLETE = {f"data/raw/x/{name}": TEXT[:size] for name, size in SIZES.items()}
SENT: set[str] = set()  # what the server could send to the last byte
NOWHERE = "http://127.0.0.1:9/nothing"
ADVICE = "name another file or URL: fundamentallm data get x --from FILE_OR_URL"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server that has `SERVED`, and redirects /moved to /right."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = SERVED.get(self.path, b"")
            self.send_response(302 if self.path == "/moved" else 200 if body else 404)
            self.send_header("Location", "/right")
            self.end_headers()
            with suppress(OSError):  # the client closed the connection
                self.wfile.write(body)
                SENT.add(self.path)

        def log_message(self, *_: Any) -> None:
            pass

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


def refuse(known: KnownText, source: str = "", **arguments: Any) -> str:
    """Expect an error of one line, and that nothing was written; return the error."""
    with pytest.raises(UserError) as caught:
        download(known, source, **arguments)
    assert list(Path().iterdir()) == [] and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_text_is_downloaded_and_cut_to_its_files_and_progress_is_reported(known: KnownText) -> None:
    reports: list[tuple[int, int]] = []
    done = download(known, progress=lambda *report: reports.append(report))
    assert file_contents(Path()) == COMPLETE and (done.written, done.aside) == (tuple(map(Path, COMPLETE)), ())
    assert reports == sorted(reports) and reports[-1] == (len(TEXT), len(TEXT)) and len(reports) > 3


def test_a_text_may_come_from_a_file_or_another_url(known: KnownText, tmp_path: Path, server: str) -> None:
    source = tmp_path.with_suffix(".source")
    source.write_bytes(TEXT)
    for place in (str(source), f"{server}/moved"):
        download(replace(known, url=NOWHERE), place)
        assert file_contents(Path()) == COMPLETE
        shutil.rmtree("data")


def test_only_missing_files_are_downloaded(known: KnownText) -> None:
    download(known)
    assert download(replace(known, url=NOWHERE)).written == ()
    Path("data/raw/x/b.txt").unlink()
    assert download(known).written == (Path("data/raw/x/b.txt"),)
    assert file_contents(Path()) == COMPLETE


def test_a_different_file_of_the_same_name_is_moved_aside(known: KnownText, mine: Path) -> None:
    assert download(known).aside == (Path(f"{mine}.old-1"),)
    mine.write_bytes(b"mine too")
    assert download(known).aside == (Path(f"{mine}.old-2"),)
    assert file_contents(Path()) == COMPLETE | {f"{mine}.old-1": b"mine", f"{mine}.old-2": b"mine too"}


REFUSED = {
    "{server}/short": "is not x: has 299,999 bytes, not 300,000",
    "{server}/other": "is not x: its SHA-256 is different",
    "{server}/none": "cannot be read: the server answered 404 Not Found",
    NOWHERE: "cannot be read: Connection refused",
    "ftp://example.org/x": "cannot be read: only http and https URLs are supported",
    "none.txt": "cannot be read: No such file or directory",
    ".": "cannot be read: Is a directory",
    "/dev/zero": "cannot be read: it is not a regular file",
    **dict.fromkeys(["http://[", "http://a b", "http://"], "cannot be read: "),
}


@pytest.mark.parametrize("source", REFUSED)
def test_a_wrong_or_unreadable_text_is_refused(source: str, known: KnownText, server: str) -> None:
    error = refuse(known, source.format(server=server))
    assert error.startswith(f"{source.format(server=server)}: {REFUSED[source]}") and error.endswith(f"; {ADVICE}")


def test_no_more_is_read_than_the_text_is_long(known: KnownText, server: str) -> None:
    assert "/long: is not x: is longer, not 300,000;" in refuse(known, f"{server}/long")
    download(known)  # by now the server, which has one thread, is done with /long
    assert "/right" in SENT and "/long" not in SENT


def test_a_server_that_does_not_answer_is_given_up(known: KnownText, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fundamentallm.data.download.TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        error = refuse(known, f"http://127.0.0.1:{mute.getsockname()[1]}/")
    assert error.endswith(f"/: cannot be read: no answer in 0.1 seconds; {ADVICE}")


def break_rename(
    monkeypatch: pytest.MonkeyPatch, failing: Sequence[int], error: BaseException, *, late: bool = False
) -> None:
    """Let the calls of these numbers fail, counted from 0; `late`: once the file has its new name."""
    real, calls = os.rename, count()

    def rename(source: Path, target: Path) -> None:
        fails = next(calls) in failing
        if late or not fails:
            real(source, target)
        if fails:
            raise error

    monkeypatch.setattr(os, "rename", rename)


def test_an_error_says_where_the_old_files_are(known: KnownText, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_rename(monkeypatch, range(1, 99), OSError(errno.EIO, "Input/output error"))
    with pytest.raises(UserError, match=r": Input/output error; the old files are now data/raw/x/a\.txt\.old-1$"):
        download(known)
    assert mine.with_name("a.txt.old-1").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("error", "late"),
    [(OSError(errno.EIO, "Input/output error"), False), (KeyboardInterrupt(), False), (KeyboardInterrupt(), True)],
)
@pytest.mark.parametrize("failing", range(5))
def test_a_rename_that_fails_leaves_everything_as_it_was(
    known: KnownText, mine: Path, monkeypatch: pytest.MonkeyPatch, failing: int, error: BaseException, late: bool
) -> None:
    mine.with_name("b.txt").symlink_to("nowhere")
    break_rename(monkeypatch, [failing], error, late=late)
    with pytest.raises((UserError, KeyboardInterrupt)) as caught:
        download(known)
    assert file_contents(Path()) == {str(mine): b"mine"} and sorted(os.listdir(mine.parent)) == ["a.txt", "b.txt"]
    assert os.readlink(mine.with_name("b.txt")) == "nowhere"
    if isinstance(error, OSError):
        assert str(caught.value) == "data/raw/x: cannot be written to: Input/output error; nothing was written"


def test_a_cancelled_download_writes_nothing(known: KnownText) -> None:
    reports: list[int] = []
    text = refuse(known, progress=lambda done, _: reports.append(done), cancelled=lambda: len(reports) == 2)
    assert text == "x: cancelled; nothing was written" and len(reports) == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_full_disk_or_an_interruption_leaves_nothing(
    known: KnownText, monkeypatch: pytest.MonkeyPatch, written: int, error: BaseException
) -> None:
    monkeypatch.setattr("os.fsync", Mock(side_effect=[None] * written + [error]))
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
    assert file_contents(Path()) == {str(mine): b"mine"} and mine.with_name("b.txt").is_dir()


def test_the_python_documentation_needs_no_network(here: Path) -> None:
    (path,) = download(PYTHON_DOCS).written
    text = path.read_text(encoding="utf-8")
    assert path == Path("data/raw/python-docs/python-docs.txt")
    assert 400_000 < len(text) < 700_000 and 'The "assert" statement' in text
    assert download(PYTHON_DOCS).written == ()
    with pytest.raises(UserError, match="--from a: python-docs is made on this machine; leave the option out"):
        download(PYTHON_DOCS, "a")


def test_tiny_shakespeare_is_cut_to_the_files_of_the_presets() -> None:
    sizes = {path: file.size for path, file in zip(TINY_SHAKESPEARE.paths, TINY_SHAKESPEARE.files, strict=True)}
    folder = "data/raw/shakespeare/shakespeare"
    assert sizes == {f"{folder}25k.txt": 25_000, f"{folder}100k.txt": 100_000, f"{folder}1mil.txt": 1_115_394}
    assert TINY_SHAKESPEARE.url.startswith("https://raw.githubusercontent.com/karpathy/char-rnn/")
    assert TINY_SHAKESPEARE.files[-1].sha256.startswith("86c4e6aa9db7c042ec79f339dcb96d42")


def test_the_error_for_a_missing_known_text_names_the_command_that_downloads_it(
    known: KnownText, tmp_path: Path
) -> None:
    shakespeare = ("shakespeare/shakespeare25k.txt", "../raw/shakespeare/shakespeare1mil.txt", "shakespeare")
    names = dict.fromkeys(shakespeare, "shakespeare") | {"python-docs/python-docs.txt": "python-docs"}
    for path, name in ((f"data/raw/{path}", name) for path, name in names.items()):
        assert find_known_text(path) == find_known_text(str(tmp_path / path)) == name
        with pytest.raises(UserError) as caught:
            find_data(path)
        assert str(caught.value) == f"{path}: no such file; fundamentallm data get {name} downloads it"
    for path in ("data/raw/shakespeare/none.txt", "shakespeare25k.txt", "/data/raw/shakespeare", "", "a\0b"):
        assert find_known_text(path) is None
