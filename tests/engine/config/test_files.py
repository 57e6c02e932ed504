"""Presets and configuration files, someone else's too: one short line a problem, soon, and nothing runs."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.cli import main
from fundamentallm.config import files
from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, resolve
from fundamentallm.config.files import load_config, load_preset, preset_names, to_yaml
from fundamentallm.errors import UserError
from fundamentallm.untrusted import MAX_CONFIG_BYTES

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


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the user's own presets, empty, in the current folder, which is empty, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "user_config_path", lambda name: tmp_path / "own")
    folder = tmp_path / "own" / "presets"
    folder.mkdir(parents=True)
    return folder


def test_a_preset_has_the_guides_numbers() -> None:
    for name, config in GUIDE.items():
        preset = load_preset(name)
        assert resolve(preset.layer) == config
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


@pytest.mark.parametrize(("written", "value"), [("010", 10), ("08", 8), ("1_000", 1000), ("+7", 7), ("7.0", 7)])
def test_a_whole_number_is_what_the_flag_makes_of_it(tmp_path: Path, written: str, value: int) -> None:
    """Not octal, as to YAML 1.1."""
    (tmp_path / "c.yaml").write_text(f"seed: {written}\n")
    config = resolve(load_config(tmp_path / "c.yaml"))
    assert config.seed == value


@pytest.mark.parametrize("written", ["010", "1_000", "2024-12-01", "0x10", "1.10", "1_0.5", "no", "="])
def test_a_name_that_looks_like_another_value_stays_as_it_is_written(tmp_path: Path, written: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"output_dir: {written}\nproject: {written}\ndata: [{written}]\n")
    config = resolve(load_config(path))
    assert (config.output_dir, config.project, config.data) == (written, written, (written,))


@pytest.mark.parametrize("written", ["1:30", "1:30.5", "0x10", "0b11"])
def test_a_number_to_another_base_is_refused(tmp_path: Path, written: str) -> None:
    (tmp_path / "c.yaml").write_text(f"epochs: {written}\nlearning_rate: {written}\n")
    with pytest.raises(UserError) as caught:
        resolve(load_config(tmp_path / "c.yaml"))
    whole, number = str(caught.value).splitlines()
    assert f"{written} is not a whole number" in whole and f"{written} is not a number" in number


# ---- someone else's ----

LAUGHS = "a: &a [x, x, x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(22)
)
MERGES = "model_dim: &k0 {x: 1}\n" + "".join(f"a{n}: &k{n + 1} {{<<: [*k{n}, *k{n}]}}\n" for n in range(40))
TAGS = ["int", "float", "bool", "null", "timestamp", "map", "seq", "set", "omap", "pairs", "binary", "str"]
FILES = {
    "a billion laughs": LAUGHS + "data: *v",
    "merged without end": MERGES,
    "itself": "data: &a [*a]",
    "deep lists": "data: " + "[" * 5_000,
    "deep mappings": "a: {" * 5_000,
    "code": "data: !!python/object/apply:os.mkdir [ran]",
    "code as a key": "!!python/object/apply:os.mkdir [ran]: 1",
    "a module": "seed: !!python/module:os",
    "minutes": "seed: 1" + ":1" * 100_000,
    "digits": "seed: " + "9" * 300_000,
    "hexadecimal": "seed: 0x" + "f" * 4_000,
    "hexadecimal truth": "early_stopping: 0x" + "f" * 4_000,
    "many settings": "".join(f"k{n}: 1\n" for n in range(1_000)),
    "a long name": "? " + "x" * 300_000 + "\n: 1",
    "a long path": "data: " + "x" * 5_000,
    "a long word": "device: " + "x" * 5_000,
    "long paths": "data:\n" + f"- {'x' * 4_000}\n" * 100,
    "a date": "seed: 2001-01-01",
    "no date": "seed: !!timestamp 2001-99-99",
    "words of all kinds": "".join(f"{name}: !!{kind} x\n" for name, kind in zip(SETTINGS, TAGS, strict=False)),
    "numbers as names": "1: 2\n1.5: 1\nnull: 3\ntrue: 4",
    "lists as names": "? [a]\n: 4\n? {a: b}\n: 5",
    "twice": "seed: 1\nseed: 2",
    "a mapping": "seed: {a: 1}",
    "two documents": "seed: 1\n---\nseed: 2",
    "zero": "data: a\0b",
    "escape": "\x1b]52;c;AAAA\x07: 1",
    "a list": "- a",
    "too large": "#" * (MAX_CONFIG_BYTES + 1),
    "an unknown alias": "seed: *a",
    "an open mapping": "seed: {a: 1",
    "no UTF-8": "\xff\xfe",
}  # fmt: skip


WORDS = {
    "no UTF-8": "is not a UTF-8 text file",
    "an open mapping": "line 1: is not YAML",
    "a list": "line 1: must be settings, one 'name: value' on each line",
    "twice": "line 2)",
    "too large": "is too large for a configuration",
}


def errors_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and not set(err) & {"\x1b", "\x07", "\u202e", "\r"}
    return err.splitlines()


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_configuration_is_refused_in_short_lines_that_name_it(
    name: str, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("c.yaml").write_bytes(FILES[name].encode("latin-1"))
    (own / "mine.yaml").write_bytes(FILES[name].encode("latin-1"))
    commands = ["config show --config c.yaml", "train --config c.yaml", "train --preset mine"]
    if name in ("deep lists", "too large", "zero"):  # it prints any other file as it is
        commands.append("presets mine")
    for command in commands:
        place = "c.yaml" if "c.yaml" in command else str(own / "mine.yaml")
        lines = errors_of(command.split(), capsys)
        assert lines and all(place in line and len(line) < 800 + len(place) for line in lines), lines
        assert WORDS.get(name, "") in lines[0]
    assert not Path("ran").exists()


def test_a_pipe_or_a_device_is_no_configuration_and_no_preset(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, make in (("pipe", os.mkfifo), ("zero", lambda path: os.symlink("/dev/zero", path))):
        make(own / f"{name}.yaml")
        words = errors_of(["config", "show", "--config", str(own / f"{name}.yaml")], capsys)
        assert words == [f"{own / name}.yaml: cannot be read: it is not a regular file"]
        assert errors_of(["config", "show", "--preset", name], capsys)[0].startswith(f"--preset {name}: no such preset")
    (own / "folder.yaml").mkdir()
    (own / "gone.yaml").symlink_to("nowhere")
    assert preset_names() == ["tiny", "small", "medium", "large"]


def test_a_long_name_of_a_preset_does_not_run_into_its_text(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("night", "nightly8", "every_night"):
        (own / f"{name}.yaml").write_text("description: Reads at night.")
    assert main(["presets"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n{name:<7} Reads at night." in out for name in ("night", "nightly8", "every_night"))


def test_names_and_text_of_presets_are_bounded_and_do_not_command_the_terminal(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (own / "mine.yaml").write_text(f"description: 0x{'f' * 9000}\nexpected_time: 10\n")
    preset = load_preset("mine")
    assert len(preset.description) == 4096 and preset.expected_time == "10"
    evil = "a\u202eb\u200b\x1b[2J"
    (own / f"{evil}.yaml").write_text('description: "\\e]52;c;AAAA\\a\\u202e\\u0085x"\ndevice: "\\e[2J"\n')
    for words in (["presets"], ["presets", evil], ["config", "show", "--preset", evil]):
        assert main(words) == 0
    out, err = capsys.readouterr()
    assert not set(out + err) & {"\x1b", "\x07", "\x85", "\u202e", "\u200b"}
    assert "a\ufffdb\ufffd\ufffd[2J" in out


def test_a_preset_without_text_and_time_is_listed_without_them(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (own / "mine.yaml").write_text("model_dim: 32\nnum_layers: 1\n")
    assert main(["presets"]) == 0
    shown = "mine    0.0144 million parameters\n        model_dim 32, num_layers 1, num_heads 2\n"
    assert shown in capsys.readouterr().out


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(max_size=9)
    | st.sampled_from([10**500, -(10**400), "auto", "1e400", "0x10", "1_0", "~", "~nobody/x"])
)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)


@given(values=st.dictionaries(st.sampled_from([*SETTINGS, "description"]) | st.text(max_size=5), TREES, max_size=6))
def test_values_of_any_kind_make_a_configuration_or_lines(values: dict[str, Any]) -> None:
    """As a checkpoint or a journal may hold them."""
    try:
        config = resolve(Layer(values))
    except UserError as error:
        assert all(len(line) < 800 for line in str(error).split("\n"))
    else:
        assert isinstance(config, Config) and resolve(Layer(vars(config))) == config


@pytest.mark.parametrize("name", SETTINGS)
def test_a_number_that_python_does_not_print_is_refused(name: str) -> None:
    for value in (10**5000, -(10**5000), [10**5000]):
        with pytest.raises(UserError, match=r"an enormous number|such a list"):
            resolve(Layer({name: value}))


FRAGMENTS = st.text(
    st.sampled_from("0123456789abcdefx.:-_+~!&*[]{},'\"?|> #%@`\\\n\t") | st.characters(codec="utf-8"), max_size=12
) | st.sampled_from(["!!int x", "!!float x", "!!timestamp 1", "!!binary é", "!!set {a}", "!!omap [a: 1]", "1:99", "<<"])
NAMES = st.sampled_from([*SETTINGS, "description"])
YAML = (
    st.text()
    | st.binary().map(lambda raw: raw.decode("latin-1"))
    | st.dictionaries(NAMES, SCALARS | st.lists(st.text())).map(yaml.dump)
    | st.lists(st.tuples(NAMES, FRAGMENTS).map(": ".join), min_size=4, max_size=4).map("\n".join)
)


@given(content=YAML)
def test_any_yaml_makes_a_configuration_or_lines(content: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("c") / "c.yaml"
    path.write_text(content, encoding="utf-8", errors="replace")
    try:
        config = resolve(load_config(path))
    except UserError as error:
        assert all(str(path) in line and len(line) < 800 + len(str(path)) for line in str(error).split("\n"))
    else:
        path.write_text(to_yaml(config), encoding="utf-8")
        assert resolve(load_config(path)) == config
