"""The file of a long text's tokens: interrupted, damaged, shared, removed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.config.format import format_count
from fundamentallm.data import encoded as encoded_module
from fundamentallm.data.encoded import encode_source
from fundamentallm.data.source import cache_folder, make_tokenizer, read_source
from fundamentallm.errors import UserError
from tests.engine.data.conftest import LINES, cached, damage_byte, texts_of

Usage = namedtuple("Usage", "total used free")
pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_byte, "is damaged: it is not as it was written; it is made again"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is damaged: it is not as it was written"),
        (lambda path: path.write_bytes(b""), "is damaged: it is not as it was written; it is made"),
        (lambda path: path.with_suffix(".json").write_text("{"), "is damaged: its record cannot be read; it is made"),
        (lambda path: path.with_suffix(".json").unlink(), "is damaged: its record cannot be read; it is made again"),
        (lambda path: path.unlink(), "encoding "),
    ],
)
def test_a_damaged_cache_is_made_again_and_that_is_said(
    long_text: None, damage: Callable[[Path], object], said: str
) -> None:
    tokens, *_ = texts_of("t.txt")
    (path,) = cache_folder().glob("*.tokens")
    before = cached()
    damage(path)
    again, _, words = texts_of("t.txt")
    assert again == tokens and said in words and cached() == before
    for record in cache_folder().glob("*.json"):
        record.write_text("[1]" * 9)
    assert texts_of("t.txt")[0] == tokens and cached() == before
    pieces = texts_of("t.txt", tokenizer="bpe", vocab_size=280)[0]
    for damaged in ("[1]" * 9, "[]", '"x"'):
        for record in cache_folder().glob("*.json"):
            record.write_text(damaged)
        assert texts_of("t.txt", tokenizer="bpe", vocab_size=280)[0] == pieces


def test_tokens_whose_file_seems_another_one_are_checked_in_full_once(
    long_text: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = texts_of("t.txt")[:2]
    (path,) = cache_folder().glob("*.tokens")
    record, real = path.with_suffix(".json"), encoded_module._checksum
    checked: list[Path] = []

    def check(path: Path) -> str:
        checked.append(path)
        return real(path)

    def forget() -> None:  # as an earlier version left it
        values = json.loads(record.read_text())
        del values["state"]
        record.write_text(json.dumps(values))

    monkeypatch.setattr(encoded_module, "_checksum", check)
    changes: list[Callable[[], object]] = [
        lambda: os.utime(path),
        lambda: os.replace(shutil.copy2(path, "copy"), path),  # the same but for its place
        forget,
    ]
    for number, change in enumerate(changes, 1):
        change()
        for _ in range(2):
            assert texts_of("t.txt") == (*expected, "") and checked == number * [path]


def test_room_on_the_disk_is_checked_first_and_a_failed_write_leaves_nothing(
    long_text: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: Usage(2**40, 2**40, 2**28))
        why = r"^t\.txt: its tokens need [\d.]+ kB, and 268\.4 MB must stay free, but 268\.4 MB are free in "
        with pytest.raises(UserError, match=why):
            texts_of("t.txt")
    assert not list(cache_folder().glob("*.tokens"))
    with monkeypatch.context() as patch:
        patch.setattr(encoded_module, "_append", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(UserError, match=r"cannot be kept there .see XDG_CACHE_HOME.: No space left$"):
            texts_of("t.txt")
    assert not [path for path in cache_folder().iterdir() if path.suffix != ".json"]


class Interrupt:
    """Encodes so many pieces as the program does, and is then interrupted by ctrl+C."""

    def __init__(self, pieces: int) -> None:
        self.left = pieces

    def __call__(self, *arguments: Any) -> Any:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return REAL_ENCODE(*arguments)


REAL_ENCODE = encoded_module.encode
KILLED = """
import os
from fundamentallm.data import encoded, source, text
from tests.engine.data.conftest import texts_of
from tests.engine.data.test_encoded import Interrupt
source.IN_MEMORY = 100
text.PIECE_BYTES = 1000
source.BLOCK = encoded.BLOCK = 700
encoded.encode = Interrupt(50)
try:
    texts_of("t.txt", tokenizer={tokenizer!r}, vocab_size=280)
except KeyboardInterrupt:
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("tokenizer", ["char", "bpe"])
def test_an_encoding_that_was_killed_continues_to_the_same_bytes(
    long_text: None, tokenizer: str, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED.format(tokenizer=tokenizer)], env=environment)
    assert killed.returncode == -signal.SIGKILL
    assert {path.suffix for path in cache_folder().iterdir()} == {".json", ".part", ".pieces"}
    _, _, said = texts_of("t.txt", tokenizer=tokenizer, vocab_size=280)
    assert "\nan interrupted encoding continues after 50 complete pieces" in said
    continued = cached()
    shutil.rmtree(cache_folder())
    texts_of("t.txt", tokenizer=tokenizer, vocab_size=280)
    assert cached() == continued and len(continued) == 3 + (tokenizer == "bpe")


@pytest.mark.parametrize("pieces", [0, 1, 30, 150])
@pytest.mark.parametrize("torn", [False, True])
def test_an_encoding_is_interrupted_anywhere(
    long: Callable[..., None], monkeypatch: pytest.MonkeyPatch, pieces: int, torn: bool
) -> None:
    Path("texts").mkdir()
    for name, content in (("a.txt", LINES), ("b.txt", LINES[:900]), ("c.txt", LINES[::-1])):
        Path("texts", name).write_text(content)
    long()
    expected, lengths, _ = texts_of("texts")
    whole = cached()
    shutil.rmtree(cache_folder())
    for _ in range(2):  # the second time, when it continues
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(encoded_module, "encode", Interrupt(pieces))
            texts_of("texts")
        if torn:  # it was killed while it wrote
            for suffix, rest in ((".part", b"tokens"), (".pieces", b"700 12")):
                (path,) = cache_folder().glob(f"*{suffix}")
                path.write_bytes(path.read_bytes() + rest)
    tokens, found, said = texts_of("texts")
    assert (tokens, found) == (expected, lengths) and cached() == whole
    assert (f"continues after {2 * pieces} complete pieces" in said) == (pieces > 0)


@pytest.mark.parametrize(
    ("damage", "complete"),
    [
        (lambda part, log: part.write_bytes(part.read_bytes()[:-1]), 99),
        (lambda part, log: part.write_bytes(part.read_bytes()[:40_000] + b"x" + part.read_bytes()[40_001:]), 57),
        (lambda part, log: part.write_bytes(b"foreign" * 9000), 0),
        (lambda part, log: log.unlink(), 0),
        (lambda part, log: log.write_bytes(b"x" + log.read_bytes()), 0),
        (lambda part, log: log.write_bytes(log.read_bytes().replace(b"\n", b"\nx", 7)), 1),
        (lambda part, log: log.write_bytes(b"-1 5\n"), 0),
        (lambda part, log: log.write_bytes(b"\xff\0\n" * 9), 0),
    ],
)
def test_of_a_damaged_or_foreign_part_what_is_whole_before_the_damage_is_kept_and_that_is_said(
    long_text: None, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path, Path], object], complete: int
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoded_module, "encode", Interrupt(100))
        texts_of("t.txt")
    (part,), (log,) = (list(cache_folder().glob(f"*{suffix}")) for suffix in (".part", ".pieces"))
    damage(part, log)
    tokens, _, said = texts_of("t.txt")
    anew = "an interrupted encoding has no piece that is complete: it begins anew"
    assert (f"continues after {format_count(complete, 'complete piece')}" if complete else anew) in said
    assert make_tokenizer(Config(), read_source(Config(data=("t.txt",)))).decode(tokens) == Path("t.txt").read_text()
    assert {path.suffix for path in cache_folder().iterdir()} == {".json", ".tokens"}


def test_a_cache_of_another_user_is_used_as_it_is(long_text: None, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, _, _ = texts_of("t.txt")
    before = {path: path.stat().st_ino for path in cache_folder().iterdir()}

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    tokens, _, said = texts_of("t.txt")
    assert tokens == expected and "damaged" not in said and "encoding" not in said
    assert {path: path.stat().st_ino for path in cache_folder().iterdir()} == before


def test_two_starts_at_once_encode_a_text_once(long_text: None, monkeypatch: pytest.MonkeyPatch) -> None:
    config, said, counted = Config(data=("t.txt",)), list[str](), list[int]()
    source = read_source(config)
    tokenizer = make_tokenizer(config, source)
    waits = threading.Event()

    def encode(*arguments: Any) -> Any:
        counted.append(1)
        assert waits.wait(30)
        return REAL_ENCODE(*arguments)

    def wait(text: str) -> None:
        said.append(text)
        if text.startswith("another process encodes this text"):
            waits.set()

    monkeypatch.setattr(encoded_module, "encode", encode)
    with ThreadPoolExecutor(2) as both:
        made = [each.result() for each in [both.submit(encode_source, source, tokenizer, wait) for _ in range(2)]]
    assert waits.is_set() and made[0].tokens.tolist() == made[1].tokens.tolist()
    (path,) = cache_folder().glob("*.tokens")
    assert path.stat().st_size == len(made[0].tokens) and len(said) == 2
    assert len(counted) < 1.1 * len(made[0].tokens) / 700  # pieces end at the ends of lines
    assert {path.suffix for path in cache_folder().iterdir()} == {".json", ".tokens"}


def test_what_nobody_used_for_a_month_is_removed(long_text: None) -> None:
    texts_of("t.txt")
    old, kept = cached(), cache_folder() / "kept.tokens"
    kept.write_bytes(b"x")
    for path in cache_folder().iterdir():
        os.utime(path, (1, 1)) if path != kept else None
    Path("u.txt").write_text(LINES[:3000])
    texts_of("u.txt")
    left = set(cached())
    assert not left & set(old) and "kept.tokens" in {Path(name).name for name in left}
