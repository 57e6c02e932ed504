"""What a setting is: type, bounds, help. Knows no particular setting.

A field of a frozen dataclass is declared with `setting(...)`; `table(cls)` reads the declarations back. The command
line, the console's form, YAML files and validation are all made from that one table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from numbers import Real
from operator import ge, gt, le, lt
from typing import Any, get_args, get_type_hints

from fundamentallm.errors import UserError
from fundamentallm.paths import quoted
from fundamentallm.untrusted import MAX_PATHS_CHARS, MAX_PRINTED_INTEGER, MAX_SETTING_CHARS

KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    tuple: "a name or a list of names",
}
LIMITS = {"above": gt, "at_least": ge, "below": lt, "at_most": le}
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Setting:
    """One row of the table.

    A `live` setting may change during a run. A `fixed` one belongs to the saved state (the width of a matrix, the
    position in an epoch) and cannot change when a run is resumed.
    """

    name: str
    kind: type  # bool, int, float, str, or tuple for a list of paths
    optional: bool  # None: the program chooses
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
    auto: str = ""  # what None means

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def flag_values(self) -> tuple[str, ...]:
        """The values of a flag that may also stand alone, as `--mixed-precision` does, and then means on."""
        return ("auto", "off", "on") if self.kind is bool and self.optional else ()

    def as_flag(self, value: Any) -> str:
        """Write a value for a command that is suggested: "--learning-rate 0.001", "--no-wandb"; a list as several."""
        if self.flag_values:
            return f"{self.flag} {'auto' if value is None else 'on' if value else 'off'}"
        if self.kind is bool:
            return self.flag if value else f"--no-{self.flag[2:]}"
        words = [
            quoted("auto" if item is None else str(item))
            for item in (value if isinstance(value, (list, tuple)) else [value])
        ]
        return " ".join(f"{self.flag}{'=' if word.startswith('-') else ' '}{word}" for word in words)

    @property
    def bounds(self) -> str:
        """The allowed range: "above 0, at most 1"."""
        return ", ".join(f"{name.replace('_', ' ')} {limit:,}" for name, limit in self._limits())

    def _limits(self) -> list[tuple[str, float]]:
        return [(name, limit) for name in LIMITS if (limit := getattr(self, name)) is not None]

    def parse(self, raw: Any) -> Any:
        """Convert what a YAML file, a flag or a form has to a value of this setting.

        A UserError says that it is of another type or out of bounds; it does not name the setting.
        """
        if self.auto == "off" and BOOLEANS.get(_shown(raw).strip().lower()) is False:
            return None
        if raw is None or (isinstance(raw, str) and raw.strip().lower() in ("", "auto", "none", self.auto or "auto")):
            if self.optional:
                return None
            if raw is None or not raw.strip():
                raise UserError(f"needs {self._expected()}")
        value = self._convert(raw)
        self._check(value)
        return value

    def _convert(self, raw: Any) -> Any:
        wrong = UserError(f"{_shown(raw)} is not {self._expected()}")
        if self.kind is tuple:
            items = [raw] if isinstance(raw, str) else raw
            if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
                raise wrong
            if max(map(len, items), default=0) > MAX_SETTING_CHARS or sum(map(len, items)) > MAX_PATHS_CHARS:
                raise UserError(f"{_shown(raw)} is too long; a folder stands for the files in it")
            return tuple(items)
        if not isinstance(raw, (Real, str)):
            raise wrong
        if self.kind is bool:
            value = raw if isinstance(raw, bool) else BOOLEANS.get(_shown(raw).strip().lower())
            if value is None:
                raise wrong
            return value
        if isinstance(raw, bool) or (self.kind is str and isinstance(raw, int) and abs(raw) >= MAX_PRINTED_INTEGER):
            raise wrong
        if self.kind is str:
            if len(str(raw)) > MAX_SETTING_CHARS:
                raise UserError(f"{_shown(raw)} is too long; {MAX_SETTING_CHARS:,} characters at most")
            return str(raw)
        try:
            number = self.kind(raw)
        except (ValueError, OverflowError):
            raise wrong from None
        if number != number or (self.kind is int and isinstance(raw, Real) and number != raw):
            raise wrong
        return number

    def _check(self, value: Any) -> None:
        if self.choices and value not in self.choices:
            nearest = closest(str(value), self.choices)
            hint = f" (did you mean {nearest}?)" if nearest else ""
            raise UserError(f"{_shown(value)} is not one of {', '.join(self.choices)}{hint}")
        if not all(LIMITS[name](value, limit) for name, limit in self._limits()):
            raise UserError(f"{_shown(value)} is out of bounds; it must be {self.bounds}")
        if self.kind is int and value >= MAX_PRINTED_INTEGER:
            raise UserError(f"{_shown(value)} is too large; write 60 digits at most")

    def _expected(self) -> str:
        kind = f"one of {', '.join(self.flag_values)}" if self.flag_values else KINDS[self.kind]
        return kind + (f", {self.bounds}" if self.bounds else "")


def setting(default: Any, **description: Any) -> Any:
    """Declare a dataclass field as a setting; the keywords are those of `Setting`."""
    return field(default=default, metadata={"setting": description})


def table(cls: type) -> dict[str, Setting]:
    """Read the settings that a dataclass declares, in their order."""
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


def parse_all(rows: Mapping[str, Setting], values: Mapping[str, Any], *, flags: bool = False) -> dict[str, Any]:
    """Return the value of every row: the one in `values`, or its default.

    A UserError has every problem there is, and names settings by their `flags` or as in the table.
    """
    parsed, problems = {name: row.default for name, row in rows.items()}, list[str]()
    for name, raw in values.items():
        try:
            parsed[name] = rows[name].parse(raw)
        except UserError as error:
            problems.append(f"{rows[name].flag if flags else name}: {error}")
    if problems:
        raise UserError("\n".join(problems))
    return parsed


def closest(word: str, known: Sequence[str]) -> str | None:
    """Find the known word that the user probably meant."""
    from difflib import get_close_matches  # takes 5 ms to import, and only a mistake needs it

    found = get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def _shown(raw: Any) -> str:
    if isinstance(raw, int) and abs(raw) >= MAX_PRINTED_INTEGER:
        return "an enormous number"
    if isinstance(raw, (dict, set, list, tuple)):  # with YAML's aliases, ten lines may stand for a billion items
        return "such a mapping" if isinstance(raw, dict) else "such a list"
    text = f"{raw:g}" if isinstance(raw, float) else str(raw)
    return text if len(text) <= 60 else text[:59] + "…"
