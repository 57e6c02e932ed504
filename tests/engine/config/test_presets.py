"""The four presets, and the user's own."""

from pathlib import Path

import pytest

from fundamentallm.config import files as presets
from fundamentallm.config.config import Config, ConfigError, resolve
from fundamentallm.config.files import load_config, load_preset, preset_names, to_yaml
from fundamentallm.errors import UserError

GUIDE = {
    "tiny": Config(("data/samples/sample_data.txt",), model_dim=64, num_heads=2, num_layers=2, batch_size=16, epochs=5,
                   learning_rate=1e-3, stride=32),
    "small": Config(("data/raw/shakespeare/shakespeare25k.txt",), model_dim=128, num_heads=4, num_layers=4,
                    batch_size=32, epochs=20, learning_rate=1e-3, stride=32),
    "medium": Config(("data/raw/shakespeare/shakespeare100k.txt",), model_dim=256, num_heads=8, num_layers=6,
                     batch_size=32, epochs=30, learning_rate=5e-4, dropout=0.1, mixed_precision=True, stride=64),
    "large": Config(("data/raw/shakespeare/shakespeare1mil.txt",), model_dim=512, num_heads=16, num_layers=12,
                    batch_size=64, epochs=50, learning_rate=3e-4, dropout=0.2, mixed_precision=True,
                    gradient_clip=1.0, stride=256, keep_checkpoints=3),
}  # fmt: skip


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own presets, empty."""
    monkeypatch.setattr(presets, "user_config_path", lambda name: tmp_path / name)
    folder = tmp_path / "fundamentallm" / "presets"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("name", GUIDE)
def test_a_preset_has_the_guides_numbers(name: str) -> None:
    preset = load_preset(name)
    assert resolve(preset.layer) == GUIDE[name]
    assert preset.description and preset.expected_time


def test_presets_are_listed_from_tiny_to_large_then_the_users_own(own: Path) -> None:
    (own / "zebra.yaml").write_text("epochs: 3")
    (own / "aardvark.yaml").write_text("epochs: 3")
    assert preset_names() == ["tiny", "small", "medium", "large", "aardvark", "zebra"]


def test_the_users_own_preset_replaces_a_shipped_one_and_its_problems_have_lines(own: Path) -> None:
    (own / "mine.yaml").write_text("description: Mine.\nexpected_time: an hour\nepochs: 3\n")
    (own / "tiny.yaml").write_text("description: Mine.\n\nepoch: 3\n")
    mine = load_preset("mine")
    assert (mine.description, mine.expected_time, resolve(mine.layer).epochs) == ("Mine.", "an hour", 3)
    with pytest.raises(ConfigError) as caught:
        resolve(load_preset("tiny").layer)
    assert str(caught.value) == f"epoch: no such setting; did you mean epochs? ({own / 'tiny.yaml'}, line 3)"


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="--preset tinny: no such preset; did you mean tiny?"):
        load_preset("tinny")
    with pytest.raises(UserError, match="there are tiny, small, medium, large"):
        load_preset("../../etc/passwd")


def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for content, words in (
        (b"\xff\xfe", "is not a UTF-8 text file"),
        (b"epochs: [1", "line 1: is not YAML"),
        (b"just words", "line 1: must be settings, one 'name: value' on each line"),
        (b"epochs: 1\nseed: 1\nepochs: 2", "line 3)"),
        (b" " * (1 << 20) + b"x", "is too large for a configuration"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            resolve(load_config(path))
        assert words in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert resolve(load_config(tmp_path / "c.yaml")) == Config()


def test_every_setting_is_written(tmp_path: Path) -> None:
    lines = to_yaml(Config(("a.txt",), seed=3)).splitlines()
    assert "seed: 3" in lines and "stride: null" in lines and "- a.txt" in lines
