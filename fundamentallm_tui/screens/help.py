"""The text of the help: first what has the focus is explained, then the keys that act on it, then all keys."""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from textual.content import Content
from textual.screen import Screen

from fundamentallm.config.config import SETTINGS
from fundamentallm.config.format import wrap
from fundamentallm.config.sampling import SAMPLING
from fundamentallm_tui import keys
from fundamentallm_tui.dialogs import Dialog
from fundamentallm_tui.format import clean
from fundamentallm_tui.keys import Command
from fundamentallm_tui.panes.bars import focus_chain, focused_commands
from fundamentallm_tui.panes.fields import Fields
from fundamentallm_tui.panes.health import HealthPane, current_verdict, evidence_sentence
from fundamentallm_tui.panes.metrics import MetricChart
from fundamentallm_tui.panes.values import setting_help
from fundamentallm_tui.theme import FAINT

KEYS_WIDTH = 14
# What help.md says, by the id of what has the focus, or the name of a metric: what it is, how to read it, what to do.
PARTS = Path(__file__).with_suffix(".md").read_text(encoding="utf-8").split("# ")[1:]
TOPICS = {name: " ".join(text.split()) for name, _, text in (part.partition("\n") for part in PARTS)}
TITLES = {"rewind": "Going back", "list": "The list of runs", "find_rate": "Find the learning rate"}
READING = TOPICS.pop("reading")  # for someone who sees such curves for the first time
TOPICS["loss"] = f"{READING} {TOPICS['loss']}"


def help_text(screen: Screen[Any]) -> Content:
    """Return the help on a screen as it is now."""
    title, text = _explain(screen)
    parts: list[tuple[str, str] | str] = [(f"{title}\n", "bold $text-accent"), f"{keys.spell(text)}\n"]
    tables = {"Its keys": focused_commands(screen), "All keys": keys.MAIN, "In the list of runs": keys.RUNS}
    if own := getattr(screen, "table", None):
        tables = {"Keys": own, "On the main screen": keys.MAIN}
    elif isinstance(screen, Dialog):
        tables = {"On the main screen": keys.MAIN}
    for heading, commands in tables.items():
        if rows := _key_rows(commands, min(80, screen.app.size.width * 9 // 10 - 8) - KEYS_WIDTH):
            parts += [(f"\n{heading}\n", FAINT), *rows]
    return Content.assemble(*parts, ("\nSingle letters act only outside text fields; escape leaves a field.", FAINT))


def _explain(screen: Screen[Any]) -> tuple[str, str]:
    """Return the name of what the user looks at, or of what lies below that, and what is said about it.

    Where nothing is said about any of it, the status line is explained.
    """
    if isinstance(screen, Dialog) and screen.topic is not None and screen.id not in TOPICS:
        name, its_keys = screen.name_and_keys
        return name, f"{TOPICS.get(screen.topic, '')}\n{its_keys}".strip()
    stack = screen.app.screen_stack
    below = stack[: stack.index(screen)][::-1] if screen in stack else []
    for node in chain.from_iterable((*focus_chain(shown), shown) for shown in (screen, *below)):
        match node:
            case Fields() if node.current.name in TOPICS:
                return node.current.name, TOPICS[node.current.name]
            case Fields():
                name = node.current.name
                return name, "\n".join(setting_help((SAMPLING if node.id == "options" else SETTINGS)[name]))
            case HealthPane():
                verdict = current_verdict(node.store)
                return f"Health: {verdict.headline}", f"{clean(evidence_sentence(verdict))}\n{verdict.explanation}"
            case MetricChart():
                return node.metric.name, TOPICS[node.metric.name]
        if node.id in TOPICS:
            return TITLES.get(node.id, node.id.capitalize()), TOPICS[node.id]
    return "The status line and the curves", f"{TOPICS['status']}\n\n{READING}"


def _key_rows(commands: Iterable[Command], room: int) -> list[tuple[str, str] | str]:
    """The keys of these commands in a column, and beside it what they do in so many cells."""
    rows: list[tuple[str, str] | str] = []
    for command in commands:
        if command.key and command.help:
            id = command.id or command.action
            shown = keys.named(id) if command.action else keys.spell(command.key)
            if command.letter:
                shown = f"{shown:<9}{keys.named(f'{id}.letter')}"
            text = f"\n{' ' * KEYS_WIDTH}".join(wrap(keys.spell(command.help), max(20, room)))
            rows += [(shown.ljust(KEYS_WIDTH), "bold $text-accent"), f"{text}\n"]
    return rows
