"""`fundamentallm score`: where a text surprises a model."""

from typing import Any

import click

from fundamentallm.cli.options import Count, files, options, parse
from fundamentallm.cli.terminal import class_table, columns, complain
from fundamentallm.config.config import SETTINGS, Config
from fundamentallm.config.estimate import token_noun
from fundamentallm.data.source import read_source
from fundamentallm.run.events import to_line

ROWS = {name: SETTINGS[name] for name in ("device", "text_field")}
BEFORE, AFTER = 32, 8  # characters that are shown around a place


@click.command
@click.argument("checkpoint", shell_complete=files)
@click.argument("file", shell_complete=files)
@click.option("--worst", type=Count(0, 10_000), default=10, metavar="N", help="How many places to show. [default: 10]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the tables.")
@options(ROWS.values())
def command(checkpoint: str, file: str, worst: int, as_json: bool, **values: Any) -> None:
    """Show where the text FILE surprises the model in CHECKPOINT, a file or the folder of a run (its best.pt).

    The loss is that of `fundamentallm evaluate`, token by token. The worst places are looked for where the model has
    read a quarter of its context at least: with less, every token surprises it. An offset counts characters, from 0.
    The texts of a folder are one text.
    """
    parsed = parse(ROWS, values)
    source = read_source(Config(data=(file,), text_field=parsed["text_field"]))
    for notice in source.notices:
        complain(notice)
    text = source.text()
    from fundamentallm.train.evaluate import by_class  # imports torch
    from fundamentallm.train.loaded import load

    model = load(checkpoint, device=parsed["device"], warn=complain)
    score = model.score(text, name=", ".join(source.files), warn=complain)
    result, places = score.evaluation, score.worst(worst)
    classes = by_class(model.tokenizer.texts, result.by_token.tolist())
    per_byte = result.bits_per(model.tokenizer.sizes)
    if as_json:
        found = [{"offset": at, "text": text[max(0, at - BEFORE) : at + AFTER], "loss": loss} for at, loss in places]
        numbers = {"loss": result.loss, "bits_per_byte": per_byte, "tokens": result.tokens}
        return print(to_line({**numbers, "worst": found, "classes": classes}))
    print(f"loss    {result.loss:.4f} nats a token")
    print(f"bits    {per_byte:.4f} a byte")
    print(f"tokens  {result.tokens:,}\n")
    print(class_table(classes))
    if places:
        noun, lengths = token_noun(model.config), dict(zip(score.offsets, score.lengths, strict=True))
        print(f"\nworst places; the {noun} between the bars has the loss")
        rows = [(f"{at:,}", f"{loss:.2f}", _marked(text, at, lengths[at])) for at, loss in places]
        print("\n".join(columns([("offset", "loss", "text"), *rows], right=(0, 1))))


def _marked(text: str, at: int, size: int) -> str:
    """The surroundings of a token of so many characters in one line, with the token between bars."""
    parts = text[max(0, at - BEFORE) : at], text[at : at + size], text[at + size : at + size - 1 + AFTER]
    return "|".join(part.replace("\n", "\\n").replace("\t", "\\t") for part in parts)
