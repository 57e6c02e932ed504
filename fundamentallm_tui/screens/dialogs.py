"""Dialogs in front of a screen: questions with answers to choose from, a line to type, and text to read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, ScreenResultType
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from fundamentallm.config.format import format_size
from fundamentallm.data.download import KnownText, download
from fundamentallm.run.health import RESUME_BEST, Verdict
from fundamentallm_tui import keys
from fundamentallm_tui.background import in_thread
from fundamentallm_tui.format import clean

BAR_WIDTH = 40


@dataclass(frozen=True)
class Answer:
    """An answer: its name for the program, its letter, and its text."""

    id: str
    letter: str
    text: str


CANCEL = Answer("cancel", "c", "Cancel")
IF_PAUSED = "if it was paused from a console, it saves and exits"


class Dialog(ModalScreen[ScreenResultType]):
    """A box with a title of any text, widgets, and a hint what the keys do; escape ends it without a result."""

    BINDINGS = [Binding("escape", "dismiss", "Cancel")]

    def __init__(self, title: str, *widgets: Widget, hint: str) -> None:
        super().__init__()
        self.box = Vertical(*widgets, classes="dialog")
        self.box.border_title = Content(title)
        self.hint = Static(hint, classes="hint", markup=False)

    def compose(self) -> ComposeResult:
        with self.box:
            yield self.hint


class Question(Dialog[str]):
    """Ends with the `id` of the user's answer; escape answers "cancel", which changes nothing."""

    BINDINGS = [Binding("escape", "choose('cancel')", "Cancel")]

    def __init__(self, title: str, text: str, *answers: Answer) -> None:
        options = [Option(f"{answer.letter}  {answer.text}", answer.id) for answer in answers]
        hint = "↑ ↓ enter, or the letter; escape cancels"
        super().__init__(title, Static(text, markup=False), OptionList(*options, compact=True), hint=hint)
        for answer in answers:
            self._bindings.bind(answer.letter, f"choose('{answer.id}')", answer.text)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_choose(event.option.id or CANCEL.id)

    def action_choose(self, id: str) -> None:
        self.dismiss(id)


class Fetch(Question):
    """Offers a known text that is missing, and downloads it; answers "fetch" when it is there."""

    def __init__(self, text: KnownText) -> None:
        size = f", {format_size(text.size)}" if text.size else ""
        about = f"{text.description}{size}. It will be in {text.folder}."
        super().__init__("The text is not here yet", about, Answer("fetch", "f", "Download it"), CANCEL)
        self._file, self._downloading, self._cancelled, self._fetched = text, False, False, False

    def action_choose(self, id: str) -> None:
        if id != "fetch":
            self._cancelled = True
            self.dismiss(id)
        elif not self._downloading:
            self._downloading = True
            work = partial(download, self._file, progress=self._progress, cancelled=lambda: self._cancelled)
            in_thread(self, work, self._downloaded, self._not_downloaded)

    def _progress(self, done: int, total: int) -> None:
        """Show a bar in place of the hint; called by the thread."""
        share = done / total if total else 0.0
        filled = int(BAR_WIDTH * share)
        self.call_later(self.hint.update, f"{'█' * filled}{'░' * (BAR_WIDTH - filled)} {share:4.0%}")

    def _not_downloaded(self, error: Exception) -> None:
        self._downloading = False
        self.hint.update(clean(str(error)))

    def _downloaded(self, _files: object) -> None:
        self._fetched = True
        if self.is_active:
            self.dismiss("fetch")

    def on_screen_resume(self) -> None:
        """What was above this dialog is closed; before, `dismiss` would have closed that."""
        if self._fetched:
            self.dismiss("fetch")


class Entry(Dialog[str]):
    """Asks for a line of text; ends with it, or with None after escape."""

    def __init__(
        self, title: str, value: str = "", hint: str = "", take: Callable[[str], str] = lambda text: ""
    ) -> None:
        """`take` uses the text and returns why it cannot, which is shown while the dialog stays open; empty: it did."""
        super().__init__(title, Input(clean(value), compact=True), hint=hint)
        self.box.border_subtitle = "enter takes it, escape cancels"
        self._take = take

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if problem := self._take(event.value):
            self.hint.update(Content.styled(clean(problem), "$text-error"))
        else:
            self.dismiss(event.value)


class TextDialog(ModalScreen[None]):
    """Shows text that can be scrolled; escape and a few other keys close it."""

    BINDINGS = [Binding("escape,enter,q,c,question_mark", "dismiss", "Close")]

    def __init__(self, title: str, text: Content, *, classes: str | None = None) -> None:
        super().__init__(classes=classes)
        self.title, self._text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title, box.border_subtitle = self.title, "escape closes"
            yield Static(self._text)


def quit_question(status: str, *, paused: bool, stopping: bool) -> Question:
    """Ask what to do with a run that is under way when the user quits."""
    if stopping:
        text, then = "Leave it; it saves and ends by itself", "Quit as soon as it is saved"
    else:
        text = f"Leave it; {IF_PAUSED}" if paused else "Leave it running; fllm-tui attach shows it again"
        then = "Stop and save it, then quit"
    stop = Answer("stop", "s", then)
    return Question("Quit", f"The run is {status}. What should happen to it?", Answer("leave", "l", text), stop, CANCEL)


def stop_question() -> Question:
    """Ask before the run is stopped."""
    stop = Answer("stop", "x", "Stop: finish the step, save, end the run")
    return Question("Stop", f"Stop the run? {keys.named('stop')} stops without asking.", stop, CANCEL)


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
