"""`fundamentallm evaluate`: how well a model predicts a text."""

import sys
from collections.abc import Callable
from typing import Any

import click

from fundamentallm.cli.options import files, options, output_path, parse, write_output
from fundamentallm.cli.terminal import columns, complain
from fundamentallm.config.config import SETTINGS
from fundamentallm.config.format import format_count, format_digits, format_names
from fundamentallm.data.text import read_data
from fundamentallm.data.tokenizer import SHOWN_CHARACTERS, Tokenizer
from fundamentallm.errors import UserError
from fundamentallm.run.events import to_line

ROWS = {"device": SETTINGS["device"]}
CLASSES: dict[str, Callable[[str], bool]] = {  # the first that holds
    "lower case": str.islower,
    "upper case": str.isupper,
    "other letters": str.isalpha,
    "digits": str.isdigit,
    "spaces": lambda character: character == " ",
    "line ends": lambda character: character == "\n",
    "punctuation, other": lambda character: True,
}
CLASS_COLUMNS = ("tokens", "loss", "accuracy")


@click.command
@click.argument("checkpoint", shell_complete=files)
@click.argument("data", nargs=-1, required=True, shell_complete=files)
@click.option("--strict", is_flag=True, help="Refuse a text with characters that the model has never seen.")
@click.option("--output", metavar="FILE", shell_complete=files, help="Write the numbers to FILE as JSON too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@options([SETTINGS["include"], *ROWS.values()])
def command(
    checkpoint: str,
    data: tuple[str, ...],
    strict: bool,
    output: str | None,
    as_json: bool,
    include: tuple[str, ...],
    **values: Any,
) -> None:
    """Measure how well the model in CHECKPOINT, a file or the folder of a run (its best.pt), predicts the text DATA.

    Several files are one text, as in training; a folder stands for the .txt and .md files directly in it. Every token
    but the first is predicted once, with the context that the model was trained with. Characters that the model has
    never seen are counted and left out.
    """
    device_name = parse(ROWS, values)["device"]
    target = output_path("--output", output)
    texts = read_data(data, include, needs="two characters")
    text = "".join(texts.documents)
    if len(text) < 2:
        raise UserError(f"{texts.files[0]}: one character leaves nothing to predict; 2 are needed")
    from fundamentallm.cli.model import load_model  # imports torch
    from fundamentallm.data.corpus import encode
    from fundamentallm.train.device import Precision
    from fundamentallm.train.evaluate import evaluate

    model, saved, device = load_model(checkpoint, device_name)
    tokenizer = saved.tokenizer()
    if strict:
        for path, document in zip(texts.files, texts.documents, strict=True):
            _refuse_unknown(path, document, tokenizer)
    known, left_out = tokenizer.leave_out_unknown(text)
    for notice in texts.notices:
        complain(notice)
    if left_out:
        counts = [f"{character!r} {count:,} x" for character, count in left_out.most_common()]
        share = f"{left_out.total():,} of {format_count(len(text), 'character')} ({left_out.total() / len(text):.2%})"
        complain(f"left out {share} that the model has never seen: {format_names(counts, SHOWN_CHARACTERS)}")
    if len(known) < 2:
        raise UserError(f"{', '.join(data)}: the model knows {len(known)} of its characters, and 2 are needed")
    tokens = encode(known, tokenizer).to(device)
    config = saved.settings()
    result = evaluate(model, tokens, config.max_seq_len, Precision(device, config.mixed_precision))
    classes = by_class(saved.vocabulary, result.by_token.tolist())
    numbers = {
        "loss": result.loss,
        "perplexity": result.perplexity,
        "bits_per_character": result.bits,
        "accuracy": result.accuracy,
        "tokens": result.tokens,
        "left_out": left_out.total(),
        "classes": {name: dict(zip(CLASS_COLUMNS, row, strict=True)) for name, row in classes.items()},
    }
    if as_json:
        print(to_line(numbers))
    else:
        print(f"loss        {result.loss:.4f} nats a token")
        print(f"perplexity  {format_digits(result.perplexity, 4)}")
        print(f"accuracy    {result.accuracy:.2%}")
        print(f"bits        {result.bits:.4f} a character")
        print(f"tokens      {result.tokens:,}\n")
        rows = [(name, f"{n:,}", f"{loss:.4f}", f"{hits:.2%}") for name, (n, loss, hits) in classes.items()]
        print("\n".join(columns([("characters", *CLASS_COLUMNS), *rows], right=(1, 2, 3))))
    if target is not None:
        sys.stdout.flush()
        write_output("--output", target, to_line(numbers) + "\n")


def _refuse_unknown(path: str, text: str, tokenizer: Tokenizer) -> None:
    """Raise a UserError that says where the first character is that the model has never seen, if there is one."""
    first = min((text.index(character) for character in set(text) - set(tokenizer.vocabulary)), default=None)
    if first is not None:
        line, column = text.count("\n", 0, first) + 1, first - text.rfind("\n", 0, first)
        why = tokenizer.describe_unknown(text, f"{path}, line {line:,}, column {column:,}: the text")
        raise UserError(f"{why}; without --strict they are left out")


def by_class(vocabulary: str, counts: list[list[float]]) -> dict[str, tuple[int, float, float]]:
    """Sum up tokens, mean loss (nats) and accuracy for each class of characters that the text has.

    `counts` is the table of an `Evaluation`, `by_token`.
    """
    sums = {name: [0.0, 0.0, 0.0] for name in CLASSES}
    for character, row in zip(vocabulary, counts, strict=True):
        name = next(name for name, holds in CLASSES.items() if holds(character))
        sums[name] = [a + b for a, b in zip(sums[name], row, strict=True)]
    return {name: (int(n), loss / n, hits / n) for name, (n, loss, hits) in sums.items() if n}
