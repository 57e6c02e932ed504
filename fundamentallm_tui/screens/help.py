"""The text of the help: first what has the focus is explained, then the keys that act on it, then all keys."""

from collections.abc import Iterable, Mapping
from typing import Any

from textual.content import Content
from textual.screen import Screen

from fundamentallm.config.config import SETTINGS
from fundamentallm.config.format import wrap
from fundamentallm.config.sampling import SAMPLING
from fundamentallm_tui import keys
from fundamentallm_tui.charts.metrics import MetricChart
from fundamentallm_tui.format import clean
from fundamentallm_tui.keys import Command, key_name
from fundamentallm_tui.panes.fields import Fields
from fundamentallm_tui.panes.health import HealthPane, current_verdict
from fundamentallm_tui.panes.settings_form import setting_help
from fundamentallm_tui.theme import FAINT

KEYS_WIDTH = 14
# One paragraph, for someone who sees such curves for the first time.
READING = (
    "In the loss chart, the faint line is the training loss of each step, the bright one its running mean; the points "
    "are the validation loss, on text that the model never trains on. A falling loss means that the model learns. When "
    "the validation loss rises while the training loss still falls, the model memorizes its text: stop, best.pt has "
    "the best state; or give it more text or more dropout. When both stay high, the model is too small or the learning "
    "rate too low. When the loss jumps or becomes nan, the learning rate is too high."
)
# By the id of what has the focus, or the name of a metric: what it is, how to read it, what to do about it.
TOPICS = {
    "status": (
        "The top line says what the run does, how far it is, how long it still takes (ETA), how many tokens it trains "
        "on in a second, and the norm of the gradient. train and val are the newest losses, best the lowest validation "
        "loss so far: best.pt holds the model of that moment. The number keys go to a pane; F1 then explains it."
    ),
    "loss": f"{READING} ★ is the best validation loss, ◆ a changed setting, ▲ a saved checkpoint.",
    "Learning rate": (
        "How far each step moves the weights. It rises during the warm-up, then falls as lr_schedule says; the dotted "
        "part is still to come. Where the loss jumps, it is too high; where the loss hardly falls, too low."
    ),
    "Gradient norm": (
        "How strongly a batch pulls at the weights, before gradient_clip shortens the pull. It should be steady or "
        "fall slowly. Where it grows, or jumps together with the loss, the learning rate is too high."
    ),
    "Tokens a second": (
        "How fast the run trains. It should be steady after the first steps. Where it falls, something else keeps the "
        "machine busy, or the machine is too hot; evaluating and saving take time, too."
    ),
    "Perplexity": (
        "The loss on another scale, e to the power of it: among how many equally likely characters the model "
        "hesitates. 1 would be certainty, the size of the vocabulary is a blind guess. Read its curves as the loss's."
    ),
    "Memory": (
        "What training holds of the GPU's memory, or of this machine's. It should be steady after the first "
        "evaluation. A smaller batch_size or a shorter max_seq_len needs less."
    ),
    "log": (
        "What has happened, the newest at the end: evaluations, saves, changes of settings, warnings. The line of an "
        "evaluation has the losses and the perplexity, and ✓ where its state was saved. engine.log is what the "
        "training process printed; look there when a run fails."
    ),
    "sample": (
        "Text that the model writes. Write how a text begins, and enter lets the model continue it, which does not "
        "change the run. Early samples are noise, then come words, then sentences. Text that repeats itself needs a "
        "higher T (temperature), text that is random a lower one."
    ),
    "preset": (
        "A set of values for all settings, from tiny (a minute) to large (a GPU). Choosing one changes the fields that "
        "you have not changed yourself; those are marked with *."
    ),
    "list": (
        "The runs below this folder; each is a folder with its checkpoints and everything that happened. Marked runs "
        "lie over the loss chart, and can be compared. A run that was stopped, failed or interrupted can be resumed."
    ),
}


def help_text(screen: Screen[Any], keymap: Mapping[str, str]) -> Content:
    """Return the help on a screen as it is now; a keymap gives the keys in place of the usual ones."""
    title, text = _explain(screen)
    focused = screen.focused
    nodes = focused.ancestors_with_self if focused is not None else ()
    own: tuple[Command, ...] = next((node.commands for node in nodes if hasattr(node, "commands")), ())
    parts: list[tuple[str, str] | str] = [(f"{title}\n", "bold $text-accent"), f"{text}\n"]
    tables = {"Its keys": own, "All keys": keys.MAIN, "In the list of runs": keys.RUNS}
    if screen.query("#list"):
        tables = {"Keys": keys.RUNS, "On the main screen": keys.MAIN}
    for heading, commands in tables.items():
        if rows := _key_rows(commands, keymap, min(80, screen.size.width * 9 // 10 - 8) - KEYS_WIDTH):
            parts += [(f"\n{heading}\n", FAINT), *rows]
    return Content.assemble(*parts, ("\nSingle letters act only outside text fields; escape leaves a field.", FAINT))


def _explain(screen: Screen[Any]) -> tuple[str, str]:
    """Return the name of what has the focus, and what is said about it; without a focus, of the status line."""
    focused = screen.focused
    for node in focused.ancestors_with_self if focused is not None else ():
        match node:
            case Fields() if node.current.name in TOPICS:
                return node.current.name, TOPICS[node.current.name]
            case Fields():
                name = node.current.name
                return name, "\n".join(setting_help((SAMPLING if node.id == "options" else SETTINGS)[name]))
            case HealthPane():
                verdict = current_verdict(node.store)
                return f"Health: {verdict.headline}", f"{clean(verdict.evidence)}.\n{verdict.explanation}"
            case MetricChart():
                return node.metric.name, TOPICS[node.metric.name]
        if node.id in TOPICS:
            return "The list of runs" if node.id == "list" else node.id.capitalize(), TOPICS[node.id]
    return "The status line and the curves", f"{TOPICS['status']}\n\n{READING}"


def _key_rows(commands: Iterable[Command], keymap: Mapping[str, str], room: int) -> list[tuple[str, str] | str]:
    """The keys of these commands in a column, and beside it what they do in so many cells."""
    rows: list[tuple[str, str] | str] = []
    for command in commands:
        if command.key and command.help:
            id = command.id or command.action
            shown = key_name(keymap.get(id, command.key))
            if command.letter:
                shown = f"{shown:<9}{key_name(keymap.get(f'{id}.letter', command.letter))}"
            text = f"\n{' ' * KEYS_WIDTH}".join(wrap(command.help, max(20, room)))
            rows += [(shown.ljust(KEYS_WIDTH), "bold $text-accent"), f"{text}\n"]
    return rows
