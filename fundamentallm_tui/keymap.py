"""The keys that the user gives to commands: which of them can be, and what is wrong with the others."""

from collections.abc import Iterable, Mapping
from typing import Any

from textual.binding import Binding
from textual.keys import REPLACED_KEYS, Keys, key_to_character

from fundamentallm.config.settings import closest
from fundamentallm_tui.keys import MAIN, TABLES
from fundamentallm_tui.state.preferences import keys_file, read_mapping

NAMES = sorted({key.value for key in Keys if not key.value.startswith("<")})
ARRIVE_AS = {"ctrl+i": "tab", "ctrl+m": "enter", "ctrl+h": "backspace", "ctrl+[": "escape"}
# What text fields, lists and dialogs need, beside the keys that write text.
NEEDED = ("enter", "tab", "shift+tab", "escape", "backspace", "delete", "up", "down", "left", "right", "home", "end")


def load_keymap() -> tuple[dict[str, str], str]:
    """Read the user's keys, for Textual's `set_keymap`; returns them, and a line about what is wrong with them."""
    wanted, problem = read_mapping(keys_file())
    keymap, problems = checked_keymap(wanted)
    return keymap, f"{keys_file()}: {'; '.join(problems)}" if problems else problem


def checked_keymap(wanted: Mapping[Any, Any]) -> tuple[dict[str, str], list[str]]:
    """Return by a command's id its new keys, and why others cannot have theirs."""
    tables = {table: [binding for command in table for binding in command.bindings()] for table in TABLES}
    main = tables.pop(MAIN)
    first = [binding for binding in main if binding.priority]  # these act before what has the focus
    together = [main, *([*table, *first] for table in tables.values())]
    ids = {binding.id for group in together for binding in group if binding.id}
    keymap: dict[str, str] = {}
    problems = []
    for id, keys in ((str(id), str(keys).replace(" ", "")) for id, keys in wanted.items()):
        near = closest(id, sorted(ids))  # a list of all would hide the other problems
        hint = f"did you mean {near}?" if near else "docs/keys.md has the names"
        why = "" if id in ids else f"no such command; {hint}"
        for key in keys.split(",") if id in ids else ():
            why = why or _why_not(key, any(binding.id == id for binding in first))
        if why:
            problems.append(f"{id}: {why}")
        else:
            keymap[id] = keys
    while clash := next((found for group in together if (found := _clash(group, keymap))), None):
        problems.append(f"{clash[0]}: {keymap.pop(clash[0])} is the key of {clash[1]}")
    return keymap, problems


def _why_not(key: str, acts_first: bool) -> str:
    """Say why a command cannot have a key; empty: it can."""
    *modifiers, base = key.split("+") if key != "+" else ["+"]
    if key in ARRIVE_AS:
        return f"terminals send {key} as {ARRIVE_AS[key]}"
    if key not in NAMES and not (_character(base) and {*modifiers} <= {"ctrl", "alt", "shift"}):
        near = closest(key.lower(), NAMES)
        return f"{key or 'nothing'} is no key" + (f"; did you mean {near}?" if near else "")
    if acts_first and (_character(key) or key in NEEDED):
        return f"{key} is needed in text fields; a function key, or one with ctrl, is not"
    return ""


def _character(key: str) -> str | None:
    """The character that a key writes; of the names of characters those of ASCII count: there is a key for these."""
    character = key_to_character(REPLACED_KEYS.get(key, key))
    return character if len(key) == 1 or (character is not None and character.isascii()) else None


def _clash(group: Iterable[Binding], keymap: Mapping[str, str]) -> tuple[str, str] | None:
    """Find a command of the keymap whose key another command has, and that command."""
    owners: dict[str, str] = {}
    for binding in group:
        id = binding.id or ""
        for key in keymap.get(id, binding.key).split(","):
            other = owners.setdefault(_character(key) or key, id)
            if other != id and (id in keymap or other in keymap):
                return (id, other) if id in keymap else (other, id)
    return None
