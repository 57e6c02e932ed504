"""The two narrow bars: the tabs of a small terminal, and the footer with the commands."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from textual.binding import ActiveBinding
from textual.content import Content
from textual.dom import DOMNode
from textual.reactive import reactive
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input, TextArea

from fundamentallm_tui.keys import MAIN, PANES, PINNED, Command, key_name
from fundamentallm_tui.panes.fields import Fields
from fundamentallm_tui.theme import FAINT

LEAVE = Command("blur", "escape", label="leave", id="leave")
ENTER = Command("enter_pane", "enter", label="edit", id="pane.enter")
GAP = "  "


def bound(screen: Screen[Any]) -> dict[str, ActiveBinding]:
    """Return by the ids of commands the keys that have an effect now; a keymap may have changed them."""
    return {found.binding.id: found for found in reversed(screen.active_bindings.values()) if found.binding.id}


def focus_chain(screen: Screen[Any]) -> list[DOMNode]:
    """Return what the user looks at, and what holds it, from the inside out.

    That is what has the focus, else the highlighted pane if it takes the focus only after enter.
    """
    panes: list[Widget] = [pane for pane in screen.query(".pane.-active") if not pane.can_focus]
    return next((node.ancestors_with_self for node in (screen.focused, *panes) if node is not None), [])


def focused_commands(screen: Screen[Any]) -> tuple[Command, ...]:
    """Return the commands of the pane that the user looks at."""
    return next((node.commands for node in focus_chain(screen) if hasattr(node, "commands")), ())


def takes_text(widget: Widget | None) -> bool:
    """Return whether the keys pressed in this widget are text."""
    return isinstance(widget, (Input, TextArea, Fields))


class TabBar(Widget):
    """Names the panes by their keys, and marks the active one; a click shows one."""

    auto_links = reactive(False)  # the tabs have colours of their own
    active = reactive(PANES[0][0])

    def render(self) -> Content:
        tabs = []
        for n, (name, title) in enumerate(PANES, 1):
            style = "bold $background on $accent" if name == self.active else "$foreground"
            tabs.append(f"[{style}][@click=screen.pane('{name}')] {n} {title} [/][/]")
        return Content.from_markup(" ".join(tabs))


class Footer(Widget):
    """The keys of the pane in focus, then those of its screen; at the right end how to close, help and quit.

    A pane names its commands as `commands`. In a text field the footer begins with how to leave that. Where not
    everything fits, what cannot be done now is left out, not dimmed, and the pane has half of the room.
    """

    auto_links = reactive(False)  # the keys have colours of their own
    labels: reactive[dict[str, str]] = reactive(dict)  # words in place of the usual ones, by action

    def __init__(self, commands: tuple[Command, ...], *, id: str) -> None:
        super().__init__(id=id)
        self._commands = commands

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> Content:
        active = bound(self.screen)
        of_pane, of_screen, pinned = ([self._item(command, active) for command in group] for group in self._groups())
        end = _join(pinned)
        room = max(0, self.size.width - end.cell_length - 4)  # a free column at either end, and two between
        if _join(of_pane + of_screen).cell_length > room:
            of_pane, of_screen = ([item for item in group if item[1]] for group in (of_pane, of_screen))
        while _join(of_pane + of_screen).cell_length > room:
            crowded = not of_screen or _join(of_pane).cell_length > room // 2
            (of_pane if crowded else of_screen).pop()
        start = _join(of_pane + of_screen)
        return Content(" ").join([Content(""), start.pad_right(room + 1 - start.cell_length), end])

    def _groups(self) -> tuple[list[Command], list[Command], list[Command]]:
        """The commands with a label: of what has the focus, of the screen, and those that are always there."""
        every = {command.action: command for command in (*MAIN, *self._commands) if command.action in PINNED}
        pinned = [every[action] for action in PINNED if action in every and every[action].label]
        focused = self.screen.focused
        first = [ENTER] if focused is None and focus_chain(self.screen) else []
        first = [LEAVE] if takes_text(focused) and "back" not in every else first
        return (
            [*first, *(command for command in focused_commands(self.screen) if command.label)],
            [c for c in self._commands if self.labels.get(c.action, c.label) and c not in pinned],
            pinned,
        )

    def _item(self, command: Command, active: Mapping[str, ActiveBinding]) -> tuple[str, bool]:
        """Return a command's key and word, and whether it is possible now."""
        id, label = command.id or command.action, self.labels.get(command.action, command.label)
        found, of_app = active.get(id), command.action.startswith("app.")
        key = key_name(found.binding.key if found is not None else command.key).replace("[", "\\[")
        is_typed = takes_text(self.screen.focused) and (len(key.lstrip("\\")) == 1 or key == "space")
        if is_typed or not (found.enabled if found is not None else of_app or not command.action):
            return f"[{FAINT}]{key} {label}[/]", False
        text = f"[b $text-accent]{key}[/] {label}"
        action = command.action if of_app else f"run('{id}')"
        return f"[@click={action}]{text}[/]" if command.action else text, True

    async def action_run(self, id: str) -> None:
        """Do what the key of a command would do now."""
        found = bound(self.screen).get(id)
        if found is not None and found.enabled:
            await self.app.run_action(found.binding.action, found.node)


_parse = lru_cache(256)(Content.from_markup)  # a bar is drawn at most keys, with mostly the same items


def _join(items: Iterable[tuple[str, bool]]) -> Content:
    return Content(GAP).join(_parse(text) for text, _ in items)
