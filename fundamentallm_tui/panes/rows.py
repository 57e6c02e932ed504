"""A list with a cursor whose items are drawn when they come into sight: thousands cost no more than a screenful."""

from collections.abc import Sequence
from itertools import zip_longest

from textual.content import Content
from textual.css.styles import RulesMap
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widgets import OptionList

from fundamentallm_tui import keys


class Row(Visual):
    """An item, by its place in the list."""

    def __init__(self, rows: "Rows", place: int) -> None:
        self._rows, self._place = rows, place

    def get_height(self, rules: RulesMap, width: int) -> int:
        return self._rows.row_height(self._place, width)

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        return container_width

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        return self._rows.row(self._place, width).render_strips(width, height, style, options)


def side_by_side(blocks: Sequence[Sequence[Content]], width: int, gap: int) -> list[Content]:
    """Return blocks of lines beside one another, each in so many cells."""
    rows = zip_longest(*blocks, fillvalue=Content(""))
    return [Content(" " * gap).join(line.pad_right(width - line.cell_length) for line in row) for row in rows]


class Rows(OptionList, inherit_bindings=False):
    """Shows what `row` draws. A click moves the cursor only, and enter is left to the screen."""

    BINDINGS = keys.bindings(keys.LIST)

    def row(self, place: int, width: int) -> Content:
        """Draw the item at a place."""
        raise NotImplementedError

    def row_height(self, place: int, width: int) -> int:
        """Return how many lines `row` takes."""
        return 1

    def draw(self, count: int, *, changed: bool = True) -> None:
        """Draw so many items, as far as they are in sight; `changed`: also those that were there before."""
        if count < self.option_count:
            self.clear_options()
        self.add_options(Row(self, place) for place in range(self.option_count, count))
        if count and changed:
            self.replace_option_prompt_at_index(0, Row(self, 0))  # which forgets all that was drawn

    def action_select(self) -> None:
        """A click does no more than move the cursor."""
