"""The console's theme, and the styles of widgets that draw their own cells."""

from dataclasses import replace

from rich.style import Style
from textual.color import Color
from textual.theme import Theme
from textual.widget import Widget

INKS = ("primary", "accent", "success", "warning", "error")
# A test computes the contrast of every text on every screen in each of these: at least 4.5. The inks are the colours
# of text, too, or Textual would mix those anew.
THEMES = tuple(
    replace(theme, variables={f"text-{ink}": str(getattr(theme, ink)) for ink in INKS})
    for theme in (
        Theme(
            name="calm", dark=True,
            background="#12161c", surface="#181d25", panel="#222933", foreground="#d4dae3",
            primary="#7aa7e0", secondary="#5d7fa8", accent="#e8b363",
            success="#8fc58a", warning="#e3c567", error="#e87878",
        ),
        Theme(
            name="paper", dark=False,
            background="#fdfcf9", surface="#f7f5f0", panel="#f1efe9", foreground="#0f1217",
            primary="#225aa0", secondary="#55789f", accent="#85520a",
            success="#256328", warning="#715200", error="#a82424",
        ),
        Theme(
            name="high contrast", dark=True,
            background="#000000", surface="#000000", panel="#262626", foreground="#ffffff",
            primary="#8ec5ff", secondary="#9cc9ff", accent="#ffd34d",
            success="#7dff8a", warning="#ffea70", error="#ff9a9a",
        ),
    )
)  # fmt: skip
CALM = THEMES[0]
FAINT = "$foreground 60%"  # for text that only explains


class Styles:
    """A widget's styles by the names of theme colours, each made once for a theme.

    Call it only while the widget is on a screen: before that there is no background to blend a colour with.
    """

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._styles: dict[tuple[str, float, str], Style] = {}
        self._subscribed = False

    def __call__(self, colour: str, strength: float = 1.0, paper: str = "") -> Style:
        """Return the style of text in a theme colour, such as "text-error", over the `paper` of another one.

        Without paper, the widget's own background is left unpainted. `strength`: how much of the colour is left over
        the background, 0 to 1.
        """
        if not self._subscribed:
            self._subscribed = True
            # immediate: or the widget may be drawn anew before, in the old colours, and then stay so
            changed = self._widget.app.theme_changed_signal
            changed.subscribe(self._widget, lambda _: self._styles.clear(), immediate=True)
        key = (colour, strength, paper)
        if key in self._styles:
            return self._styles[key]
        theme = self._widget.app.theme_variables
        background = Color.parse(theme[paper]) if paper else self._widget.background_colors[1]
        ink = background.blend(Color.parse(theme.get(colour, colour)), strength)
        style = Style(color=ink.rich_color, bgcolor=background.rich_color if paper else None)
        self._styles[key] = style
        return style
