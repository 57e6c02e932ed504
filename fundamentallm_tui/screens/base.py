"""What the screens have in common: panes that the user moves between, and pages that lie over the main screen."""

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.content import Content
from textual.dom import DOMNode
from textual.events import Click, DescendantFocus
from textual.screen import Screen, ScreenResultType
from textual.widget import Widget
from textual.widgets import Static

from fundamentallm_tui import keys
from fundamentallm_tui.keys import Command
from fundamentallm_tui.panes.bars import Footer, TabBar
from fundamentallm_tui.theme import FAINT


class PanedScreen(Screen[None]):
    """A screen with panes (class "pane"), and one active pane, whose id is also a class of the screen ("-at-log").

    Number keys show and highlight a pane, enter goes into it, escape leaves it. A small terminal shows only the active
    pane, and so does a large one while that is maximized. A key that shows a pane never puts the cursor into one of its
    fields: the next key would change what is in there.
    """

    tabs: TabBar
    footer: Footer
    maximized_pane = False

    def adapt_layout(self) -> None:
        """Give the room to what matters now."""
        raise NotImplementedError

    def action_pane(self, name: str) -> None:
        """Show and highlight a pane, and focus it; one that takes text only after enter."""
        self._activate(name)
        pane = self.query_one(f"#{name}")
        self.set_focus(pane if pane.can_focus else None)

    def action_next_pane(self, by: int) -> None:
        names = [name for name, _ in keys.PANES]
        self.action_pane(names[(names.index(self.tabs.active) + by) % len(names)])

    def action_maximize_pane(self) -> None:
        self.maximized_pane = not self.maximized_pane
        self.adapt_layout()

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
        self.tabs.active = name
        for pane, _ in keys.PANES:
            self.get_widget_by_id(pane).set_class(pane == name, "-active", update=False)
        # the styles of all panes depend on the screen's classes: computed once, not for each of the classes
        self.update_classes({f"-at-{pane}": pane == name for pane, _ in keys.PANES}, update=False)
        self.footer.refresh()  # Textual reports no other bindings where neither pane has the focus
        self.adapt_layout()


def _pane_of(widget: Widget) -> DOMNode | None:
    """Return the pane that holds a widget."""
    return next((node for node in widget.ancestors_with_self if node.has_class("pane")), None)


class Page(Screen[ScreenResultType]):
    """A screen over the main one: how what it shows stands above, its keys in the footer."""

    table: tuple[Command, ...]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.head = Static(id="head")
        self.explanation = Static(id="explanation")
        self.footer = Footer(self.table, id="footer")

    def compose(self) -> ComposeResult:
        yield self.head
        yield from self.compose_body()
        yield self.footer

    def compose_body(self) -> ComposeResult:
        """Return the widgets between head and footer."""
        raise NotImplementedError

    def show(self) -> None:
        """Show what there is now."""
        raise NotImplementedError

    def possible(self) -> Mapping[str, object]:
        """Return by action whether it can be done now; what is left out always can."""
        return {}

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return bool(self.possible().get(action, True)) or None  # None dims the key in the footer

    def show_head(self, title: str, state: str, style: str = FAINT) -> None:
        self.head.update(Content.assemble((f" {title}  ", "bold"), (state, style)))

    def on_resize(self) -> None:
        self.call_after_refresh(self.show)

    def action_back(self) -> None:
        self.dismiss(None)
