"""Presets and configuration files: reading and writing YAML, with the line of every value.

A preset is a configuration file with two more keys, `description` and `expected_time`. The user's own presets are in
the platform's configuration folder and replace shipped ones of the same name.
"""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_config_path

from fundamentallm.config.config import SETTINGS, Config, Layer, Problem, to_dict, unknown
from fundamentallm.errors import UserError, system_errors
from fundamentallm.paths import shipped, user_folder
from fundamentallm.untrusted import MAX_CONFIG_BYTES, MAX_CONFIG_ENTRIES, MAX_SETTING_CHARS, open_regular_file

INTEGER, NUMBER, STRING, *OTHERS = (
    f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "str", "bool", "timestamp", "value")
)
DECIMAL = re.compile("[-+]?(0|[1-9][0-9]*)")  # what YAML 1.1 and everyone else read alike
ABOUT = ("description", "expected_time")


@dataclass(frozen=True)
class Preset:
    """A named configuration to start from."""

    name: str
    path: Path
    description: str
    expected_time: str
    layer: Layer


def preset_folders() -> tuple[Path, Path]:
    """Return the folders of presets: the user's own, then the shipped one."""
    return user_folder(user_config_path) / "presets", shipped("presets")


def preset_names() -> list[str]:
    """List the presets: shipped ones from tiny to large, then the user's own by name, where they can be looked up."""
    own, ours = (
        sorted(Path(name).stem for name in glob("*.yaml", root_dir=folder) if os.path.isfile(folder / name))
        for folder in preset_folders()
    )
    known = ["tiny", "small", "medium", "large"]
    ours.sort(key=lambda name: known.index(name) if name in known else len(known))
    return ours + [name for name in own if name not in ours]


def load_preset(name: str) -> Preset:
    """Load a preset by its name. A UserError names the nearest if there is none, or says what is wrong with it."""
    names = preset_names()
    if name not in names:
        raise UserError(f"--preset {name}: {unknown('preset', name, names)}")
    path = next(path for folder in preset_folders() if os.path.isfile(path := folder / f"{name}.yaml"))
    layer, about = _read(path)
    return Preset(name, path, about["description"], about["expected_time"], layer)


def preset_layer(preset: Preset, *others: Layer) -> Layer:
    """Return a preset's values, below those of `others`, of which the last wins.

    Its stride was chosen for the length of its own text: where the others name another text, it is left out.
    """
    own = data = _data_of(preset.layer, ())
    for layer in others:
        data = _data_of(layer, data)
    if data == own:
        return preset.layer
    return replace(preset.layer, values={k: v for k, v in preset.layer.values.items() if k != "stride"})


def _data_of(layer: Layer, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts that a layer names; a wrong value names none, and is refused when the layers are resolved."""
    with suppress(UserError):
        return SETTINGS["data"].parse(layer.values.get("data") or default) or ()
    return default


def load_config(path: Path) -> Layer:
    """Load the values of a configuration file; a UserError if it is no YAML. Wrong values are found by `resolve`."""
    return _read(path)[0]


def to_yaml(config: Config | Mapping[str, Any]) -> str:
    """Write a configuration file that `load_config` reads back to the same configuration, or to the same values."""
    lines = ["# A complete configuration of fundamentallm; use it with --config."]
    group = ""
    for name, value in (to_dict(config) if isinstance(config, Config) else config).items():
        if SETTINGS[name].group != group:
            group = SETTINGS[name].group
            lines.append(f"\n# {group}")
        # unless it is escaped, PyYAML reads U+0085 back as a line end
        readable = all(str(item).isprintable() for item in (value if isinstance(value, list) else [value]))
        text = yaml.safe_dump({name: value}, allow_unicode=readable, width=1000, default_flow_style=False)
        lines.append(text.rstrip())
    return "\n".join(lines) + "\n"


def _read(path: Path) -> tuple[Layer, dict[str, str]]:
    """Read the settings of a file, each with its place "file, line N", and what it says about itself."""
    with system_errors(f"{path}: cannot be read"), open_regular_file(path) as file:
        raw = file.read(MAX_CONFIG_BYTES + 1)
    if len(raw) > MAX_CONFIG_BYTES:
        raise UserError(f"{path}: is too large for a configuration")
    try:
        root = yaml.compose(raw.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not a UTF-8 text file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{place}: is not YAML: {_reason(error)}") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply for a configuration") from None
    if root is None:
        return Layer({}), dict.fromkeys(ABOUT, "")
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}, line 1: must be settings, one 'name: value' on each line")
    if len(root.value) > MAX_CONFIG_ENTRIES:
        raise UserError(f"{path}: has more than {MAX_CONFIG_ENTRIES} settings, more than there are")
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    problems = []
    for key_node, value_node in root.value:
        key = str(key_node.value)[:100] if isinstance(key_node, yaml.ScalarNode) else "a list or mapping as a name"
        place = f"{path}, line {key_node.start_mark.line + 1}"
        if key in places:
            problems.append(Problem(key, f"is set twice; first in {places[key].rsplit(', ', 1)[1]}", place))
            continue
        places[key] = place
        try:
            values[key] = _value(key, value_node)
        except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # PyYAML raises all of them
            problems.append(Problem(key, f"cannot be used: {_reason(error)}", place))
    about = {key: values.pop(key, "") for key in ABOUT}
    return Layer(values, places, tuple(problems)), about


def _reason(error: Exception) -> str:
    return str(getattr(error, "problem", error)).split("\n")[0][:200]


def _value(key: str, node: yaml.Node) -> Any:
    """Convert a node. Lists of lists are refused unread: with aliases, ten lines may stand for a billion items.

    Numbers are read as those of flags are: to YAML 1.1, 010 is 8 and 1:30 is 90. Names stay as they are written: there,
    1.10 is 1.1, and no is False.
    """
    if isinstance(node, yaml.ScalarNode) and key in ABOUT:
        return str(node.value)[:MAX_SETTING_CHARS]  # text, also where it looks like a number
    kind = SETTINGS[key].kind if key in SETTINGS else None
    items = node.value if isinstance(node, yaml.SequenceNode) and kind is tuple else [node]
    if not all(isinstance(item, yaml.ScalarNode) for item in items):
        raise ValueError("it is neither one value nor a list of paths")
    if max((len(item.value) for item in items), default=0) > MAX_SETTING_CHARS:
        raise ValueError(f"it is longer than {MAX_SETTING_CHARS:,} characters")
    for item in items:
        name = kind in (str, tuple) and item.tag in (INTEGER, NUMBER, *OTHERS)
        odd = (item.tag == INTEGER and not DECIMAL.fullmatch(item.value)) or (item.tag == NUMBER and ":" in item.value)
        if name or odd:
            item.tag = STRING
    return yaml.SafeLoader("").construct_document(node)
