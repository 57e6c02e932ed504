"""The two narrow bars: the tabs of a small terminal, and the footer with the commands."""

from collections.abc import Iterable, Mapping

from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, TextArea

from fundamentallm_tui.keys import PANES, Command, key_name
from fundamentallm_tui.panes.fields import Fields

LEAVE = Command("blur", "escape", label="leave")


def takes_text(widget: Widget | None) -> bool:
    """Return whether the keys pressed in this widget are text."""
    return isinstance(widget, (Input, TextArea, Fields))


class TabBar(Widget):
    """Names the panes by their keys; a click shows one."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.auto_links = False  # the tabs have colours of their own
        self.active = PANES[0][0]

    def show(self, name: str) -> None:
        """Mark a pane as the active one."""
        self.active = name
        self.refresh()

    def render(self) -> Content:
        tabs = []
        for n, (name, title) in enumerate(PANES, 1):
            style = "bold $background on $accent" if name == self.active else "$foreground"
            tabs.append(f"[{style}][@click=screen.pane('{name}')] {n} {title} [/][/]")
        return Content.from_markup(" " + " ".join(tabs))


class Footer(Widget):
    """The keys of a screen's commands; what cannot be done now is dim. A narrow terminal leaves out the palette.

    While the user is in a text field, it begins with how to leave that.
    """

    def __init__(self, commands: tuple[Command, ...], *, id: str) -> None:
        super().__init__(id=id)
        self.auto_links = False  # the keys have colours of their own
        self._commands = [command for command in commands if command.label]
        self._labels: Mapping[str, str] = {}

    def show(self, labels: Mapping[str, str]) -> None:
        """Show what can be done now; `labels` replaces the usual words of actions."""
        self._labels = labels
        self.refresh()

    def render(self) -> Content:
        bound = {active.binding.id: active.binding.key for active in self.screen.active_bindings.values()}
        items = {}
        if takes_text(self.screen.focused) and all(command.key != LEAVE.key for command in self._commands):
            items[LEAVE.action] = self._item(LEAVE, key_name(LEAVE.key))
        for command in self._commands:
            key = bound.get(command.id or command.action, command.key)  # a keymap may have changed it
            items[command.action] = self._item(command, key_name(key))
        line = _join("  ", items.values())
        if line.cell_length > self.size.width:
            items.pop("app.command_palette", None)  # the help screen names its key, too
            line = _join("  ", items.values())
        return line if line.cell_length <= self.size.width else _join(" ", items.values())

    def _item(self, command: Command, key: str) -> str:
        label = self._labels.get(command.action, command.label)
        if command.action.startswith("app."):
            action = command.action
        elif self.screen.check_action(command.action, ()):
            action = f"screen.{command.action}"
        else:
            return f"[$foreground 35%]{key} {label}[/]"
        return f"[@click={action}][b $text-accent]{key}[/] {label}[/]"


def _join(gap: str, items: Iterable[str]) -> Content:
    return Content.from_markup(" " + gap.join(items))
