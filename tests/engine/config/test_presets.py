"""The four presets, and the user's own."""

from pathlib import Path

import pytest

from fundamentallm.config.config import Config, ConfigError, resolve
from fundamentallm.config.files import load_config, load_preset, preset_names
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


@pytest.mark.parametrize("name", GUIDE)
def test_a_preset_has_the_guides_numbers(name: str) -> None:
    preset = load_preset(name)
    assert resolve(preset.layer) == GUIDE[name]
    assert preset.description and preset.expected_time


def test_presets_are_listed_from_tiny_to_large_then_the_users_own(own: Path) -> None:
    for name in ("zebra", "aardvark"):
        (own / f"{name}.yaml").write_text("# nothing\n")
    assert preset_names() == ["tiny", "small", "medium", "large", "aardvark", "zebra"]
    assert resolve(load_preset("zebra").layer) == Config()


def test_the_users_own_preset_replaces_a_shipped_one_and_its_problems_have_lines(own: Path) -> None:
    (own / "mine.yaml").write_text("description: Mine.\nexpected_time: an hour\nepochs: 3\n")
    (own / "tiny.yaml").write_text("description: Mine.\n\nepoch: 3\n")
    mine = load_preset("mine")
    assert (mine.description, mine.expected_time, resolve(mine.layer).epochs) == ("Mine.", "an hour", 3)
    with pytest.raises(ConfigError) as caught:
        resolve(load_preset("tiny").layer)
    assert str(caught.value) == f"epoch: no such setting; did you mean epochs? ({own / 'tiny.yaml'}, line 3)"


def test_a_preset_or_file_that_is_not_there_is_refused(own: Path) -> None:
    refused = {
        "tinny": "--preset tinny: no such preset; did you mean tiny?",
        "../../etc/passwd": "there are tiny, small, medium, large",
    }
    for name, words in refused.items():
        with pytest.raises(UserError, match=words):
            load_preset(name)
    for path, words in {Path("none.yaml"): "No such file", own: "Is a directory"}.items():
        with pytest.raises(UserError, match=f"cannot be read: {words}"):
            load_config(path)
