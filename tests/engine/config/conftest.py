"""What the tests of configurations share: the user's own presets."""

from pathlib import Path

import pytest

from fundamentallm.config import files


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own presets, empty, in the current folder, which is empty, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "user_config_path", lambda name: tmp_path / "own")
    folder = tmp_path / "own" / "presets"
    folder.mkdir(parents=True)
    return folder
