"""Panes that the user moves between: number keys show and highlight one, enter goes into it, escape leaves it."""

from textual.events import DescendantBlur, DescendantFocus
from textual.screen import Screen

from fundamentallm_tui import keys
from fundamentallm_tui.panes.bars import Footer, TabBar


class PanedScreen(Screen[None]):
    """A screen with panes (class "pane") in halves (class "half"), and one active pane.

    A small terminal shows only the active pane. A key that shows a pane never puts the cursor into one of its fields:
    the next key would change what is in there.
    """

    tabs: TabBar
    footer: Footer

    def enter_pane(self, name: str) -> None:
        """Give a pane the keyboard, if it has a use for it."""
        raise NotImplementedError

    def pane_shown(self) -> None:
        """Another pane has become visible."""

    def action_pane(self, name: str) -> None:
        """Show and highlight a pane; enter then goes into it."""
        self._activate(name)
        self.set_focus(None)

    def action_next_pane(self, by: int) -> None:
        names = [name for name, _ in keys.PANES]
        self.action_pane(names[(names.index(self.tabs.active) + by) % len(names)])

    def action_enter_pane(self) -> None:
        """Go into the highlighted pane."""
        self.enter_pane(self.tabs.active)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """A click or tab may have entered another pane than the highlighted one."""
        pane = next((node for node in event.widget.ancestors_with_self if node.has_class("pane")), None)
        if pane is not None and pane.id and pane.id != self.tabs.active:
            self._activate(pane.id)
        self.footer.refresh()

    def on_descendant_blur(self, _: DescendantBlur) -> None:
        self.footer.refresh()

    def _activate(self, name: str) -> None:
        self.tabs.show(name)
        for pane in self.query(".pane"):
            pane.set_class(pane.id == name, "-active")
        for half in self.query(".half"):
            half.set_class(any(child.has_class("-active") for child in half.children), "-holds")
        self.pane_shown()
