"""The folder of a run: prepared before a start, and taken back after a start that failed."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from fundamentallm.config.config import BPE, BYTES, CHAR
from fundamentallm.config.estimate import estimate_size
from fundamentallm.data.source import is_long, measure_source, read_source, read_tokenizer
from fundamentallm.data.text import read_standard_input, select
from fundamentallm.errors import UserError, describe_error, system_errors
from fundamentallm.run.events import JOURNAL
from fundamentallm.run.folder import (
    ENGINE_LOG,
    INPUT,
    STDIN,
    check_folder,
    free_name,
    move_aside,
    stored_input,
    write_atomic,
)
from fundamentallm.run.locks import LOCK, RunLock, holder, is_held
from fundamentallm.run.notes import keep_former_name, renamed_hint
from fundamentallm.run.spec import RunSpec, explain_origin
from fundamentallm.untrusted import open_regular_file

MOVED = "the old run is in {} now"


def check_start(spec: RunSpec, *, overwrite: bool) -> None:
    """Refuse a run whose folder cannot be used, or whose checkpoint is not there or would be moved by `overwrite`."""
    if is_held(spec.folder):  # first: no other message would help
        raise UserError(f"{spec.folder}: is being written by {holder(spec.folder) or 'another process'}")
    if spec.auto and (hint := renamed_hint(spec.folder)):  # otherwise another run would begin under the old name
        raise UserError(f"--output-dir {spec.folder}: there is no such run{hint}; leave out --resume to begin another")
    check_folder(spec.folder, may_hold_run=overwrite or spec.continues)
    for flag, source in (("--resume-from", spec.resume_from), ("--init-from", spec.init_from)):
        if source is not None and not source.is_file():
            raise UserError(f"{flag} {source}: no such checkpoint{renamed_hint(source.parent)}")
        if source is not None and overwrite and spec.folder.resolve() in source.resolve().parents:
            raise UserError(f"--overwrite: would move {source} aside, which {flag} names; leave it out")


def prepare_folder(spec: RunSpec, *, overwrite: bool = False) -> Path | None:
    """Check what a run needs, move an old run aside if `overwrite`, and make the folder.

    Returns where the old run is now, if one was moved. After a UserError, nothing was written. A FileExistsError says
    that another start took the number that the program chose.
    """
    check_start(spec, overwrite=overwrite)
    if spec.resume_from is None:
        with explain_origin(spec.settings_from, "data"):
            _check_text(spec)
    aside = move_aside(spec.folder) if overwrite else None
    try:
        spec.folder.mkdir(parents=True, exist_ok=not spec.numbered)
    except OSError as error:
        if spec.numbered and isinstance(error, FileExistsError):
            raise
        raise UserError(f"--output-dir {spec.folder}: cannot be made: {describe_error(error)}") from None
    return aside


def _check_text(spec: RunSpec) -> None:
    """Raise a UserError if a run cannot start on its text. A long one is read later, once, and is long enough."""
    config = spec.config
    begun = spec.init_from is not None or (spec.auto and any(spec.folder.glob("*.pt")))  # by a checkpoint that has it
    if config.tokenizer not in (CHAR, BYTES, BPE) and not begun:
        read_tokenizer(config.tokenizer)
    chosen = select(config.data, config.include)
    if not chosen.problems and is_long(chosen.files):
        return
    source = read_source(config)
    # The checkpoint to begin with has the length of a window, and what bpe makes of the text is not known yet.
    if spec.init_from is None and config.tokenizer in (CHAR, BYTES):
        estimate_size(config, measure_source(config, source))


@contextmanager
def prepared_folder(spec: RunSpec, overwrite: bool, warn: Callable[[str], object]) -> Iterator[RunSpec]:
    """Do as `prepare_folder`, and take the folder back if the body raises.

    Yields the spec, with the next free number for its folder if another start took that, with the file that keeps
    standard input in place of it, and with where the old run is now; when the new one has begun, call `note_replaced`.
    After an error `warn` is told where the old run is, if it cannot be moved back.
    """
    while True:
        made = [folder for folder in (spec.folder, *spec.folder.parents) if not folder.exists()]
        try:
            aside = prepare_folder(spec, overwrite=overwrite)
            break
        except FileExistsError:
            spec = replace(spec, folder=free_name(spec.folder.with_name(spec.folder.name.rpartition("-")[0]), "-"))
    spec = replace(spec, numbered=False, replaced=aside or spec.replaced)
    try:
        yield _keep_standard_input(spec)
    except BaseException:
        mine = made or ([spec.folder] if aside else [])
        if spec.folder in mine:
            (spec.folder / INPUT).unlink(missing_ok=True)  # a user's file of that name would be in a folder of theirs
        take_back(spec.folder, mine)
        if aside is not None:
            try:
                aside.rename(spec.folder)
            except OSError:
                warn(MOVED.format(aside))
        raise


def note_replaced(spec: RunSpec, say: Callable[[str], object]) -> None:
    """Keep the name that the old run of a folder had, and tell `say` where it is now."""
    if spec.replaced is not None:
        keep_former_name(spec.replaced, spec.folder.name)
        say(MOVED.format(spec.replaced))


def _keep_standard_input(spec: RunSpec) -> RunSpec:
    """Write the text that standard input brings into the run's folder, and let the run read it there.

    A UserError says that the folder keeps another text already, or cannot be written to.
    """
    given = tuple(spec.changes.get("data", ()))
    if STDIN not in spec.config.data and STDIN not in given:
        return spec
    path, raw = spec.folder / INPUT, read_standard_input()
    read_standard_input.cache_clear()  # a large text would stay in memory
    with system_errors(str(path)):
        if not os.path.lexists(path):
            write_atomic(path, raw)
        with open_regular_file(path) as file:
            kept = file.read()
        if kept != raw:
            raise UserError(f"{path}: is another text than the one from standard input; name another --output-dir")
    config = replace(spec.config, data=stored_input(spec.config.data, spec.folder))
    changes = {**spec.changes, "data": stored_input(given, spec.folder)} if given else spec.changes
    return replace(spec, config=config, changes=changes)


def take_back(folder: Path, made: Sequence[Path]) -> None:
    """Remove the files of a run that failed to start, and the folders that were made for it, deepest first.

    A folder stays if it holds anything else, or if its journal or engine.log has something to say about the failure. An
    empty journal beside checkpoints is that of a run that lost what it had, and is found by it.
    """
    logs = [folder / JOURNAL, folder / ENGINE_LOG]
    with suppress(OSError, UserError):  # it is not empty, or another process has taken it
        said = any(path.exists() and path.stat().st_size for path in logs)
        if folder.exists() and not said and not any(folder.glob("*.pt")):
            with RunLock(folder):
                for path in (*logs, folder / LOCK):
                    path.unlink(missing_ok=True)
        for each in made:
            if each.exists():
                each.rmdir()
