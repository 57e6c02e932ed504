"""A chart on the screen is drawn no more often than it must be, and in the theme's colours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.color import Color
from textual.pilot import Pilot

from fundamentallm_tui.charts import panes
from fundamentallm_tui.charts.chart import Chart, Line, draw
from fundamentallm_tui.charts.panes import ChartView

FALLING = Line(range(1, 101), [3.3 - 0.02 * step for step in range(1, 101)])


def named(name: str) -> Chart:
    return Chart([FALLING], x_label=name)


class Gallery(App[None]):
    """Nothing but one chart."""

    def __init__(self, chart: Chart) -> None:
        super().__init__()
        self.view = ChartView(chart)

    def compose(self) -> ComposeResult:
        yield self.view

    @property
    def segments(self) -> list[Segment]:
        return [segment for y in range(self.view.size.height) for segment in self.view.render_line(y)]

    def colours(self, characters: str) -> set[str]:
        """Those of the cells that show one of these characters."""
        styles = [segment.style for segment in self.segments if set(segment.text) & set(characters)]
        return {Color.from_rich_color(style.color).hex for style in styles if style and style.color}

    def theme_colour(self, name: str) -> str:
        return Color.parse(self.theme_variables[name]).hex


@asynccontextmanager
async def shown(chart: Chart) -> AsyncIterator[tuple[Gallery, Pilot[None]]]:
    app = Gallery(chart)
    async with app.run_test(size=(58, 12)) as pilot:
        yield app, pilot


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of x of every chart that was really drawn."""
    made: list[str] = []

    def counted(chart: Chart, *others: Any) -> Any:
        made.append(chart.x_label)
        return draw(chart, *others)

    monkeypatch.setattr(panes, "draw", counted)
    return made


async def test_it_is_drawn_once_for_each_chart_size_and_theme(drawings: list[str]) -> None:
    async with shown(named("first")) as (app, pilot):
        assert drawings == ["first"]
        app.view.show(Chart([Line(range(1, 101), list(FALLING.y))], x_label="first"))
        app.view.refresh()
        await pilot.pause()
        assert drawings == ["first"], "an equal chart is not drawn again"
        app.view.show(named("second"))
        await pilot.pause()
        assert drawings == ["first", "second"]
        app.view.styles.width = 40
        await pilot.pause()
        assert len(drawings) == 3
        app.theme = "textual-light"
        await pilot.pause()
        assert len(drawings) > 3


async def test_a_hidden_chart_is_not_drawn_until_it_is_shown(drawings: list[str]) -> None:
    async with shown(named("first")) as (app, pilot):
        app.view.display = False
        await pilot.pause()
        drawings.clear()
        for number in range(5):
            app.view.show(named(f"hidden {number}"))
            await pilot.pause()
        assert drawings == []
        app.view.display = True
        await pilot.pause()
        assert drawings == ["hidden 4"]


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "solarized-light", "nord", "ansi-dark"])
async def test_a_theme_reaches_every_cell_and_an_unknown_colour_is_the_texts(theme: str) -> None:
    lines = [Line([1, 100], [2, 2], "accent", mark="V"), Line([1, 100], [3, 3], "no such colour", mark="?")]
    async with shown(Chart(lines)) as (app, pilot):
        app.theme = theme
        await pilot.pause()
        assert app.colours("V") == {app.theme_colour("accent")}
        assert app.colours("?") == {app.theme_colour("foreground")}
        papers = [segment.style.bgcolor if segment.style else None for segment in app.segments]
        assert {Color.from_rich_color(paper).hex for paper in papers} == {app.view.background_colors[1].hex}
