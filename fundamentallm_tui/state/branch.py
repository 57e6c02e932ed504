"""A branch: a new run that begins with a checkpoint of another one. Knows no screen."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fundamentallm.config.config import SETTINGS, Config, changed_when_resuming, unknown
from fundamentallm.errors import UserError
from fundamentallm.run.folder import choose_folder
from fundamentallm.run.history import RunHistory
from fundamentallm.run.spec import RunSpec, find_input, stay_inside
from fundamentallm_tui.keys import named


@dataclass(frozen=True)
class BranchPoint:
    """A checkpoint of a run in its folder; the settings of that run, if they are known, and its preset."""

    folder: Path
    checkpoint: str
    step: int
    config: Config | None
    preset: str

    @property
    def new_folder(self) -> Path:
        """Where a branch will be, if the user names no other folder."""
        return choose_folder(Config(), self.folder.resolve().name)


def find_branch_point(history: RunHistory, folder: Path, step: int | None, *, lasting: bool) -> BranchPoint:
    """Find the newest checkpoint of a step or before, or of all; a UserError if there is none.

    `lasting`: one that the run will not write again.
    """
    there = history.checkpoints(folder, lasting=lasting)
    before = [saved for saved in there if step is None or saved.step <= step]
    if not before or history.started is None:
        first = f"of step {step} or before; its first is of step {there[0].step}" if there else "to go back to yet"
        raise UserError(f"{folder} has no checkpoint {first}. Each epoch leaves one, and so does {named('save')}.")
    return BranchPoint(folder, before[-1].path, before[-1].step, history.settings, history.started.preset)


def branch_spec(point: BranchPoint, text: str) -> RunSpec:
    """Return what starts a branch; `text`: the settings in which it differs, as `learning_rate=0.0005 dropout=0.2`.

    A UserError says that a setting is wrong, or cannot change.
    """
    changes: dict[str, Any] = {}
    try:
        words = shlex.split(text)
    except ValueError:
        raise UserError(f"{text}: a quotation mark or a backslash stands alone") from None
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or name not in SETTINGS:
            raise UserError(f"{word}: {unknown('setting', name, SETTINGS) if sign else 'write name=value'}")
        try:
            changes[name] = SETTINGS[name].parse(value)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    config = changed_when_resuming(point.config or Config(), changes)
    folder = choose_folder(config, "") if "output_dir" in changes else point.new_folder
    source = RunSpec(Config(), folder, point.folder / point.checkpoint, changes, preset=point.preset)
    inside, _ = stay_inside(find_input(config, point.folder), source)
    return RunSpec(inside, folder, source.resume_from, changes, preset=point.preset)
