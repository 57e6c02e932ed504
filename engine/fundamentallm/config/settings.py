"""How a setting describes itself: type, bounds, words for people. Knows no particular setting.

A field of a frozen dataclass is declared with `setting(...)`; `table(cls)` reads the declarations back. The command
line, the console's form, YAML files and validation are all made from that one table.
"""

from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_args, get_type_hints

from fundamentallm.errors import UserError
from fundamentallm.untrusted import MAX_PATHS_CHARS, MAX_PRINTED_INTEGER, MAX_SETTING_CHARS


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    `live` settings may change while a run is under way; `fixed` ones belong to the saved state (a matrix's width, the
    place in an epoch) and cannot change when a run is resumed.
    """

    name: str
    kind: type  # bool, int, float, str, or tuple for a list of paths
    optional: bool  # None means "chosen by the program"
    default: Any
    help: str
    group: str = ""
    typical: str = ""
    too_high: str = ""
    too_low: str = ""
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    fixed: bool = False
    auto: str = ""  # what None stands for, in words

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def bounds(self) -> str:
        """The allowed range in words: "above 0, at most 1"."""
        parts = (("above", self.above), ("at least", self.at_least), ("below", self.below), ("at most", self.at_most))
        return ", ".join(f"{words} {limit:,}" for words, limit in parts if limit is not None)

    def parse(self, raw: Any) -> Any:
        """A value of this setting from what YAML, a flag or a form gave.

        Raises:
            UserError: it is of another type or out of bounds; the message does not name the setting.
        """
        if raw is False and self.auto == "off":  # as YAML reads the word
            return None
        if raw is None or (isinstance(raw, str) and raw.strip().lower() in ("", "auto", "none", self.auto or "auto")):
            if self.optional:
                return None
            if raw is None or not raw.strip():
                raise UserError(f"needs a value; {self._wanted()}")
        value = self._typed(raw)
        self._check(value)
        return value

    def _typed(self, raw: Any) -> Any:
        wrong = UserError(f"{_shown(raw)} is not {self._wanted()}")
        if self.kind is tuple:
            items = [raw] if isinstance(raw, str) else raw
            if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
                raise wrong
            if max(map(len, items), default=0) > MAX_SETTING_CHARS or sum(map(len, items)) > MAX_PATHS_CHARS:
                raise UserError(f"{_shown(raw)} is too long; a folder stands for the files in it")
            return tuple(items)
        if not isinstance(raw, (bool, int, float, str)):
            raise wrong
        if self.kind is bool:
            words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
            if not isinstance(raw, bool) and _shown(raw).strip().lower() not in words:
                raise wrong
            return raw if isinstance(raw, bool) else words[_shown(raw).strip().lower()]
        if isinstance(raw, bool) or (self.kind is str and isinstance(raw, int) and abs(raw) >= MAX_PRINTED_INTEGER):
            raise wrong
        if self.kind is str:
            if len(str(raw)) > MAX_SETTING_CHARS:
                raise UserError(f"{_shown(raw)} is too long; {MAX_SETTING_CHARS:,} characters at most")
            return str(raw)
        try:
            number = float(raw)
            exact = self.kind(raw) if isinstance(raw, str) and self.kind is int else self.kind(number)
        except (ValueError, OverflowError):
            raise wrong from None
        if number != number or (self.kind is int and exact != number):
            raise wrong
        return exact

    def _check(self, value: Any) -> None:
        if self.choices and value not in self.choices:
            nearest = closest(str(value), self.choices)
            hint = f" (did you mean {nearest}?)" if nearest else ""
            raise UserError(f"{_shown(value)} is not one of {', '.join(self.choices)}{hint}")
        outside = (
            (self.above is not None and value <= self.above)
            or (self.at_least is not None and value < self.at_least)
            or (self.below is not None and value >= self.below)
            or (self.at_most is not None and value > self.at_most)
        )
        if outside:
            raise UserError(f"{_shown(value)} is out of bounds; it must be {self.bounds}")

    def _wanted(self) -> str:
        kinds = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            str: "text",
            tuple: "a path or a list of paths",
        }
        return kinds[self.kind] + (f", {self.bounds}" if self.bounds else "")


def setting(default: Any, **description: Any) -> Any:
    """A dataclass field that describes itself; the keywords are those of `Setting`."""
    return field(default=default, metadata={"setting": description})


def table(cls: type) -> dict[str, Setting]:
    """The settings that a dataclass declares, in their order."""
    hints = get_type_hints(cls)
    rows = {}
    for f in fields(cls):
        assert f.default is not MISSING, f.name
        kinds = [kind for kind in get_args(hints[f.name]) or (hints[f.name],) if kind is not type(None)]
        is_list = getattr(hints[f.name], "__origin__", None) is tuple
        rows[f.name] = Setting(
            name=f.name,
            kind=tuple if is_list else kinds[0],
            optional=not is_list and type(None) in get_args(hints[f.name]),
            default=f.default,
            **f.metadata["setting"],
        )
    return rows


def closest(word: str, known: "tuple[str, ...] | list[str]") -> str | None:
    """The known word that was probably meant, if any is near."""
    from difflib import get_close_matches  # 5 ms that only a mistake has to pay

    found = get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def _shown(raw: Any) -> str:
    if isinstance(raw, int) and abs(raw) >= MAX_PRINTED_INTEGER:
        return "an enormous number"
    if isinstance(raw, (dict, set, list, tuple)):  # a few lines may stand for more items than there is memory
        return "such a mapping" if isinstance(raw, dict) else "such a list"
    text = f"{raw:g}" if isinstance(raw, float) else str(raw)
    return text if len(text) <= 60 else text[:59] + "…"
