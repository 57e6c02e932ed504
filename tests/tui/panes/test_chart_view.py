"""A chart on the screen is drawn no more often than it must be, and in the theme's colours."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.color import Color
from textual.geometry import Region
from textual.pilot import Pilot

from fundamentallm_tui.charts.chart import Chart, Line, Rule, draw
from fundamentallm_tui.panes import chart_view
from fundamentallm_tui.panes.chart_view import ChartView
from fundamentallm_tui.theme import Styles


def named(name: str) -> Chart:
    return Chart([Line(range(1, 101), [3.3 - 0.02 * step for step in range(1, 101)])], x_label=name)


class Gallery(App[None]):
    """Nothing but one chart."""

    def __init__(self, chart: Chart) -> None:
        super().__init__()
        self.chart = chart
        self.view = ChartView(lambda: self.chart)

    def show(self, chart: Chart) -> None:
        self.chart = chart
        self.view.redraw()

    def compose(self) -> ComposeResult:
        yield self.view


@asynccontextmanager
async def shown(chart: Chart) -> AsyncIterator[tuple[Gallery, Pilot[None]]]:
    app = Gallery(chart)
    async with app.run_test(size=(58, 12)) as pilot:
        yield app, pilot


async def test_it_is_drawn_once_for_each_chart_size_and_theme_and_not_while_it_is_hidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawings: list[str] = []

    def counted(chart: Chart, *others: Any) -> Any:
        drawings.append(chart.x_label)
        return draw(chart, *others)

    monkeypatch.setattr(chart_view, "draw", counted)
    async with shown(named("first")) as (app, pilot):
        app.show(named("first"))
        app.view.refresh()
        await pilot.pause()
        assert drawings == ["first"], "an equal chart is not drawn again"
        app.show(named("second"))
        await pilot.pause()
        assert drawings == ["first", "second"]
        app.view.styles.width = 40
        await pilot.pause()
        assert len(drawings) == 3
        app.theme = "textual-light"
        await pilot.pause()
        assert len(drawings) > 3
        app.view.display = False
        await pilot.pause()
        drawings.clear()
        app.chart = named("hidden")
        app.view.refresh()
        await pilot.pause()
        assert drawings == []
        app.view.display = True
        await pilot.pause()
        assert drawings == ["hidden"], "the chart of now, in the first frame"


async def test_only_the_rows_that_changed_are_written_to_the_terminal_again(monkeypatch: pytest.MonkeyPatch) -> None:
    refreshed: list[Region] = []
    async with shown(named("step")) as (app, pilot):
        await pilot.pause()
        monkeypatch.setattr(app.view, "refresh", lambda *regions: refreshed.extend(regions))
        app.show(named("step"))
        assert refreshed == []
        app.show(named("loss"))
        assert refreshed == [Region(0, 11, 58, 1)], "the row with the name of x"
        refreshed.clear()
        app.show(replace(named("loss"), rules=[Rule(50, mark="◆", line="")]))
        assert refreshed == [Region(0, 10, 58, 1)]


async def test_a_new_theme_forgets_the_old_styles_before_anything_is_drawn_anew() -> None:
    async with shown(Chart([])) as (app, _):
        styles = Styles(app.view)
        old = styles("accent").color
        app.theme = "nord"
        app.refresh_css()
        app.theme_changed_signal.publish(app.current_theme)  # what Textual calls one after the other
        new = Color.parse(app.theme_variables["accent"]).rich_color
        assert styles("accent").color == new != old
