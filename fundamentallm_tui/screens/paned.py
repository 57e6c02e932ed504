"""Panes that the user moves between: number keys show and highlight one, enter goes into it, escape leaves it."""

from textual.dom import DOMNode
from textual.events import Click, DescendantFocus
from textual.screen import Screen
from textual.widget import Widget

from fundamentallm_tui import keys
from fundamentallm_tui.panes.bars import Footer, TabBar


class PanedScreen(Screen[None]):
    """A screen with panes (class "pane"), and one active pane, whose id is also a class of the screen ("-at-log").

    A small terminal shows only the active pane, and so does a large one while that is maximized. A key that shows a
    pane never puts the cursor into one of its fields: the next key would change what is in there.
    """

    tabs: TabBar
    footer: Footer
    maximized_pane = False

    def enter_pane(self, name: str) -> None:
        """Give a pane the keyboard, if it has a use for it."""
        raise NotImplementedError

    def pane_shown(self) -> None:
        """Another pane has become visible."""

    def action_pane(self, name: str) -> None:
        """Show and highlight a pane, and focus it; one that takes text only after enter."""
        self._activate(name)
        pane = self.query_one(f"#{name}")
        self.set_focus(pane if pane.can_focus else None)

    def action_next_pane(self, by: int) -> None:
        names = [name for name, _ in keys.PANES]
        self.action_pane(names[(names.index(self.tabs.active) + by) % len(names)])

    def action_enter_pane(self) -> None:
        """Go into the highlighted pane."""
        self.enter_pane(self.tabs.active)

    def action_maximize_pane(self) -> None:
        """Show the highlighted pane alone, or all of them again."""
        self.maximized_pane = not self.maximized_pane
        self.pane_shown()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        """A click or tab may have entered another pane than the highlighted one."""
        pane = _pane_of(event.widget)
        if pane is not None and pane.id != self.tabs.active:
            self._activate(pane.id or "")

    def on_click(self, event: Click) -> None:
        """A click goes to a pane, too, where nothing in it takes the focus."""
        pane = _pane_of(event.widget) if event.widget is not None else None
        if pane is not None and pane.id != self.tabs.active:
            self.action_pane(pane.id or "")

    def _activate(self, name: str) -> None:
        self.tabs.show(name)
        for pane, _ in keys.PANES:
            self.get_widget_by_id(pane).set_class(pane == name, "-active", update=False)
        # the styles of all panes depend on the screen's classes: computed once, not for each of the classes
        self.update_classes({f"-at-{pane}": pane == name for pane, _ in keys.PANES}, update=False)
        self.pane_shown()


def _pane_of(widget: Widget) -> DOMNode | None:
    """Return the pane that holds a widget."""
    return next((node for node in widget.ancestors_with_self if node.has_class("pane")), None)
