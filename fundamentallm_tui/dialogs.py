"""Questions that stand in front of everything: a title, a few words, and what can be chosen."""

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option


@dataclass(frozen=True)
class Choice:
    """An answer: its name for the program, its letter, and its words."""

    id: str
    letter: str
    text: str


class Question(ModalScreen[str]):
    """Ends with the `id` of what was chosen; escape chooses the last, which changes nothing."""

    BINDINGS = [Binding("escape", "choose('')", "Change nothing")]

    def __init__(self, title: str, text: str, choices: list[Choice]) -> None:
        super().__init__()
        self._title, self._text, self._choices = title, text, choices
        for choice in choices:
            self._bindings.bind(choice.letter, f"choose('{choice.id}')", choice.text)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = self._title
            yield Static(self._text, markup=False)
            yield OptionList(
                *(Option(f"{choice.letter}  {choice.text}", choice.id) for choice in self._choices), compact=True
            )
            yield Static("↑ ↓ enter, or the letter; escape changes nothing", classes="hint", markup=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option.id or "")

    def action_choose(self, id: str) -> None:
        self.dismiss(id or self._choices[-1].id)


def quit_question(word: str) -> Question:
    """What to do with a run that is under way when its console is to be closed."""
    return Question(
        "Quit",
        f"The run is {word}. What shall become of it?",
        [Choice("stop", "s", "Stop and save, then quit"), Choice("cancel", "c", "Cancel: stay here")],
    )
