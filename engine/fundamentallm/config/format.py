"""Numbers, times and values as people read them, for the command line, the console and the sentences of a log.

Functions from values to short strings. A value that is not known is "–".
"""

import math
import time
from collections.abc import Sequence


def format_loss(value: float | None) -> str:
    """A loss in at most five characters: "1.920", "12.30", "1e+05", "nan"."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return str(value)
    return _shortest(value, (9.9995, 3), (99.995, 2), (999.95, 1))


def format_norm(value: float | None) -> str:
    """A norm in at most five characters and mostly four: "0.41", "12.3", "1e+05"."""
    if value is None or not math.isfinite(value):
        return format_loss(value)
    return _shortest(value, (9.995, 2), (99.95, 1), (9999.5, 0))


def _shortest(value: float, *decimals: tuple[float, int]) -> str:
    """`value` with the decimals of the first limit that it is below; beyond all of them as a power of ten."""
    for limit, count in decimals:
        if abs(value) < limit:
            return f"{value:.{count}f}"
    return f"{value:.0e}"


def format_rate(per_second: float | None) -> str:
    """A speed in at most five characters: "850", "24.1k", "1.20M"."""
    if per_second is None or not math.isfinite(per_second) or per_second < 0:
        return "–"
    if per_second < 999.5:
        return f"{per_second:.0f}"
    for unit, letter in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if per_second / unit < 999.5:
            return _shortest(per_second / unit, (9.995, 2), (99.95, 1), (999.5, 0)) + letter
    return "∞"


def format_parameters(count: int) -> str:
    """A number of parameters: "9,999", "12.3 k", "0.79 M", "1.30 B"."""
    if count < 10_000:
        return f"{count:,}"
    if count < 100_000:
        return f"{count / 1e3:.1f} k"
    return f"{count / 1e6:.2f} M" if count < 999_500_000 else f"{count / 1e9:.2f} B"


def format_size(count: float) -> str:
    """A number of bytes: "512 B", "1.6 MB"."""
    for unit, letters in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {letters}"
    return f"{count:.0f} B"


def format_memory(count: float) -> str:
    """A number of bytes of memory: "845 MiB", "22.4 GiB", "1,024.0 GiB"."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def format_duration(seconds: float | None) -> str:
    """A time span in at most six characters: "0:05", "59:59", "2h05m", "12d05h"."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "–"
    whole = math.ceil(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 100 * 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    days = whole // 86400
    return f"{days}d{whole % 86400 // 3600:02}h" if days < 100 else f"{min(days, 99999)}d"


def format_estimate(seconds: float) -> str:
    """A rough time span in words: "less than a minute", "about 1 minute", "about 3 hours", "more than a year"."""
    if not seconds >= 0:  # NaN, too
        return "–"
    for unit, name, most in ((60.0, "minute", 90), (3600.0, "hour", 48), (86400.0, "day", 365)):
        if seconds / unit < most + 0.5:  # as an infinite one never is
            count = round(seconds / unit)
            if count < 1:
                return f"less than {'an' if name == 'hour' else 'a'} {name}"
            return f"about {count} {name}{'s' if count > 1 else ''}"
    return "more than a year"


def format_age(moment: float) -> str:
    """How long ago a moment in seconds since 1970 was, in at most ten characters: "5 min ago"."""
    passed = max(0.0, time.time() - moment)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if passed >= unit:
            return f"{min(passed / unit, 9999):.0f} {name} ago"
    return "just now"


def format_clock(moment: float) -> str:
    """Local time of day of a moment in seconds since 1970."""
    return _local("%H:%M:%S", moment)


def format_time(moment: float) -> str:
    """Local date and time of a moment in seconds since 1970."""
    return _local("%Y-%m-%d %H:%M", moment)


def _local(pattern: str, moment: float) -> str:
    try:
        return time.strftime(pattern, time.localtime(moment))
    except (OverflowError, ValueError, OSError):  # from someone else's journal
        return "–"


def format_count(number: int, noun: str) -> str:
    """A number of things: "1 epoch", "2,000 epochs"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def format_names(names: Sequence[str], most: int) -> str:
    """The first names of a list, and how many others there are: "a, b and 1,000 more"."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def format_digits(value: float, digits: int) -> str:
    """A number with at least so many significant digits and no power of ten below 1e15: "0.992", "1,024"."""
    if not 10**digits <= abs(value) < 1e15:
        return f"{value:.{digits}g}"
    return f"{value:,.0f}"


def format_times(value: float) -> str:
    """How often something happens, to three digits: "once", "0.992 times", "1,024 times"."""
    text = format_digits(value, 3)
    return "once" if text == "1" else f"{text} times"


def format_value(value: object) -> str:
    """A setting's value; "auto" where the program chooses."""
    if value is None:
        return "auto"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return str(value)


def wrap(text: str, width: int) -> list[str]:
    """Break a text into rows of at most `width` cells of a terminal, at spaces; a longer word is broken inside."""
    from rich.cells import cell_len, chop_cells  # 30 ms

    rows, row = [], ""
    for word in text.split(" "):
        longer = f"{row} {word}" if row else word
        if cell_len(longer) <= width:
            row = longer
            continue
        if row:
            rows.append(row)
        *full, row = chop_cells(word, width) or [""]
        rows += full
    return [*rows, row]
