"""How far two colours stand apart (WCAG 2), and which texts on a screen cannot be read."""

import unicodedata
from collections.abc import Iterator
from typing import Any

from rich.segment import Segment

LEAST = 4.5
Rgb = tuple[float, float, float]  # shares of 1


def linear(colour: Rgb) -> Rgb:
    """The light of a colour of the screen."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return red, green, blue


def contrast(one: Rgb, other: Rgb) -> float:
    """The contrast of two colours, 1 to 21."""
    weights = (0.2126, 0.7152, 0.0722)
    dark, light = sorted(sum(a * b for a, b in zip(weights, linear(c), strict=True)) for c in (one, other))
    return (light + 0.05) / (dark + 0.05)


def contrast_of(segment: Segment) -> float:
    style = segment.style
    assert style is not None and style.color is not None and style.bgcolor is not None, segment
    return contrast(style.color.get_truecolor().normalized, style.bgcolor.get_truecolor().normalized)


def is_text(segment: Segment) -> bool:
    """Whether there are letters and digits in it; frames, rules and curves are drawn with other characters."""
    return any(unicodedata.category(character)[0] in "LN" for character in segment.text)


def faint_texts(seen: Any) -> Iterator[str]:
    """The texts of too little contrast; in front of a screen that is dimmed those of the dialog."""
    screen = seen.app.screen
    strips = screen._compositor.render_strips()
    regions = [child.region for child in screen.children] if screen.is_modal else [screen.region]
    for region in regions:
        for strip in strips[region.y : region.bottom]:
            for segment in strip.crop(region.x, region.right):
                if is_text(segment) and (found := contrast_of(segment)) < LEAST:
                    yield f"{segment.text.strip()[:40]!r} {found:.2f} {segment.style}"
