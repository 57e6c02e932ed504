"""A known text that is missing is offered, downloaded with a bar, and trained on."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.data.download import KNOWN_TEXTS, TINY_SHAKESPEARE, TextFile
from fundamentallm_tui.dialogs import Fetch

NAME = "data/raw/shakespeare/shakespeare25k.txt"


@pytest.fixture
def public_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> bytes:
    """Another text in place of the public one, read from a file instead of the network."""
    monkeypatch.chdir(tmp_path)
    raw = b"The sea is deep and the night is long.\n" * 800
    source = tmp_path.with_suffix(".source")
    source.write_bytes(raw)
    files = (TextFile(Path(NAME).name, len(raw), sha256(raw).hexdigest()),)
    monkeypatch.setitem(KNOWN_TEXTS, "shakespeare", replace(TINY_SHAKESPEARE, files=files, url=str(source)))
    return raw


@pytest.mark.parametrize("accept", [True, False])
async def test_f5_offers_a_missing_text_and_starts_only_with_it(seen: Any, public_text: bytes, accept: bool) -> None:
    await seen.type(data=NAME)
    offered = f"{NAME}: not here yet; F5 offers to download it"
    await seen.until(lambda: seen.main.form.problems == {"data": offered})
    await seen.see("F5  offers to download the text")
    assert f"  data: {NAME}: not here yet" in seen.screen, "the field is named, whatever the path begins with"
    await seen.press("f5")
    await seen.until(lambda: isinstance(seen.app.screen, Fetch))
    assert not seen.runs
    await seen.press("f" if accept else "escape")
    if accept:
        await seen.until(lambda: seen.runs)
        assert Path(NAME).read_bytes() == public_text
        assert seen.run.job.config.data == (NAME,)
    else:
        await seen.until(lambda: seen.app.screen is seen.main)
        assert not seen.runs and not Path(NAME).exists()
