"""The help screen: every key, and how to read the main screen."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from fundamentallm_tui.keys import KEYS, OTHERS, RUN_KEYS, written

# One paragraph, for someone who sees such curves for the first time.
READING = (
    "The top line says what the run is doing, how far it is and how long it still takes. In the loss chart, faint is "
    "the training loss of each step, and bright the validation loss, on text that the model never trains on. Falling "
    "is learning. When validation rises while training still falls, the model learns by heart: stop, or give it more "
    "text or more dropout. When both stay high, it is too small, or the learning rate too low. When the loss jumps "
    "or is nan, the learning rate is too high. Ask for a sample at any time: it does not change the run."
)


class Help(ModalScreen[None]):
    """Any of its keys closes it."""

    BINDINGS = [
        Binding("escape,f1,q,question_mark,enter", "dismiss", "Close"),
        Binding("up", "scroll(-1)", show=False),
        Binding("down", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown", "scroll(10)", show=False),
    ]

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog", can_focus=False) as box:
            box.border_title = "Help"
            box.border_subtitle = "escape closes"
            yield Static(text())

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)


def text() -> Content:
    """The keys in columns, and a paragraph."""
    rows: list[tuple[str, str] | str] = []
    for key in KEYS:
        rows += [(f"{written(key.key):<9}{written(key.letter):<5}", "bold $text-accent"), f"{key.help}\n"]
    for name, meaning in OTHERS:
        rows += [(f"{name:<14}", "bold $text-accent"), f"{meaning}\n"]
    rows.append(("\nIn the library of runs\n", "$foreground 60%"))
    for key in RUN_KEYS:
        rows += [(f"{written(key.key):<14}", "bold $text-accent"), f"{key.help}\n"]
    rows += ["\n", ("Single letters act outside text fields; escape leaves one.\n\n", "$foreground 60%"), READING]
    return Content.assemble(*rows)
