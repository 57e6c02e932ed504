"""What the user can do now, and what the next start would do: start a run, resume the one shown, or branch from one.

A branch is a new run that begins with a checkpoint of another one. Knows no screen.
"""

import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fundamentallm.config.config import (
    SETTINGS,
    Config,
    ConfigError,
    Layer,
    changed_when_resuming,
    resolve,
    to_dict,
    unknown,
)
from fundamentallm.config.files import Preset, preset_layer
from fundamentallm.data.download import KNOWN_TEXTS, KnownText, find_known_text
from fundamentallm.errors import UserError
from fundamentallm.paths import resume_command
from fundamentallm.run.folder import BEST, LAST, choose_folder, free_name, holds_run
from fundamentallm.run.health import RESUME_BEST, STOP, Action
from fundamentallm.run.history import RunHistory
from fundamentallm.run.notes import renamed_hint
from fundamentallm.run.spec import RunSpec, branched_spec, find_input, stay_inside
from fundamentallm.run.summary import LIVE_STATES, RunSummary
from fundamentallm_tui.keys import named
from fundamentallm_tui.state.store import FAILED, FINISHED, INTERRUPTED, STOPPED, Store

UNFINISHED = (STOPPED, FAILED, INTERRUPTED)
KEPT_ON_RESUME = ("data", "output_dir")  # a resumed run keeps its text and its folder


@dataclass(frozen=True)
class Options:
    """What the console was started with. The form begins with `config` and `flags` on top of the preset."""

    preset: Preset | None = None
    config: Layer = Layer({})
    flags: Layer = Layer({})
    start: bool = False
    attach: Path | None = None  # a run to show
    speed: float = 0.0  # play it back instead, so many times as fast as it was
    list_runs: bool = False  # open the list of runs
    tour: bool = False  # begin with the tour

    def resolve(self) -> Config:
        """Return the configuration that the form begins with, or raise a ConfigError with every problem there is."""
        preset = [preset_layer(self.preset, self.config, self.flags)] if self.preset else []
        return resolve(*preset, self.config, self.flags)


# What the user can do now


def is_possible(store: Store, action: str) -> bool:
    """Return whether an action is possible. A replay can only be paused and resumed."""
    obeys = store.under_way and store.loaded and not store.stopping
    match action:
        case "start":
            return store.paused or not (store.under_way or store.replayed)
        case "pause":
            return obeys
        case "save" | "change" | "evaluate":
            return obeys and not store.replayed
        case "undo":
            return obeys and not store.replayed and undo(store) is not None
        case "stop" | "ask_stop":
            return store.under_way and not store.stopping and not store.replayed
        case "files" | "presets" | "edit" | "find_rate":  # the form is for a new run
            return not store.under_way and resumable_checkpoint(store) is None
        case "new_run":
            return not store.under_way and store.folder is not None
    return True


def undo(store: Store) -> tuple[str, Any] | None:
    """Return the setting that undoing the last live change sets, and its old value; None where nothing can be undone.

    Undoing again reaches the change before. One that the run has not answered yet counts as made; what a resume
    changed meanwhile is not undone.
    """

    def as_in_config(value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    values = {name: as_in_config(value) for name, value in store.history.config.items()}
    changes = [
        (change.setting, as_in_config(change.old), as_in_config(change.new), change.undoes)
        for change in store.history.interventions_from(0)
    ]
    for command in store.unanswered.values():
        changes.append((command.setting, values.get(command.setting), command.value, command.undoes))
        values[command.setting] = command.value
    made: list[tuple[str, Any, Any]] = []
    for setting, old, new, undoes in changes:
        if undoes and old != new:
            while made and made.pop() != (setting, new, old):  # those after it were not possible to undo
                pass
        elif old != new:
            made.append((setting, old, new))
    return next(((setting, old) for setting, old, new in reversed(made) if values.get(setting) == new), None)


def read_only_settings(store: Store) -> set[str]:
    """Return the settings that cannot be changed in the form now."""
    if store.under_way:
        changes = is_possible(store, "change") and store.config is not None  # or there is nothing to compare with
        return {name for name, row in SETTINGS.items() if not (changes and row.live)}
    if resumable_checkpoint(store) is None:
        return set()
    return {name for name, row in SETTINGS.items() if row.fixed or name in KEPT_ON_RESUME}


def start_label(store: Store) -> str:
    """Return what the start key does."""
    if (store.paused and store.under_way) or resumable_checkpoint(store) is not None:
        return "resume"
    return "new run" if store.phase == FINISHED else "start"


def describe_live_runs(runs: list[RunSummary]) -> str:
    """Return a sentence about those of these runs that are under way; empty where none is."""
    live = [str(run.folder) for run in runs if run.state in LIVE_STATES]
    if not live:
        return ""
    are = "is" if len(live) == 1 else "are"
    return f"{', '.join(live)} {are} under way; {named('runs')} lists the runs, {named('run.open')} attaches."


def describe_left_run(store: Store) -> str:
    """Return what becomes of this console's own run when another one is shown; empty where there is none."""
    if not store.under_way or store.attached:
        return ""
    return f"{store.folder} {'ends' if store.paused or store.stopping else 'runs on by itself'}."


# What the next start would do


def resumable_checkpoint(store: Store) -> Path | None:
    """Return the checkpoint that a start would resume; None where it would start a new run."""
    unfinished = store.phase in UNFINISHED or (store.phase == FINISHED and store.history.unsaved)
    if not unfinished or store.folder is None or store.replayed:
        return None
    for name in (Path(store.saved).name, LAST):  # the name only: someone else's journal may have a path to elsewhere
        if name and os.path.isfile(store.folder / name):
            return store.folder / name
    return None


def attached_config(store: Store) -> Config | None:
    """Return the settings of an attached run for the form; None where none is attached.

    Of a run that has ended, settings that reach out of its folder are left out: its journal may be someone else's, and
    the user has to ask for them again.
    """
    if not store.attached or store.config is None:
        return None
    config = replace(store.config, output_dir=None)
    if store.folder is not None:
        config = find_input(config, store.folder)
    if store.under_way or store.folder is None:
        return config
    return stay_inside(config, RunSpec(Config(), store.folder))[0]


def next_spec(store: Store, config: Config, label: str, preset: str) -> RunSpec:
    """Return what the next start would do; `label` names the folder, or where it is empty the data does.

    A ConfigError says that the run cannot be resumed with this configuration, another UserError that the folder is not
    a possible path.
    """
    if resumable_checkpoint(store) is not None and store.folder is not None:
        if store.config is None:
            why = "its journal has no settings to resume it with"
            raise UserError(f"{store.folder}: {why}; {resume_command(store.folder)} does without")
        saved, typed = to_dict(store.config), to_dict(config)
        changed = [name for name in typed if name not in KEPT_ON_RESUME and typed[name] != saved[name]]
        changes = {name: typed[name] for name in changed}
        changed_when_resuming(store.config, changes)
        return RunSpec(config, store.folder, changes=changes, auto=True, preset=preset)
    begun = store.phase in UNFINISHED and store.history.started is not None
    if begun and store.folder is not None and not os.path.exists(store.folder):
        begin = f"{named('new_run')} closes it, and the next start makes a new run"
        raise UserError(f"{store.folder}: is gone{renamed_hint(store.folder)}; {begin}")
    folder, numbered = choose_folder(config, label), config.output_dir is None
    return RunSpec(config, folder if store.folder is None else free_folder(folder), preset=preset, numbered=numbered)


def resume_spec(store: Store, name: str, changes: dict[str, Any]) -> RunSpec | None:
    """Return what resumes the shown run from one of its checkpoints with changed settings; None: it is not possible."""
    folder, config = store.folder, store.config
    if folder is None or config is None or store.replayed or not os.path.isfile(folder / name):
        return None
    return RunSpec(config, folder, resume_from=folder / name, changes=changes)


def possible_rewinds(store: Store) -> set[str]:
    """Return what can be done with a checkpoint of the shown run: sample, resume, branch."""
    return {"sample", "branch"} | (set() if store.replayed or store.stopping else {"resume"})


def possible_health_actions(store: Store, actions: Iterable[Action]) -> list[Action]:
    """Return those of the actions that can be taken now."""
    best = resume_spec(store, BEST, {})
    commands = {STOP: is_possible(store, "stop"), RESUME_BEST: best is not None and not store.stopping}
    return [action for action in actions if commands.get(action.command, is_possible(store, "change"))]


def missing_known_text(paths: Iterable[str]) -> KnownText | None:
    """Return the first known text that would bring a missing file."""
    names = (find_known_text(path) for path in paths if not os.path.exists(path))
    return next((KNOWN_TEXTS[name] for name in names if name), None)


def occupied_folder(store: Store, config: Config) -> Path | None:
    """Return the folder that the user named for a new run, if it holds a run that this console does not show."""
    if config.output_dir is None or store.folder is not None:
        return None
    try:
        folder = choose_folder(config)
        return folder if holds_run(folder) else None
    except (UserError, OSError):
        return None  # not a possible path; `next_spec` says why


def sampled_checkpoint(store: Store) -> Path | None:
    """Return the file that samples are written with where no process has the model: best.pt, else last.pt."""
    if store.folder is None or (store.under_way and not store.replayed):
        return None
    return next((file for name in (BEST, LAST) if os.path.isfile(file := store.folder / name)), None)


def free_folder(folder: Path) -> Path:
    """Return `folder`, or the first free `<folder>-<n>` if it holds a run."""
    return free_name(folder, "-", first=2) if holds_run(folder) else folder


def messages_by_setting(error: UserError, default: str) -> dict[str, str]:
    """Return each problem's text by its setting; `default`: the setting of an error that names none."""
    if not isinstance(error, ConfigError):
        return {default: str(error)}
    flags = {row.flag: name for name, row in SETTINGS.items()}
    return {flags.get(problem.name, problem.name): problem.text for problem in error.problems}


# Branches


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
    try:
        found = history.checkpoint_at(folder, step, lasting=lasting)
    except UserError as error:
        raise UserError(f"{error}. Each epoch leaves one, and so does {named('save')}.") from None
    preset = history.started.preset if history.started is not None else ""
    return BranchPoint(folder, found.path, found.step, history.settings, preset)


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
    source = branched_spec(point.folder, point.checkpoint, folder, changes, point.preset)
    return replace(source, config=stay_inside(find_input(config, point.folder), source)[0])
