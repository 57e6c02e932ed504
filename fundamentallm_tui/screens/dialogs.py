"""Dialogs in front of a screen: questions with answers to choose from, and text to read."""

from collections.abc import Callable
from dataclasses import dataclass

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from fundamentallm.run.health import RESUME_BEST, Verdict
from fundamentallm_tui.format import clean


@dataclass(frozen=True)
class Answer:
    """An answer: its name for the program, its letter, and its text."""

    id: str
    letter: str
    text: str


CANCEL = Answer("cancel", "c", "Cancel")
IF_PAUSED = "if it was paused from a console, it saves and exits"


class Question(ModalScreen[str]):
    """Ends with the `id` of the user's answer; escape answers "cancel", which changes nothing."""

    BINDINGS = [Binding("escape", "choose('cancel')", "Cancel")]

    def __init__(self, title: str, text: str, *answers: Answer) -> None:
        super().__init__()
        self._title, self._text, self._answers = title, text, answers
        for answer in answers:
            self._bindings.bind(answer.letter, f"choose('{answer.id}')", answer.text)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title = self._title
            yield Static(self._text, markup=False)
            options = [Option(f"{answer.letter}  {answer.text}", answer.id) for answer in self._answers]
            yield OptionList(*options, compact=True)
            yield Static("↑ ↓ enter, or the letter; escape cancels", classes="hint", markup=False)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_choose(event.option.id or CANCEL.id)

    def action_choose(self, id: str) -> None:
        self.dismiss(id)


class Entry(ModalScreen[str]):
    """Asks for a line of text, under a title of any text; ends with it, or with None after escape."""

    BINDINGS = [Binding("escape", "dismiss", "Cancel")]

    def __init__(
        self, title: str, value: str = "", hint: str = "", take: Callable[[str], str] = lambda text: ""
    ) -> None:
        """`take` uses the text and returns why it cannot, which is shown while the dialog stays open; empty: it did."""
        super().__init__()
        self._title, self._value, self._hint, self._take = Content(title), value, hint, take

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog") as box:
            box.border_title, box.border_subtitle = self._title, "enter takes it, escape cancels"
            yield Input(clean(self._value), compact=True)
            yield Static(self._hint, classes="hint", markup=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if problem := self._take(event.value):
            self.query_one(Static).update(Content.styled(clean(problem), "$text-error"))
        else:
            self.dismiss(event.value)


class TextDialog(ModalScreen[None]):
    """Shows text that can be scrolled; escape and a few other keys close it."""

    BINDINGS = [
        Binding("escape,enter,q,c,question_mark", "dismiss", "Close"),
        Binding("up", "scroll(-1)", show=False),
        Binding("down", "scroll(1)", show=False),
        Binding("pageup", "scroll(-10)", show=False),
        Binding("pagedown", "scroll(10)", show=False),
    ]

    def __init__(self, title: str, text: Content, *, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self.title, self._text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog", can_focus=False) as box:
            box.border_title = self.title
            box.border_subtitle = "escape closes"
            yield Static(self._text)

    def action_scroll(self, by: int) -> None:
        self.query_one(VerticalScroll).scroll_relative(y=by, animate=False)


def quit_question(status: str, *, paused: bool) -> Question:
    """Ask what to do with a run that is under way when the user quits."""
    text = f"Leave it; {IF_PAUSED}" if paused else "Leave it running; fllm-tui attach shows it again"
    stop = Answer("stop", "s", "Stop and save it, then quit")
    return Question("Quit", f"The run is {status}. What should happen to it?", Answer("leave", "l", text), stop, CANCEL)


def stop_question() -> Question:
    """Ask before the run is stopped."""
    stop = Answer("stop", "x", "Stop: finish the step, save, end the run")
    return Question("Stop", "Stop the run? F8 stops without asking.", stop, CANCEL)


def health_question(verdict: Verdict) -> Question:
    """Show a verdict, and ask which of its actions to take; their answers are "1", "2" and so on."""
    answers = [Answer(str(n), str(n), action.label) for n, action in enumerate(verdict.actions, 1)]
    text = clean(f"{verdict.evidence}\n\n{verdict.explanation}", newlines=True)
    if any(action.command == RESUME_BEST for action in verdict.actions):
        text += "\n\nResuming from best.pt leaves behind what the run did after it."
    return Question(f"Health: {verdict.headline}", text, *answers, Answer(CANCEL.id, "c", "Close"))


def leave_question(folder: str) -> Question:
    """Ask whether to leave a paused run for another one."""
    leave = Answer("leave", "l", "Leave it, and open the other run")
    return Question("Leave", f"{folder} is paused; {IF_PAUSED}.", CANCEL, leave)


def folder_question(folder: str, live: bool) -> Question:
    """Ask what to do when the folder for a new run has a run in it; `live`: a process writes that."""
    text = "holds a run that another process trains" if live else "holds a run already"
    attach, resume = Answer("open", "a", "Attach: watch and control it"), Answer("resume", "g", "Resume that run")
    new = Answer("new", "n", "Start a new run in a folder beside it")
    return Question("The folder is taken", f"{folder} {text}.", attach if live else resume, new, CANCEL)


def delete_question(folder: str) -> Question:
    """Ask before a run is deleted."""
    text = f"Delete {folder} with all of its checkpoints? This cannot be undone."
    return Question("Delete", text, CANCEL, Answer("delete", "d", "Delete it"))


def yaml_question(problem: str) -> Question:
    """Ask what to do with an edited configuration that cannot be read, or has what belongs to no field."""
    edit = Answer("edit", "e", "Edit it again")
    return Question("The settings as YAML", problem, edit, Answer("cancel", "c", "Leave it; the form keeps the rest"))
