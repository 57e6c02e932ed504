"""What a chart promises: it draws whatever it is given, calmly, in any size and theme."""

import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from rich.segment import Segment
from textual.app import App, ComposeResult
from textual.color import Color
from textual.pilot import Pilot
from textual.strip import Strip

import fundamentallm_tui
from fundamentallm_tui.charts import chart as module
from fundamentallm_tui.charts.chart import GUTTER, Chart, ChartView, Line
from fundamentallm_tui.charts.series import Series

BRAILLE = {chr(code) for code in range(0x2801, 0x2900)}
STEPS = range(1, 101)
FALLING = Line(STEPS, [3.3 - 0.02 * step for step in STEPS])


class Gallery(App[None]):
    """Nothing but one chart."""

    def __init__(self, chart: Chart, width: int, height: int) -> None:
        super().__init__()
        self.view = ChartView(chart)
        self.view.styles.width, self.view.styles.height = width, height

    def compose(self) -> ComposeResult:
        yield self.view

    @property
    def rows(self) -> list[str]:
        return [self.view.render_line(y).text for y in range(self.view.size.height)]

    @property
    def segments(self) -> list[Segment]:
        return [segment for y in range(self.view.size.height) for segment in self.view.render_line(y)]

    def colours(self, characters: str) -> set[str]:
        """Those of the cells that show one of these characters."""
        styles = [segment.style for segment in self.segments if set(segment.text) & set(characters)]
        return {Color.from_rich_color(style.color).hex for style in styles if style and style.color}

    def backgrounds(self) -> set[str]:
        styles = [segment.style for segment in self.segments]
        return {Color.from_rich_color(style.bgcolor).hex if style and style.bgcolor else "none" for style in styles}

    def theme_colour(self, name: str) -> str:
        return Color.parse(self.theme_variables[name]).hex


@asynccontextmanager
async def shown(chart: Chart, width: int = 58, height: int = 12) -> AsyncIterator[tuple[Gallery, Pilot[None]]]:
    app = Gallery(chart, width, height)
    async with app.run_test(size=(width, height)) as pilot:
        yield app, pilot


async def drawn(chart: Chart, width: int = 58, height: int = 12) -> list[str]:
    async with shown(chart, width, height) as (app, _):
        rows = app.rows
    assert [len(row) for row in rows] == [width] * height
    return rows


def labels(rows: list[str]) -> list[str]:
    """The labels of y, from the top."""
    return [row[: row.index("┤")] for row in rows if "┤" in row]


def plot(rows: list[str]) -> list[str]:
    """What is right of the axis of y."""
    (edge,) = {row.index(mark) for row in rows for mark in "│┤" if mark in row}
    return [row[edge + 1 :] for row in rows if row[edge] in "│┤"]


def dotted(rows: list[str], characters: set[str] = BRAILLE) -> list[tuple[int, int]]:
    """The cells of the plot that show some of these characters: row, column."""
    return [(y, x) for y, row in enumerate(plot(rows)) for x, cell in enumerate(row) if cell in characters]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("width", [26, 58])
async def test_every_height_from_five_rows_has_three_labels_in_equally_wide_columns(width: int, log: bool) -> None:
    for height in range(5, 31):
        chart = Chart("loss", [FALLING], log=log)
        found = labels(await drawn(chart, width, height))
        assert len(found) >= 3, f"{height} rows: {found}"
        assert {len(label) for label in found} == {GUTTER}
        values = [float(label) for label in found]
        assert values == sorted(set(values), reverse=True)


@pytest.mark.parametrize("height", [5, 6, 8, 12, 25])
async def test_a_value_is_drawn_in_the_row_of_its_label(height: int) -> None:
    scale = Line([0, 100], [0.0, 10.0])
    for row, label in enumerate(labels(rows := await drawn(Chart(lines=[scale]), 40, height))):
        flat = Line([1, 100], [float(label)] * 2, "accent")
        async with shown(Chart(lines=[scale, flat]), 40, height) as (app, _):
            line = [row for row in app.rows if row.startswith(label + "┤")]
            assert len(line) == 1, f"label {row} of {rows}"
            assert sum(cell in BRAILLE for cell in line[0]) >= 30


async def test_the_plot_stays_where_it_is_while_values_change() -> None:
    edges = set()
    for scale in (1e-5, 1e-3, 1.0, 30.0, 1e4, 1e30):
        rows = await drawn(Chart(lines=[Line(STEPS, [scale * y for y in FALLING.y])]))
        edges |= {row.index("┤") for row in rows if "┤" in row}
    assert edges == {GUTTER}


@pytest.mark.parametrize("last", [3, 12, 99, 440, 1000, 12_345, 100_000, 3_000_000])
@pytest.mark.parametrize("width", [26, 40, 100])
async def test_steps_are_labelled_in_round_numbers_that_neither_touch_nor_are_cut(last: int, width: int) -> None:
    rows = await drawn(Chart(lines=[Line([1, last], [1, 2])], x_label="step"), width)
    name, *found = rows[-1].split()
    assert name == "step"
    assert found[0] == "0" or last < 10
    assert len(found) >= 2
    values = [float(label.replace("k", "e3").replace("M", "e6")) for label in found]
    assert all(value.is_integer() for value in values)
    distances = {round(b - a) for a, b in pairwise(values)}
    assert len(distances) == 1
    assert str(distances.pop()).rstrip("0") in {"1", "2", "25", "3", "4", "5", "6", "75", "8", "15"}


async def test_without_data_there_is_one_dim_centred_line() -> None:
    for lines in ([], [Line([], [])], [Line([1, 2, 3], [nan, inf, -inf])]):
        async with shown(Chart(lines=lines, empty="no steps yet"), 40, 9) as (app, _):
            assert app.rows == [" " * 40] * 4 + ["no steps yet".center(40)] + [" " * 40] * 4
            (colour,) = app.colours("steps")
            dim = app.view.background_colors[1].blend(Color.parse(app.theme_variables["foreground"]), 0.5)
            assert colour == dim.hex


async def test_a_title_that_does_not_fit_ends_in_an_ellipsis() -> None:
    rows = await drawn(Chart([("train 1.5", "foreground"), ("  val 1.6", "accent")], [FALLING]), 26)
    assert rows[0] == "train 1.5  val 1.6".ljust(26)
    rows = await drawn(Chart([("train 1.5", "foreground"), ("  val 1.6 of many", "accent")], [FALLING]), 20)
    assert rows[0] == "train 1.5  val 1.6 …"


async def test_a_title_names_the_lines_in_their_colours() -> None:
    async with shown(Chart([("train", "foreground"), (" VXZ", "accent"), (" ?", "no such colour")])) as (app, _):
        assert app.colours("VXZ") == {app.theme_colour("accent")}
        assert app.colours("?") == {app.theme_colour("foreground")}


async def test_a_later_line_takes_over_the_cells_that_it_shares() -> None:
    train, val = Line(STEPS, FALLING.y, strength=0.5), Line(STEPS, FALLING.y, "accent")
    async with shown(Chart(lines=[train, val])) as (app, _):
        assert app.colours("".join(BRAILLE)) == {app.theme_colour("accent")}


@pytest.mark.parametrize(("count", "marks"), [(1, 1), (10, 10), (24, 24), (25, 13), (1000, 25)])
async def test_points_are_marked_over_all_lines_and_the_newest_always(count: int, marks: int) -> None:
    steps = [100 * (k + 1) / count for k in range(count)]
    val = Line(steps, [2.0] * count, "accent", points=True)
    rows = await drawn(Chart(lines=[val, FALLING]), 58)
    found = dotted(rows, {"•"})
    assert len(found) == marks
    assert found[-1][1] == 58 - GUTTER - 2
    assert all(b - a >= 2 for (_, a), (_, b) in pairwise(found))


async def test_a_single_point_is_seen() -> None:
    assert len(dotted(await drawn(Chart(lines=[Line([1], [3.2])])), {"•"})) == 1
    assert len(dotted(await drawn(Chart(lines=[Line([0, 5], [nan, 3.2])], log=True)), {"•"})) == 1


async def test_a_constant_series_is_one_straight_line() -> None:
    for value in (0.0, 0.001, -3.0, 1e30):
        cells = dotted(await drawn(Chart(lines=[Line(STEPS, [value] * 100)])))
        assert len({row for row, _ in cells}) == 1
        assert len(cells) >= 58 - GUTTER - 3


async def test_a_gap_is_left_empty() -> None:
    ys = [nan if 40 <= step <= 60 else y for step, y in zip(STEPS, FALLING.y, strict=True)]
    columns = {column for _, column in dotted(await drawn(Chart(lines=[Line(STEPS, ys)]), 108))}
    assert columns == {*range(1, 40), *range(60, 100)}


async def test_ends_of_epochs_are_faint_and_never_a_fence() -> None:
    for markers in ([25, 50, 75], list(range(1, 101)), [nan, inf, -5, 200]):
        async with shown(Chart(lines=[FALLING], markers=markers)) as (app, _):
            columns = {column for _, column in dotted(app.rows, {"┊"})}
            assert len(columns) == {3: 3, 100: 8, 4: 0}[len(markers)]
            assert all(b - a >= 6 for a, b in pairwise(sorted(columns)))
            faint = app.view.background_colors[1].blend(Color.parse(app.theme_variables["foreground"]), 0.2)
            assert app.colours("┊") <= {faint.hex}


AWKWARD = [nan, inf, -inf, 0.0, -0.0, -1.0, 5e-324, 1e-320, 1e99, -1e99, 3.4e38, 1e308, -1e308, 1.0, 1 + 1e-15]


async def test_no_number_is_too_odd_to_draw() -> None:
    generator = random.Random(11)
    nothing = [Line([], []), Line([1, 2], [nan, nan], points=True), Line([nan, inf], [1, 2])]
    async with shown(Chart(), 58, 12) as (app, _):
        for trial in range(150):
            ys = [generator.choice((*AWKWARD, generator.gauss(2, 1))) for _ in range(generator.choice((1, 2, 30)))]
            xs = [generator.choice((0, 500, 1e6, 1e17)) + 1000 * k for k in range(len(ys))]
            line = Line(sorted(xs), ys, points=generator.random() < 0.5)
            app.view.show(Chart(str(trial), [line, *nothing], generator.choices(AWKWARD, k=3), log=trial % 2 == 1))
            rows = app.rows
            assert len(rows) == 12 and {len(row) for row in rows} == {58}
            assert ("nothing to draw yet" in "".join(rows)) != (len(labels(rows)) >= 3)


async def test_no_size_is_too_small_to_draw() -> None:
    for width, height in [(1, 1), (2, 9), (15, 3), (16, 2), (16, 3), (17, 4), (120, 1), (120, 2), (300, 60)]:
        await drawn(Chart("title", [FALLING]), width, height)
        await drawn(Chart("title"), width, height)


async def test_a_long_series_is_drawn_from_few_points_with_all_of_its_peaks() -> None:
    series = Series()
    series.extend(range(1, 200_001), (2.0 if step % 50_000 else 9.0 for step in range(1, 200_001)))
    async with shown(Chart(), 100, 25) as (app, _):
        xs, ys = series.reduced(app.view.columns)
        assert len(xs) <= 2 * app.view.columns == 4 * (100 - GUTTER - 1)
        app.view.show(Chart(lines=[Line(xs, ys)]))
        cells = dotted(app.rows)
        peaks = sorted(column for row, column in cells if row == cells[0][0])
        assert 1 + sum(b - a > 1 for a, b in pairwise(peaks)) == 4


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> list[Chart]:
    """Every chart that was really drawn."""
    made: list[Chart] = []
    draw = module._draw

    def counted(chart: Chart, *others: Any) -> list[Strip]:
        made.append(chart)
        return draw(chart, *others)

    monkeypatch.setattr(module, "_draw", counted)
    return made


async def test_it_is_drawn_once_for_each_chart_size_and_theme(drawings: list[Chart]) -> None:
    async with shown(Chart("first", [FALLING])) as (app, pilot):
        assert len(drawings) == 1
        app.view.show(Chart("first", [Line(range(1, 101), list(FALLING.y))]))
        app.view.refresh()
        await pilot.pause()
        assert len(drawings) == 1, "an equal chart is not drawn again"
        app.view.show(Chart("second", [FALLING]))
        await pilot.pause()
        assert [chart.title for chart in drawings] == ["first", "second"]
        app.view.styles.width = 40
        await pilot.pause()
        assert len(drawings) == 3
        app.theme = "textual-light"
        await pilot.pause()
        assert len(drawings) > 3


async def test_a_hidden_chart_is_not_drawn_until_it_is_shown(drawings: list[Chart]) -> None:
    async with shown(Chart("first", [FALLING])) as (app, pilot):
        app.view.display = False
        await pilot.pause()
        drawings.clear()
        for number in range(5):
            app.view.show(Chart(f"hidden {number}", [FALLING]))
            await pilot.pause()
        assert drawings == []
        app.view.display = True
        await pilot.pause()
        assert [chart.title for chart in drawings] == ["hidden 4"]


@pytest.mark.parametrize("theme", ["textual-light", "solarized-light", "nord", "ansi-dark"])
async def test_a_theme_reaches_every_cell(theme: str) -> None:
    line = Line(STEPS, FALLING.y, "accent")
    async with shown(Chart([("V", "accent")], [line], markers=[50])) as (app, pilot):
        app.theme = theme
        await pilot.pause()
        assert app.colours("V") == app.colours("".join(BRAILLE)) == {app.theme_colour("accent")}
        assert app.backgrounds() == {app.view.background_colors[1].hex}


def test_plotext_is_imported_in_one_place_only_and_not_before_there_is_something_to_draw() -> None:
    sources = Path(fundamentallm_tui.__file__).parent.rglob("*.py")
    lines = [(path.name, line) for path in sources for line in path.read_text(encoding="utf-8").splitlines()]
    imports = [(name, line.index("import")) for name, line in lines if re.match(r"\s*(import|from) plotext", line)]
    assert imports == [("chart.py", 4)]
