"""What a user sees of a run on the command line.

- Standard output: a line for each finished epoch; on a terminal, below them, a live bar.
- Standard error: everything else.
- A reader that goes away, or a disk that is full, never stops the training: the journal has everything.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from fundamentallm.cli.terminal import Footer, bar, complain, drop_output, fit, is_screen, one_line, width
from fundamentallm.config.config import SETTINGS
from fundamentallm.config.format import format_duration
from fundamentallm.errors import describe_error
from fundamentallm.paths import is_near, quoted_path, resume_command
from fundamentallm.process.system import on_one_machine
from fundamentallm.run import events
from fundamentallm.run.describe import BAD, WARN, describe
from fundamentallm.run.folder import BEST, FINAL, LAST
from fundamentallm.run.history import RECENT_STEPS, RunHistory

BAR_CELLS = 10


class Report:
    """Prints the events of the run in `folder`.

    If it is not `ours`, trained by this process, its journal may be someone else's, and what reaches out of its folder
    is not suggested.
    """

    def __init__(self, folder: Path, *, ours: bool = True) -> None:
        self.folder, self._ours = folder, ours
        self._footer = Footer(sys.stdout) if is_screen(sys.stdout) else None
        self._history = RunHistory(RECENT_STEPS)
        self._losses: list[float] = []  # of the current epoch

    def on_event(self, event: events.Event) -> None:
        """Print the next event of the run."""
        before = self._history.progress
        self._history.apply(event)
        match event:
            case events.Progress():
                if before is None or before.epoch != event.epoch:
                    self._losses = []
                self._losses += event.train_loss
                self._draw()
            case events.Evaluated():
                started = self._history.started
                if event.epoch_ended or (started is not None and event.step >= started.total_steps):
                    self._draw(above=self._line_of(event))
            case events.Finished() | events.Failed():
                self._losses = []  # no bar any more
                self.show(self._ending(event))
            case events.CheckpointSaved():
                pass
            case _:
                if isinstance(event, events.RunStarted):
                    self.show(one_line(f"writing to {self.folder}"))
                by = event.who if isinstance(event, events.Answered) and event.command in ("pause", "resume") else ""
                if description := describe(event, by=by):
                    self.show(description.text)

    def show(self, text: str) -> None:
        """Print text above the live part."""
        if self._footer is None:
            return complain(text)
        with suppress(OSError):
            self._footer.clear()
        complain(text)
        self._draw()

    def show_interrupt(self) -> None:
        """Say that the run will stop. Bypasses all buffers: a signal handler may interrupt a write."""
        if self._footer is not None:
            self._footer = Footer(sys.stdout)  # which draws below: something else is written behind the lines
        with suppress(OSError):
            os.write(2, b"\nfinishing the step, then saving; once more ends at once\n")

    # ---- the live part ----

    def _draw(self, above: str = "") -> None:
        try:
            if self._footer is not None:
                self._footer.draw(self._live(), above)
            elif above:
                print(above, flush=True)
        except OSError as error:
            drop_output()
            self._footer = None
            if not isinstance(error, BrokenPipeError):
                complain(f"standard output: {describe_error(error)}; training continues without it")

    def _line_of(self, event: events.Evaluated) -> str:
        """The line of an epoch, or of the end in the middle of one; on a screen, what does not fit is left out."""
        epoch = f"Epoch {event.epoch}/{self._history.epochs}"
        parts = [epoch if event.epoch_ended else f"Step {event.step}/{event.step}", *self._fields(event.train_loss)]
        if self._footer is None:
            return " | ".join(parts)
        return fit([*parts, f"perplexity={event.perplexity:.2f}"], width())

    def _fields(self, train_loss: float) -> list[str]:
        progress, evaluations = self._history.progress, self._history.evaluations
        return [
            f"train_loss={train_loss:.3f}",
            f"val_loss={evaluations[-1].val_loss:.3f}" if evaluations else "val_loss=-",
            f"lr={progress.learning_rate[-1]:.2e}" if progress else "lr=-",
            f"throughput={progress.tokens_per_second:.0f} tokens/sec" if progress else "throughput=-",
        ]

    def _live(self) -> list[str]:
        """Two lines: where the run is, and how it does."""
        progress, started, evaluations = self._history.progress, self._history.started, self._history.evaluations
        if progress is None or started is None or not self._losses:
            return []
        done = (progress.step[-1] - 1) % started.steps_per_epoch + 1
        drawn = bar(done, started.steps_per_epoch, BAR_CELLS, sys.stdout)
        epoch = f"Epoch {progress.epoch}/{self._history.epochs}"
        where = [f"ETA {format_duration(progress.eta_seconds)}", f"grad_norm={progress.grad_norm[-1]:.3f}"]
        if evaluations:
            where.append(f"perplexity={evaluations[-1].perplexity:.2f}")
        fields = self._fields(sum(self._losses) / len(self._losses))
        line = f"{drawn}  |  {' | '.join(fields)}"
        if len(line) <= width():
            return [fit([epoch, *where], width()), line]
        return [fit([f"{epoch} {drawn}", *where], width()), fit(fields, width())]

    # ---- the end ----

    def _ending(self, event: events.Finished | events.Failed) -> str:
        """How the run ended, the files that it left, and what to do next."""
        description = describe(event)
        lines = [description.text] if description else []
        if isinstance(event, events.Failed):
            if event.saved:
                lines.append(one_line(f"the last good state: {self.folder / Path(event.saved).name}"))
            return "\n".join(lines)
        end = "an earlier end" if event.reason == "stopped" else "the end"
        about = {BEST: "lowest validation loss", FINAL: end, LAST: "newest state"}
        files = [f"{name} ({what})" for name, what in about.items() if os.path.isfile(self.folder / name)]
        if files:
            older = "; they may be older than the end" if event.unsaved else ""
            lines.append(one_line(f"in {self.folder}: {', '.join(files)}{older}"))
        if event.unsaved:
            lines.append(f"resume with: {resume_command(self.folder)}{self._flags_to_repeat()}")
        elif event.reason == "stopped" and os.path.isfile(self.folder / LAST):
            flags = self._flags_to_repeat()
            lines.append(f"resume with: fundamentallm train --resume-from {quoted_path(self.folder / LAST)}{flags}")
        if event.path is not None:
            path = quoted_path(self.folder / Path(event.path).name)
            lines.append(f"try it with: fundamentallm generate {path}")
        return "\n".join(lines)

    def _flags_to_repeat(self) -> str:
        """The flags for what is not taken from a checkpoint: what reaches out of the run, and how many train it."""
        config = self._history.config if self._ours else {}
        far = config.get("tensorboard") and not is_near(config["log_dir"], self.folder)
        flags = [f" {SETTINGS[name].as_flag(config[name])}" for name in ("wandb", "track") if config.get(name)]
        started = self._history.started
        if started is not None and started.processes > 1 and on_one_machine():
            flags.append(f" --processes {started.processes}")
        return "".join(flags) + (f" --log-dir {quoted_path(config['log_dir'])}" if far else "")


class Quiet(Report):
    """Prints only what went wrong."""

    def on_event(self, event: events.Event) -> None:
        description = describe(event)
        if description and description.level in (WARN, BAD) and not isinstance(event, events.Answered):
            complain(description.text)

    def show(self, text: str) -> None:
        pass


class JsonLines(Quiet):
    """Prints every event as the journal has it; as text only what went wrong."""

    def on_event(self, event: events.Event) -> None:
        super().on_event(event)
        try:
            print(events.encode(event), flush=True)
        except OSError:
            drop_output()
