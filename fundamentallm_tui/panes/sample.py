"""The sample pane: a prompt, the sampling options, and the texts that the model writes."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static, TextArea

from fundamentallm.config.format import format_value
from fundamentallm.config.sampling import MAX_SAMPLE_TOKENS, SAMPLING
from fundamentallm.data.encoding import normalize
from fundamentallm.errors import UserError
from fundamentallm.run.commands import Sample
from fundamentallm_tui import keys
from fundamentallm_tui.format import clean
from fundamentallm_tui.panes.cells import Cell, Group
from fundamentallm_tui.panes.fields import Fields
from fundamentallm_tui.panes.rows import side_by_side
from fundamentallm_tui.state.sampler import Sampler
from fundamentallm_tui.state.store import SampleText, Store
from fundamentallm_tui.theme import FAINT

READY = "Write a prompt above; enter lets {} continue it."
NO_RUN = "No model yet. {start} starts a run; then write a prompt above, and enter lets the model continue it."
NOT_READY = "The model is not ready yet; it can be sampled as soon as training begins."
NO_FILE = "This run has left no checkpoint to sample from."

# Labels that a line has room for, where the name is longer.
LABELS = {"max_tokens": "tokens", "temperature": "T", "repetition_penalty": "rep", "num_samples": "n"}
MAX_SAMPLES = 8  # that can be told apart beside one another
MOST = {"max_tokens": MAX_SAMPLE_TOKENS, "num_samples": MAX_SAMPLES}
OPTIONS = {name: replace(row, at_most=MOST.get(name, row.at_most)) for name, row in SAMPLING.items()}
CHECKPOINT = "checkpoint"  # the cell that chooses one
FRAME = 2  # columns, inside its padding, that what stands in the frame of the pane cannot have
NARROWEST, GAP = 30, 2  # columns of a text beside another, and between them


class Prompt(TextArea):
    """Lines for the model to continue. Enter submits; up from the first line and down from the last recall others."""

    commands = keys.PROMPT
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


class Written(VerticalScroll, can_focus=True):
    """The texts. While it has the focus, keys continue them, ask for others, and make one the prompt."""

    commands = (*keys.WRITTEN, *keys.SAMPLE)
    BINDINGS = keys.bindings(keys.WRITTEN)

    def __init__(self, store: Store, text: Static, act: Callable[[str], None]) -> None:
        """`act` is called with "continue", "again" or "edit", or with "" after another text was chosen."""
        super().__init__(text, id="output")
        self._store, self.action_act = store, act

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return None for what cannot be done: there is no text, or no other one."""
        sample = self._store.sample
        return {"act": bool(sample.id), "choose": len(sample.texts) > 1}.get(action, True) or None

    def action_choose(self, by: int) -> None:
        sample = self._store.sample
        sample.chosen = (sample.chosen + by) % len(sample.texts)
        self.action_act("")


class SamplePane(Vertical):
    """Shows the store's sample, and asks for others."""

    commands = keys.SAMPLE
    BINDINGS = [Binding("escape", "to_text", "Go to the text", id="leave", show=False)]

    def __init__(self, store: Store, sampler: Sampler, changed: Callable[[], object], *, id: str) -> None:
        """`changed` is called when samples were asked for, or who is to write them is another."""
        super().__init__(id=id, classes="pane")
        self.store, self._sampler, self._changed = store, sampler, changed
        self.border_title = "Sample"
        self.prompt = Prompt()
        cells = []
        for name, row in SAMPLING.items():
            value = "" if row.default is None else format_value(row.default)
            cells.append(Cell(name, LABELS.get(name, name.replace("_", "-")), value, empty="–"))
        groups = [Group(cells, len(cells)), Group([Cell(CHECKPOINT, CHECKPOINT, "", ("",))])]
        self.options = Fields(groups, id="options", submits=True)
        self.options.show_only(SAMPLING)
        self._choices: dict[str, Path | None] = {}  # of the checkpoint
        self.output = Static(keys.spell(NO_RUN), id="written")
        self.written = Written(store, self.output, self._act)
        self._offered: tuple[set[str], tuple[str, ...], str] | None = None
        self._problem = ""
        self._acts = False  # whether there is a text that the keys act on
        self._scrolled: object = None  # for which of the texts, where it begins, and whether all were written

    def compose(self) -> ComposeResult:
        yield self.prompt
        yield self.options
        yield self.written

    @on(Prompt.Submitted)
    @on(Fields.Submitted)
    def ask(self, event: Message) -> None:
        """Ask for samples after enter in the prompt or in an option."""
        event.stop()
        prompt = normalize(self.prompt.text)
        if self._ask(prompt):
            self.prompt.remember(prompt)

    def _ask(self, prompt: str, **changes: Any) -> bool:
        """Ask for samples with the options as typed, but for `changes`; returns whether the options are possible."""
        options = self.read_options()
        if options is not None and not self._sampler.sample(Sample(prompt=prompt, **{**options, **changes})):
            self._problem = self.why_no_model()
        self._changed()
        return options is not None

    @on(Fields.Edited)
    def check(self, event: Fields.Edited) -> None:
        """Show what is wrong with an option while it is typed; tell who is to write, where another was chosen."""
        event.stop()
        if event.name == CHECKPOINT:
            self._sampler.chosen = self._choices.get(self.options.cells[CHECKPOINT].value)
        self.read_options()
        self._changed()

    def read_options(self) -> dict[str, Any] | None:
        """Return the options as typed, or None and note the problem."""
        values: dict[str, Any] = {}
        self._problem = ""
        try:
            for name, row in OPTIONS.items():
                values[name] = row.parse(self.options.cells[name].value)
        except UserError as error:
            self._problem = f"{self.options.cells[name].label}: {error}"
            return None
        return values

    # What is done with a text

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Escape goes to the text from the prompt and its options; without a text, and from elsewhere, it leaves."""
        at_top = self.prompt.has_focus or self.options.has_focus_within
        return action != "to_text" or (at_top and bool(self.store.sample.id))

    def action_to_text(self) -> None:
        self.screen.set_focus(self.written)

    def _act(self, what: str) -> None:
        sample = self.store.sample
        whole = sample.prompt + sample.text
        match what:
            case "continue":
                self._ask(whole, num_samples=1)
            case "again":
                options = self.read_options()
                if options is not None and options["seed"] is not None:  # without one, each time is another
                    self.options.show_values({"seed": str((options["seed"] + 1) % 2**31)})
                self._ask(sample.prompt)
            case "edit":
                self.prompt.text = whole
                self.prompt.move_cursor(self.prompt.document.end)
                self.screen.set_focus(self.prompt)
            case _:
                self.show()

    @on(Fields.Entered)
    def _entered(self, event: Fields.Entered) -> None:
        event.stop()
        self.explain()

    def explain(self) -> None:
        """Show below the frame what the option in focus does, and at the prompt how to see options that are cut."""
        self.call_after_refresh(self._explain)

    on_descendant_focus = on_descendant_blur = explain

    def _explain(self) -> None:
        help, name = "", self.options.current.name
        if self.options.entered:
            help = SAMPLING[name].help if name in SAMPLING else "Which state of the model writes; ← → choose."
        elif self.prompt.has_focus and not self.screen.has_class("-single") and self.options.virtual_size.height > 1:
            help = "tab shows all options"
        whole = len(help) <= self.size.width - FRAME
        self.border_subtitle = help if whole else re.split(r"; | \(", help)[0] + "."

    def why_no_model(self) -> str:
        """Return why there is no model to sample."""
        if self.store.under_way and not self.store.replayed:
            return NOT_READY
        return NO_FILE if self.store.folder is not None else keys.spell(NO_RUN)

    def _offer(self) -> None:
        """Let the user choose who writes, while the run does not train."""
        file = self._sampler.file  # that does now
        self._choices = {clean(text): choice for text, choice in self._sampler.choices.items()}
        resting = bool(self._choices) and (self.store.paused or not self.store.under_way)
        shown = {*SAMPLING, CHECKPOINT} if resting or file is not None else {*SAMPLING}
        now = next((text for text, choice in self._choices.items() if choice == file), file.name if file else "")
        cell, before = self.options.cells[CHECKPOINT], self._offered
        self._offered = shown, tuple(self._choices) or ("",), now
        if self._offered != before:
            cell.choices, cell.value = self._offered[1:]
            self.options.show_only(shown)

    def on_resize(self) -> None:
        self.call_after_refresh(self.show)
        self.explain()  # more or fewer options are cut now

    def show(self) -> None:
        """Show the store's sample, or how to ask for one."""
        self._offer()
        sample = self.store.sample
        problem = Content.styled(clean(self._problem or sample.problem), "$text-warning")
        if problem and not any(sample.texts):
            self.output.update(problem)
        elif not sample.id:
            model = self._sampler.model
            self.output.update(Content.styled(READY.format(model) if model else self.why_no_model(), FAINT))
        else:
            end = ("" if sample.done else "▌", FAINT)
            if sample.problem:
                end = (f"\n{clean(sample.problem)}", "$text-warning")
            drawn, line = _draw(sample, end, self.written.scrollable_content_region.width)
            self.output.update(Content("\n\n").join([problem, drawn]) if self._problem else drawn)
            now = sample.id, sample.chosen, line, sample.done
            if self._problem:  # it stands above the text
                self.written.scroll_home(animate=False)
            elif len(sample.texts) > 1 and now != self._scrolled:
                self.written.scroll_to(y=line, animate=False)
            elif not sample.done or now != self._scrolled:  # the last piece, or why there is none, is at the end
                self.written.scroll_end(animate=False)
            self._scrolled = now if not self._problem else None
        if bool(sample.id) != self._acts:
            self._acts = bool(sample.id)
            self.refresh_bindings()
        self.border_title = Content.assemble("Sample", (_state(sample), FAINT))


def _draw(sample: SampleText, end: tuple[str, str], width: int) -> tuple[Content, int]:
    """Draw the samples: several side by side where there is room for two columns, else below one another.

    Returns also the line in which the chosen one begins.
    """
    count = len(sample.texts)
    prompt = clean(sample.prompt, newlines=True), "bold $text-accent"
    if count == 1:
        return Content.assemble(prompt, clean(sample.text, newlines=True), end), 0
    rows = -(-count // max(1, (width + GAP) // (NARROWEST + GAP)))
    in_row = -(-count // rows)
    column = max(1, (width + GAP) // in_row - GAP)
    blocks, lines, line = [], list[Content](), 0
    for number, text in enumerate(sample.texts):
        mark, style = ("▸", "bold $text-accent") if number == sample.chosen else (" ", FAINT)
        ends = number == sample.chosen if sample.problem else number not in sample.finished
        whole = Content.assemble(prompt, clean(text, newlines=True), end if ends else "")
        head = Content.styled(f"{mark} {number + 1} of {count}", style)
        blocks.append([head, *whole.wrap(column)])
    for first in range(0, count, in_row):
        line = len(lines) if first <= sample.chosen else line
        lines += [*side_by_side(blocks[first : first + in_row], column, GAP), Content("")]
    return Content("\n").join(lines[:-1]), line


def _state(sample: SampleText) -> str:
    """Return what the title says of a sample: the file and the step of the model that writes it."""
    if not sample.id:
        return ""
    file = f"  {sample.file}" if sample.file else ""
    if sample.done and file and not any(sample.texts):
        return file  # it was refused, and has not said of which step it is
    if sample.done:
        return f"{file}{',' if file else ' '} at step {sample.step}"
    if file:
        return f"{file}, at step {sample.step}, writing" if sample.texts[0] else f"{file}, loading"
    return "  writing"
