"""How far two colours stand apart (WCAG 2)."""

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
