"""A chart draws whatever it is given, in any size, as cells for the console or as lines of text."""

import random
import re
from itertools import pairwise
from math import inf, nan

import pytest
from rich.segment import Segment
from rich.style import Style

from fundamentallm_tui.charts.chart import GUTTER, Chart, Line, draw, text_lines
from fundamentallm_tui.charts.series import Series

BRAILLE = {chr(code) for code in range(0x2801, 0x2900)}
STEPS = range(1, 101)
FALLING = Line(STEPS, [3.3 - 0.02 * step for step in STEPS])
AWKWARD = [nan, inf, -inf, 0.0, -0.0, -1.0, 5e-324, 1e-320, 1e99, -1e99, 3.4e38, 1e308, -1e308, 1.0, 1 + 1e-15]


def cells(chart: Chart, width: int = 58, height: int = 12) -> list[list[Segment]]:
    rows = draw(chart, width, height, lambda colour, strength=1.0: Style(meta={"ink": (colour, strength)}))
    assert [Segment.get_line_length(row) for row in rows] == [width] * height
    return rows


def drawn(chart: Chart, width: int = 58, height: int = 12) -> list[str]:
    return ["".join(cell.text for cell in row) for row in cells(chart, width, height)]


def inks(chart: Chart, characters: str) -> set[tuple[str, float]]:
    """The colours and strengths of the cells that show one of these characters."""
    found = [cell for row in cells(chart) for cell in row if cell.text in characters]
    return {cell.style.meta["ink"] for cell in found if cell.style}


def labels(rows: list[str]) -> list[str]:
    """The labels of y, from the top."""
    return [row[: row.index("┤")] for row in rows if "┤" in row]


def dotted(rows: list[str], characters: set[str] = BRAILLE) -> list[tuple[int, int]]:
    """The cells right of the axis of y that show some of these characters: row, column."""
    (edge,) = {row.index(mark) for row in rows for mark in "│┤" if mark in row}
    plot = [row[edge + 1 :] for row in rows if row[edge] in "│┤"]
    return [(y, x) for y, row in enumerate(plot) for x, cell in enumerate(row) if cell in characters]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("width", [26, 58])
def test_every_height_from_four_rows_has_three_labels_in_equally_wide_columns(width: int, log: bool) -> None:
    for height in range(4, 31):
        found = labels(drawn(Chart([FALLING], log=log), width, height))
        assert len(found) >= 3, f"{height} rows: {found}"
        assert {len(label) for label in found} == {GUTTER}
        values = [float(label) for label in found]
        assert values == sorted(set(values), reverse=True)


@pytest.mark.parametrize("height", [5, 6, 8, 12, 25])
def test_a_value_is_drawn_in_the_row_of_its_label(height: int) -> None:
    scale = Line([0, 100], [0.0, 10.0])
    for label in labels(drawn(Chart([scale]), 40, height)):
        flat = Line([1, 100], [float(label)] * 2)
        (row,) = [row for row in drawn(Chart([scale, flat]), 40, height) if row.startswith(label + "┤")]
        assert sum(cell in BRAILLE for cell in row) >= 30


def test_the_plot_stays_where_it_is_while_values_change() -> None:
    edges = set()
    for scale in (1e-5, 1e-3, 1.0, 30.0, 1e4, 1e30):
        rows = drawn(Chart([Line(STEPS, [scale * y for y in FALLING.y])]))
        edges |= {row.index("┤") for row in rows if "┤" in row}
    assert edges == {GUTTER}


@pytest.mark.parametrize("last", [3, 12, 99, 440, 1000, 12_345, 100_000, 3_000_000])
@pytest.mark.parametrize("width", [26, 40, 100])
def test_steps_are_labelled_in_round_numbers_that_neither_touch_nor_are_cut(last: int, width: int) -> None:
    name, *found = drawn(Chart([Line([1, last], [1, 2])], x_label="step"), width)[-1].split()
    assert name == "step"
    assert found[0] == "0" or last < 10
    assert len(found) >= 2
    values = [float(label.replace("k", "e3").replace("M", "e6")) for label in found]
    assert all(value.is_integer() for value in values)
    (distance,) = {round(b - a) for a, b in pairwise(values)}
    assert str(distance).rstrip("0") in {"1", "2", "25", "3", "4", "5", "6", "75", "8", "15"}


def test_without_data_there_is_one_dim_centred_line_and_no_text_to_print() -> None:
    for lines in ([], [Line([], [])], [Line([1, 2, 3], [nan, inf, -inf])]):
        chart = Chart(lines, empty="no steps yet")
        assert drawn(chart, 40, 9) == [" " * 40] * 4 + ["no steps yet".center(40)] + [" " * 40] * 4
        assert drawn(chart, 7, 1) == ["no ste…"]
        assert inks(chart, "steps") == {("foreground", 0.6)}
        assert text_lines(chart, 40, 9, colour=True, ascii=False) == []


@pytest.mark.parametrize(("count", "marks"), [(1, 1), (10, 10), (24, 24), (25, 13), (1000, 25)])
@pytest.mark.parametrize("joined", [True, False])
def test_points_are_marked_over_all_lines_and_the_newest_always(count: int, marks: int, joined: bool) -> None:
    steps = [100 * (k + 1) / count for k in range(count)]
    val = Line(steps, [2.0] * count, "accent", mark="■", joined=joined)
    rows = drawn(Chart([val, FALLING]), 58)
    found = dotted(rows, {"■"})
    assert len(found) == marks
    assert found[-1][1] == 58 - GUTTER - 2
    assert all(b - a >= 2 for (_, a), (_, b) in pairwise(found))
    assert (inks(Chart([val]), "".join(BRAILLE)) != set()) == (joined and count > 1)


def test_a_single_point_is_seen_a_constant_is_one_line_a_gap_is_empty_and_a_later_line_lies_over() -> None:
    for point in (Chart([Line([1], [3.2])]), Chart([Line([0, 5], [nan, 3.2])], log=True)):
        assert len(dotted(drawn(point), {"•"})) == 1
    for value in (0.0, 0.001, -3.0, 1e30):
        found = dotted(drawn(Chart([Line(STEPS, [value] * 100)])))
        assert len({row for row, _ in found}) == 1
        assert len(found) >= 58 - GUTTER - 3
    ys = [nan if 40 <= step <= 60 else y for step, y in zip(STEPS, FALLING.y, strict=True)]
    columns = {column for _, column in dotted(drawn(Chart([Line(STEPS, ys)]), 108))}
    assert columns == {*range(1, 40), *range(61, 100)}
    both = Chart([Line(STEPS, FALLING.y, strength=0.5), Line(STEPS, FALLING.y, "accent")])
    assert inks(both, "".join(BRAILLE)) == {("accent", 1.0)}


def test_no_number_is_too_odd_and_no_size_too_small_to_draw() -> None:
    rng = random.Random(11)
    nothing = [Line([], []), Line([1, 2], [nan, nan], mark="•"), Line([nan, inf], [1, 2])]
    for trial in range(150):
        ys = [rng.choice((*AWKWARD, rng.gauss(2, 1))) for _ in range(rng.choice((1, 2, 30)))]
        xs = [rng.choice((0, 500, 1e6, 1e17)) + 1000 * k for k in range(len(ys))]
        line = Line(sorted(xs), ys, mark=rng.choice(("", "●")), joined=rng.random() < 0.8)
        chart = Chart([line, *nothing], log=trial % 2 == 1)
        rows = drawn(chart)
        said = any(text in "".join(rows) for text in ("nothing to draw yet", "no value above 0"))
        assert said != (len(labels(rows)) >= 3)
        ascii = text_lines(chart, 58, 12, colour=trial % 3 == 1, ascii=True)
        assert len(ascii) in (0, 12) and "".join(ascii).isascii()
    for width, height in [(1, 1), (2, 9), (15, 3), (16, 2), (16, 3), (17, 4), (120, 1), (120, 2), (300, 60)]:
        drawn(Chart([FALLING]), width, height)
        drawn(Chart(), width, height)


def test_a_long_series_is_drawn_from_few_points_with_all_of_its_peaks() -> None:
    steps, losses = range(1, 200_001), [2.0 if step % 50_000 else 9.0 for step in range(1, 200_001)]
    series = Series()
    series.extend(steps, losses)
    reduced = Line(*series.reduced(2 * (100 - GUTTER - 1)))
    assert len(reduced.x) <= 4 * (100 - GUTTER - 1)
    text = text_lines(Chart([Line(steps, losses)]), 100, 25, colour=False, ascii=False)
    for rows in (drawn(Chart([reduced]), 100, 25), text):
        found = dotted(rows[:-2])
        peaks = sorted(column for row, column in found if row == found[0][0])
        assert 1 + sum(b - a > 1 for a, b in pairwise(peaks)) == 4


def test_lines_of_text_are_the_same_picture_in_colours_without_and_in_ascii() -> None:
    chart = Chart([FALLING, Line([50, 100], [2.3, 1.3], "dark_orange", mark="■", joined=False)], x_label="step")
    plain = text_lines(chart, 58, 12, colour=False, ascii=False)
    assert plain == [row.rstrip() for row in drawn(chart)]
    coloured = text_lines(chart, 58, 12, colour=True, ascii=False)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in coloured] == plain
    assert any("\x1b[38;5;208m■" in line for line in coloured)
    letters = text_lines(chart, 58, 12, colour=False, ascii=True)
    assert "".join(letters).isascii() and [len(line) for line in letters] == [len(line) for line in plain]
    assert sum(line.count("x") for line in letters) == 2
