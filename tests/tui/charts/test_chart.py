"""A chart draws whatever it is given, in any size, as cells for the console or as lines of text."""

import random
import re
from itertools import pairwise
from math import inf, isfinite, nan

import pytest
from rich.segment import Segment
from rich.style import Style

from fundamentallm_tui.charts.axes import y_axis
from fundamentallm_tui.charts.chart import GUTTER, Chart, Line, Rule, draw, lay_out, text_lines
from fundamentallm_tui.charts.series import Series

DOTS = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))  # bits by column and row from the bottom
BRAILLE = {chr(code) for code in range(0x2801, 0x2900)}
STEPS = range(1, 101)
FALLING = Line(STEPS, [3.3 - 0.02 * step for step in STEPS])
AWKWARD = [nan, inf, -inf, 0.0, -0.0, -1.0, 5e-324, 1e-320, 1e99, -1e99, 3.4e38, 1e308, -1e308, 1.0, 1 + 1e-15]


def cells(chart: Chart, width: int = 58, height: int = 12) -> list[list[Segment]]:
    rows = draw(chart, width, height, lambda colour, strength=1.0: Style(meta={"ink": (colour, strength)}))
    assert [Segment.get_line_length(row) for row in rows] == [width] * height
    assert all(before.style is not after.style for row in rows for before, after in pairwise(row))
    return [[Segment(cell, style) for text, style, _ in row for cell in text] for row in rows]


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


def test_labels_of_y_are_equally_many_rows_apart_whatever_the_range() -> None:
    rng = random.Random(5)
    for trial in range(300):
        low = rng.uniform(-3, 3) * 10 ** rng.randint(-6, 6)
        ys = [low, low + abs(low) * 10 ** rng.uniform(-4, 2)]
        log, height = trial % 2 == 1 and low > 0, rng.randint(4, 60)
        rows = drawn(Chart([Line([0, 1], ys)], log=log), 40, height)
        at = [row for row, text in enumerate(rows) if "┤" in text]
        assert len(at) >= 3 and (log or len({b - a for a, b in pairwise(at)}) == 1), rows
        used = [row for row, _ in dotted(rows)]
        assert height < 14 or max(used) - min(used) >= height / 2, "the curve fills most of the height"


@pytest.mark.parametrize(
    ("ys", "expected"),
    [
        ([1, 64], ["64", "16", "4", "1"]), ([1e-5, 1], ["1", "0.01", "0.0001"]),
        ([1.1, 3.9], ["4", "3", "2"]),
        ([0.35, 0.72], ["0.7", "0.6", "0.5", "0.4"]),
    ],
)  # fmt: skip
def test_a_log_axis_is_labelled_by_powers_of_two_or_ten_and_a_short_one_by_round_values(
    ys: list[float], expected: list[str]
) -> None:
    found = [label.strip() for label in labels(drawn(Chart([Line([0, 1], ys)], log=True), 40, 20))]
    assert found == expected


SPIKY = [2 - step / 200 + (7 if step == 70 else 0) for step in range(100)]


def test_of_arrows_that_stand_close_one_has_the_farthest_value_whole() -> None:
    lines = [Line([0, 99], [9.5, 2.0]), Line([5, 99], [9.7, 2.0])]
    row = drawn(Chart(lines, y_range=(1.6, 2.1)), 80, 15)[0]
    assert row.count("↑") == 1 and row.index("↑9.70") == GUTTER + 1 + 72 * 5 // 99


def test_the_label_of_a_point_at_the_right_edge_stands_above_or_below_its_curve() -> None:
    rows = drawn(Chart([Line(STEPS, [2.0] * 99 + [2.01], label="2.010", mark="★"), Line([1, 100], [1, 3])]))
    assert "2.010" in "".join(rows) and not any("★" in row and "2.010" in row for row in rows)


def test_what_lies_beyond_the_height_is_indicated_at_the_edge_with_its_value() -> None:
    steep = [9.5 if step < 3 else y for step, y in enumerate(SPIKY)]
    rows = drawn(Chart([Line(range(100), steep)], y_range=(1.6, 2.1)), 80, 15)
    assert rows[0].count("↑") == 2 and "↑9.50" in rows[0] and "↑8.65" in rows[0]
    assert rows[0].index("↑9.50") == GUTTER + 1
    assert abs(rows[0].index("↑8.65") - (GUTTER + 1 + 72 * 70 / 99)) < 1
    low = drawn(Chart([Line(range(100), [-y for y in SPIKY])], y_range=(-2.1, -1.5)), 80, 15)
    assert "↓-8.65" in low[-3] and "↑" not in "".join(low)
    speeds = drawn(Chart([Line([0, 1, 2], [24e3, 25e3, 19_782])], y_range=(23e3, 25e3)), 80, 15)
    assert "↓19.8k" in speeds[-3]
    whole = drawn(Chart([Line(range(100), steep)]), 80, 15)
    assert not {"↑", "↓"} & set("".join(whole))


def test_every_point_in_sight_sets_its_own_dot_also_where_the_line_leaves_the_picture() -> None:
    rng = random.Random(3)
    for _ in range(40):
        xs = sorted(rng.sample(range(-20, 80), 30))
        ys = [rng.choice((nan, *[rng.uniform(-30, 70)] * 9)) for _ in xs]
        chart = Chart([Line(xs, ys)], x_range=(0, 60), y_range=(0, 40))
        rows, plot = drawn(chart, 38, 12), lay_out(chart, 38, 12)
        assert plot is not None
        for x, y in zip(xs, ys, strict=True):
            # arrows of what lies outside are written into the first and the last row
            if 0 <= x <= 60 and isfinite(y) and 0 < plot.y.share(y) * plot.rows - 1 < plot.rows - 2:
                column, row = plot.x.cell(x, 2 * plot.columns), plot.y.cell(y, 4 * plot.rows)
                lit = ord(rows[plot.rows - 1 - row // 4][plot.left + column // 2])
                assert lit & DOTS[column % 2][row % 4], (x, y)


def dots(rows: list[str]) -> int:
    return sum((ord(cell) - 0x2800).bit_count() for row in rows for cell in row if cell in BRAILLE)


def test_a_dotted_line_has_every_second_dot_and_a_label_stands_beside_its_point() -> None:
    full, half = (dots(drawn(Chart([Line([0, 99], [1, 1], dotted=dotted)]))) for dotted in (False, True))
    assert (full, half) == (100, 50)
    best = Line([60], [1.5], "accent", mark="★", label="1.500")
    rows = drawn(Chart([FALLING, best]))
    (row,) = [row for row in rows if "★" in row]
    assert "★ 1.500" in row
    edge = drawn(Chart([FALLING, Line([100], [1.3], mark="★", label="1.300")]))
    assert any("1.300" in row for row in edge), "also where it does not fit on the right"


def test_rules_lie_behind_curves_marks_on_the_axis_and_a_crosshair_over_the_height() -> None:
    rules = [Rule(25), Rule(50, "warning", 0.5, "◆", "┊"), Rule(75, mark="▴", line=""), Rule(400)]
    chart = Chart([FALLING], rules=rules, crosshair=10)
    rows = drawn(chart)
    for mark, columns in {"│": {5, 12}, "┊": {25}}.items():
        assert {at for row in rows[:-2] for at, cell in enumerate(row[GUTTER + 1 :]) if cell == mark} == columns
    assert [rows[-2].index(mark) - GUTTER - 1 for mark in "◆▴"] == [25, 37]
    assert inks(chart, "◆") == {("warning", 0.6)}
    assert dots(rows) == dots(drawn(Chart([FALLING]))), "no dot is lost"


def test_a_log_scale_says_in_words_what_it_leaves_out() -> None:
    assert any("no value above 0 for a log scale" in row for row in drawn(Chart([Line([1, 2], [0, -1])], log=True)))
    some = Chart([Line([1, 2, 3], [0, 1, 8])], log=True)
    assert any("0 and less have no place on a log scale" in row for row in drawn(some))
    assert not any("have no place" in row for row in drawn(Chart([FALLING], log=True)))


def test_time_is_labelled_in_seconds_minutes_hours_and_days() -> None:
    ends = {40: "20s", 600: "5m", 5400: "30m", 30_000: "2h", 200_000: "1d"}
    for end, label in ends.items():
        assert label in drawn(Chart([Line([0, end], [1, 2])], x_label="time"))[-1].split(), end


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
def test_points_are_marked_over_all_lines_and_the_newest_always(count: int, marks: int) -> None:
    steps = [100 * (k + 1) / count for k in range(count)]
    val = Line(steps, [2.0] * count, "accent", mark="■")
    rows = drawn(Chart([val, FALLING]), 58)
    found = dotted(rows, {"■"})
    assert len(found) == marks
    assert found[-1][1] == 58 - GUTTER - 2
    assert all(b - a >= 2 for (_, a), (_, b) in pairwise(found))
    assert (inks(Chart([val]), "".join(BRAILLE)) != set()) == (count > 1)


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
        line = Line(sorted(xs), ys, mark=rng.choice(("", "●")))
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
    chart = Chart([FALLING, Line([50, 100], [2.3, 1.3], "dark_orange", mark="■")], x_label="step")
    plain = text_lines(chart, 58, 12, colour=False, ascii=False)
    assert plain == [row.rstrip() for row in drawn(chart)]
    coloured = text_lines(chart, 58, 12, colour=True, ascii=False)
    assert [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in coloured] == plain
    assert any("\x1b[38;5;208m■" in line for line in coloured)
    letters = text_lines(chart, 58, 12, colour=False, ascii=True)
    assert "".join(letters).isascii() and [len(line) for line in letters] == [len(line) for line in plain]
    assert sum(line.count("x") for line in letters) == 2


@pytest.mark.parametrize("rows", [16, 24, 37, 60])
def test_a_high_chart_has_a_label_each_four_to_six_rows(rows: int) -> None:
    for low, high in ((1.2, 4.0), (0.0, 1e-3), (1.49, 1.52), (20_000, 26_000)):
        labelled = sorted(y_axis(low, high, False, rows)[1])
        assert {b - a for a, b in pairwise(labelled)} <= {4, 5, 6} and len(labelled) >= rows // 6


def test_a_low_chart_begins_a_row_lower_where_that_leaves_less_room_above() -> None:
    assert y_axis(0.0001, 0.001, False, 7)[1] == {0: "0.0000", 3: "0.0005", 6: "0.0010"}
