"""The sample box: a prompt, how to sample, and the text that the model writes."""

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
from fundamentallm.config.settings import Setting
from fundamentallm.errors import UserError
from fundamentallm.run.commands import Sample
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.fields import Cell, Fields, Row
from fundamentallm_tui.state.store import Store

NO_MODEL = "No model yet. F5 starts a run; then write a prompt above, and enter lets the model go on from it."
GONE = "The process of this run is gone, and its model with it. Going on brings it back."
PLAYED = "This is a replay: there is no model to ask."
WAITING = "The model is being made; it can be asked as soon as training begins."
READY = "Write a prompt above; enter lets the model go on from it."

KNOBS = {
    row.name: row
    for row in (
        Setting(
            "max_tokens", int, False, 200, "How many characters the model writes.", "", at_least=1, at_most=100_000
        ),
        Setting(
            "temperature", float, False, 0.8, "How freely it chooses; 0: always the likeliest.", "",
            at_least=0, at_most=100,
        ),
        Setting(
            "top_k", int, False, 0, "Choose among the k likeliest only; 0: among all.", "",
            at_least=0, at_most=1_000_000,
        ),
        Setting(
            "top_p", float, False, 1.0, "Choose among the likeliest that add up to p; 1: among all.", "",
            above=0, at_most=1,
        ),
        Setting(
            "seed", int, True, None, "The same seed, the same text; empty: another each time.", "",
            at_least=0, at_most=2**31 - 1,
        ),
    )
}  # fmt: skip
LABELS = {"max_tokens": "tokens", "temperature": "T", "top_k": "top-k", "top_p": "top-p", "seed": "seed"}


class Prompt(Input):
    """One line to go on from; up and down recall what was asked before."""

    BINDINGS = [
        Binding("up", "recall(-1)", "Earlier prompt", show=False),
        Binding("down", "recall(1)", "Later prompt", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="prompt", compact=True, id="prompt")
        self._history: list[str] = []
        self._place = 0

    def remember(self, prompt: str) -> None:
        if self._history[-1:] != [prompt]:
            self._history.append(prompt)
        self._place = len(self._history)

    def action_recall(self, by: int) -> None:
        place = self._place + by
        if 0 <= place <= len(self._history):
            self._place = place
            self.value = self._history[place] if place < len(self._history) else ""
            self.cursor_position = len(self.value)


class SamplePane(Vertical):
    """Asks for samples with `Asked`; shows what the store has of them."""

    @dataclass
    class Asked(Message):
        command: Sample

    def __init__(self, store: Store, *, id: str) -> None:
        super().__init__(id=id, classes="pane")
        self.store = store
        self.border_title = "Sample"
        self.prompt = Prompt()
        cells = [Cell(name, LABELS[name], format_value(row.default), (), "–") for name, row in KNOBS.items()]
        cells[-1].value = ""
        self.knobs = Fields([Row(cells, len(cells))], id="knobs", submits=True)
        self.output = Static(NO_MODEL, id="written")
        self._notice = ""

    def compose(self) -> ComposeResult:
        yield self.prompt
        yield self.knobs
        with VerticalScroll(id="output", can_focus=True):
            yield self.output

    @on(Input.Submitted)
    @on(Fields.Submitted)
    def ask(self, event: Message) -> None:
        """Enter in the prompt, and in the settings too."""
        event.stop()
        try:
            self._notice = ""
            command = Sample(prompt=self.prompt.value, **self._knobs())
        except UserError as error:
            self._notice = str(error)
            self.show()
            return
        if command.prompt:
            self.prompt.remember(command.prompt)
        self.post_message(self.Asked(command))

    @on(Fields.Edited)
    def check(self, event: Fields.Edited) -> None:
        """Say what is wrong with a setting as it is typed."""
        event.stop()
        try:
            self._notice = ""
            self._knobs()
        except UserError as error:
            self._notice = str(error)
        self.show()

    @on(Fields.Entered)
    def explain(self, event: Fields.Entered) -> None:
        """Below the frame: what the setting in focus does."""
        event.stop()
        self.border_subtitle = KNOBS[event.name].help if event.name else ""

    def why_not(self) -> str:
        """Why there is no model to ask."""
        if self.store.replayed:
            return PLAYED
        if self.store.under_way:
            return WAITING
        return GONE if self.store.attached else NO_MODEL

    def refuse(self) -> None:
        """The model cannot be asked."""
        why = self.why_not()
        self._notice = "There is no model to ask. F5 starts a run." if why == NO_MODEL else why
        self.show()

    def show(self, model: bool | None = None) -> None:
        """Show the store's sample. `model`: whether there is one to ask; None: as before."""
        self._model = model if model is not None else getattr(self, "_model", False)
        sample = self.store.sample
        if self._notice:
            self.output.update(Content.styled(clean(self._notice), "$text-warning"))
        elif not sample.id:
            text = READY if self._model else self.why_not()
            self.output.update(Content.styled(text, "$foreground 60%"))
        else:
            prompt, text = clean(sample.prompt, newlines=True), clean(sample.text, newlines=True)
            pieces = [(prompt, "bold $text-accent"), (text, "")]
            if sample.problem:
                pieces.append((f"\n{clean(sample.problem)}", "$text-warning"))
            elif not sample.done:
                pieces.append(("▌", "$foreground 60%"))
            self.output.update(Content.assemble(*pieces))
            if not sample.done:
                self.query_one("#output").scroll_end(animate=False)
        state = "" if not sample.id else "  writing" if not sample.done else f"  at step {sample.step}"
        self.border_title = Content.assemble("Sample", (state, "$foreground 60%"))

    def _knobs(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, row in KNOBS.items():
            try:
                values[name] = row.parse(self.knobs.cells[name].value)
            except UserError as error:
                raise UserError(f"{name}: {error}") from None
        return values
