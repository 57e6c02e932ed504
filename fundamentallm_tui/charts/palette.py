"""The colour and the mark of each run where a chart shows several: the same on the screen, on paper and next week.

The colours stay apart for eyes that see no red, green or blue (7 of 100 in OKLab, whichever is missing), and from the
curves of the run that is shown (8 at least; for all cones 10 from one another). Each has a contrast of at least 3 on
white paper and on every panel of the console's themes. No two of them share a mark.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

COLOURS = ("#d14a5c", "#0b8f7b", "#9979d7", "#a0890c", "#a84db1", "#607a24", "#755aea", "#c86ba2")
MARKS = "■▼►✚□▽○◇"  # of which none means anything else on a chart


@dataclass(frozen=True)
class RunStyle:
    """How the curves of a run are told from those of others."""

    colour: str
    mark: str


def run_styles(folders: Iterable[Path], before: Mapping[Path, RunStyle] = {}) -> dict[Path, RunStyle]:
    """Return the styles of these runs, by their folders.

    They depend on the names of the folders alone, not on their order. Where two fall on one style, one of them takes
    the next free one; there are as many styles as colours, so more runs than that have to share. Those that have one
    `before` keep it.
    """
    new = set(folders)
    styles = {folder: style for folder, style in before.items() if folder in new}
    taken = [style.mark for style in styles.values()]
    free = [place for place, mark in enumerate(MARKS) if mark not in taken]
    for hashed, folder in sorted((crc32(os.fsencode(folder.name)), folder) for folder in new - set(styles)):
        free = free or list(range(len(COLOURS)))
        wanted = hashed % len(COLOURS)
        place = min(free, key=lambda place: (place - wanted) % len(COLOURS))
        free.remove(place)
        styles[folder] = RunStyle(COLOURS[place], MARKS[place])
    return styles
