"""The runs there are: how each stands, and where a run is that a user names. Only reads. No torch."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from fundamentallm.config.config import CHAR, SETTINGS, Config, to_dict
from fundamentallm.config.format import format_names, format_value
from fundamentallm.config.settings import closest
from fundamentallm.errors import UserError
from fundamentallm.paths import user_path
from fundamentallm.run.events import Evaluated, Failed, RunStarted
from fundamentallm.run.folder import LAST, RUNS, check_readable, holds_run
from fundamentallm.run.history import RunHistory, no_run, read_history
from fundamentallm.run.locks import is_held
from fundamentallm.run.notes import began, read_notes, renamed_to

MAX_FOLDER_DEPTH = 4  # folders below the one that is searched
SHOWN_NAMES = 5
LIVE_STATES = ("training", "paused")  # a process of this machine is writing the run


@dataclass(frozen=True)
class RunSummary:
    """How a run stands. Times are UTC in seconds since 1970; a loss is None until it was measured.

    `state` is training, paused, finished, stopped, failed or interrupted: no end, and no process of this machine
    writes the run. `best` is the evaluation whose state best.pt holds.
    """

    folder: Path
    state: str
    started: float
    last_event: float
    config: dict[str, Any]  # as it is now, live changes included
    parameters: int
    steps: int
    total_steps: int
    epoch: int  # 0 before the first step
    epochs: int  # in which the run ends
    train_loss: float | None  # at the last evaluation: the mean of its epoch so far
    val_loss: float | None  # at the last evaluation
    best: Evaluated | None
    why: str = ""  # it failed
    unsaved: str = ""  # why the end could not be saved
    preset: str = ""
    vocab_size: int = 0
    fingerprint: str = ""  # of its text
    val_losses: tuple[float, ...] = ()  # of every evaluation
    parent: str = ""  # the checkpoint of another run that it began with
    note: str = ""
    tags: tuple[str, ...] = ()
    best_left_behind: bool = False  # the run went back to before it
    changed: tuple[str, ...] = ()  # settings, while it ran or when it was resumed

    @property
    def state_text(self) -> str:
        """The state, and that its end could not be saved."""
        return f"{self.state}, NOT saved: {self.unsaved}" if self.unsaved else self.state

    @property
    def resumable(self) -> bool:
        """Whether a resume has something left to do."""
        return bool(self.unsaved) or self.state in ("stopped", "failed", "interrupted")

    @property
    def parent_folder(self) -> Path | None:
        """The folder of the run that `parent` is of, under the name that it has now.

        None where there is no parent, or another run has its name.
        """
        if not self.parent:
            return None
        folder, before = Path(self.parent).parent, self.started or inf
        return renamed_to(folder, before) or (folder if began(folder) <= before else None)

    @property
    def data(self) -> str:
        """The names of its texts, without their folders."""
        return ", ".join(_file_names(self))


def summarize(folder: Path, history: RunHistory | None = None) -> RunSummary:
    """How the run in a folder stands; a UserError if the folder holds no run, or its journal cannot be read.

    `history` is the run's, if it was read already.
    """
    history = history or read_history(folder, steps=False)
    start, end = history.started, history.end
    evaluated = history.evaluations[-1] if history.evaluations else None
    if start is None:
        raise no_run(folder)
    notes = read_notes(folder)
    return RunSummary(
        folder=folder,
        state=_state(folder, history),
        started=history.began,
        last_event=history.last_event,
        config=history.config,
        parameters=start.parameters,
        steps=history.step,
        total_steps=start.total_steps,
        epoch=history.epoch if history.step else 0,
        epochs=history.epochs,
        train_loss=evaluated.train_loss if evaluated else None,
        val_loss=evaluated.val_loss if evaluated else None,
        best=history.best,
        why=end.error if isinstance(end, Failed) else "",
        unsaved=history.unsaved,
        preset=start.preset,
        vocab_size=start.vocab_size,
        fingerprint=start.fingerprint,
        val_losses=tuple(event.val_loss for event in history.evaluations),
        parent=_parent(history.starts[0], (folder.name, folder.resolve().name, *notes.former_names)),
        note=notes.note,
        tags=notes.tags,
        best_left_behind=history.best_left_behind,
        changed=tuple(dict.fromkeys(change.setting for change in history.changes_made())),
    )


def why_incomparable(one: RunSummary | RunStarted, other: RunSummary | RunStarted) -> str:
    """Why the losses of two runs do not compare: "other text, other val_split"; empty where they do.

    Texts are compared by their fingerprints, or by their files' names where an older journal has none.
    """
    known = one.fingerprint and other.fingerprint
    same = {
        "text": one.fingerprint == other.fingerprint if known else _file_names(one) == _file_names(other),
        "tokenizer": one.config.get("tokenizer", CHAR) == other.config.get("tokenizer", CHAR),
        "vocabulary": one.vocab_size == other.vocab_size,
        "val_split": one.config.get("val_split") == other.config.get("val_split"),
    }
    return ", ".join(f"other {name}" for name in same if not same[name])


def _file_names(run: RunSummary | RunStarted) -> list[str]:
    paths = run.config.get("data")
    return [Path(str(path)).name for path in paths] if isinstance(paths, (list, tuple)) else []


def _parent(first: RunStarted, names: Sequence[str]) -> str:
    """The checkpoint that the first start of a run with these names took from another run; empty where it took none."""
    if first.initialised_from:
        return first.initialised_from
    resumed = first.resumed_from or ""  # from the run itself, if its journal was lost
    return resumed if Path(resumed).parent.name not in names else ""


def _state(folder: Path, history: RunHistory) -> str:
    if isinstance(history.end, Failed):
        return "failed"
    if history.end is not None:
        return "stopped" if history.end.reason == "stopped" else "finished"
    if is_held(folder):
        return "paused" if history.phase == "paused" else "training"
    return "interrupted"


def find_runs(
    folder: Path | None = None,
    read: Callable[[Path], RunSummary] = summarize,
    unread: Callable[[str], object] = lambda _: None,
) -> list[RunSummary]:
    """The runs in a folder and below it, the newest first; `read` finds out how a run stands.

    Without a folder: those below `runs`, and those whose folders lie in the current one. `unread` is told of folders
    that cannot be looked into, and of those with a checkpoint whose journal cannot be read.
    """
    runs, locked = [], list[str]()
    for path in _known_folders(locked) if folder is None else _run_folders(folder, MAX_FOLDER_DEPTH, locked):
        try:
            runs.append(read(path))
        except UserError as error:
            if os.path.isfile(path / LAST):  # else it is a file of that name which is no journal
                unread(str(error))
    if locked:
        unread(f"{format_names(locked, SHOWN_NAMES)}: cannot be looked into, so a run there is not listed")
    return sorted(runs, key=lambda run: run.started, reverse=True)


def find_run(name: str) -> Path:
    """The folder of a run as a user names it: the folder, a file in it, or its name below `runs`.

    Where there is no such run, a UserError names the nearest.
    """
    shown = name[:200] or "''"
    renamed, is_file, folders = None, False, list[Path]()
    with suppress(OSError, UserError):
        given = user_path(name)
        is_file = given.is_file()
        folders = [given, given.parent if is_file else given, RUNS / given]
        for folder in folders:
            if holds_run(folder):
                return folder
        renamed = renamed_to(given) or renamed_to(RUNS / given)
    for folder in folders:
        check_readable(folder)
    if is_file:
        raise UserError(f"{shown}: is a file in no run's folder; name a run, its folder or a file in it")
    known = {path.name: path for path in _known_folders([])}
    near = closest(name.rstrip("/").rpartition("/")[2], list(known))
    if renamed is not None:
        raise UserError(f"{shown}: no such run; it was renamed to {renamed}")
    hint = f"did you mean {known[near]}?" if near else "fundamentallm runs list shows the runs that there are"
    what = "file or run" if "." in Path(name).name else "run"
    raise UserError(f"{shown}: no such {what}; {hint}")


def _known_folders(locked: list[str]) -> list[Path]:
    others: list[str] = []  # beside `runs`: most folders that cannot be looked into hold something else
    return [*_run_folders(Path(), 1, others), *_run_folders(RUNS, MAX_FOLDER_DEPTH, locked)]


def _run_folders(top: Path, depth: int, locked: list[str]) -> Iterator[Path]:
    """Folders with a journal, `top` included. Neither a run's own folder nor a hidden one is searched.

    `locked` gets the folders that cannot be looked into.
    """
    if holds_run(top):
        yield top
        return
    try:
        check_readable(top)
        below = sorted(entry.name for entry in os.scandir(top) if entry.is_dir(follow_symlinks=False)) if depth else []
    except (OSError, UserError):
        if os.path.isdir(top):
            locked.append(str(top))
        return
    for name in below:
        if not name.startswith("."):
            yield from _run_folders(top / name, depth - 1, locked)


def changed_from_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """What of a run's configuration differs from the defaults, in the order of the settings."""
    defaults = to_dict(Config())
    return {name: config[name] for name in SETTINGS if name in config and config[name] != defaults[name]}


def differing_settings(configs: Sequence[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The settings in which configurations differ, in the order of the settings, with the value in each.

    A value that one does not have is empty. The folder of a run is no difference.
    """
    rows = []
    for name in SETTINGS:
        values = [format_value(config[name]) if name in config else "" for config in configs]
        if name != "output_dir" and len(set(values)) > 1:
            rows.append((name, values))
    return rows
