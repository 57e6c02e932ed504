"""Write settings.md from the table of settings: `make docs`."""

from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

from fundamentallm.config.config import SETTINGS
from fundamentallm.config.settings import Setting

INTRODUCTION = """\
# Settings

Every setting has the same name in four places: as a flag of `fundamentallm train`, as a key of a YAML file
(`--config`), as a field of the console's form, and as a heading on this page. Its value is the last one that is given
by: the default, a preset, a configuration file, a flag. `fundamentallm config show` prints each value and where it
comes from.

If the default is "auto", the program chooses the value; you can also set `auto` yourself. A value out of bounds is
refused before anything is written.

{live}

They change in the console's form, with `fundamentallm set RUN NAME=VALUE`, or through the run's `commands.jsonl`, and
hold from the next step on. A setting that "stays on resume" belongs to the saved state and cannot change when a run is
resumed.

`make docs` makes this page from the program's table of settings."""


def page() -> str:
    """Return the text of the page."""
    live = ", ".join(f"`{row.name}`" for row in SETTINGS.values() if row.live)
    blocks = [INTRODUCTION.replace("{live}", fill(f"While a run trains, these can change: {live}.", 120))]
    group = ""
    for row in SETTINGS.values():
        if row.group != group:
            group = row.group
            blocks.append(f"## {group}")
        blocks += _describe(row)
    return "\n\n".join(blocks) + "\n"


def _describe(row: Setting) -> Iterator[str]:
    yield f"### {row.name}"
    yield fill(row.help, 120)
    yield "\n".join(f"- {line}" for line in _facts(row))


def _facts(row: Setting) -> Iterator[str]:
    if row.name == "data":
        yield "the argument DATA of `fundamentallm train`, once or several times; in YAML a path or a list of paths"
        return
    if row.flag_values:
        yield f"flag: `{row.flag}`, which means `on`, or with {', '.join(f'`{value}`' for value in row.flag_values)}"
    elif row.kind is tuple:
        yield f"flag: `{row.flag}`, once or several times"
    else:
        yield f"flag: `{row.flag}`" + (f", `{row.as_flag(False)}`" if row.kind is bool else "")
    yield f"default: {_default(row)}"
    if row.choices:
        yield f"one of: {', '.join(f'`{choice}`' for choice in row.choices)}"
    if row.typical:
        yield f"typical: {row.typical}"
    if row.bounds:
        yield f"allowed: {row.bounds}"
    if row.too_high:
        yield f"too high: {row.too_high}"
    if row.too_low:
        yield f"too low: {row.too_low}"
    if row.live:
        yield "can change while the run trains"
    if row.fixed:
        yield "stays on resume"


def _default(row: Setting) -> str:
    if row.default is None:
        return f"auto: {row.auto}"
    if row.kind is bool:
        return "on" if row.default else "off"
    if row.kind is tuple:
        return "none"
    return f"`{row.default:g}`" if row.kind is float else f"`{row.default}`"


if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(page(), encoding="utf-8")
