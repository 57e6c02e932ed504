"""The sample pane: a prompt, the sampling options, and the text that the model writes."""

from dataclasses import dataclass
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TextArea

from fundamentallm.config.format import format_value
from fundamentallm.config.sampling import SAMPLING
from fundamentallm.data.encoding import normalize
from fundamentallm.errors import UserError
from fundamentallm.run.commands import Sample
from fundamentallm_tui import keys
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.cells import Cell, Group
from fundamentallm_tui.panes.fields import Fields
from fundamentallm_tui.state.store import SampleText, Store
from fundamentallm_tui.theme import FAINT

READY = "Write a prompt above; enter lets {} continue it."
NO_RUN = "No model yet. {start} starts a run; then write a prompt above, and enter lets the model continue it."
NOT_READY = "The model is not ready yet; it can be sampled as soon as training begins."
NO_FILE = "This run has left no checkpoint to sample from."

# The options that have a field here, with the labels that a line has room for.
LABELS = {"max_tokens": "tokens", "temperature": "T", "top_k": "top-k", "top_p": "top-p", "seed": "seed"}


class Prompt(TextArea):
    """Lines for the model to continue. Enter submits; up from the first line and down from the last recall others."""

    BINDINGS = [
        Binding("enter", "submit", "Sample", show=False, priority=True),
        Binding("ctrl+j", "new_line", "Start a line", show=False),
        Binding("up", "recall(-1)", "Earlier prompt", show=False),
        Binding("down", "recall(1)", "Later prompt", show=False),
    ]

    class Submitted(Message):
        """The user pressed enter."""

    def __init__(self) -> None:
        super().__init__(placeholder="prompt", compact=True, id="prompt", highlight_cursor_line=False)
        self.cursor_blink = False  # or an idle console would draw twice a second
        self._history: list[str] = []
        self._place = 0

    def remember(self, prompt: str) -> None:
        """Add a prompt to those that can be recalled."""
        if prompt and self._history[-1:] != [prompt]:
            self._history.append(prompt)
        self._place = len(self._history)

    def action_submit(self) -> None:
        self.post_message(self.Submitted())

    def action_new_line(self) -> None:
        self.insert("\n")

    def action_recall(self, by: int) -> None:
        """Move to the line above (-1) or below (1); where there is none, show an earlier or later prompt."""
        at_edge = self.cursor_at_first_line if by < 0 else self.cursor_at_last_line
        place = self._place + by
        if not at_edge:
            self.action_cursor_up() if by < 0 else self.action_cursor_down()
        elif 0 <= place <= len(self._history):
            self._place = place
            self.text = self._history[place] if place < len(self._history) else ""
            self.move_cursor(self.document.end)


class SamplePane(Vertical):
    """Posts `Asked` when the user wants a sample; shows the store's sample."""

    commands = keys.SAMPLE

    @dataclass
    class Asked(Message):
        command: Sample

    def __init__(self, store: Store, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.store = store
        self.border_title = "Sample"
        self.prompt = Prompt()
        cells = []
        for name, label in LABELS.items():
            default = SAMPLING[name].default
            cells.append(Cell(name, label, "" if default is None else format_value(default), empty="–"))
        self.options = Fields([Group(cells, len(cells))], id="options", submits=True)
        self.output = Static(keys.spell(NO_RUN), id="written")
        self._ready = ""  # what the user can do; empty: there is no model to sample
        self._problem = ""

    def compose(self) -> ComposeResult:
        yield self.prompt
        yield self.options
        with VerticalScroll(id="output", can_focus=True):
            yield self.output

    @on(Prompt.Submitted)
    @on(Fields.Submitted)
    def ask(self, event: Message) -> None:
        """Ask for a sample after enter in the prompt or in an option."""
        event.stop()
        options = self.read_options()
        if options is None:
            self._show()
            return
        prompt = normalize(self.prompt.text)
        self.prompt.remember(prompt)
        self.post_message(self.Asked(Sample(prompt=prompt, **options)))

    @on(Fields.Edited)
    def check(self, event: Fields.Edited) -> None:
        """Show what is wrong with an option while it is typed."""
        event.stop()
        self.read_options()
        self._show()

    def read_options(self) -> dict[str, Any] | None:
        """Return the options as typed, or None and note the problem."""
        values: dict[str, Any] = {}
        self._problem = ""
        for name in LABELS:
            try:
                values[name] = SAMPLING[name].parse(self.options.cells[name].value)
            except UserError as error:
                self._problem = f"{name}: {error}"
                return None
        return values

    @on(Fields.Entered)
    def explain(self, event: Fields.Entered) -> None:
        """Show below the frame what the option in focus does."""
        event.stop()
        self.border_subtitle = SAMPLING[event.name].help if event.name else ""

    def why_no_model(self) -> str:
        """Return why there is no model to sample."""
        if self.store.under_way and not self.store.replayed:
            return NOT_READY
        return NO_FILE if self.store.folder is not None else keys.spell(NO_RUN)

    def refuse(self) -> None:
        """Show why the sample that was asked for is not possible."""
        self._problem = self.why_no_model()
        self._show()

    def show(self, model: str) -> None:
        """Show the store's sample, or how to ask `model` for one; empty: there is none."""
        self._ready = READY.format(model) if model else ""
        self._show()

    def _show(self) -> None:
        sample = self.store.sample
        if self._problem:
            self.output.update(Content.styled(clean(self._problem), "$text-warning"))
        elif not sample.id:
            self.output.update(Content.styled(self._ready or self.why_no_model(), FAINT))
        else:
            end = (
                (f"\n{clean(sample.problem)}", "$text-warning")
                if sample.problem
                else ("" if sample.done else "▌", FAINT)
            )
            prompt, text = clean(sample.prompt, newlines=True), clean(sample.text, newlines=True)
            self.output.update(Content.assemble((prompt, "bold $text-accent"), text, end))
            if not sample.done:
                self.query_one("#output").scroll_end(animate=False)
        self.border_title = Content.assemble("Sample", (_state(sample), FAINT))


def _state(sample: SampleText) -> str:
    """Return what the title says of a sample: the file and the step of the model that writes it."""
    if not sample.id:
        return ""
    file = f"  {sample.file}" if sample.file else ""
    if sample.done:
        return f"{file}{',' if file else ' '} at step {sample.step}"
    if file:
        return f"{file}, at step {sample.step}, writing" if sample.text else f"{file}, loading"
    return "  writing"
