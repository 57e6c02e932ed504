"""Configurations that the user keeps: their own presets, and the form's YAML in their editor."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml
from textual.app import SuspendNotSupported

from fundamentallm.config.config import Config, Layer
from fundamentallm.config.files import load_config, preset_folders, to_yaml
from fundamentallm.errors import UserError, describe_error
from fundamentallm.paths import user_path
from fundamentallm.run.folder import write_atomic

NAME = re.compile(r"[^\W_][\w-]{0,39}")


def check_name(name: str) -> str:
    """Return a name that a preset can have; a UserError says why one cannot."""
    if NAME.fullmatch(name):
        return name
    raise UserError("A name has 1 to 40 letters, digits, - and _, and begins with a letter or a digit.")


def save_preset(name: str, config: Config, expected_time: str) -> Path:
    """Write a configuration as the user's own preset, which every way in then finds by its name.

    A UserError says that the file cannot be written.
    """
    path = preset_folders()[0] / f"{name}.yaml"
    data = list(config.data)
    for n, text in enumerate(data):  # it is to be found from another folder, too
        with suppress(UserError):
            data[n] = str(user_path(text).absolute()) if user_path(text).exists() else text
    about = yaml.safe_dump({"description": "Saved from the console.", "expected_time": expected_time}, sort_keys=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, about + to_yaml(replace(config, data=tuple(data), output_dir=None)))
    except OSError as error:
        raise UserError(f"{path}: {describe_error(error)}") from None
    return path


def edit_yaml(text: str, suspend: Callable[[], AbstractContextManager[None]]) -> tuple[str, Layer, str]:
    """Let the user edit a configuration file in their editor, to which `suspend` gives the terminal.

    Returns the text as it is then, its values, and why it cannot be read; empty if it can. A UserError says that there
    is no editor, or that it failed.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    if not command.strip():
        raise UserError("Set EDITOR to your editor, as in EDITOR=nano fllm-tui, to edit the settings as YAML.")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "form.yaml"
        path.write_text(text, encoding="utf-8")
        try:
            with suspend():
                status = subprocess.run([*shlex.split(command), str(path)]).returncode
        except (OSError, ValueError, SuspendNotSupported) as error:
            raise UserError(f"{command}: cannot be started: {describe_error(error)}") from None
        if status:
            raise UserError(f"{command}: ended with status {status}; the form is as it was.")
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
            layer = load_config(path)
        except (UserError, OSError) as error:
            return text, Layer({}), str(error).replace(f"{folder}/", "")
    places = {name: place.replace(f"{folder}/", "") for name, place in layer.places.items()}
    problems = tuple(replace(problem, place=problem.place.replace(f"{folder}/", "")) for problem in layer.problems)
    return text, Layer(layer.values, places, problems), ""
