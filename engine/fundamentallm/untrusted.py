"""Checks of what someone else may have written: configurations, journals, commands, locks, text.

- Limits are here, each with its reason; what goes beyond one is refused or skipped, never followed.
- Files are read only if they are regular files, and the files of a run are written through no link.
- Knows no particular format. Tensors are checked where a checkpoint is read.
"""

import errno
import json
import math
import os
import re
import stat
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
NOT_REGULAR = "it is not a regular file"

MAX_CONFIG_BYTES = 1 << 20  # a configuration is one page
MAX_CONFIG_ENTRIES = 200
MAX_SETTING_CHARS = 4096  # as long as a path may be
MAX_PATHS_CHARS = 300_000  # of a list of paths together: its line of the journal stays below MAX_EVENT_BYTES
MAX_EVENT_BYTES = 1 << 22  # of a line of a journal; the longest of ours are 100 times shorter
MAX_COMMAND_BYTES = 1 << 20
MAX_NAME_CHARS = 100  # ids, users, names of settings
MAX_NESTING = 8  # lists in lists: Python cannot print what is nested a thousand levels deep
MAX_INTEGER = 2**53  # beyond it, readers of JSON do not agree on integers
MAX_PRINTED_INTEGER = 10**60  # Python refuses to print an integer of thousands of digits
MAX_TIME = 253_402_214_400.0  # seconds since 1970: the last day of the year 9999, which calendars can still show

# Control characters command a terminal, direction marks reverse the rest of a line, zero-width characters hide.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str, mark: str = "\ufffd") -> str:
    """`text` with a `mark` in place of each character that could steer a terminal; tabs and newlines stay."""
    return UNSAFE.sub(mark, text)


def open_regular_file(path: Path) -> BufferedReader:
    """Open a file for reading; an OSError if it is not a regular one: a pipe could block, a device may never end."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # to open a folder is an error of its own
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return path.open("rb")


def open_for_writing(path: Path, flags: int, *, make: bool = True) -> int:
    """Open a file of a run, and make it if there is none and it may: not through a link, nor one that is not regular.

    An OSError says why not; a pipe is not waited for.
    """
    flags |= os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if make else 0)
    file = os.open(path, flags, 0o666)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(errno.EINVAL, NOT_REGULAR, str(path))


def from_line(line: str | bytes, key: str, kinds: Mapping[str, type[T]]) -> T | None:
    """Make the dataclass that `key` names in a line of JSON; None where the line or one of its values is wrong."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    kind = kinds.get(str(values.pop(key, ""))) if isinstance(values, dict) else None
    return None if kind is None else from_values(kind, values)


def names_in_json(base: type[T]) -> dict[type[T], str]:
    """Name the subclasses of a class in lines of JSON: as they are called, in snake case."""
    return {kind: re.sub(r"\B(?=[A-Z])", "_", kind.__name__).lower() for kind in base.__subclasses__()}


def from_values(kind: type[T], values: dict[str, Any]) -> T | None:
    """Make a dataclass from plain values, as JSON has them: null is NaN where a float is required.

    None where a required value is missing, or a value has another type than its field. Unknown names are ignored.
    """
    arguments = {}
    for name, hint, required in _shape(cast(Any, kind)):  # mypy: a type variable is not hashable
        if name not in values:
            if required:
                return None
            continue
        value = _fit(hint, values[name])
        if value is _MISFIT:
            return None
        arguments[name] = value
    return kind(**arguments)


_MISFIT = object()


@cache
def _shape(kind: Any) -> list[tuple[str, Any, bool]]:
    hints = get_type_hints(kind)
    return [(f.name, hints[f.name], f.default is f.default_factory is MISSING) for f in fields(kind)]


def _fit(hint: Any, value: Any) -> Any:
    """`value` as a field of type `hint` holds it, or `_MISFIT`."""
    if hint is int:
        return value if type(value) is int and abs(value) <= MAX_INTEGER else _MISFIT
    if hint is str or hint is bool:
        return value if type(value) is hint else _MISFIT
    if hint is float:
        return math.nan if value is None else _fit_float(value)
    origin = get_origin(hint)
    if hint is Any or origin is dict:
        return value if (hint is Any or isinstance(value, dict)) and _is_plain(value, MAX_NESTING) else _MISFIT
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        value = _fit(next(kind for kind in get_args(hint) if kind is not type(None)), value)
        return None if value != value else value
    if origin is tuple:
        if not isinstance(value, list):
            return _MISFIT
        item = get_args(hint)[0]
        if set(map(type, value)) <= {item}:  # fast, for the columns of a long run
            return tuple(value)
        items = tuple(_fit(item, element) for element in value)
        return _MISFIT if any(element is _MISFIT for element in items) else items
    raise TypeError(hint)


def _fit_float(value: Any) -> Any:
    if type(value) not in (int, float):
        return _MISFIT
    try:
        return float(value) if abs(value) < math.inf else math.nan
    except OverflowError:  # an integer of more than 308 digits
        return _MISFIT


def _is_plain(value: Any, levels: int) -> bool:
    """Whether Python can print a value: at most `levels` lists or mappings deep, and no enormous integer."""
    if isinstance(value, (dict, list)):
        items = value.values() if isinstance(value, dict) else value
        return levels > 0 and all(_is_plain(item, levels - 1) for item in items)
    return type(value) is not int or abs(value) < MAX_PRINTED_INTEGER
