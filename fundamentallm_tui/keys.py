"""Every command of the console in one table: bindings, footers, palette and help screen are made from it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from textual.binding import Binding, BindingType

KEY_NAMES = {
    "question_mark": "?", "slash": "/", "escape": "esc", "plus": "+", "minus": "-",
    "left": "←", "right": "→", "up": "↑", "down": "↓", "left_square_bracket": "[", "right_square_bracket": "]",
    "comma": ",", "full_stop": ".",
}  # fmt: skip
PANES = (
    ("config", "Config"), ("log", "Log"), ("loss", "Loss"), ("metric", "Metric"), ("sample", "Sample"),
    ("health", "Health"),
)  # fmt: skip
# What a setting is multiplied by, and what is added then.
FACTORS = {"×2": (2.0, 0), "÷2": (0.5, 0), "×10": (10.0, 0), "÷10": (0.1, 0)}
COUNTS = {"+1": (1, 1), "+10": (1, 10), "−1": (1, -1)}
VERBS = {"×": "Multiply it by", "÷": "Divide it by", "+": "Raise it by", "−": "Lower it by"}
PINNED = ("back", "app.help", "app.quit")  # at the footer's right end, at any width


@dataclass(frozen=True)
class Command:
    """An action, how the user reaches it, and what is said about it; what is empty is left out."""

    action: str  # of the screen; "app.…": of the application, which binds its own key; empty: a widget binds the keys
    key: str  # as Textual names it, "f5" or "ctrl+g"; empty: the palette only
    help: str = ""  # one line for the help screen and the palette
    label: str = ""  # the word in the footer, which drops the last of a table first
    letter: str = ""  # a second key, which acts only outside text fields
    title: str = ""  # the name in the palette
    id: str = ""  # by which a keymap changes the key; empty: as `action`
    letter_action: str = ""  # what the letter does, where it is not `action`

    def bindings(self) -> list[Binding]:
        """Function and control keys act before the widget in focus; letters and single keys never do."""
        if not self.action or not self.key:
            return []
        id, action = self.id or self.action, self.action.removeprefix("app.")
        first = bool(self.letter) or (action != self.action and len(self.key) > 1)  # of the application: over dialogs
        bindings = [Binding(self.key, action, self.help, id=id, show=False, priority=first)]
        if self.letter:
            action = self.letter_action or action
            bindings.append(Binding(self.letter, action, self.help, id=f"{id}.letter", show=False))
        return bindings


MAIN = (
    Command("start", "f5", "Start; continue after a pause; resume what ended early", "start", "r", "Start"),
    Command("pause", "f6", "Pause after the current step; again: continue", "pause", "p", "Pause or resume"),
    Command("save", "f7", "Save checkpoint_step_N.pt now, which stays", "save", "s", "Save"),
    Command("stop", "f8", "Finish the step, save, end the run; {stop.letter} asks first", "stop", "x", "Stop",
            letter_action="ask_stop"),
    Command("files", "f2", "Choose text files, and see what is in them", title="Text files"),
    Command("presets", "f3", "Compare presets with the form, load one, save the form as one", title="Presets"),
    Command("edit", "e", "Edit the form as YAML in $EDITOR", title="Edit as YAML"),
    Command("evaluate", "v", "Measure the validation loss now", title="Evaluate"),
    Command("undo", "u", "Undo the last change of a setting; again: the one before", title="Undo the change"),
    Command("find_rate", "ctrl+l", "Find a learning rate for the form: a short test at a rate that rises",
            title="Find the learning rate"),
    Command("health", "h", "How the run stands, and what to do about it", title="Health"),
    *(
        Command(f"change('{name}', {factor}, {count})", "", f"{VERBS[sign[0]]} {sign[1:]} from the next step on",
                title=f"{title} {sign}")
        for name, title, signs in (("learning_rate", "Learning rate", FACTORS), ("epochs", "Epochs", COUNTS),
                                   ("patience", "Patience", COUNTS))
        for sign, (factor, count) in signs.items()
    ),
    Command("prompt", "ctrl+g", "Go to the prompt: enter samples, ctrl+j starts a line", "sample", "g", "Sample"),
    Command("look", "f4", "Look at the sample token by token: what the model expected", title="Look at the text"),
    Command("look(True)", "", "How well the model predicts a text, and where worst", title="Score a text"),
    Command("pins", "f9", "Pinned prompts, and what the model answered as it learnt", title="Pinned prompts"),
    Command("attention", "", "Show what each token of a text attends to", title="Attention"),
    Command("attention(True)", "", "Show which tokens have embeddings near to one another's", title="Nearest tokens"),
    Command("app.report", "w", "Write a report of the run: report.md in its folder", title="Report", id="report"),
    Command("app.export_model", "E", "Export the model for Hugging Face's transformers, beside the run's folder",
            title="Export the model", id="export_model"),
    Command("new_run", "N", "Close the run that has ended: the next start makes a new one", "new run", title="New run"),
    Command("runs", "ctrl+o", "List all runs: attach, view, resume, compare", "runs", "o", "Runs"),
    Command("app.help", "f1", "Explain what has the focus; show all keys", "help", "question_mark", "Help", id="help"),
    Command("app.command_palette", "ctrl+p", "All commands by name, and the themes", "palette", id="palette"),
    Command("tour", "T", "A minute with a small model: train, pause, sample, look, read the verdict", title="Tour"),
    Command("app.change_theme", "", "Choose the colours", title="Theme"),
    Command("app.quit", "ctrl+q", "Quit; asks first while a run is under way", "quit", title="Quit", id="quit"),
    *(Command(f"pane('{name}')", str(n), id=f"pane.{name}") for n, (name, _) in enumerate(PANES, 1)),
    Command("", "{pane.config} … {pane.health}", f"Go to a pane: {', '.join(title.lower() for _, title in PANES)}"),
    Command("enter_pane", "enter", "Write into the form or the prompt after its number key", id="pane.enter"),
    Command("maximize_pane", "z", "Show the pane alone; again: all of them", id="pane.maximize"),
    Command("next_metric", "m", "Show another metric: learning rate, gradient norm, speed, perplexity, memory, layers"),
    Command("next_pane(-1)", "ctrl+left", id="pane.before"),
    Command("next_pane(1)", "ctrl+right", id="pane.after"),
    Command("", "{pane.before} {pane.after}", "Go to the previous or next pane"),
    Command("", "tab ↑ ↓", "Go to another field; ← → change a choice"),
    Command("", "ctrl+r", "Reset the field to its preset's value; * marks changed fields"),
    Command("blur", "escape", "Leave the field; in a dialog: cancel", id="leave"),
)  # fmt: skip

# What acts only while a pane has the focus: the pane names its table as `commands`, and the footer shows that first.

FORM = (  # bound by the screen: these keys act everywhere
    Command("files", "f2", label="files"),
    Command("presets", "f3", label="presets"),
    Command("edit", "e", label="YAML"),
)

SAMPLE = (Command("look", "f4", label="look"),)
PROMPT = (Command("", "enter", label="ask"), *SAMPLE)
WRITTEN = (
    Command("act('continue')", "c", "Let the model continue the text by as many tokens", "continue",
            id="written.continue"),
    Command("act('again')", "a", "Write from the same prompt with another seed", "another", id="written.again"),
    Command("act('edit')", "t", "Make the text the prompt, to edit it and continue", "edit", id="written.edit"),
    Command("choose(-1)", "left", "Go to the sample before", id="written.before"),
    Command("choose(1)", "right", "Go to the next sample", "next", id="written.next"),
)  # fmt: skip

LIST = (
    Command("cursor_up", "up,k", id="list.up"),
    Command("cursor_down", "down,j", id="list.down"),
    Command("page_up", "pageup", id="list.page_up"),
    Command("page_down", "pagedown", id="list.page_down"),
    Command("first", "home", id="list.first"),
    Command("last", "end", id="list.last"),
)

LOG = (
    Command("search", "slash", "Search", "search", id="log.search"),
    Command("find(1)", "n", "Go to the next match", id="log.next"),
    Command("find(-1)", "N", "Go to the match before", id="log.before"),
    Command("level", "l", "Show all, no details, or problems only", "level", id="log.level"),
    Command("file", "t", "Show engine.log, or the events", "engine.log", id="log.file"),
    Command("copy", "y", "Copy the line, or all that are found", "copy", id="log.copy"),
    Command("leave", "escape", "End the search; then leave the log", id="log.leave"),
    *LIST,
)

CHART = (
    Command("zoom(0.5)", "plus,equals_sign", "Zoom in, as the mouse wheel does", "zoom", id="chart.in"),
    Command("zoom(2.0)", "minus", "Zoom out", id="chart.out"),
    Command("walk(-1)", "left", "Show earlier steps; with the crosshair on, read off the one before", id="chart.left"),
    Command("walk(1)", "right", "Show later steps; with the crosshair on, read off the next point", id="chart.right"),
    Command("crosshair", "c", "Read off every curve at one step", "crosshair", id="chart.crosshair"),
    Command("hide_crosshair", "escape", "Hide the crosshair; then leave the chart", id="leave"),
    Command("follow", "f", "Stay where it is, or follow the newest step", "follow", id="chart.follow"),
    Command("reset", "0", "Show the whole run", "reset", id="chart.reset"),
    Command("log_scale", "l", "Show y on a logarithmic or a linear scale", "log", id="chart.log"),
    Command("x_axis", "t", "Count x in steps, epochs, tokens or time", "x axis", id="chart.x"),
    Command("export", "d", "Export what is seen: SVG, CSV and text in the run's folder", "export", id="chart.export"),
    Command("fit", "a", "Show all heights, or leave out the first fall and spikes", "all", id="chart.fit"),
    Command("smooth(1)", "right_square_bracket", "Smooth the training loss more", "smooth", id="chart.smoother"),
    Command("smooth(-1)", "left_square_bracket", "Smooth the training loss less", id="chart.rougher"),
)  # fmt: skip

HEALTH = (Command("screen.health", "enter", "Show what can be done about it", "what to do", id="health.act"),)

LOSS = (
    Command("rewind", "enter", "At the crosshair: sample, resume or branch from the checkpoint before it", "rewind",
            id="chart.rewind"),
    *CHART,
    Command("hide", "i", "Hide one more of the runs over this one; after the last, show all", "hide", id="chart.hide"),
)  # fmt: skip

RUNS = (
    Command("open", "enter", "Attach to a run under way; view any other", "open", id="run.open"),
    Command("resume", "r", "Resume a run that ended early", "resume", id="run.resume"),
    Command("branch", "b", "Start a new run from one of its checkpoints", "branch", id="run.branch"),
    Command("mark", "space", "Mark up to eight runs: they lie over the loss chart", "overlay", id="run.mark"),
    Command("compare", "c", "Compare the marked runs", "compare", id="run.compare"),
    Command("filter", "slash", "Filter by words, tag:word, state:word, learning_rate>0.001", "filter", id="run.filter"),
    Command("rename", "n", "Rename the run's folder", "rename", id="run.rename"),
    Command("note", "e", "Write a note on the run", "note", id="run.note"),
    Command("tag", "g", "Give the run tags", "tag", id="run.tag"),
    Command("sort", "t", "Sort by age, name, best loss or steps", "sort", id="run.sort"),
    Command("sort_by", "T", "Sort by any setting or number, and show it", id="run.sort_by"),
    Command("app.report", "w", "Write a report of the run", "report", id="report"),
    Command("app.export_model", "E", "Export its model for Hugging Face's transformers", id="export_model"),
    Command("delete", "d", "Delete a run; asks first", "delete", id="run.delete"),
    Command("back", "escape", "Leave the filter; close the list", "close", id="run.back"),
    Command("close", "ctrl+o,o", id="run.close"),
)

LOOK = (
    Command("choose", "enter", "Go to what the model expected; let it continue the text with that", "continue",
            id="look.choose"),
    Command("worst", "w", "Go to the token that surprised the model most, then to the next", "worst", id="look.worst"),
    Command("score", "s", "Score a text that is pasted, or a file", "score", id="look.score"),
    Command("text(1)", "b", "Go to the next text: branches are kept, sixteen at most", "next", id="look.next"),
    Command("text(-1)", "B", "Go to the text before", id="look.before"),
    Command("attention", "a", "Show what the tokens so far attend to", "attention", id="look.attention"),
    Command("attention(True)", "n", "Show which tokens are nearest to this one", "nearest", id="look.nearest"),
    Command("rename", "r", "Name the text; what has a name is kept longest", "name", id="look.name"),
    Command("move(-1)", "left", "Go to the token before", id="look.left"),
    Command("move(1)", "right", "Go to the next token", id="look.right"),
    Command("line(-1)", "up", "Go to the row above; in the list to the likelier token", id="look.up"),
    Command("line(1)", "down", "Go to the row below; in the list to the less likely token", id="look.down"),
    Command("line(-9999)", "home", "Go to the first row", id="look.first"),
    Command("line(9999)", "end", "Go to the last row", id="look.last"),
    Command("", "tab", "Go from the text to the list, and back"),
    Command("back", "escape", "Close", "close", id="look.back"),
)  # fmt: skip
PINS = (
    Command("walk(-1)", "left", "Show the answers of the step before", "step", id="pins.left"),
    Command("walk(1)", "right", "Show the answers of the next step", id="pins.right"),
    Command("walk(-9999)", "home", "Show the first answers", id="pins.first"),
    Command("walk(9999)", "end", "Show the newest answers, and follow them", id="pins.last"),
    Command("beside", "c", "Set another step beside this one; again: show one", "compare", id="pins.beside"),
    Command("move(-1)", "up", "Go to the prompt before", id="pins.up"),
    Command("move(1)", "down", "Go to the next prompt", id="pins.down"),
    Command("add", "a", "Pin a prompt, eight at most", "add", id="pins.add"),
    Command("edit", "e", "Change the prompt", "edit", id="pins.edit"),
    Command("remove", "d", "Pin the prompt no longer", "remove", id="pins.remove"),
    Command("back", "escape", "Close", "close", id="pins.back"),
    Command("close", "f9", id="pins.close"),
)  # fmt: skip

ATTENTION = (  # opened from the palette, and by a and n of LOOK
    Command("layer(1)", "right_square_bracket", "Show the next layer", "layer", id="attention.layer"),
    Command("layer(-1)", "left_square_bracket", "Show the layer before", id="attention.layer_before"),
    Command("head(1)", "full_stop", "Show the next head", "head", id="attention.head"),
    Command("head(-1)", "comma", "Show the head before", id="attention.head_before"),
    Command("mean", "0", "Show the mean of all heads", "mean", id="attention.mean"),
    Command("nearest", "n", "Show the tokens nearest to that of the row; again: what it attends to", "nearest",
            id="attention.nearest"),
    Command("type_text", "slash,enter", "Type another text", "text", id="attention.text"),
    Command("ask_again", "r", "Ask again: the model may have trained on", "again", id="attention.again"),
    Command("move(-1, 0)", "up", "Go to the token before, whose row is read off", id="attention.up"),
    Command("move(1, 0)", "down", "Go to the token after", id="attention.down"),
    Command("move(0, -1)", "left", "Read off the token before in the row", id="attention.left"),
    Command("move(0, 1)", "right", "Read off the token after in the row", id="attention.right"),
    Command("back", "escape", "Close", "close", id="attention.back"),
)  # fmt: skip

FIND_RATE = (
    Command("take", "enter", "Take the suggestion over into the form", "take it over", id="rate.take"),
    Command("back", "escape", "End the test; close", "close", id="rate.back"),
)

TABLES = (MAIN, FORM, SAMPLE, WRITTEN, LOG, LOSS, HEALTH, (*RUNS, *LIST), LOOK, PINS, ATTENTION, FIND_RATE)
_keys: dict[str, str] = {}  # by the ids of commands


def bindings(commands: Iterable[Command], *, of_app: bool = False) -> list[BindingType]:
    """Return what a screen or a pane with these commands binds, or with `of_app` the application."""
    chosen = (command for command in commands if command.action.startswith("app.") == of_app)
    return [binding for command in chosen for binding in command.bindings()]


def refusals(commands: Iterable[Command], *actions: str) -> list[BindingType]:
    """Return bindings that stand beside those of these actions: they act where those cannot, and say why."""
    return [
        Binding(command.key, f"refuse('{command.action}')", id=command.id or command.action, show=False)
        for command in commands if command.action in actions
    ]  # fmt: skip


def use(keymap: Mapping[str, str]) -> None:
    """Name the keys of this keymap from now on."""
    usual = [binding for table in TABLES for command in table for binding in command.bindings()]
    _keys.clear()
    _keys.update({binding.id: keymap.get(binding.id, binding.key) for binding in usual if binding.id})


def named(id: str) -> str:
    """Return the name of the key that the user has for a command."""
    return key_name(_keys[id])


def spell(text: str) -> str:
    """Put the names of keys in place of the ids of commands: "{start} starts a run"."""
    return re.sub(r"\{([a-z_.]+)\}", lambda found: named(found[1]), text)


def key_name(key: str) -> str:
    """Write a key as people do: "F5", "^g", "?"."""
    key = key.split(",")[0]  # of several that do the same, the first
    if key.startswith("ctrl+"):
        return f"^{key_name(key.removeprefix('ctrl+'))}"
    return KEY_NAMES.get(key, key.upper() if key[:1] == "f" and key[1:].isdigit() else key)


use({})
