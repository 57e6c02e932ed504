"""How the console writes numbers, durations and text from outside. Plain functions from values to strings."""

import math
import time

from rich.cells import cell_len, chop_cells, set_cell_size

from fundamentallm.untrusted import UNSAFE


def clean(text: str, *, newlines: bool = False) -> str:
    """Text from outside with everything that could steer the terminal replaced by a visible dot."""
    text = text.replace("\t", "    ")
    return UNSAFE.sub("·", text if newlines else text.replace("\n", " "))


def clip(text: str, width: int) -> str:
    """`text` in at most `width` cells; what is cut ends in an ellipsis."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…" if width > 0 else ""


def fit(text: str, width: int) -> str:
    """`text` in exactly `width` cells."""
    return set_cell_size(clip(text, width), width)


def wrap(text: str, width: int) -> list[str]:
    """`text` in rows of at most `width` cells, broken at spaces; a word that is longer is broken."""
    rows, row = [], ""
    for word in text.split(" "):
        longer = f"{row} {word}" if row else word
        if cell_len(longer) <= width:
            row = longer
            continue
        if row:
            rows.append(row)
        *whole, row = chop_cells(word, width) or [""]
        rows += whole
    return [*rows, row]


def clock(seconds: float) -> str:
    """Local time of day of a moment in seconds since 1970."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def moment(seconds: float) -> str:
    """Local date and time of a moment in seconds since 1970."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # somebody else's journal
        return "–"


def duration(seconds: float | None) -> str:
    """At most six characters: "0:05", "59:59", "2h05m", "12d05h"."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "–"
    whole = math.ceil(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 100 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    days = whole // 86400
    return f"{days}d{whole % 86400 // 3600:02}h" if days < 100 else f"{min(days, 99999)}d"


def rate(per_second: float | None) -> str:
    """At most five characters: "850", "24.1k", "1.20M"."""
    if per_second is None or not math.isfinite(per_second) or per_second < 0:
        return "–"
    if per_second < 999.5:
        return f"{per_second:.0f}"
    for size, letter in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        scaled = per_second / size
        if scaled < 999.5:
            return f"{scaled:.{2 if scaled < 9.995 else 1 if scaled < 99.95 else 0}f}{letter}"
    return "∞"


def millions(count: int) -> str:
    """A number of parameters: "0.79 M", "12.3 k", "1.3 B"."""
    if count < 10_000:
        return f"{count:,}"
    if count < 100_000:
        return f"{count / 1e3:.1f} k"
    return f"{count / 1e6:.2f} M" if count < 999_500_000 else f"{count / 1e9:.2f} B"


def loss(value: float | None) -> str:
    """A loss or norm in at most five characters: "1.920", "12.30", "1e+05", "nan"."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "nan" if value != value else "inf"
    if abs(value) < 9.9995:
        return f"{value:.3f}"
    return f"{value:.2f}" if abs(value) < 99.995 else f"{value:.1f}" if abs(value) < 999.95 else f"{value:.0e}"


def short(value: float | None) -> str:
    """A norm in at most five characters and mostly four: "0.41", "12.3", "1e+05"."""
    if value is None or not math.isfinite(value):
        return loss(value)
    return (
        f"{value:.2f}"
        if value < 9.995
        else f"{value:.1f}"
        if value < 99.95
        else f"{value:.0f}"
        if value < 9999.5
        else f"{value:.0e}"
    )


def shown(value: object) -> str:
    """A setting's value as the form shows it; "auto" where the program chooses."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return str(value)
