"""Text in the cells of a terminal: cleaned, cut, padded and wrapped."""

from rich.cells import cell_len, set_cell_size

from fundamentallm.config.format import wrap
from fundamentallm.untrusted import printable

BARS = "▁▂▃▄▅▆▇█"


def clean(text: str, *, newlines: bool = False) -> str:
    """Replace everything in a text from outside that could steer the terminal by a visible dot."""
    text = text.replace("\t", "    ")
    return printable(text if newlines else text.replace("\n", " "), mark="·")


def truncate(text: str, width: int) -> str:
    """Cut a text to at most `width` cells; a text that was cut ends in an ellipsis."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + "…" if width > 0 else ""


def wrap_rows(text: str, width: int, most: int) -> list[str]:
    """Wrap a text into so many rows at most; the last row of a longer one ends in an ellipsis."""
    rows = wrap(text, width)
    return [*rows[: most - 1], truncate(" ".join(rows[most - 1 :]), width)] if len(rows) > most else rows


def shorten(name: str, width: int) -> str:
    """Cut a name or a path in its middle to at most `width` cells: what tells it from others is often its end."""
    if cell_len(name) <= width or width < 4:
        return truncate(name, width)
    head = set_cell_size(name, (width - 1) // 3).rstrip()
    tail = name
    while cell_len(tail) > width - 1 - cell_len(head):
        tail = tail[1:]
    return f"{head}…{tail}"


def bar(share: float, width: int) -> str:
    """Draw a share of 1 as a bar of at most `width` cells, to an eighth of one; nothing for what is no share."""
    eighths = round(min(share, 1.0) * width * 8) if share > 0 else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def fit(text: str, width: int) -> str:
    """Cut or pad a text to exactly `width` cells."""
    return set_cell_size(truncate(text, width), width)
