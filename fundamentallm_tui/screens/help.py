"""The text of the help: every key, and how to read the main screen."""

from collections.abc import Mapping

from textual.content import Content

from fundamentallm_tui.keys import MAIN, RUNS, Command, key_name
from fundamentallm_tui.theme import FAINT

# One paragraph, for someone who sees such curves for the first time.
READING = (
    "The top line shows what the run is doing, how far it is and how long it will still take. In the loss chart, the "
    "faint line is the training loss of each step, and the bright one the validation loss, on text that the model "
    "never trains on. A falling loss means that the model learns. When the validation loss rises while the training "
    "loss still falls, the model memorizes its text: stop, or give it more text or more dropout. When both stay high, "
    "the model is too small or the learning rate too low. When the loss jumps or becomes nan, the learning rate is "
    "too high. You can sample at any time: it does not change the run."
)


def help_text(keymap: Mapping[str, str]) -> Content:
    """Return the keys in columns, those of a keymap in place of the usual ones, and a paragraph."""
    return Content.assemble(
        *_key_rows(MAIN, keymap),
        ("\nIn the list of runs\n", FAINT),
        *_key_rows(RUNS, keymap),
        ("\nSingle letters act only outside text fields; escape leaves a field.\n\n", FAINT),
        READING,
    )


def _key_rows(commands: tuple[Command, ...], keymap: Mapping[str, str]) -> list[tuple[str, str] | str]:
    rows: list[tuple[str, str] | str] = []
    for command in commands:
        if command.key and command.help:
            id = command.id or command.action
            keys = key_name(keymap.get(id, command.key))
            if command.letter:
                keys = f"{keys:<9}{key_name(keymap.get(f'{id}.letter', command.letter))}"
            rows += [(f"{keys:<14}", "bold $text-accent"), f"{command.help}\n"]
    return rows
