"""The sample pane: a prompt, the sampling options, and the text that the model writes."""

from dataclasses import dataclass
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from fundamentallm.config.format import format_value
from fundamentallm.config.sampling import SAMPLING
from fundamentallm.errors import UserError
from fundamentallm.run.commands import Sample
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.fields import Cell, Fields, Row
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.theme import FAINT

READY = "Write a prompt above; enter lets the model continue it."
NO_RUN = "No model yet. F5 starts a run; then write a prompt above, and enter lets the model continue it."
NOT_READY = "The model is not ready yet; it can be sampled as soon as training begins."
ENDED = "The process of this run has ended, and its model with it. F5 resumes the run."
REPLAYED = "This is a replay: there is no model to sample."

# The options that have a field here, with the labels that a line has room for.
LABELS = {"max_tokens": "tokens", "temperature": "T", "top_k": "top-k", "top_p": "top-p", "seed": "seed"}


class Prompt(Input):
    """One line for the model to continue; up and down recall earlier prompts."""

    BINDINGS = [
        Binding("up", "recall(-1)", "Earlier prompt", show=False),
        Binding("down", "recall(1)", "Later prompt", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="prompt", compact=True, id="prompt")
        self._history: list[str] = []
        self._place = 0

    def remember(self, prompt: str) -> None:
        """Add a prompt to those that can be recalled."""
        if prompt and self._history[-1:] != [prompt]:
            self._history.append(prompt)
        self._place = len(self._history)

    def action_recall(self, by: int) -> None:
        place = self._place + by
        if 0 <= place <= len(self._history):
            self._place = place
            self.value = self._history[place] if place < len(self._history) else ""
            self.cursor_position = len(self.value)


class SamplePane(Vertical):
    """Posts `Asked` when the user wants a sample; shows the store's sample."""

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
        self.options = Fields([Row(cells, len(cells))], id="options", submits=True)
        self.output = Static(NO_RUN, id="written")
        self._has_model = False
        self._problem = ""

    def compose(self) -> ComposeResult:
        yield self.prompt
        yield self.options
        with VerticalScroll(id="output", can_focus=True):
            yield self.output

    @on(Input.Submitted)
    @on(Fields.Submitted)
    def ask(self, event: Message) -> None:
        """Ask for a sample after enter in the prompt or in an option."""
        event.stop()
        options = self._read_options()
        if options is None:
            self.show()
            return
        self.prompt.remember(self.prompt.value)
        self.post_message(self.Asked(Sample(prompt=self.prompt.value, **options)))

    @on(Fields.Edited)
    def check(self, event: Fields.Edited) -> None:
        """Show what is wrong with an option while it is typed."""
        event.stop()
        self._read_options()
        self.show()

    def _read_options(self) -> dict[str, Any] | None:
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
        if self.store.replayed:
            return REPLAYED
        if self.store.under_way:
            return NOT_READY
        return ENDED if self.store.attached else NO_RUN

    def refuse(self) -> None:
        """Show why the sample that was asked for is not possible."""
        reason = self.why_no_model()
        self._problem = "There is no model to sample. F5 starts a run." if reason == NO_RUN else reason
        self.show()

    def show(self, has_model: bool | None = None) -> None:
        """Show the store's sample, or a hint; `has_model`: whether there is a model to sample, None: as before."""
        if has_model is not None:
            self._has_model = has_model
        sample = self.store.sample
        if self._problem:
            self.output.update(Content.styled(clean(self._problem), "$text-warning"))
        elif not sample.id:
            self.output.update(Content.styled(READY if self._has_model else self.why_no_model(), FAINT))
        else:
            self._show_text()
        state = "" if not sample.id else "  writing" if not sample.done else f"  at step {sample.step}"
        self.border_title = Content.assemble("Sample", (state, FAINT))

    def _show_text(self) -> None:
        sample = self.store.sample
        pieces = [(clean(sample.prompt, newlines=True), "bold $text-accent"), (clean(sample.text, newlines=True), "")]
        if sample.problem:
            pieces.append((f"\n{clean(sample.problem)}", "$text-warning"))
        elif not sample.done:
            pieces.append(("▌", FAINT))
        self.output.update(Content.assemble(*pieces))
        if not sample.done:
            self.query_one("#output").scroll_end(animate=False)
