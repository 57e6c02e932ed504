"""`fundamentallm evaluate`: how well a model predicts a text."""

import sys
from collections.abc import Callable
from typing import Any

import click

from fundamentallm.cli.options import files, options, parse
from fundamentallm.cli.terminal import columns
from fundamentallm.config.config import SETTINGS
from fundamentallm.data.text import read_text
from fundamentallm.errors import UserError
from fundamentallm.paths import user_path
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


def by_class(vocabulary: str, counts: list[list[float]]) -> dict[str, tuple[int, float, float]]:
    """Tokens, mean loss and accuracy for each class of characters that the text has.

    Args:
        counts: for each character of the vocabulary how often it came, its losses' sum, how often it was guessed.
    """
    sums: dict[str, list[float]] = {}
    for character, row in zip(vocabulary, counts, strict=True):
        name = next(name for name, holds in CLASSES.items() if holds(character))
        sums[name] = [a + b for a, b in zip(sums.get(name, [0.0, 0.0, 0.0]), row, strict=True)]
    shares = {}
    for name in CLASSES:
        count, loss, hits = sums.get(name, [0.0, 0.0, 0.0])
        if count:
            shares[name] = (int(count), loss / count, hits / count)
    return shares


@click.command
@click.argument("checkpoint", shell_complete=files)
@click.argument("data", shell_complete=files)
@click.option("--output", metavar="FILE", shell_complete=files, help="Write the numbers to FILE as JSON too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@options(ROWS.values())
def command(checkpoint: str, data: str, output: str | None, as_json: bool, **values: Any) -> None:
    """Measure the model in CHECKPOINT, a file or the folder of a run (its best.pt), on the text file DATA.

    Every token of the text but the first is predicted once, with the context that the model was trained with.
    """
    device_name = parse(ROWS, values)["device"]
    target = None if output is None else user_path(output)
    if target is not None and (target.is_dir() or not target.parent.is_dir()):
        raise UserError(f"--output {output}: {'is a folder' if target.is_dir() else 'its folder does not exist'}")
    text = read_text(data)
    if len(text) < 2:
        raise UserError(f"{data}: one character leaves nothing to predict; 2 are needed")
    from fundamentallm.cli.checkpoints import load_model  # imports torch
    from fundamentallm.data.corpus import encode
    from fundamentallm.train.device import Precision
    from fundamentallm.train.evaluate import evaluate

    model, saved, device = load_model(checkpoint, device_name)
    tokens = encode(text, saved.tokenizer(), data).to(device)
    config = saved.settings()
    result = evaluate(model, tokens, config.max_seq_len, Precision(device, config.mixed_precision))
    classes = by_class(saved.vocabulary, result.by_token.tolist())
    numbers = {
        "loss": result.loss,
        "perplexity": result.perplexity,
        "bits_per_character": result.bits,
        "accuracy": result.accuracy,
        "tokens": result.tokens,
        "classes": {name: dict(zip(CLASS_COLUMNS, row, strict=True)) for name, row in classes.items()},
    }
    if as_json:
        print(to_line(numbers))
    else:
        print(f"loss        {result.loss:.4f} nats a token")
        print(f"perplexity  {result.perplexity:.4g}")
        print(f"accuracy    {result.accuracy:.2%}")
        print(f"bits        {result.bits:.4f} a character")
        print(f"tokens      {result.tokens:,}\n")
        rows = [(name, f"{n:,}", f"{loss:.4f}", f"{hits:.2%}") for name, (n, loss, hits) in classes.items()]
        print("\n".join(columns([("characters", *CLASS_COLUMNS), *rows], right=(1, 2, 3))))
    if target is not None:
        sys.stdout.flush()
        try:
            target.write_text(to_line(numbers) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--output {output}: cannot be written: {error.strerror}") from None
