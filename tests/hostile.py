"""Journals that somebody else may have written: real lines with values exchanged, and what is no event at all."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fundamentallm.config.config import Config, to_dict

EVENTS = Path(__file__).parent / "fixtures/before_house/events.jsonl"  # one of each type
REAL = EVENTS.read_text(encoding="utf-8").splitlines()
NUMBERS = [
    0, -1, 1, 2, 3, 10, 2**31, 2**53, 2**53 + 1, 10**18, 10**30, 10**300, -(10**30), 0.0, -0.0, 1e-300, 1e100, 1e300,
    -1e300, 1.7e308, float("nan"), float("inf"), -float("inf"),
]  # fmt: skip
TEXTS = [
    "", "\x1b]52;c;AAAA\x07\x1b[2J\x9b31m", "\u202e\u200b\u2028\ufeff\U000e0041", "[@click=app.quit]漢字[/]", "\0",
    "a\nb\r\nc\x85d", "x" * 20_000, "\ud800", "../../x", "/etc/passwd", "last.pt", "learning_rate", "training",
]  # fmt: skip
LEAVES = st.sampled_from([*NUMBERS, *TEXTS, None, True, False])
NONSENSE = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*to_dict(Config()), "x"]), inner),
    max_leaves=6,
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """A line of a journal, without its end."""
    values: dict[str, Any] = json.loads(draw(st.sampled_from(REAL)))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*values]))
        if name == "config" and draw(st.booleans()):
            values[name][draw(st.sampled_from([*values[name]]))] = draw(NONSENSE)
        elif isinstance(values[name], list) and draw(st.booleans()):
            values[name] = draw(st.lists(st.sampled_from(NUMBERS) | LEAVES, max_size=5))
        else:
            values[name] = draw(st.sampled_from(NUMBERS) | NONSENSE)
    written = st.sampled_from([values]) | NONSENSE
    line = draw(written.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20))
    return line.replace(b"\n", b" ")
