"""What an event means, in one sentence: the same for the command line and for the console's log.

- Says what happened. What the user may do next differs between the two, and is theirs to add.
- Text from outside is left as it is: whoever shows it makes it printable.
"""

from dataclasses import dataclass

from fundamentallm.config.config import CHAR
from fundamentallm.config.format import (
    format_count,
    format_digits,
    format_duration,
    format_loss,
    format_size,
    format_value,
)
from fundamentallm.run import events

PLAIN, FAINT, GOOD, WARN, BAD = "plain", "faint", "good", "warn", "bad"
ENDS = {"completed": "finished", "patience": "stopped early: no improvement"}
DONE = {
    "save": "saved on request",
    "stop": "asked to stop",
    "sample": "sampled on request",
    "evaluate": "evaluated on request",
}


@dataclass(frozen=True)
class Description:
    """`level` is one of PLAIN, FAINT, GOOD, WARN and BAD; `text` may have several lines."""

    level: str
    text: str


def describe(event: events.Event, *, by: str = "") -> Description | None:
    """Describe an event; returns None for one that a log does not show.

    `by` is the user whose command the event answers, to be named; without one, the answers to those of DONE are not
    shown, as their effects are.
    """
    who = f" ({by})" if by else ""
    match event:
        case events.RunStarted():
            return Description(PLAIN, _start(event))
        case events.Phase(phase="compiling"):
            return Description(FAINT, "compiling the model for this machine")
        case events.Evaluated():
            return Description(PLAIN, "  ".join([*evaluation_columns(event), *(["best"] if event.best else [])]))
        case events.CheckpointSaved():
            level = GOOD if event.kind in ("hand", "final") else FAINT
            return Description(level, f"saved {event.path} ({format_size(event.bytes)})")
        case events.CheckpointFailed():
            return Description(BAD, f"could not save {event.path}: {event.why}")
        case events.Intervention():
            change = f"{event.setting} {format_value(event.old) or 'none'} -> {format_value(event.new) or 'none'}"
            return Description(PLAIN, f"{change} at step {event.step} ({event.who})")
        case events.Answered(ok=True, command="pause"):
            return Description(WARN, f"paused at step {event.step}{who}")
        case events.Answered(ok=True, command="resume"):
            return Description(PLAIN, f"resumed at step {event.step}{who}")
        case events.Answered(ok=True) if by and event.command in DONE:
            return Description(PLAIN, DONE[event.command] + who)
        case events.Answered(ok=False) if event.command != "cancel_sample":  # the sample had ended already
            return Description(WARN, f"{event.command.replace('_', ' ')} failed: {event.why}{who}")
        case events.Notice():
            return Description({"warning": WARN, "error": BAD}.get(event.level, PLAIN), event.text)
        case events.Finished():
            return Description(BAD if event.unsaved else GOOD, _end(event))
        case events.Failed():
            why = describe_failure(event, "\n")
            return Description(BAD, f"failed at step {event.step}: {why}")
    return None


def evaluation_columns(event: events.Evaluated) -> tuple[str, str, str, str]:
    """Return where an evaluation was made, both losses and the perplexity."""
    where = f"epoch {event.epoch}" if event.epoch_ended else f"step {event.step}"
    ppl = format_loss(event.perplexity) if event.perplexity < 999.95 else format_digits(event.perplexity, 3)
    return where, f"train {format_loss(event.train_loss)}", f"val {format_loss(event.val_loss)}", f"ppl {ppl}"


def describe_best(best: events.Evaluated | None, left_behind: bool) -> str:
    """Return the loss of best.pt, and its epoch or that the run went back to before it; "–" where there is none."""
    if best is None:
        return "–"
    return f"{format_loss(best.val_loss)} {'left behind' if left_behind else f'in epoch {best.epoch}'}"


def describe_failure(event: events.Failed, separator: str = "; ") -> str:
    """Say why a run failed, and what to try."""
    return event.error + (f"{separator}try {event.advice}" if event.advice else "")


def _start(event: events.RunStarted) -> str:
    resumed = ""
    if event.resumed_from:
        resumed = f"resumed from {event.resumed_from} at step {event.step} of {event.total_steps}\n"
    if event.initialised_from:
        resumed = f"with the weights of {event.initialised_from}\n"
    epochs = f"an epoch has {event.steps_per_epoch}"
    if event.total_steps % event.steps_per_epoch == 0:  # otherwise max_steps ends the run
        epochs = f"{format_count(event.epochs, 'epoch')} of {event.steps_per_epoch}"
    noun = "character" if event.config.get("tokenizer", CHAR) == CHAR else "different token"
    counts = {"parameter": event.parameters, noun: event.vocab_size, "step": event.total_steps}
    size = ", ".join(format_count(n, noun) for noun, n in counts.items())
    return f"{resumed}{size} ({epochs}) on {describe_machine(event)}"


def describe_machine(event: events.RunStarted) -> str:
    """Say on what a run computes: "cpu, 2 processes, each with 1 thread"."""
    processes = f"{event.processes} processes, each with " if event.processes > 1 else ""
    return f"{event.device}, {processes}{format_count(event.threads, 'thread')}"


def _end(event: events.Finished) -> str:
    lines = [
        f"{ENDS.get(event.reason, event.reason)} after {format_count(event.step, 'step')} in epoch {event.epoch}, "
        f"{format_duration(event.seconds)}, {format_count(event.tokens, 'token')}"
    ]
    if event.best_val_loss is not None:
        lines.append(f"best validation loss {event.best_val_loss:.4f} (epoch {event.best_epoch})")
    if event.val_loss is not None:
        lines.append(f"last validation loss {event.val_loss:.4f}")
    if event.unsaved:
        lines.append(f"the end could NOT be saved: {event.unsaved}")
    return "\n".join(lines)
