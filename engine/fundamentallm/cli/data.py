"""`fundamentallm data`: the known texts, how to download them, and what a text is made of."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import click

from fundamentallm.cli.options import Group, among, files, options
from fundamentallm.cli.terminal import Footer, bar, columns, complain, is_screen, one_line
from fundamentallm.config.config import SETTINGS, Layer, resolve, unknown
from fundamentallm.config.estimate import estimate_size
from fundamentallm.config.format import format_count, format_names, format_size, format_times, wrap
from fundamentallm.data.download import HUB, KNOWN_TEXTS, Downloaded, KnownText, download, fetch_dataset
from fundamentallm.data.source import make_source, measure_source
from fundamentallm.data.text import describe_left_out, find_data, has_fields, read_bytes, read_pieces, select
from fundamentallm.data.text_stats import TextStats, compute_text_stats, name_character, source_warnings
from fundamentallm.errors import UserError
from fundamentallm.untrusted import printable

SAMPLE = "data/samples/sample_data.txt"
BAR_CELLS = 30
SHOWN_CHARACTERS = 300  # of a vocabulary
SHOWN_NAMES = 24  # of characters that cannot be shown as they are, or are rare


@click.group(cls=Group)
def command() -> None:
    """List, download and inspect the texts that a model learns from."""


@command.command("list")
def list_() -> None:
    """List the known texts and where they come from.

    Shows whether each file can be found from the current folder.
    """
    blocks = [["sample  original English, written for this project", "  comes with the program", *_files([SAMPLE])]]
    for known in KNOWN_TEXTS.values():
        about = [f"{known.name}  {known.description}", f"  from {known.url or 'this machine, without a network'}"]
        files = _files(known.paths)
        missing = [f"  fundamentallm data get {known.name}"] if any("not here" in line for line in files) else []
        blocks.append([*about, *files, *missing])
    print("\n\n".join("\n".join(block) for block in blocks))


@command.command("get")
@click.argument("name", metavar=f"[{'|'.join(KNOWN_TEXTS)}|hf:OWNER/NAME]", shell_complete=among(KNOWN_TEXTS))
@click.option(
    "--from", "source", metavar="FILE_OR_URL", shell_complete=files, default="",
    help="Read it from here, not from its public address.",
)  # fmt: skip
def get_(name: str, source: str) -> None:
    """Download a known text into data/raw, or a dataset of Hugging Face.

    The text is checked, and all of its files are written or none. A different file of the same name is moved aside.
    """
    if name.startswith(HUB):
        if source:
            raise UserError(f"--from {source}: only for a known text; for a folder of this machine write hf:./FOLDER")
        for path, fields in fetch_dataset(name).items():
            print(f"{printable(str(path))}  {format_size(path.stat().st_size)}, {printable(_fields(fields))}")
        return
    if name not in KNOWN_TEXTS:
        raise UserError(f"{name}: {unknown('known text', name, tuple(KNOWN_TEXTS))}")
    known = KNOWN_TEXTS[name]
    downloaded = _download(known, source)
    for old in downloaded.aside:
        complain(f"another file of that name is now {old}")
    if not downloaded.written:
        complain("already there")
    for path in map(Path, known.paths):
        print(f"{printable(str(path))}  {len(path.read_text(encoding='utf-8')):,} characters")


@command.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, shell_complete=files)
@options([SETTINGS["include"], SETTINGS["text_field"]])
def inspect(files: tuple[str, ...], include: tuple[str, ...], text_field: str | None) -> None:
    """Show what texts are made of and what is wrong with them.

    Shows characters, words, the vocabulary and what is rare in it, repetitions, problems of encoding, and what a run
    with the default settings would make of the text. A folder stands for the .txt and .md files directly in it, and -
    for standard input. Of a .jsonl file, the text is what the fields of its lines hold, as in training.
    """
    chosen = select(files, include)
    if chosen.problems:
        raise UserError("\n".join(chosen.problems))
    if chosen.left_out:
        complain(describe_left_out(chosen.left_out))
    field = text_field or SETTINGS["text_field"].default
    stats = {path: compute_text_stats(_read(path, field), path) for path in chosen.files}
    blocks = [[*_describe(path, seen), *_training({path: seen}, alone=len(stats) == 1)] for path, seen in stats.items()]
    if len(stats) > 1:
        blocks.append([f"all {len(stats)} files together", *_training(stats, alone=True)])
    print("\n\n".join("\n".join(map(printable, block)) for block in blocks))


def _read(path: str, text_field: str) -> bytes:
    if has_fields(path):
        return "".join(read_pieces(path, text_field)).encode()
    return read_bytes(path)


def _fields(names: list[str]) -> str:
    """Say what each line of a file has, and which flag chooses what is read."""
    hint = "" if SETTINGS["text_field"].default in names else "; choose one: --text-field NAME"
    return f"fields: {format_names(names, SHOWN_NAMES)}{hint}"


def _files(paths: list[str]) -> list[str]:
    """Lines that say which of these files are here."""
    sizes = dict.fromkeys(paths, "not here")
    for path in paths:
        with suppress(UserError, OSError):
            sizes[path] = format_size(find_data(path).stat().st_size)
    return columns([("", path, size) for path, size in sizes.items()])


def _download(known: KnownText, source: str) -> Downloaded:
    """Download, with a bar if standard error is a screen."""
    footer = Footer(sys.stderr)

    def draw(done: int, total: int) -> None:
        if is_screen(sys.stderr):
            footer.draw([f"{known.name} {bar(done, total, BAR_CELLS, sys.stderr)} of {format_size(total)}"])

    try:
        return download(known, source, progress=draw)
    finally:
        footer.clear()


def _describe(path: str, seen: TextStats) -> Iterator[str]:
    yield one_line(path)
    counts = {"byte": seen.bytes}
    if seen.text:
        counts |= {"character": len(seen.text), "line": seen.lines, "word": seen.words}
    yield f"  size         {', '.join(format_count(n, noun) for noun, n in counts.items())}"
    if seen.text.strip():
        yield from _describe_text(seen)
    if not seen.problems:
        yield "  problems     none"
    for problem in seen.problems:
        yield "  problem      " + (f"{problem.count:,} x " if problem.count > 1 else "") + problem.description
        for place in problem.places:
            yield f"                 line {place.line:,}, offset {place.offset:,}: {place.description}"
        if problem.places and problem.count > len(problem.places):
            yield f"                 and {problem.count - len(problem.places):,} more"


def _describe_text(seen: TextStats) -> Iterator[str]:
    yield f"  vocabulary   {format_count(len(seen.counts), 'character')}"
    yield from _folded("", _characters(seen.vocabulary))
    if seen.rare:
        rare = [f"{name_character(character)} {count:,}" for character, count in seen.rare]
        yield from _folded("rare", format_names(rare, SHOWN_NAMES))
    yield (
        f"  repetitions  {seen.duplicate_lines:.1%} of the lines and {seen.duplicate_paragraphs:.1%} of the paragraphs "
        "occurred before"
    )


def _characters(vocabulary: list[str]) -> str:
    """Those that can be seen, side by side, then the others by name."""
    visible = [character for character in vocabulary if name_character(character) == character]
    others = [name_character(character) for character in vocabulary if name_character(character) != character]
    more = f" and {len(visible) - SHOWN_CHARACTERS:,} more" if len(visible) > SHOWN_CHARACTERS else ""
    return " ".join(filter(None, ["".join(visible[:SHOWN_CHARACTERS]) + more, ", ".join(others[:SHOWN_NAMES])]))


def _training(files: Mapping[str, TextStats], *, alone: bool) -> Iterator[str]:
    """What a run with the default settings would make of texts, or why it would not.

    `alone`: these are all the texts that there are, so their held-out part is worth a warning.
    """
    for path, seen in files.items():
        if fatal := next((problem for problem in seen.problems if problem.fatal), None):
            yield from _folded("training", f"refuses {path}: {fatal.description.split(';')[0]}")
            return
    texts = {path: seen.text for path, seen in files.items() if seen.text.strip()}
    if not texts:
        yield from _folded("training", f"refuses {', '.join(files)}: has no text")
        return
    config, source = resolve(Layer({"data": list(texts)})), make_source(texts, list(texts.values()))
    try:
        run = estimate_size(config, measure_source(config, source))
    except UserError as error:
        yield from _folded("training", f"not with the default settings: {error}")
        return
    yield from _folded(
        "training",
        f"with the default settings {format_count(run.train_tokens, 'character')} to learn from and "
        f"{run.val_tokens:,} to measure on; {format_count(run.windows, 'window')} and "
        f"{format_count(run.steps_per_epoch, 'step')} an epoch, which reads each character {format_times(run.passes)}; "
        f"{format_count(run.total_steps, 'step')} in {format_count(config.epochs, 'epoch')}; "
        f"{run.parameters:,} parameters",
    )
    for warning in source_warnings(source, config) if alone else []:
        yield from _folded("warning", warning)


def _folded(label: str, text: str) -> Iterator[str]:
    """A labelled text in lines of at most 100 cells."""
    for line in wrap(text, 85):
        yield f"  {label:<11}  {line}"
        label = ""
