"""Questions that stand in front of everything: a title, a few words, and what can be chosen."""

from dataclasses import dataclass

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

LONELY = "if a console paused it, it saves and ends without one"


@dataclass(frozen=True)
class Choice:
    """An answer: its name for the program, its letter, and its words."""

    id: str
    letter: str
    text: str


class Question(ModalScreen[str]):
    """Ends with the `id` of what was chosen; escape chooses "cancel", which changes nothing."""

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
        self.dismiss(id or "cancel")


def quit_question(word: str, *, paused: bool) -> Question:
    """What to do with a run that is under way when its console is to be closed; `paused`: it may end without one."""
    leave = f"Leave it; {LONELY}" if paused else "Leave it running; fllm-tui attach shows it again"
    return Question(
        "Quit",
        f"The run is {word}. What shall become of it?",
        [
            Choice("leave", "l", leave),
            Choice("stop", "s", "Stop and save, then quit"),
            Choice("cancel", "c", "Cancel: stay here"),
        ],
    )


def leave_question(folder: str) -> Question:
    """Whether to leave a paused run for another one."""
    choices = [Choice("cancel", "c", "Cancel: stay here"), Choice("leave", "l", "Leave it, and open the other")]
    return Question("Leave", f"{folder} is paused; {LONELY}.", choices)


def folder_question(folder: str, live: bool) -> Question:
    """What to do when the folder that was named for a new run holds one."""
    words = "holds a run that another process is writing" if live else "holds a run already"
    there = Choice("open", "a", "Attach: watch and steer it") if live else Choice("resume", "g", "Go on with that run")
    new = Choice("new", "n", "Start a new run in a folder beside it")
    return Question("The folder is taken", f"{folder} {words}.", [there, new, Choice("cancel", "c", "Cancel")])


def delete_question(folder: str) -> Question:
    return Question(
        "Delete",
        f"Delete {folder} with all of its checkpoints? This cannot be undone.",
        [Choice("cancel", "c", "Cancel: keep it"), Choice("delete", "d", "Delete it for good")],
    )
