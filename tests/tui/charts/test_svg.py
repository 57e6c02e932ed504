"""A chart as SVG: well-formed whatever it is given, with points, axes, labels and legend where their numbers say."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from math import inf, nan

import pytest

from fundamentallm_tui.charts.chart import Chart, Line, Rule
from fundamentallm_tui.charts.palette import RunStyle
from fundamentallm_tui.charts.runs import Entry
from fundamentallm_tui.charts.svg import ACROSS, CHARACTER, DOWN, INKS, LEFT, TOP, WIDTH, to_svg
from tests.tui.charts.test_palette import shares
from tests.tui.colours import contrast

NUMBER = r"-?\d+(?:\.\d+)?"


class Picture:
    """A picture as its elements."""

    def __init__(self, chart: Chart, title: str = "Loss", entries: tuple[Entry, ...] = ()) -> None:
        self.root = ET.fromstring(to_svg(chart, title, entries))
        self.height = float(self.root.get("height", ""))
        texts = self._all("text")
        self.texts = [(text.text or "", float(text.get("x", "")), float(text.get("y", ""))) for text in texts]

    def _all(self, tag: str) -> list[ET.Element]:
        return list(self.root.iter(f"{{http://www.w3.org/2000/svg}}{tag}"))

    def curves(self, colour: str) -> list[list[tuple[float, float]]]:
        """The joined points of each stretch of this colour."""
        found = [path for path in self._all("path") if path.get("stroke") == colour and path.get("fill") == "none"]
        points = [re.findall(f"({NUMBER}),({NUMBER})", path.get("d", "")) for path in found]
        return [[(float(x), float(y)) for x, y in pairs] for pairs in points]

    def marks(self, colour: str) -> list[tuple[float, ...]]:
        found = [mark for mark in self._all("path") if mark.get("class") == "mark" and mark.get("stroke") == colour]
        return [tuple(map(float, re.findall(NUMBER, mark.get("transform", "")))) for mark in found]

    def label(self, text: str) -> tuple[float, float]:
        (place,) = [(x, y) for found, x, y in self.texts if found == text]
        return place


def test_points_lie_where_the_labels_of_the_axes_say() -> None:
    line = Line([0, 50, 100], [1.0, 3.0, 2.0], "#123456", mark="■")
    picture = Picture(Chart([line], x_label="step"))
    ((first, second, third),) = picture.curves("#123456")
    assert [first[0], second[0], third[0]] == [LEFT, LEFT + ACROSS / 2, LEFT + ACROSS]
    assert [picture.label(text)[0] for text in ("0", "50", "100")] == [first[0], second[0], third[0]]
    ticks = {float(text): y - 4 for text, x, y in picture.texts if x < LEFT}
    assert ticks[1.0] == pytest.approx(first[1], abs=0.06) and ticks[3.0] == pytest.approx(second[1], abs=0.06)
    assert picture.label("step")[1] > TOP + DOWN
    assert picture.marks("#123456") == [third, second, first]


def test_a_gap_parts_a_line_and_what_has_no_place_is_left_out() -> None:
    ys = [4.0, 3.0, nan, 2.5, inf, 2.0, 1.5]
    picture = Picture(Chart([Line(range(1, 8), ys, "#123456")]))
    assert [len(stretch) for stretch in picture.curves("#123456")] == [2, 2]
    assert len(picture.marks("#123456")) == 1, "a single point between two gaps is marked"
    log = Picture(Chart([Line([1, 2, 3, 4], [10.0, 0.0, -1.0, 1.0], "#123456")], log=True))
    assert log.curves("#123456") == [] and len(log.marks("#123456")) == 2
    assert "nothing to draw yet" in [text for text, _, _ in Picture(Chart([Line([1], [nan])])).texts]


def test_a_range_is_kept_and_what_lies_beyond_is_named_at_the_edge() -> None:
    line = Line([0, 10, 100, 200], [4.72, 2.0, 1.5, 0.123], "#123456")
    picture = Picture(Chart([line], x_range=(0, 100), y_range=(1.4, 2.1), rules=[Rule(40.0, "text-warning", 0.6, "◆")]))
    assert picture.label("↑ 4.72")[1] < TOP + 10
    assert not [text for text, _, _ in picture.texts if text.startswith("↓")], "it is out of sight"
    assert Picture(Chart([line], x_range=(300, 400))).curves("#123456") == [], "nothing is in sight"
    assert picture.label("◆")[0] == LEFT + 0.4 * ACROSS
    assert all(TOP <= y <= TOP + DOWN for curve in picture.curves("#123456") for _, y in curve)


def test_marks_stay_apart_from_the_newest_on() -> None:
    line = Line(range(1000), [1.0 + n % 7 for n in range(1000)], "#123456", mark="●")
    marks = Picture(Chart([line])).marks("#123456")
    assert marks[0][0] == LEFT + ACROSS and len(marks) > 80
    assert all(a[0] - b[0] >= 9 for a, b in pairwise(marks))


def test_a_legend_has_a_row_a_run_and_text_from_outside_is_only_text() -> None:
    evil = 'a<script>&"\x00\x0b\ud800\ufffe</text>'
    entries = (
        Entry(RunStyle("#123456", "▼"), "one", "val 1.500", "best 1.500 in epoch 3"),
        Entry(
            RunStyle("#654321", "○"),
            'a<script>&"</text>',
            "val 9.000",
            "",
            "does not compare: other text",
            ("x" * 300,),
        ),
    )
    picture = Picture(Chart([Line([1, 2], [1, 2], 'red"/><b')]), evil, entries)
    (one, one_x, one_y), (note, x, y) = picture.texts[-2:]
    assert one_y < y < picture.height and one_x == x
    assert one.startswith("one  ") and one.endswith("  val 1.500  best 1.500 in epoch 3") and "val 9.000" in note
    assert len(picture.marks("#123456")) == len(picture.marks("#654321")) == 1
    assert {element.tag.rpartition("}")[2] for element in picture.root.iter()} <= {
        "svg", "title", "rect", "g", "text", "path"
    }  # fmt: skip
    assert "does not compare: other text" in note and note.endswith("…") and x + CHARACTER * len(note) <= WIDTH


def test_its_colours_are_read_on_white() -> None:
    assert min(contrast(shares(ink), shares("#ffffff")) for ink in INKS.values()) >= 4.5
