"""Every key of the console in one table. The bindings, the footer and the help screen are made from it."""

from dataclasses import dataclass

from textual.binding import Binding, BindingType

WRITTEN = {"question_mark": "?", "slash": "/"}
PANES = (("config", "Config"), ("log", "Log"), ("loss", "Loss"), ("rate", "Learning rate"), ("sample", "Sample"))


@dataclass(frozen=True)
class Key:
    """An action and its keys. `letter` acts only outside text fields; `label` is what the footer says, if anything."""

    id: str
    action: str
    key: str
    help: str
    label: str = ""
    letter: str = ""

    def bindings(self) -> list[Binding]:
        """Function and control keys go before whatever has the focus; letters never do."""
        everywhere = Binding(self.key, self.action, self.help, id=self.id, priority=True)
        if not self.letter:
            return [everywhere]
        return [everywhere, Binding(self.letter, self.action, self.help, id=f"{self.id}.letter", show=False)]


KEYS = (
    Key("start", "start", "f5", "Start; go on after PAUSED, STOPPED or FAILED", "start", "r"),
    Key("pause", "pause", "f6", "Pause after the step under way; again: go on", "pause", "p"),
    Key("save", "save", "f7", "Save a checkpoint now; it is kept for good", "save", "s"),
    Key("stop", "stop", "f8", "Stop: finish the step, save, end", "stop", "x"),
    Key("prompt", "prompt", "ctrl+g", "To the prompt; enter continues it; up: earlier ones", "sample", "g"),
    Key("runs", "runs", "ctrl+o", "The library of runs: attach, look, resume, compare", "runs", "o"),
    Key("help", "help", "f1", "This help", "help", "question_mark"),
)  # fmt: skip

# In the library of runs every key is a letter: there is no text field but the filter.
RUN_KEYS = (
    Key("run.open", "open", "enter", "Open it: attach if it is under way, else look at it", "open"),
    Key("run.resume", "resume", "r", "Go on with one that stopped, failed or was interrupted", "resume"),
    Key("run.mark", "mark", "space", "Mark it; two marked ones can be compared", "mark"),
    Key("run.compare", "compare", "c", "Compare the settings of the two marked", "compare"),
    Key("run.delete", "delete", "d", "Delete it; asks first", "delete"),
    Key("run.sort", "sort", "t", "Sort by age, name, best loss, steps", "sort"),
    Key("run.filter", "filter", "slash", "Filter: type words of name, state or text", "filter"),
)  # fmt: skip

# Keys that other parts of the program bind, so that the help is complete.
OTHERS = (
    ("^p", "All commands, by name; themes too"),
    ("^q", "Quit; asks when a run is under way"),
    ("1 … 5", "To a pane: config, log, loss, rate, sample"),
    ("^← ^→", "To the pane before, after"),
    ("tab ↑ ↓", "To another field; ← → change a choice"),
    ("escape", "Leave the field; in a dialog: change nothing"),
)

PANE_BINDINGS = [
    *(
        Binding(str(n), f"pane('{name}')", f"To {title}", id=f"pane.{name}", show=False)
        for n, (name, title) in enumerate(PANES, 1)
    ),
    Binding("ctrl+left", "next_pane(-1)", "To the pane before", id="pane.before", show=False),
    Binding("ctrl+right", "next_pane(1)", "To the pane after", id="pane.after", show=False),
    Binding("escape", "leave_field", "Leave the field", id="leave", show=False),
]  # fmt: skip


def run_bindings() -> list[BindingType]:
    """What the library of runs binds; in its filter, letters are text."""
    return [Binding(key.key, key.action, key.help, id=key.id) for key in RUN_KEYS]


def bindings() -> list[BindingType]:
    """Everything that the main screen binds."""
    return [*(binding for key in KEYS for binding in key.bindings()), *PANE_BINDINGS]


def written(key: str) -> str:
    """A key as people write it: "F5", "^g", "?"."""
    if key in WRITTEN:
        return WRITTEN[key]
    return key.upper() if key[:1] == "f" and key[1:].isdigit() else key.replace("ctrl+", "^")
