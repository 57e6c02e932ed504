"""What the tests of texts share: a cache of their own, and texts that are long though they are short."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.data import encoded as encoded_module
from fundamentallm.data import source as source_module
from fundamentallm.data import text as text_module
from fundamentallm.data.encoded import encode_source
from fundamentallm.data.source import cache_folder, make_tokenizer, read_source
from tests.conftest import file_contents

LINES = "".join(f"line {n}: the café, ☃ and 漢字\r\n" for n in range(4000))


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Treat every text as one that is too long for the memory, in tiny pieces."""

    def make(piece: int = 1000) -> None:
        monkeypatch.setattr(source_module, "IN_MEMORY", 100)
        monkeypatch.setattr(text_module, "PIECE_BYTES", piece)
        for module in (source_module, encoded_module):
            monkeypatch.setattr(module, "BLOCK", 700)

    return make


@pytest.fixture
def long_text(cache_home: None, long: Callable[..., None]) -> None:
    """A text, t.txt in the current folder, that is too long for the memory."""
    Path("t.txt").write_text(LINES)
    long()


def texts_of(name: str, **settings: Any) -> tuple[list[int], list[int], str]:
    """The tokens of a text, those of each document, and what was said."""
    said: list[str] = []
    config = Config(data=(name,), **settings)
    source = read_source(config, said.append)
    made = encode_source(source, make_tokenizer(config, source, say=said.append), said.append)
    return made.tokens.tolist(), list(made.lengths), "\n".join(said)


def cached() -> dict[str, bytes]:
    """The files of the cache; of their records all but what depends on the time and on the place of a file."""
    return {name: re.sub(rb', "state": "[^"]*"', b"", raw) for name, raw in file_contents(cache_folder()).items()}


def damage_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
