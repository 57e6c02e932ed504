"""Loss curves as lines of text, with colours or without.

- The only file of the engine that imports plotext; its traps are stepped around here and nowhere else.
- Knows nothing of runs: it is given points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10, nan

BRAILLE, DOT = "braille", "."
BEYOND = 1e100  # no loss gets there, and what is nearer keeps every calculation finite
COLOURS = ("cyan", "orange", "green", "magenta", "blue+", "red", "white", "yellow")
MARKS, LETTERS = "●■▲◆○□△◇", "ox+*#%@&"  # one for each run; letters where a terminal lacks the others
FRAME = str.maketrans("─│┌┐└┘├┤┬┴┼", "-|++++++++|")


@dataclass(frozen=True)
class Curve:
    """Points by increasing x; a y that cannot be drawn is a gap. Braille joins them, another `marker` marks each."""

    x: Sequence[float]
    y: Sequence[float]
    marker: str
    colour: str


def draw(curves: Sequence[Curve], width: int, height: int, *, log: bool, colour: bool, ascii: bool) -> list[str]:
    """Lines of text with the curves and their axes; none where there is nothing to draw.

    Args:
        log: whether y is logarithmic; what is not above zero is a gap then.
        colour: whether ANSI colours tell the curves apart.
        ascii: draw with letters and dashes only.
    """
    import plotext  # 60 ms that nobody else has to pay

    lowest = 1 / BEYOND if log else -BEYOND
    scale = log10 if log else float
    shapes = [
        (curve, *reduce(curve.x, [scale(y) if lowest < y < BEYOND else nan for y in curve.y], 2 * width))
        for curve in curves
    ]
    known = [y for _, _, ys in shapes for y in ys if isfinite(y)]
    if not known:
        return []
    low, high = _widened(min(known), max(known))
    xs = [x for _, xs, _ in shapes for x in xs]
    first, last = _widened(0.0 if min(xs) <= max(xs) / 10 else min(xs), max(xs))

    figure = type(plotext.main())()  # of its own: plotext's functions all share one
    figure._limit_size(False, False)  # or the terminal's size would cut it
    figure.plot_size(width, height)
    figure.theme("clear")
    figure.xlim(first, last)
    figure.ylim(low, high)
    ticks = log_ticks(low, high, height // 4) if log else [(tick, tick) for tick in round_ticks(low, high, height // 4)]
    figure.yticks([place for place, _ in ticks], _labels([value for _, value in ticks]))
    steps = [tick for tick in round_ticks(first, last, width // 12) if tick.is_integer()]
    figure.xticks(steps, [f"{tick:,.0f}" for tick in steps])
    figure.xlabel("step")
    for curve, xs, ys in shapes:
        marker = (DOT if ascii else BRAILLE) if curve.marker == BRAILLE else curve.marker
        (figure.plot if curve.marker == BRAILLE else figure.scatter)(xs, ys, marker=marker, color=curve.colour)
    picture = str(figure.build())
    text = picture if colour else plotext.uncolorize(picture)
    return [line.rstrip() for line in (text.translate(FRAME) if ascii else text).rstrip("\n").split("\n")]


def reduce(xs: Sequence[float], ys: Sequence[float], columns: int) -> tuple[list[float], list[float]]:
    """The lowest and the highest point of each column, in the order in which they occurred.

    plotext costs in proportion to its points: 150 ms at 10,000 of them. A column without a finite y is one gap.
    """
    if len(xs) <= 2 * columns:
        return list(xs), list(ys)
    width = ceil(len(xs) / columns)
    kept: list[int] = []
    for start in range(0, len(xs), width):
        finite = [index for index in range(start, min(start + width, len(xs))) if isfinite(ys[index])]
        pair = {min(finite, key=ys.__getitem__), max(finite, key=ys.__getitem__)} if finite else {start}
        kept += sorted(pair)
    return [xs[index] for index in kept], [ys[index] for index in kept]


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` multiples of 1, 2, 2.5 or 5 x 10^k from low to high; at least two where floats allow it."""
    ideal = (high - low) / max(2, count)
    tenth = floor(log10(ideal))
    steps = [float(f"{m}e{k}") for k in (tenth + 1, tenth, tenth - 1) for m in (5, 2.5, 2, 1)]
    fitting = [step for step in steps if floor(high / step + 1e-9) - ceil(low / step - 1e-9) >= 1]
    step = min(fitting, key=lambda step: abs(log10(step / ideal)), default=ideal)
    return [float(f"{n * step:.12g}") for n in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float, count: int) -> list[tuple[float, float]]:
    """Places and values on a logarithmic axis from 10^low to 10^high: 1, 2 and 5 x 10^k, decades if those are many."""
    decades = range(floor(low), ceil(high) + 1)
    fine = [float(f"{m}e{k}") for k in decades for m in (1, 2, 5)]
    inside = [value for value in fine if low - 1e-9 <= log10(value) <= high + 1e-9]
    if len(inside) > 2 * count:
        every = ceil(len(decades) / max(1, count))
        inside = [float(f"1e{k}") for k in decades if k % every == 0 and low - 1e-9 <= k <= high + 1e-9]
    if len(inside) < 3:
        inside = round_ticks(10**low, 10**high, count)
    return [(log10(value), value) for value in inside if value > 0]


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range that is not a point."""
    if high - low > max(1 / BEYOND, 1e-9 * max(abs(low), abs(high))):
        return low, high
    around = abs(low) / 2 or 1.0
    return low - around, high + around


def _labels(values: Sequence[float]) -> list[str]:
    """Values with as many decimals as the longest of them needs; very large and very small ones as they are."""
    words = [f"{value:.12g}" for value in values]
    if any("e" in word for word in words):
        return [f"{value:g}" for value in values]
    decimals = max((len(word.partition(".")[2]) for word in words), default=0)
    return [f"{value:,.{decimals}f}" for value in values]
