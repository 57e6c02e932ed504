"""What a run says, for people.

- Standard output: a line for each finished epoch; on a terminal, below them, a live bar.
- Standard error: everything else.
- A reader that goes away, or a disk that is full, never stops the training: the journal has it all.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from fundamentallm.cli.terminal import Foot, complain, drop_output, fit, is_screen, one_line, quoted, width
from fundamentallm.data.text import read_texts
from fundamentallm.errors import UserError
from fundamentallm.run.events import (
    Answered,
    CheckpointFailed,
    Evaluated,
    Event,
    Failed,
    Finished,
    Intervention,
    Notice,
    Phase,
    Progress,
    RunStarted,
    encode,
)
from fundamentallm.run.folder import BEST, FINAL, LAST
from fundamentallm.run.history import changed_by, epochs_of
from fundamentallm.untrusted import is_near

CELLS = 10  # of the bar
PROMPT = "Once upon a time"


class Report:
    """Hears the events of one run and prints them."""

    def __init__(self, folder: Path, *, ours: bool = True) -> None:
        """
        Args:
            ours: whether this process trains the run. What only its journal says may be a stranger's.
        """
        self._folder, self._ours = folder, ours
        self._foot = Foot(sys.stdout) if is_screen(sys.stdout) else None
        self._started: RunStarted | None = None
        self._progress: Progress | None = None
        self._evaluated: Evaluated | None = None
        self._losses: list[float] = []  # of the epoch under way

    def hear(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._started = event
                self.say(_opening(event, self._folder))
            case Notice():
                self.say(event.text)
            case Phase(phase="compiling"):
                self.say("compiling the model for this machine")
            case Answered(ok=True, command="pause"):
                self.say(f"paused at step {event.step} ({event.who})")
            case Answered(ok=True, command="resume"):
                self.say(f"goes on at step {event.step} ({event.who})")
            case Intervention():
                if self._started is not None:
                    self._started = changed_by(self._started, event)
                self.say(f"{event.setting} {event.old} -> {event.new} at step {event.step} ({event.who})")
            case CheckpointFailed():
                self.say(f"{event.path} could not be saved: {event.why}")
            case Progress():
                if self._progress is None or event.epoch != self._progress.epoch:
                    self._losses = []
                self._progress = event
                self._losses += event.train_loss
                self._draw()
            case Evaluated():
                self._evaluated = event
                if event.epoch_ended:
                    self._draw(above=self._epoch_line(event))
            case Failed():
                self._end(_failure(event, self._folder))
            case Finished():
                self._end(self._summary(event))

    def interrupted(self) -> None:
        """Said from a signal handler, which may have come in the midst of a write: past all buffers."""
        if self._foot is not None:
            self._foot.leave()
        with suppress(OSError):
            os.write(2, b"\nfinishing the step, then saving; once more ends at once\n")

    # ---- the live part ----

    @property
    def _epochs(self) -> int:
        return epochs_of(self._started.config) if self._started else 0

    def _epoch_line(self, event: Evaluated) -> str:
        """The line of a finished epoch; what does not fit on a screen is left out at the end."""
        parts = [f"Epoch {event.epoch}/{self._epochs}", *self._fields(event.train_loss)]
        if self._foot is None:
            return " | ".join(parts)
        return fit([*parts, f"perplexity={event.perplexity:.2f}"], width())

    def _fields(self, train_loss: float) -> list[str]:
        val_loss = f"{self._evaluated.val_loss:.3f}" if self._evaluated else "-"
        progress = self._progress
        rate = f"{progress.learning_rate[-1]:.2e}" if progress else "-"
        speed = f"{progress.tokens_per_second:.0f}" if progress else "-"
        return [
            f"train_loss={train_loss:.3f}",
            f"val_loss={val_loss}",
            f"lr={rate}",
            f"throughput={speed} tokens/sec",
        ]

    def _live(self) -> list[str]:
        """Two lines: where the run is, and how it does."""
        progress, started = self._progress, self._started
        if progress is None or started is None or not self._losses:
            return []
        done = (progress.step[-1] - 1) % started.steps_per_epoch + 1
        filled = CELLS * done // started.steps_per_epoch
        bar = f"[{'█' * filled}{'░' * (CELLS - filled)}] {100 * done // started.steps_per_epoch}%"
        if "utf" not in (sys.stdout.encoding or "").lower():
            bar = bar.replace("█", "#").replace("░", "-")
        place = [
            f"Epoch {progress.epoch}/{self._epochs}",
            f"ETA {_clock(progress.eta_seconds)}",
            f"grad_norm={progress.grad_norm[-1]:.3f}",
        ]
        if self._evaluated:
            place.append(f"perplexity={self._evaluated.perplexity:.2f}")
        fields = self._fields(sum(self._losses) / len(self._losses))
        line = f"{bar}  |  {' | '.join(fields)}"
        if len(line) <= width():
            return [fit(place, width()), line]
        return [fit([f"{place[0]} {bar}", *place[1:]], width()), fit(fields, width())]

    def _draw(self, above: str = "") -> None:
        try:
            if self._foot is not None:
                self._foot.draw(self._live(), above)
            elif above:
                print(above, flush=True)
        except OSError as error:
            drop_output()
            self._foot = None
            if not isinstance(error, BrokenPipeError):
                complain(f"standard output: {error.strerror}; training goes on without it")

    def say(self, text: str) -> None:
        """Show some words above the live part."""
        if self._foot is None:
            return complain(text)
        with suppress(OSError):
            self._foot.clear()
        complain(text)
        self._draw()

    def _end(self, text: str) -> None:
        self._progress = None
        self.say(text)

    # ---- the words at the end ----

    def _summary(self, event: Finished) -> str:
        reasons = {"completed": "finished", "patience": "stopped early: no improvement", "stopped": "stopped"}
        lines = [
            f"{reasons.get(event.reason, event.reason)} after {event.step} steps in epoch {event.epoch}, "
            f"{_clock(event.seconds)}, {event.tokens:,} tokens"
        ]
        if event.best_val_loss is not None:
            lines.append(f"best validation loss {event.best_val_loss:.4f} (epoch {event.best_epoch})")
        if event.val_loss is not None:
            epoch = f" (epoch {self._evaluated.epoch})" if self._evaluated else ""
            lines.append(f"final validation loss {event.val_loss:.4f}{epoch}")
        about = {BEST: "lowest validation loss", FINAL: "after the last epoch", LAST: "newest state"}
        files = [f"{name} ({what})" for name, what in about.items() if (self._folder / name).is_file()]
        if files:
            lines.append(one_line(f"in {self._folder}: {', '.join(files)}"))
        if event.unsaved:
            older = "; what is listed above may be older" if files else ""
            lines.append(f"the end could NOT be saved: {event.unsaved}{older}")
        if event.reason == "stopped" and (self._folder / LAST).is_file():
            lines.append(f"go on with: fundamentallm train --resume-from {quoted(self._folder / LAST)}{self._asks()}")
        if event.path is not None:
            path = quoted(self._folder / Path(event.path).name)
            lines.append(f"try it with: fundamentallm generate {path}{self._prompt()}")
        return "\n".join(lines)

    def _asks(self) -> str:
        """The flags for what a checkpoint may not ask for itself."""
        config = self._started.config if self._started and self._ours else {}
        far = config.get("tensorboard") and not is_near(config["log_dir"], self._folder)
        return " --wandb" * bool(config.get("wandb")) + (f" --log-dir {quoted(config['log_dir'])}" if far else "")

    def _prompt(self) -> str:
        """A prompt whose every character the model knows; none for a run that somebody else started."""
        try:
            text = "".join(read_texts(tuple(self._started.config["data"] if self._started and self._ours else ())))
        except UserError:
            return ""
        if set(PROMPT) <= set(text):
            return f' --prompt "{PROMPT}"'
        words = " ".join(text.strip().split("\n")[0].split(" ")[:3])[:40]
        return f" --prompt {quoted(words)}" if words else ""


class Quiet(Report):
    """Prints only what went wrong."""

    def hear(self, event: Event) -> None:
        if isinstance(event, Failed):
            complain(_failure(event, self._folder))
        elif isinstance(event, Finished) and event.unsaved:
            complain(f"the end could not be saved: {event.unsaved}")
        elif isinstance(event, Notice) and event.level != "info":
            complain(event.text)

    def say(self, text: str) -> None:
        pass


class JsonLines(Quiet):
    """Prints every event as the journal has it; in words only what went wrong."""

    def hear(self, event: Event) -> None:
        super().hear(event)
        try:
            print(encode(event), flush=True)
        except OSError:
            drop_output()


def reporter(folder: Path, quiet: bool, as_json: bool) -> Report:
    """The report that was asked for."""
    return (JsonLines if as_json else Quiet if quiet else Report)(folder)


def _opening(event: RunStarted, folder: Path) -> str:
    where = f"going on from {event.resumed_from}, step {event.step}, in" if event.resumed_from else "writing to"
    return (
        f"{one_line(f'{where} {folder}')}\n{event.parameters:,} parameters, {event.vocab_size} characters, "
        f"{event.total_steps} steps ({epochs_of(event.config)} epochs of {event.steps_per_epoch}) on {event.device}"
    )


def _failure(event: Failed, folder: Path) -> str:
    lines = [event.error]
    if event.advice:
        lines.append(f"try {event.advice}")
    if event.saved:
        lines.append(f"the last good state: {folder / Path(event.saved).name}")
    return "\n".join(lines)


def _clock(seconds: float | None) -> str:
    """ "1:02:03", or "-" while nobody knows."""
    if seconds is None or not 0 <= seconds < 1e12:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
