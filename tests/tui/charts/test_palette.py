"""The colours of runs stay apart for every eye, seen on every paper, and found again."""

from itertools import combinations, permutations
from math import dist
from pathlib import Path

import pytest

from fundamentallm_tui.charts.palette import COLOURS, MARKS, run_styles
from fundamentallm_tui.theme import THEMES
from tests.tui.colours import contrast, linear

Triple = tuple[float, float, float]
# Machado, Oliveira and Fernandes 2009: what is left of linear RGB where one kind of cone is missing
EYES = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "no blue": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
# Ottosson 2020: linear RGB to cones, and their cube roots to OKLab
CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


def times(matrix: tuple[Triple, ...], values: Triple) -> Triple:
    first, second, third = (sum(a * b for a, b in zip(row, values, strict=True)) for row in matrix)
    return first, second, third


def shares(colour: str) -> Triple:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def oklab(rgb: Triple) -> Triple:
    red, green, blue = (min(max(c, 0.0), 1.0) for c in rgb)
    long, middle, short = (cone ** (1 / 3) for cone in times(CONES, (red, green, blue)))
    return times(OKLAB, (long, middle, short))


@pytest.mark.parametrize("eyes", EYES)
def test_any_two_colours_stay_apart_for_every_eye(eyes: str) -> None:
    seen = [oklab(times(EYES[eyes], linear(shares(colour)))) for colour in COLOURS]
    apart = min(100 * sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) ** 0.5 for pair in combinations(seen, 2))
    assert apart >= 7, f"{apart:.1f}"


def test_no_run_looks_like_a_curve_of_the_run_that_is_shown_and_no_two_look_alike() -> None:
    own = [colour for theme in THEMES for colour in (theme.primary, theme.accent) if colour]
    seen, curves = ([oklab(linear(shares(colour))) for colour in colours] for colours in (COLOURS, own))
    assert min(100 * dist(a, b) for a in seen for b in curves) >= 8
    assert min(100 * dist(a, b) for a, b in combinations(seen, 2)) >= 10
    assert not set(MARKS) & set("▲▴◆★●•┊↑↓"), "saves, changes, the best, the crosshair, validation, what lies beyond"


def test_every_colour_is_seen_on_white_paper_and_on_every_panel_of_the_themes() -> None:
    panels = [panel for theme in THEMES for panel in (theme.background, theme.surface, theme.panel) if panel]
    assert len(panels) == 9
    assert min(contrast(shares(colour), shares(panel)) for colour in COLOURS for panel in ("#ffffff", *panels)) >= 3


def test_a_run_has_the_same_colour_and_mark_in_any_order_and_place_and_shares_them_with_no_other_of_eight() -> None:
    names = ["prose-1", "prose-2", "prose-3", "a", "b"]
    styles = run_styles(Path("runs", name) for name in names)
    assert all(run_styles(Path("runs", name) for name in order) == styles for order in permutations(names))
    assert {path.name: style for path, style in run_styles(Path("/far", name) for name in names).items()} == {
        path.name: style for path, style in styles.items()
    }
    for count in (8, 20):
        many = run_styles(Path(f"prose-{n}") for n in range(count)).values()
        pairs = [(style.colour, style.mark) for style in many]
        assert len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs}) == 8
        assert max(map(pairs.count, pairs)) == -(-count // 8)
    assert len(set(COLOURS)) == len(set(MARKS)) == 8


def test_one_more_run_seldom_changes_the_colour_of_another() -> None:
    changed = 0
    for n in range(100):
        before = run_styles(Path(f"run-{n}-{k}") for k in range(4))
        after = run_styles([*before, Path(f"run-{n}-more")])
        changed += sum(after[folder] != before[folder] for folder in before)
    assert changed < 60, "of 400"
