"""The report of a run: what it was, how it ended and how to repeat it, as Markdown and with a picture."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from fundamentallm.cli.terminal import one_line
from fundamentallm.config.config import CHAR, SETTINGS, SHAPE
from fundamentallm.config.format import format_count, format_digits, format_duration, format_time, format_value
from fundamentallm.errors import UserError, system_errors
from fundamentallm.paths import quoted_path
from fundamentallm.run.describe import describe_machine
from fundamentallm.run.events import Finished, RunStarted, Sampled
from fundamentallm.run.folder import free_name, named, write_atomic
from fundamentallm.run.health import assess_run
from fundamentallm.run.history import RunHistory
from fundamentallm.run.journal import read_journal
from fundamentallm.run.summary import RunSummary, changed_from_defaults, summarize
from fundamentallm.untrusted import open_regular_file, printable
from fundamentallm_tui.charts.runs import losses_of_runs
from fundamentallm_tui.charts.svg import POINTS, to_svg

MARK = "<!-- written by fundamentallm runs report, which may replace this file -->"
MAX_SAMPLES, MAX_SAMPLE_CHARS = 10, 2000  # the newest samples; of each the beginning


def write_report(folder: Path, target: Path) -> None:
    """Write the report of a run, and beside it a picture of its curves as SVG.

    A UserError says that the folder holds no run, or that a file is in the way which is not an older report.
    """
    picture = target.with_suffix(".svg")
    if picture == target:
        raise UserError(f"--output {target}: is the name of the picture; name a file for the text, such as report.md")
    for path in (target, picture):
        if os.path.lexists(path) and not _is_report(path):
            raise UserError(f"{path}: is there already and is no report of a run; name another file with --output")
    history, reached, samples = _read(folder)
    text = "\n".join(_markdown(summarize(folder, history), history, reached, samples, picture.name))
    chart, legend = losses_of_runs([(folder, history)], POINTS, False)
    drawing = f"{MARK}\n{to_svg(chart, f'Loss of {legend[0].name}', legend)}"
    with system_errors(f"{target}: cannot be written"):
        write_atomic(picture, drawing)
        write_atomic(target, text)


def _is_report(path: Path) -> bool:
    with suppress(OSError), open_regular_file(path) as file:
        return file.read(len(MARK)) == MARK.encode()
    return False


def _read(folder: Path) -> tuple[RunHistory, list[int], list[Sampled]]:
    """Read a journal: the run's history, the step that it had reached at each start, and its samples, each whole."""
    history, reached, samples = RunHistory(), list[int](), dict[tuple[str, int], Sampled]()
    for event in read_journal(folder):
        if isinstance(event, Sampled):
            _add_piece(samples, event)
            continue
        if isinstance(event, RunStarted):
            reached.append(history.step)
        history.apply(event)
    return history, reached, list(samples.values())


def _add_piece(samples: dict[tuple[str, int], Sampled], piece: Sampled) -> None:
    before = samples.pop(key := (piece.id, piece.number), None)
    text = (before.text if before is not None else "") + piece.text
    samples[key] = Sampled(step=piece.step, id=piece.id, prompt=piece.prompt, text=text[:MAX_SAMPLE_CHARS])
    if len(samples) > MAX_SAMPLES:
        del samples[next(iter(samples))]


def _markdown(
    run: RunSummary, history: RunHistory, reached: list[int], samples: list[Sampled], picture: str
) -> Iterator[str]:
    first, changes = history.starts[0], history.interventions_from(0)
    noun = "character" if first.config.get("tokenizer", CHAR) == CHAR else "different token"
    about = {
        "state": run.state_text + (f": {run.why}" if run.why else ""),
        "tags": ", ".join(run.tags),
        "preset": run.preset,
        "text": run.data,
        "model": f"{format_count(run.parameters, 'parameter')}, {format_count(first.vocab_size, noun)}",
        "parent": run.parent,
        "began": format_time(run.started),
        "version": f"fundamentallm {first.version}, PyTorch {first.torch}",
        "machine": f"{first.host}, {describe_machine(first)}",
    }
    changed = changed_from_defaults(history.requested)
    settings = [(name, format_value(value)) for name, value in changed.items() if name not in ("data", "output_dir")]
    yield from (MARK, "", f"# {_cell(named(run.folder).name)}", "")
    if run.note:
        yield from (_cell(run.note), "")
    yield from _table(("", ""), [(name, text) for name, text in about.items() if text])
    yield from ("## Result", "", *_table(("", ""), _numbers(run, history)))
    yield from (f"![Losses of each step and of each evaluation]({quote(picture)})", "")
    if (verdict := assess_run(history)) is not None:
        yield from (f"**{_cell(verdict.headline)}**: {_cell(verdict.evidence)}. {_cell(verdict.explanation)}", "")
    yield from ("## Settings that differ from the defaults", "", *_table(("setting", "value"), settings))
    yield from ("## How to repeat it", "", *_fenced(" ".join(_repeat(run.folder, history)), "bash"))
    if history.changes_made():
        what = "makes the changes of live settings below again, each after the same step"
        yield from (f"`--apply-interventions` {what}; other settings are those of the last start.", "")
    if changes:
        rows = [(f"{c.step:,}", c.setting, format_value(c.old), format_value(c.new), c.who) for c in changes]
        yield from ("## Changes while it ran", "", *_table(("after step", "setting", "from", "to", "by"), rows))
    if resumes := list(zip(history.starts, reached, strict=True))[1:]:
        begun = [
            (f"{s.step:,}", f"{at:,}", s.resumed_from or "its newest checkpoint",
             ", ".join(f"{name} {format_value(value)}" for name, value in s.changes.items()))
            for s, at in resumes
        ]  # fmt: skip
        yield from ("## Resumed", "", *_table(("after step", "had reached", "from", "with"), begun))
    if samples:
        yield from ("## Samples", "")
    for sample in samples:
        yield from (f"After step {sample.step:,}:", "", *_fenced(sample.prompt + sample.text))


def _numbers(run: RunSummary, history: RunHistory) -> Iterator[tuple[str, str]]:
    yield "steps", f"{run.steps:,} of {run.total_steps:,}"
    if run.train_loss is not None and run.val_loss is not None:
        yield "last train_loss, val_loss", f"{run.train_loss:.4f}, {run.val_loss:.4f}"
    if (best := run.best) is not None:
        perplexity = format_digits(best.perplexity, 4)
        bits = f", {best.bits_per_byte:.4f} bits a byte" if best.bits_per_byte is not None else ""
        at = f"(epoch {best.epoch}, step {best.step:,}{', left behind' * run.best_left_behind})"
        yield "best val_loss", f"{best.val_loss:.4f}, perplexity {perplexity}{bits} {at}"
    if isinstance(history.end, Finished):
        yield "training took", f"{format_duration(history.end.seconds)}, {format_count(history.end.tokens, 'token')}"


def _repeat(folder: Path, history: RunHistory) -> Iterator[str]:
    """The words of a command that does the same again, in another folder."""
    anew = [n for n, start in enumerate(history.starts) if not start.resumed_from]
    first, *later = history.starts[max(anew, default=0) :]
    changed = changed_from_defaults(first.config)
    yield "fundamentallm train"
    own: tuple[str, ...] = ("data", "output_dir")
    if first.initialised_from:
        yield f"--init-from {quoted_path(first.initialised_from)}"
        own = (*own, *SHAPE, "max_seq_len")
    elif first.resumed_from:
        yield f"--resume-from {quoted_path(first.resumed_from)}"
        changed = first.changes
    for start in later:  # what is live, --apply-interventions changes at its step
        changed = changed | {
            name: v for name, v in start.changes.items() if name in SETTINGS and not SETTINGS[name].live
        }
    data = changed.get("data")
    yield from map(quoted_path, data if isinstance(data, list) else [])
    for name, value in changed.items():
        if name in SETTINGS and name not in own:
            yield SETTINGS[name].as_flag(value)
    if first.processes > 1:
        yield f"--processes {first.processes}"
    if history.changes_made():
        yield f"--apply-interventions {quoted_path(named(folder))}"
    yield f"--output-dir {quoted_path(free_name(folder, '-again-'))}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [" | ".join(map(_cell, row)) for row in (head, *rows)]
    lines.insert(1, " | ".join("---" for _ in head))
    return [*(f"| {line} |" for line in lines), ""]


def _fenced(text: str, language: str = "") -> list[str]:
    """A block of code, in a fence that is longer than any inside."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [fence + language, printable(text).rstrip("\n"), fence, ""]


def _cell(text: object) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\|<`*\[])", r"\\\1", one_line(text))
