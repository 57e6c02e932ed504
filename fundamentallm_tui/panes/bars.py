"""The two narrow bars: the tabs of a small terminal, and the footer with the commands."""

from collections.abc import Iterable, Mapping
from typing import Any

from textual.binding import ActiveBinding
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, TextArea

from fundamentallm_tui.keys import MAIN, PANES, PINNED, Command, key_name
from fundamentallm_tui.panes.fields import Fields

LEAVE = Command("blur", "escape", label="leave", id="leave")
GAP = "  "


def bound(screen: Screen[Any]) -> dict[str, ActiveBinding]:
    """Return by the ids of commands the keys that have an effect now; a keymap may have changed them."""
    return {found.binding.id: found for found in reversed(screen.active_bindings.values()) if found.binding.id}


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
    """The keys of the pane in focus, then those of its screen; at the right end how to close, help and quit.

    A pane names its commands as `commands`. In a text field the footer begins with how to leave that. What cannot be
    done now is dim, or left out where not everything fits.
    """

    def __init__(self, commands: tuple[Command, ...], *, id: str) -> None:
        super().__init__(id=id)
        self.auto_links = False  # the keys have colours of their own
        self._commands = commands
        self._labels: Mapping[str, str] = {}

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def show(self, labels: Mapping[str, str]) -> None:
        """Show what can be done now; `labels` replaces the usual words of actions."""
        self._labels = labels
        self.refresh()

    def render(self) -> Content:
        active = bound(self.screen)
        pinned: list[tuple[str, bool]] = []
        items: list[tuple[str, bool]] = []
        for command in self._shown():
            found = active.get(command.id or command.action)
            possible = found.enabled if found is not None else command.action.startswith("app.") or not command.action
            item = self._item(command, found.binding.key if found is not None else command.key, possible)
            (pinned if command.action in PINNED else items).append((item, possible))
        end = _join(item for item, _ in pinned)
        room = max(0, self.size.width - end.cell_length - 3)  # a free column at either end, and one between
        start = _join(item for item, _ in items)
        if start.cell_length > room:
            items = [(item, possible) for item, possible in items if possible]
        while items and (start := _join(item for item, _ in items)).cell_length > room:
            items.pop()
        return Content(" ").join([Content(""), start.pad_right(room - start.cell_length), end])

    def _shown(self) -> list[Command]:
        """The commands with a label: of what has the focus, then of the screen, then those of every screen."""
        focused = self.screen.focused
        nodes = focused.ancestors_with_self if focused is not None else ()
        of_pane = next((node.commands for node in nodes if hasattr(node, "commands")), ())
        of_screen = [command for command in self._commands if command.label]
        every = [command for command in MAIN if command.action in PINNED and command not in of_screen]
        leave = [LEAVE] if takes_text(focused) and all(command.key != LEAVE.key for command in of_screen) else []
        return [*leave, *(command for command in of_pane if command.label), *of_screen, *every]

    def _item(self, command: Command, key: str, possible: bool) -> str:
        label = self._labels.get(command.action, command.label)
        if not possible:
            return f"[$foreground 35%]{key_name(key)} {label}[/]"
        text = f"[b $text-accent]{key_name(key)}[/] {label}"
        if not command.action:
            return text
        action = command.action if command.action.startswith("app.") else f"run('{command.id or command.action}')"
        return f"[@click={action}]{text}[/]"

    async def action_run(self, id: str) -> None:
        """Do what the key of a command would do now."""
        found = bound(self.screen).get(id)
        if found is not None and found.enabled:
            await self.app.run_action(found.binding.action, found.node)


def _join(items: Iterable[str]) -> Content:
    return Content.from_markup(GAP.join(items))
