"""The colour and the mark of each run where a chart shows several: the same on the screen, on paper and next week.

The colours stay apart for eyes that see no red, green or blue (7 of 100 in OKLab, whichever is missing), and each has a
contrast of at least 3 on white paper and on every panel of the console's themes. No two of them share a mark.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

COLOURS = ("#5a87e1", "#e13f6c", "#1b876c", "#879000", "#755aea", "#906c36", "#bd3fab", "#b475a2")
MARKS = "●■▲◆○□△◇"


@dataclass(frozen=True)
class RunStyle:
    """How the curves of a run are told from those of others."""

    colour: str
    mark: str


def run_styles(folders: Iterable[Path]) -> dict[Path, RunStyle]:
    """Return the styles of these runs, by their folders.

    They depend on the names of the folders alone, not on their order. Where two fall on one style, one of them takes
    the next free one; there are as many styles as colours, so more runs than that have to share.
    """
    styles: dict[Path, RunStyle] = {}
    free = list(range(len(COLOURS)))
    for hashed, folder in sorted((crc32(os.fsencode(folder.name)), folder) for folder in set(folders)):
        free = free or list(range(len(COLOURS)))
        wanted = hashed % len(COLOURS)
        place = min(free, key=lambda place: (place - wanted) % len(COLOURS))
        free.remove(place)
        styles[folder] = RunStyle(COLOURS[place], MARKS[place])
    return styles
