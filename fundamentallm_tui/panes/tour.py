"""A tour for the first start: two lines above the panes name the next thing to do, and go on when it has happened."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from textual.content import Content
from textual.screen import Screen
from textual.timer import Timer
from textual.widget import Widget

from fundamentallm_tui import keys
from fundamentallm_tui.panes.bars import takes_text
from fundamentallm_tui.state.preferences import remember
from fundamentallm_tui.state.store import Store
from fundamentallm_tui.theme import FAINT

LOOK_SECONDS = 0.25  # between two looks at what has happened
END_WIDTH = 14  # of the column that says how far the tour is, and how to end it


@dataclass(frozen=True)
class Step:
    """One thing to do."""

    why: str  # what the user sees
    do: str  # what the user presses, with the ids of commands in braces
    done: Callable[[Store, Screen[Any]], bool]  # whether it has happened, of the run and of the screen on top


def _rests(store: Store) -> bool:
    return store.phase == "paused" or (store.folder is not None and not store.under_way)


def _shows_verdict(_store: Store, screen: Screen[Any]) -> bool:
    box = getattr(screen, "box", None)
    return box is not None and str(box.border_title).startswith("Health")


STEPS = (
    Step("A model learns to guess the next letter of a text.", "{start} starts: tiny takes a minute.",
         lambda store, _: store.under_way and store.step > 0),
    Step("The curve says how wrong its guesses are.", "Wait for ★: measured on text it never sees.",
         lambda store, _: len(store.val) > 0 or _rests(store)),
    Step("The model can be tried while it learns.", "{pause} pauses after this step; nothing is lost.",
         lambda store, _: _rests(store)),
    Step("Let it write.", "{prompt} goes to the prompt; type how a text begins, then enter.",
         lambda store, _: bool(store.sample.text) and store.sample.done),
    Step("Why did it write that?", "{look} shows how likely each letter was; esc comes back.",
         lambda _, screen: screen.id == "look"),
    Step("Does the model learn, or only memorise?", "{health} shows the verdict; esc closes it.", _shows_verdict),
    Step("Now let it learn to the end.", "{start} lets the run continue.",
         lambda store, _: not store.paused),
    Step("That was it. best.pt will be the model to use.", "{help} explains what you look at.",
         lambda _store, _screen: False),
)  # fmt: skip


class Tour(Widget):
    """Watches the store and the screens, and does nothing for the user; there is no bar until `begin`."""

    def __init__(self, store: Store, *, id: str) -> None:
        super().__init__(id=id)
        self.display = False
        self._store, self._place, self._typing = store, 0, False
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Show the first step; later sessions do not begin with it again."""
        remember(toured=True)
        self.end()
        self._place, self.display = 0, True
        self._timer = self.set_interval(LOOK_SECONDS, self.look)

    def end(self) -> bool:
        """Hide the bar; returns whether there was one."""
        if self._timer is not None:
            self._timer.stop()
            self._timer, self.display = None, False
            return True
        return False

    def look(self) -> None:
        """Go on if the thing has happened."""
        if self._timer is None:
            return
        before = self._place, self._typing
        self._typing = takes_text(self.screen.focused)
        while STEPS[self._place].done(self._store, self.app.screen):
            self._place += 1
        if before != (self._place, self._typing):
            self.refresh()

    def render(self) -> Content:
        room = self.size.width - END_WIDTH - 2
        ends = (f"tour {self._place + 1}/{len(STEPS)}", "" if self._typing else keys.spell("{leave} ends it"))
        return Content("\n").join(
            Content.assemble(" ", row.pad_right(max(0, room - row.cell_length)), (end.rjust(END_WIDTH), FAINT))
            for row, end in zip(step_rows(STEPS[self._place], room, typing=self._typing), ends, strict=True)
        )


def step_rows(step: Step, room: int, *, typing: bool) -> list[Content]:
    """Write a step in two rows of so many cells; `typing`: in a text field, where a letter is no command."""
    leave = "{leave}, then " if typing and step.do.startswith("{health}") else ""
    rows = [_with_keys(step.why), _with_keys(leave + step.do)]
    if any(row.cell_length > room for row in rows):
        rows = Content(" ").join(rows).wrap(max(1, room))
    return [*rows, Content()][:2]


def _with_keys(text: str) -> Content:
    """Put keys in place of the ids of commands, as `keys.spell` does, each in the colour of keys."""
    parts = re.split(r"\{([a-z_.]+)\}", text)
    styled = [(keys.named(part), "bold $text-accent") if n % 2 else part for n, part in enumerate(parts)]
    return Content.assemble(*styled)
