"""What the next start would do: a new run in a free folder, or going on with the one that rests."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from fundamentallm.config.config import SETTINGS, Config, ConfigError, Layer, changed_when_resuming, resolve, to_dict
from fundamentallm.config.files import Preset
from fundamentallm.errors import UserError
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.folder import LAST, choose_folder
from fundamentallm.run.spec import RunSpec, stay_inside
from fundamentallm_tui.state.store import FAILED, STOPPED, Store

NEVER_CHANGED = ("data", "output_dir")  # a run that goes on keeps its text and its folder


@dataclass(frozen=True)
class Options:
    """What the console was started with. The form begins with `layers` on top of the preset."""

    preset: Preset | None = None
    config: Layer = Layer({})
    flags: Layer = Layer({})
    start: bool = False
    attach: Path | None = None  # a run to show
    speed: float = 0.0  # play it back instead, so many times as fast as it was
    library: bool = False  # open the library of runs

    def resolve(self) -> Config:
        """
        Raises:
            ConfigError: with every problem there is.
        """
        preset = [self.preset.layer] if self.preset else []
        return resolve(*preset, self.config, self.flags)


def goes_on_from(store: Store) -> Path | None:
    """The checkpoint with which a start goes on, if it does."""
    if store.phase not in (STOPPED, FAILED) or store.folder is None or store.replayed:
        return None
    for name in (Path(store.saved).name, LAST):  # of a stranger's journal, no path that leads elsewhere
        if name and os.path.isfile(store.folder / name):
            return store.folder / name
    return None


def offered(store: Store) -> Config | None:
    """The settings of an attached run for the form; None where none is attached.

    Of one that rests without what reaches out of it: its journal may be a stranger's, and a person asks for that anew.
    """
    if not store.attached or store.config is None:
        return None
    config = replace(store.config, output_dir=None)
    if store.under_way or store.folder is None:
        return config
    return stay_inside(config, RunSpec(Config(), store.folder))[0]


def next_job(store: Store, config: Config, label: str) -> RunSpec:
    """
    Args:
        label: the preset's name, if the configuration comes from one; it names the folder.

    Raises:
        ConfigError: the run that rests cannot go on with this configuration.
        UserError: the folder is no path that there can be.
    """
    if goes_on_from(store) is not None and store.folder is not None and store.config is not None:
        saved, typed = to_dict(store.config), to_dict(config)
        changes = {name: typed[name] for name in typed if typed[name] != saved[name] and name not in NEVER_CHANGED}
        changed_when_resuming(store.config, changes)
        return RunSpec(config, store.folder, changes=changes, auto=True, preset=label)
    folder = choose_folder(config, label)
    if store.folder is not None:
        folder = beside(folder)
    return RunSpec(config, folder, preset=label)


def taken_folder(store: Store, config: Config) -> Path | None:
    """The folder that was named for a new run and holds one that this console knows nothing of."""
    if config.output_dir is None or store.folder is not None:
        return None
    try:
        folder = choose_folder(config)
        return folder if (folder / JOURNAL).exists() else None
    except (UserError, OSError):
        return None  # there cannot be such a folder; `next_job` says why


def by_setting(error: UserError, default: str) -> dict[str, str]:
    """Return each problem's text by its setting; `default`: the setting of an error that names none."""
    if not isinstance(error, ConfigError):
        return {default: str(error)}
    flags = {row.flag: name for name, row in SETTINGS.items()}
    return {flags.get(problem.name, problem.name): problem.text for problem in error.problems}


def beside(folder: Path) -> Path:
    """`folder`, or the first free `<folder>-<n>` if a run is in it."""
    n, free = 2, folder
    while (free / JOURNAL).exists():
        free = folder.with_name(f"{folder.name}-{n}")
        n += 1
    return free
