"""Dialogs in front of a screen: questions with answers to choose from, a line to type, and text to read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen, ScreenResultType
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static

from fundamentallm.config.format import format_size
from fundamentallm.data.download import KnownText, download
from fundamentallm.errors import UserError
from fundamentallm_tui.background import in_thread
from fundamentallm_tui.format import clean

Act = Callable[[], object]

BAR_WIDTH = 40


@dataclass(frozen=True)
class Answer:
    """An answer: its letter, its text, and what is done after the dialog has closed."""

    letter: str
    text: str
    act: Act = lambda: None


CANCEL, CLOSE = Answer("c", "Cancel"), Answer("c", "Close")


class Dialog(ModalScreen[ScreenResultType]):
    """A box with a title of any text, widgets, and a hint what the keys do; escape ends it without a result."""

    BINDINGS = [Binding("escape", "dismiss", "Cancel")]
    topic: str | None = None  # of the help; empty: its keys alone; None: the help explains what lies below

    def __init__(self, title: str, *widgets: Widget, hint: str) -> None:
        super().__init__()
        self.name_and_keys = title, hint
        self.box = Vertical(*widgets, classes="dialog")
        self.box.border_title = Content(title)
        self.hint = Static(hint, classes="hint", markup=False)

    def compose(self) -> ComposeResult:
        with self.box:
            yield self.hint

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        """Close it, once: after a second click, Textual would close what lies below."""
        return super().dismiss(result) if self.is_current else AwaitComplete()

    def refuse(self, error: Exception) -> None:
        self.hint.update(Content.styled(clean(str(error)), "$text-error"))


class Question(Dialog[None]):
    """Does what belongs to the user's answer; escape does nothing."""

    topic = ""

    def __init__(self, title: str, text: str, *answers: Answer) -> None:
        options = [f"{answer.letter}  {answer.text}" for answer in answers]
        hint = "↑ ↓ enter, or the letter; escape cancels" if answers[1:] else "enter or escape closes"
        super().__init__(title, Static(text, markup=False), OptionList(*options, compact=True), hint=hint)
        self._answers = answers
        for n, answer in enumerate(answers):
            self._bindings.bind(answer.letter, f"choose({n})", answer.text)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_choose(event.option_index)

    def action_choose(self, n: int) -> None:
        if self.is_current:  # not closed by a click before this one
            self.dismiss()
            self.app.call_later(self._answers[n].act)


class Fetch(Question):
    """Offers a known text that is missing, downloads it, and calls `then` when it is there."""

    def __init__(self, text: KnownText, then: Act) -> None:
        size = f", {format_size(text.size)}" if text.size else ""
        about = f"{text.description}{size}. It will be in {text.folder}."
        super().__init__("The text is not here yet", about, Answer("f", "Download it", then), CANCEL)
        self._file, self._downloading, self._fetched = text, False, False

    def action_choose(self, n: int) -> None:
        if n or self._fetched:
            super().action_choose(n)
        elif not self._downloading:
            self._downloading = True
            work = partial(download, self._file, progress=self._progress, cancelled=lambda: not self.is_attached)
            in_thread(self, work, self._downloaded, self._not_downloaded)

    def _progress(self, done: int, total: int) -> None:
        """Show a bar in place of the hint; called by the thread."""
        share = done / total if total else 0.0
        filled = int(BAR_WIDTH * share)
        self.call_later(self.hint.update, f"{'█' * filled}{'░' * (BAR_WIDTH - filled)} {share:4.0%}")

    def _not_downloaded(self, error: Exception) -> None:
        self._downloading = False
        self.refuse(error)

    def _downloaded(self, _files: object) -> None:
        self._fetched = True
        if self.is_active:
            self.action_choose(0)

    def on_screen_resume(self) -> None:
        """What was above this dialog is closed; before, `dismiss` would have closed that."""
        if self._fetched:
            self.action_choose(0)


class Entry(Dialog[str]):
    """Asks for a line of text; ends with it, or with None after escape."""

    def __init__(
        self,
        title: str,
        value: str = "",
        hint: str = "",
        take: Callable[[str], Any] = str,
        then: Callable[[Any], object] = lambda taken: None,
    ) -> None:
        """`take` uses the text, or raises a UserError, which is shown; `then` gets what that returned, in the end."""
        self._input = Input(clean(value), compact=True)
        super().__init__(title, self._input, hint=hint)
        self.box.border_subtitle = "enter takes it, escape cancels"
        self._take, self._then = take, then

    def on_input_submitted(self, event: Input.Submitted) -> None:
        try:
            taken = self._take(event.value)
        except UserError as error:
            self.refuse(error)
        else:
            self.dismiss(event.value)
            self.app.call_later(self._then, taken)

    def offer(self, value: str, hint: str) -> None:
        """Show a value that was not known at first, unless the user has typed one."""
        if not self._input.value:
            self._input.value = value
            self._input.action_select_all()  # as where the value is known at first: typing replaces it
        self.hint.update(hint)


class TextDialog(ModalScreen[None]):
    """Shows text that can be scrolled; escape and a few other keys close it."""

    BINDINGS = [Binding("escape,enter,q,c,question_mark", "dismiss", "Close")]

    def __init__(self, title: str, make: Callable[[], Content], *, classes: str | None = None) -> None:
        """`make` returns the text for the terminal's size."""
        super().__init__(classes=classes)
        self.title, self._make, self._text = title, make, Static()

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog") as box:
            box.border_title, box.border_subtitle = self.title, "escape closes"
            yield self._text

    def on_resize(self) -> None:
        self._text.update(self._make())
