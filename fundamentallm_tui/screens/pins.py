"""The pinned prompts of a run: what the model answered at each step, and which prompts there are."""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import SequenceMatcher
from functools import partial

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Region
from textual.widgets import Static

from fundamentallm.config.config import MAX_PINS, SETTINGS
from fundamentallm.config.format import format_count
from fundamentallm.data.encoding import normalize
from fundamentallm.errors import UserError
from fundamentallm.run.events import Pinned
from fundamentallm_tui import keys
from fundamentallm_tui.dialogs import Entry
from fundamentallm_tui.format import clean, fit
from fundamentallm_tui.panes.form import Form
from fundamentallm_tui.panes.rows import side_by_side
from fundamentallm_tui.panes.values import as_typed
from fundamentallm_tui.screens.base import Page
from fundamentallm_tui.state.launch import read_only_settings
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.theme import FAINT

REFRESH_INTERVAL = 0.5  # seconds between two looks for new answers
MAX_TEXT = 4000  # characters of an answer that are shown: the journal may be someone else's
GAP = 2  # columns between two answers
BESIDE, HERE = "◆", "●"  # the step that was set beside, and the one that the user goes on from
PROMPT, CHANGED = "bold $text-accent", "underline $text-primary"


class Texts(VerticalScroll, can_focus=True, inherit_bindings=False):
    """Scrolls by pages; the arrows are the screen's."""

    BINDINGS = [Binding("pageup", "page_up", show=False), Binding("pagedown", "page_down", show=False)]


class Pins(Page[None]):
    """Shows the answers of one step, the newest until the user goes to another, or of two beside one another."""

    BINDINGS = keys.bindings(keys.PINS)
    AUTO_FOCUS = "#pinned"
    table = keys.PINS

    def __init__(self, store: Store, form: Form, pin: Callable[[tuple[str, ...]], None]) -> None:
        """`pin` pins these prompts and no others; a UserError says why that is not possible."""
        super().__init__()
        self._store, self._form, self._pin = store, form, pin
        self._step: int | None = None  # whose answers are shown; None: the newest
        self._beside: int | None = None  # the step whose answers are shown, too
        self._cursor = 0  # the place of a prompt
        self._problem = ""
        self._shown: object = None
        self._steps: dict[int, dict[str, Pinned]] = {}  # by step and prompt
        self.scrubber, self.problem = Static(id="scrubber"), Static(id="problem")
        self.answers = Static(id="answers")
        self.body = Texts(self.answers, id="pinned")

    def compose_body(self) -> ComposeResult:
        yield self.explanation
        yield self.scrubber
        yield self.body
        yield self.problem

    def on_mount(self) -> None:
        self.set_interval(REFRESH_INTERVAL, self._look)

    def _look(self) -> None:
        """Show what has come since the last look."""
        if self._now != self._shown:
            self.show()

    # What there is

    @property
    def _now(self) -> object:
        """What is shown depends on this, and on the keys."""
        answers = self._store.history.pinned
        problem = self._form.problems.get("pin")
        return len(answers), answers[-1:], self._pins, self._pending, problem, self._editable

    @property
    def _pins(self) -> tuple[str, ...]:
        """The prompts that are pinned: in the run under way, else in the form."""
        if self._store.under_way and (config := self._store.expected) is not None:
            return config.pin
        with suppress(UserError):
            pins: tuple[str, ...] = SETTINGS["pin"].parse(as_typed("pin", self._form.fields.cells["pin"].value))
            return pins
        return ()

    @property
    def _pending(self) -> bool:
        """Whether the run has not yet made a change of them."""
        return any(command.setting == "pin" for command in self._store.unanswered.values())

    @property
    def _editable(self) -> bool:
        return "pin" not in read_only_settings(self._store)

    @property
    def _prompts(self) -> list[str]:
        """What is shown: the pinned prompts, and those that were answered at the steps that are shown."""
        there = [self._steps.get(step, {}) for step in (self._beside, self._at) if step is not None]
        return [*dict.fromkeys([*self._pins, *(prompt for answers in there for prompt in answers)])]

    @property
    def _at(self) -> int | None:
        """The step that is shown; None: nothing was answered."""
        return max(self._steps, default=None) if self._step is None else self._step

    # What is shown

    def show(self) -> None:
        self._shown, self._steps = self._now, {}
        for answer in self._store.history.pinned:
            self._steps.setdefault(answer.step, {})[answer.prompt] = answer
        if self._step not in self._steps:  # the run went back to before it
            self._step = None
        if self._beside not in self._steps:
            self._beside = None
        pins, prompts = self._pins, self._prompts
        self._cursor = max(0, min(self._cursor, len(prompts) - 1))
        count = f"{len(pins)} of {MAX_PINS}, answered at {format_count(len(self._steps), 'step')}"
        self.show_head("Pinned prompts", count)
        self.explanation.update(self._reading())
        self.scrubber.update(self._scrubber())
        lines, places = self._draw(prompts)
        self.answers.update(Content("\n").join(lines))
        if places:
            top = places[self._cursor] if self._cursor else 0
            self.call_after_refresh(self.body.scroll_to_region, Region(0, top, 1, 2), animate=False)
        problem = self._problem or self._form.problems.get("pin", "")
        self.problem.update(Content(clean(problem)))
        self.refresh_bindings()

    def _reading(self) -> str:
        config = self._store.config if self._store.folder is not None else self._form.config
        every = config.pin_every if config is not None else 0
        when = f"every {every:,} steps" if every else "at each evaluation"
        if self._store.folder is not None and not self._store.under_way:
            ended = "The run answered no pinned prompt."
            if self._steps:
                ended = f"The run answered its prompts {when}, always with the same seed. {self._cost()}"
            return f"{ended} What is pinned now, the next run answers."
        same = f"The run answers these prompts {when}, always with the same seed: what changes is what it has learnt. "
        return same + (self._cost() or "Training waits meanwhile, and goes on as if nothing had been asked.")

    def _cost(self) -> str:
        """Say what the answers of the step that is shown have cost; empty where there are none."""
        if (step := self._at) is None:
            return ""
        answers = self._steps[step].values()
        seconds, before = sum(answer.seconds for answer in answers), max(filter(step.__gt__, self._steps), default=0)
        end, start = (point[1] if (point := self._store.seconds.until(at)) else 0.0 for at in (step, before))
        takes, share = "took", ""
        if self._store.under_way:
            takes = "takes" if len(answers) == 1 else "take"
        if end > start:
            share = f", {100 * seconds / (end - start):.1f} % of the training time since the last ones"
        return f"{format_count(len(answers), 'answer')} {takes} {seconds:.2f} s{share}."

    def _scrubber(self) -> Content:
        """Draw where among all steps those are that are shown."""
        steps, at = sorted(self._steps), self._at
        if at is None:
            return Content.styled("No answers yet.", FAINT)
        label = f"step {at:,}, {steps.index(at) + 1} of {len(steps)}  "
        line = [("─", FAINT)] * max(3, self.size.width - 2 - len(label))
        for step, mark in ((self._beside, BESIDE), (at, HERE)):
            if step is not None:
                line[steps.index(step) * (len(line) - 1) // max(1, len(steps) - 1)] = mark, "bold $text-accent"
        return Content.assemble(label, *line)

    def _draw(self, prompts: Sequence[str]) -> tuple[list[Content], list[int]]:
        """Draw the answers to all prompts; returns the lines, and in which each prompt begins."""
        width = max(20, self.body.scrollable_content_region.width - 2)
        if not prompts:
            key, why = (keys.named("pins.add"), PROMPT), (" pins one, such as “Once upon a time”.", FAINT)
            return [Content.assemble(("No prompt is pinned. ", FAINT), *([key, why] if self._editable else []))], []
        steps = sorted(step for step in (self._beside, self._at) if step is not None)
        column = (width - GAP * (len(steps) - 1)) // max(1, len(steps))
        lines, places = list[Content](), list[int]()
        if self._beside is not None:
            heads = [f"{BESIDE if step == self._beside else HERE} step {step:,}" for step in steps]
            lines.append(Content.styled("  " + (" " * GAP).join(fit(head, column) for head in heads), FAINT))
        for place, prompt in enumerate(prompts):
            places.append(len(lines))
            blocks = [block.wrap(column) for block in self._blocks(prompt, steps)]
            note = "" if prompt in self._pins else "  no longer pinned"
            if self._pending and prompt in self._pins and prompt not in self._store.history.config.get("pin", ()):
                note = "  the run pins it after the step under way"
            mark = ("▸ ", PROMPT) if place == self._cursor else "  "
            for y, row in enumerate(side_by_side(blocks, column, GAP)):
                lines.append(Content.assemble(mark if y == 0 else "  ", row))
            lines += [Content.styled(note, FAINT)] if note else []
            lines.append(Content(""))
        return lines[:-1], places

    def _blocks(self, prompt: str, steps: Sequence[int]) -> list[Content]:
        """The answers to a prompt at these steps; of two, what only one of them has is marked."""
        start = clean(prompt, newlines=True), PROMPT
        found = [self._steps[step].get(prompt) for step in steps]
        texts = [clean(answer.text[:MAX_TEXT], newlines=True) if answer is not None else None for answer in found]
        if not texts:
            return [Content.assemble(start, ("  not answered yet", FAINT))]
        parts: list[Content | str] = [text or "" for text in texts]
        if len(texts) == 2 and None not in texts:
            parts = [*_mark_differences(texts[0] or "", texts[1] or "")]
        none = [
            (f"  not answered at step {step:,}", FAINT) if text is None else ""
            for step, text in zip(steps, texts, strict=True)
        ]
        return [Content.assemble(start, part, end) for part, end in zip(parts, none, strict=True)]

    # What the keys do

    def possible(self) -> dict[str, object]:
        prompts = self._prompts
        pinned = bool(prompts) and prompts[min(self._cursor, len(prompts) - 1)] in self._pins
        return {
            "add": self._editable and len(self._pins) < MAX_PINS,
            **dict.fromkeys(("edit", "remove"), self._editable and pinned),
            **dict.fromkeys(("walk", "beside"), len(self._steps) > 1),
            "move": len(prompts) > 1,
        }

    def action_walk(self, by: int) -> None:
        """Show the answers of another step; those of the newest are followed."""
        steps = sorted(self._steps)
        place = max(0, min(steps.index(self._at or 0) + by, len(steps) - 1))
        self._step = steps[place] if place + 1 < len(steps) else None
        self.show()

    def action_beside(self) -> None:
        """Keep the step that is shown beside the one that the user goes to next."""
        self._beside = self._at if self._beside is None else None
        self.show()

    def action_move(self, by: int) -> None:
        self._cursor = max(0, min(self._cursor + by, len(self._prompts) - 1))
        self.show()

    def action_add(self) -> None:
        self._ask("Pin a prompt", "", lambda prompt: (*self._pins, prompt))

    def action_edit(self) -> None:
        old = self._prompts[self._cursor]
        self._ask("Change the prompt", old, lambda prompt: tuple(prompt if pin == old else pin for pin in self._pins))

    def action_remove(self) -> None:
        old = self._prompts[self._cursor]
        try:
            self._pin(tuple(pin for pin in self._pins if pin != old))
            self._problem = ""
        except UserError as error:
            self._problem = str(error)
        self.show()

    def _ask(self, title: str, value: str, change: Callable[[str], tuple[str, ...]]) -> None:
        hint = "How a text begins. \\n starts a line, \\t is a tab."
        value = value.replace("\n", "\\n").replace("\t", "\\t")
        self.app.push_screen(Entry(title, value, hint, partial(self._take, change)))

    def _take(self, change: Callable[[str], tuple[str, ...]], typed: str) -> None:
        prompt = normalize(typed.replace("\\n", "\n").replace("\\t", "\t"))
        if not prompt.strip():
            raise UserError("Write how a text begins.")
        pins = change(prompt)
        if len(set(pins)) < len(pins):
            raise UserError("It is pinned already.")
        self._pin(pins)
        self._problem, self._cursor = "", self._prompts.index(prompt)
        self.show()

    action_close = Page.action_back


def _mark_differences(old: str, new: str) -> tuple[Content, Content]:
    """Return two texts in which the words are marked that the other does not have in the same place."""
    words: list[list[str]] = [re.findall(r"\s*\w+|\s*[^\w\s]|\s+", text) for text in (old, new)]
    marked: tuple[list[tuple[str, str]], list[tuple[str, str]]] = [], []
    for kind, *places in SequenceMatcher(None, words[0], words[1]).get_opcodes():
        style = "" if kind == "equal" else CHANGED
        for side, (start, end) in enumerate((places[:2], places[2:])):
            text = "".join(words[side][start:end])
            space = text[: len(text) - len(text.lstrip())]  # a line under spaces says nothing
            marked[side].extend([(space, ""), (text.lstrip(), style)])
    return Content.assemble(*marked[0]), Content.assemble(*marked[1])
