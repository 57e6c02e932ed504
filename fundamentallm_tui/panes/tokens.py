"""A text token by token: coloured by how likely the model held each one, and what it expected at a place."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from unicodedata import category

from rich.cells import cell_len
from textual.content import Content
from textual.events import Click
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from fundamentallm_tui.format import bar, clean, fit, truncate
from fundamentallm_tui.panes.rows import Rows
from fundamentallm_tui.theme import FAINT

LEVELS = (  # the least probability, the colours of tokens that have it, and how the legend calls it
    (0.5, "", "50 % and more"),
    (0.2, "$foreground on $error 14%", "20 %"),
    (0.05, "$foreground on $error 28%", "5 %"),
    (0.01, "$foreground on $error 42%", "1 %"),
    (0.0, "$background on $error", "less"),
)
CURSOR = "bold $background on $foreground"
SIGNS = {ord("\n"): "↵", ord("\t"): "⇥"}  # for `str.translate`


def glyph(token: str) -> str:
    """Return a token as a text shows it: in at least one cell, and at most eight; an accent on a dotted circle."""
    shown = truncate(clean(token.translate(SIGNS)), 8)
    if cell_len(shown):
        return shown
    return f"◌{shown}" if shown and category(shown[0])[0] == "M" else "·"


def glyph_alone(token: str) -> str:
    """Return a token as it is shown where it stands alone, and a space could not be seen."""
    return glyph(token).replace(" ", "␣")


def aligned(tokens: Sequence[str], least: int) -> list[str]:
    """Return tokens as they are shown below one another, all as wide as the widest of them and `least`."""
    names = [glyph_alone(token) for token in tokens]
    return [fit(name, max(least, *map(cell_len, names))) for name in names]


def percent(probability: float) -> str:
    """Return a probability in percent; one that is not 0 is not shown as 0."""
    return "<0.01 %" if 0 < probability < 0.5e-4 else f"{100 * probability:.2f} %"


def style_of(probability: float | None) -> str:
    """Return the colours of a token that the model held so likely; None: it was not predicted."""
    return next((style for least, style, _ in LEVELS if probability is not None and probability >= least), "")


def legend() -> Content:
    """Return what the colours mean."""
    names = (Content.styled(f" {name} ", style) for _, style, name in LEVELS)
    return Content(" ").join([Content("probability"), *names])


class TokenText(ScrollView, can_focus=True, inherit_bindings=False):
    """Shows tokens in rows, with a cursor on one of them."""

    def __init__(self, go: Callable[[int], None], *, id: str) -> None:
        """`go` is called with the token that the user clicked on."""
        super().__init__(id=id)
        self._go = go
        self._glyphs: list[str] = []
        self._styles: Sequence[str] = ()
        self._tokens: Sequence[str] = ()
        self._starts = [0]  # of the rows: their first tokens
        self._place = -1

    def show(self, tokens: Sequence[str], styles: Sequence[str], place: int) -> None:
        """Show tokens in these styles, with the cursor at a place."""
        self._tokens, self._styles, self._place = tokens, styles, place
        self._glyphs = [glyph(token) for token in tokens]
        self.on_resize()

    def point(self, place: int) -> None:
        """Put the cursor on a token."""
        self._place = place
        self.scroll_to_region(Region(0, self._row(place), 1, 1), animate=False, force=True)
        self.refresh()

    def on_resize(self) -> None:
        width = self.scrollable_content_region.width
        self._starts = row_starts(self._tokens, max(1, width))
        self.virtual_size = Size(width, len(self._starts))
        self.call_after_refresh(self.point, self._place)

    def above(self, place: int, by: int) -> int:
        """Return the token so many rows below (or above) another one."""
        row = self._row(place)
        places = self._places(min(max(row + by, 0), len(self._starts) - 1))
        return places[min(place - self._starts[row], len(places) - 1)] if places else 0

    def _row(self, place: int) -> int:
        return max(0, bisect_right(self._starts, place) - 1)

    def _places(self, row: int) -> range:
        """Return the tokens of a row; none where there is no such row."""
        return range(*([*self._starts, len(self._tokens)][row : row + 2] if row < len(self._starts) else (0, 0)))

    def render_line(self, y: int) -> Strip:
        places, width = self._places(y + round(self.scroll_offset.y)), self.scrollable_content_region.width
        cells = [(self._glyphs[n], CURSOR if n == self._place else self._styles[n]) for n in places]
        strips = Visual.to_strips(self, Content.assemble(*cells), width, 1, self.visual_style)
        return strips[0] if strips else Strip.blank(width, self.rich_style)

    def on_click(self, event: Click) -> None:
        if (offset := event.get_content_offset(self)) is None:
            return
        cells = 0
        for place in self._places(offset.y + round(self.scroll_offset.y)):
            cells += cell_len(self._glyphs[place])
            if cells > offset.x:
                return self._go(place)


def row_starts(tokens: Sequence[str], room: int) -> list[int]:
    """Return where rows of so many cells begin: after newlines, and where possible after spaces."""
    starts, cells, after_space = [0], 0, 0
    widths = [cell_len(glyph(token)) for token in tokens]
    for n, token in enumerate(tokens):
        if len(token) > 1 and token.startswith(" "):
            after_space = n  # the space belongs to the word
        if cells + widths[n] > room and n > starts[-1]:
            starts.append(after_space if after_space > starts[-1] else n)
            cells = sum(widths[starts[-1] : n])
        cells += widths[n]
        if token == " ":
            after_space = n + 1
        elif token.endswith("\n") and n + 1 < len(tokens):
            starts.append(n + 1)
            cells = 0
    return starts


class Alternatives(Rows):
    """Lists what the model expected at a place, with bars as long as the probabilities."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, compact=True)
        self.tokens: list[tuple[str, float]] = []
        self._came = 0

    def show(self, tokens: list[tuple[str, float]], came: int) -> None:
        """Show tokens and their probabilities, and which of them came; the cursor is on the likeliest other one."""
        self.tokens, self._came = tokens, came
        self.draw(len(tokens))
        self.highlighted = next((n for n in range(len(tokens)) if n != came), None)

    def row(self, place: int, width: int) -> Content:
        probability, came = self.tokens[place][1], place == self._came
        names = aligned([token for token, _ in self.tokens], 3)
        return Content.assemble(
            (f" {names[place]}", "bold $text-accent" if came else "bold"),
            f"{percent(probability):>8}  ",
            (bar(probability, width - 24 - cell_len(names[place])), "$text-accent" if came else "$text-primary"),
            (" in the text", FAINT) if came else "",
        )
