"""The form's fields: a line of text, or one of a few words."""

from dataclasses import dataclass
from typing import Protocol

from textual.binding import Binding
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input


class Field(Protocol):
    """What the form needs of a field, whatever it looks like."""

    setting: str
    value: str
    disabled: bool

    @property
    def parent(self) -> object: ...
    def set_class(self, add: bool, *names: str) -> object: ...
    def focus(self) -> object: ...


class TextField(Input):
    """One line of text."""

    def __init__(self, setting: str, value: str, placeholder: str) -> None:
        super().__init__(value, placeholder, compact=True, classes="field", id=f"field-{setting}")
        self.setting = setting


class ChoiceField(Widget, can_focus=True):
    """One of a few words: left, right and space change it."""

    BINDINGS = [
        Binding("right,space,enter", "turn(1)", "Next", show=False),
        Binding("left", "turn(-1)", "Previous", show=False),
    ]
    value: reactive[str] = reactive("")

    @dataclass
    class Changed(Message):
        field: "ChoiceField"

    def __init__(self, setting: str, choices: tuple[str, ...], value: str) -> None:
        super().__init__(classes="field", id=f"field-{setting}")
        self.setting, self.choices = setting, choices
        self.set_reactive(ChoiceField.value, value)

    def render(self) -> Content:
        return Content.assemble(self.value, (" ⇄" if self.has_focus else "", "$foreground 60%"))

    def watch_value(self, old: str, new: str) -> None:
        if self.is_mounted and old != new:
            self.post_message(self.Changed(self))

    def action_turn(self, by: int) -> None:
        at = self.choices.index(self.value) if self.value in self.choices else 0
        self.value = self.choices[(at + by) % len(self.choices)]

    def on_click(self, _: Click) -> None:
        self.action_turn(1)
