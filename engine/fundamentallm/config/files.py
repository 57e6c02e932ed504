"""Presets and configuration files: YAML in and out, with the line of every value.

A preset is a configuration file with two more keys, `description` and `expected_time`. A person's own presets are
found in the platform's configuration folder and win over shipped ones of the same name.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from platformdirs import user_config_path

from fundamentallm.config.config import SETTINGS, Config, Layer, Problem, to_dict, unknown
from fundamentallm.errors import UserError
from fundamentallm.paths import shipped
from fundamentallm.untrusted import MAX_CONFIG_BYTES, MAX_CONFIG_ENTRIES, MAX_SETTING_CHARS, open_regular_file

ABOUT = ("description", "expected_time")


@dataclass(frozen=True)
class Preset:
    """A named starting point."""

    name: str
    path: Path
    description: str
    expected_time: str
    layer: Layer


def preset_folders() -> tuple[Path, Path]:
    """A person's own, then the shipped ones."""
    return user_config_path("fundamentallm") / "presets", shipped("presets")


def preset_names() -> list[str]:
    """Shipped ones first, from tiny to large, then a person's own by name."""
    own, ours = (sorted(path.stem for path in folder.glob("*.yaml") if path.is_file()) for folder in preset_folders())
    known = ["tiny", "small", "medium", "large"]
    ours.sort(key=lambda name: known.index(name) if name in known else len(known))
    return ours + [name for name in own if name not in ours]


def load_preset(name: str) -> Preset:
    """
    Raises:
        UserError: there is no such preset (the nearest is named), or its file is wrong.
    """
    names = preset_names()
    if name not in names:
        raise UserError(f"--preset {name}: {unknown('preset', name, names)}")
    path = next(path for folder in preset_folders() if (path := folder / f"{name}.yaml").is_file())
    values, places, problems = _read(path)
    about = {key: values.pop(key, "") for key in ABOUT}
    return Preset(name, path, about["description"], about["expected_time"], Layer(values, places, problems))


def load_config(path: Path) -> Layer:
    """The values of a configuration file.

    Raises:
        UserError: it cannot be read or is not YAML. What is wrong with single values is said when it is resolved.
    """
    values, places, problems = _read(path)
    for key in ABOUT:
        values.pop(key, None)
    return Layer(values, places, problems)


def to_yaml(config: Config) -> str:
    """A configuration file that `load_config` reads back to the same configuration."""
    lines = ["# A complete configuration of fundamentallm; use it with --config."]
    group = ""
    for name, value in to_dict(config).items():
        if SETTINGS[name].group != group:
            group = SETTINGS[name].group
            lines.append(f"\n# {group}")
        # PyYAML takes U+0085 and its like for line ends when it reads them back, unless they are escaped
        readable = all(str(item).isprintable() for item in (value if isinstance(value, list) else [value]))
        text = yaml.safe_dump({name: value}, allow_unicode=readable, width=1000, default_flow_style=False)
        lines.append(text.rstrip())
    return "\n".join(lines) + "\n"


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str], tuple[Problem, ...]]:
    """Values by key, "file, line N" by key, and what is wrong with single lines."""
    try:
        with open_regular_file(path) as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise UserError(f"{path}: is too large for a configuration")
        root = yaml.compose(raw.decode(), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not a UTF-8 text file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        words = str(getattr(error, "problem", error)).split("\n")[0]
        raise UserError(f"{path}{place}: is not YAML: {words[:200]}") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply for a configuration") from None
    if root is None:
        return {}, {}, ()
    if not isinstance(root, yaml.MappingNode):
        raise UserError(f"{path}, line 1: must be settings, one 'name: value' a line")
    if len(root.value) > MAX_CONFIG_ENTRIES:
        raise UserError(f"{path}: has more than {MAX_CONFIG_ENTRIES} settings, which no configuration has")
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
        except (yaml.YAMLError, ValueError, LookupError, AttributeError) as error:  # PyYAML lets all of them through
            words = str(getattr(error, "problem", error)).split("\n")[0]
            problems.append(Problem(key, f"cannot be used: {words[:200]}", place))
    return values, places, tuple(problems)


def _value(key: str, node: yaml.Node) -> Any:
    """What a node says. Lists of lists are not looked into: with aliases, ten lines may stand for a billion items."""
    if isinstance(node, yaml.ScalarNode) and key in ABOUT:
        return str(node.value)[:MAX_SETTING_CHARS]  # words, also where they look like a number
    listed = isinstance(node, yaml.SequenceNode) and key in SETTINGS and SETTINGS[key].kind is tuple
    items = node.value if listed else [node]
    if not all(isinstance(item, yaml.ScalarNode) for item in items):
        raise ValueError("it is neither one value nor a list of paths")
    if any(
        len(item.value) > MAX_SETTING_CHARS for item in items
    ):  # 1:1:1:..., a number to the base of 60, would take minutes
        raise ValueError(f"it is longer than {MAX_SETTING_CHARS:,} characters")
    return yaml.SafeLoader("").construct_document(node)
