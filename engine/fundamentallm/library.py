"""What a Python program does with runs; `import fundamentallm` offers it, and docs/library.md shows it."""

import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fundamentallm.errors import UserError, describe_fault
from fundamentallm.process.prepare import note_replaced, prepared_folder
from fundamentallm.process.start import new_spec
from fundamentallm.process.system import obeyed
from fundamentallm.run.describe import describe_failure
from fundamentallm.run.events import FAULT, Event, Failed
from fundamentallm.run.history import RunHistory, read_started
from fundamentallm.run.summary import RunSummary, find_run, summarize


def train_model(
    data: str | Path | Sequence[str | Path] = (),
    *,
    preset: str | None = None,
    config: str | Path | None = None,
    init_from: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    on_event: Callable[[Event], None] = lambda _: None,
    warn: Callable[[str], None] = warnings.warn,
    **settings: Any,
) -> RunSummary:
    """Train a model in this process, as `fundamentallm train` does, and return how the run ended.

    In the main thread, ctrl+c ends the run after its step, saved; a second one at once, by a KeyboardInterrupt.

    Args:
        data: text files and folders to learn from; a preset or configuration file may name them instead.
        preset, config: the name of a preset and a YAML file; the file wins over the preset, `settings` over both.
        init_from: a checkpoint, or a run's folder, whose weights and shape a new run begins with.
        resume: resume what is in `output_dir` from its newest valid checkpoint; a new run where there is nothing.
        overwrite: move a run that is in `output_dir` aside.
        on_event: is called with everything that happens, as docs/runs.md lists it, while the run waits.
        warn: is told what the user should know before the run starts, and what could not be saved.
        settings: by the names in docs/settings.md, such as `output_dir="book", epochs=5, learning_rate=0.002`.

    Raises:
        UserError: the run cannot start, which leaves no trace of it, or failed: what was saved stays.
    """
    paths = (data,) if isinstance(data, (str, Path)) else data
    flags = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    flags |= {"data": tuple(map(str, paths))} if paths else {}
    if resume and (overwrite or init_from is not None or not flags.get("output_dir")):
        raise UserError("resume: needs output_dir, and neither init_from nor overwrite")
    weights = None if init_from is None else str(init_from)
    spec = new_spec(preset, None if config is None else str(config), flags, resume, weights, warn)
    with prepared_folder(spec, overwrite, warn) as spec:
        from fundamentallm.train.trainer import Trainer  # imports torch

        folder = spec.folder.absolute()  # the program around may change the current folder meanwhile
        trainer = Trainer(replace(spec, folder=folder), on_event, lambda: ())
    note_replaced(spec, warn)
    interrupts = (signal.SIGINT,) if threading.current_thread() is threading.main_thread() else ()
    with obeyed(lambda _: trainer.stop(), *interrupts, again=lambda number: signal.default_int_handler(number, None)):
        try:
            end = trainer.run()
        except BaseException as error:
            ours = "this is a fault of the program" if isinstance(error, Exception) else "the program around it ended"
            trainer.fail(f"{describe_fault(error)}; {ours}", FAULT)
            raise
        finally:
            trainer.close()
    if isinstance(end, Failed):
        raise UserError(describe_failure(end))
    if end.unsaved:
        warn(f"{folder}: the end of the run could not be saved: {end.unsaved}")
    return summarize(spec.folder if spec.folder.absolute() == folder else folder)


def read_run(run: str | Path) -> RunHistory:
    """Read everything that happened in a run, named by its folder, a file in it, or its name below `runs`.

    A UserError says that there is no such run, or that its journal cannot be read.
    """
    return read_started(find_run(str(run)))
