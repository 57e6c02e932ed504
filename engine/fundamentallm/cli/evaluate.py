"""`fundamentallm evaluate`: how well a model predicts a text."""

import sys
from typing import Any

import click

from fundamentallm.cli.options import files, options, output_path, parse, write_output
from fundamentallm.cli.terminal import class_table, complain
from fundamentallm.config.config import SETTINGS, Config
from fundamentallm.config.format import format_digits
from fundamentallm.data.source import read_source
from fundamentallm.run.events import to_line

ROWS = {name: SETTINGS[name] for name in ("device", "text_field")}


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
    parsed = parse(ROWS, values)
    target = output_path("--output", output, begins='{"loss":')
    text = Config(data=data, include=include, text_field=parsed["text_field"])
    source = read_source(text, complain)
    from fundamentallm.train.evaluate import by_class, tally  # imports torch
    from fundamentallm.train.loaded import load

    model = load(checkpoint, device=parsed["device"], warn=complain)
    left_out, _, pieces = model.predict(source, strict, complain, complain)
    result, tokenizer = tally(pieces, len(model.tokenizer)), model.tokenizer
    classes = by_class(tokenizer.texts, result.by_token.tolist())
    per_byte, per_character = result.bits_per(tokenizer.sizes), result.bits_per(tokenizer.characters)
    numbers = {
        "loss": result.loss,
        "perplexity": result.perplexity,
        "bits_per_character": per_character,
        "bits_per_byte": per_byte,
        "accuracy": result.accuracy,
        "tokens": result.tokens,
        "left_out": left_out,
        "classes": classes,
    }
    if as_json:
        print(to_line(numbers))
    else:
        print(f"loss        {result.loss:.4f} nats a token")
        print(f"perplexity  {format_digits(result.perplexity, 4)}")
        print(f"accuracy    {result.accuracy:.2%}")
        print(f"bits        {per_character:.4f} a character, {per_byte:.4f} a byte")
        print(f"tokens      {result.tokens:,}\n")
        print(class_table(classes))
    if target is not None:
        sys.stdout.flush()
        write_output("--output", target, to_line(numbers) + "\n")
