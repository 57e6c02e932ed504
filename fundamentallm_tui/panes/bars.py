"""The two narrow bars: tabs for a small terminal, and the footer with what can be done now."""

from textual.content import Content
from textual.widget import Widget

from fundamentallm_tui.keys import KEYS, PANES, written


class TabBar(Widget):
    """Names the panes by their keys; a click shows one."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.auto_links = False  # the colours here are our own
        self.active = PANES[0][0]

    def show(self, name: str) -> None:
        self.active = name
        self.refresh()

    def render(self) -> Content:
        tabs = []
        for n, (name, title) in enumerate(PANES, 1):
            style = "bold $background on $accent" if name == self.active else "$foreground"
            tabs.append(f"[{style}][@click=screen.pane('{name}')] {n} {title} [/][/]")
        return Content.from_markup(" " + " ".join(tabs))


class KeyBar(Widget):
    """What the function keys do now; what cannot be done is dim. `says` replaces an action's usual word."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.auto_links = False  # the colours here are our own
        self.says: dict[str, str] = {}

    def show(self, says: dict[str, str]) -> None:
        self.says = says
        self.refresh()

    def render(self) -> Content:
        bound = {active.binding.id: active for active in self.screen.active_bindings.values() if active.binding.id}
        items = []
        for key in KEYS:
            active = bound.get(key.id)
            name = written(active.binding.key if active else key.key)
            label = self.says.get(key.action, key.label)
            if active and active.enabled:
                items.append(f"[@click=screen.{key.action}][b $text-accent]{name}[/] {label}[/]")
            else:
                items.append(f"[$foreground 35%]{name} {label}[/]")
        ends = ["[@click=app.command_palette][b $text-accent]^p[/] palette[/]"]
        ends.append("[@click=app.quit][b $text-accent]^q[/] quit[/]")
        whole = Content.from_markup(" " + "  ".join([*items, *ends]))
        # a narrow terminal leaves out what the help tells too
        return (
            whole if whole.cell_length <= self.size.width else Content.from_markup(" " + "  ".join([*items, ends[1]]))
        )
