"""Text in the cells of a terminal: cleaned, cut, padded and wrapped."""

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
