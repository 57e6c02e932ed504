"""Write keys.md from the console's table of commands: `make docs`."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from fundamentallm_tui.keys import (
    ATTENTION,
    CHART,
    FIND_RATE,
    HEALTH,
    LIST,
    LOG,
    LOOK,
    LOSS,
    MAIN,
    PINS,
    RUNS,
    WRITTEN,
    Command,
    spell,
)

INTRODUCTION = """\
# Keys

The keys of the console, and the names by which `keys.yaml` gives commands others: a file that you write yourself, in
the configuration folder (`~/.config/fundamentallm` on Linux). Keys are called there as here, or by the character that
they write; commas separate several.

```yaml
pause: f10
start.letter: b
chart.crosshair: k
```

A key that cannot be is refused in the log, with the reason: text fields need it, another command has it, or terminals
do not send it. Single characters act outside text fields only.

`make docs` makes this page from the program's table of keys."""

FIXED = """\
## Keys that stay

These have no name in `keys.yaml`.

| where | key | what it does |
|---|---|---|
| the form | `tab`, `shift+tab`, `up`, `down` | Go to another field |
| | `left`, `right` | Choose another value, in a field that has choices |
| | `ctrl+r` | Give the field its preset's value again |
| | `escape` | Take an edit back while a run trains; leave the field |
| the prompt | `enter` | Sample |
| | `ctrl+j` | Start a line |
| | `up`, `down` | Show an earlier or a later prompt, at the first or last line |
| | `tab` | Go to the options |
| text files | `enter`, `space` | Take a file; mark several |
| | `right`, `left`, `backspace` | Open a folder; close it, or go to the one above |
| presets | `enter`, `s` | Load the preset; save the form as one's own |
| dialogs | `escape` | Close without doing anything |"""

TABLES = {  # by what has to have the focus
    "Everywhere": MAIN,
    "The charts": CHART,
    "The loss chart": tuple(command for command in LOSS if command not in CHART),
    "The log": LOG[: -len(LIST)],
    "The verdict": HEALTH,
    "The written text": WRITTEN,
    "The list of runs": RUNS,
    "The log and the list of runs": LIST,
    "The text token by token": LOOK,
    "The pinned prompts": PINS,
    "Attention": ATTENTION,
    "Find the learning rate": FIND_RATE,
}


def page() -> str:
    """Return the text of the page."""
    blocks = [INTRODUCTION]
    for heading, commands in TABLES.items():
        rows = ["| key | what it does | name |", "|---|---|---|", *_rows(commands)]
        blocks += [f"## {heading}", "\n".join(rows)]
    return "\n\n".join([*blocks, FIXED]) + "\n"


def _rows(commands: Iterable[Command]) -> Iterator[str]:
    for command in commands:
        for binding in command.bindings():
            name = binding.id or ""
            does = spell(command.help) or name.replace(".", " ").replace("_", " ").capitalize()
            yield f"| `{binding.key.replace(',', '`, `')}` | {does} | `{name}` |"


if __name__ == "__main__":
    Path(__file__).with_name("keys.md").write_text(page(), encoding="utf-8")
