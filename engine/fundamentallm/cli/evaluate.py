"""`fundamentallm evaluate`: how well a model predicts a text."""

import sys
from collections.abc import Callable
from typing import Any

import click

from fundamentallm.cli.options import files, options, output_path, parse, write_output
from fundamentallm.cli.terminal import columns
from fundamentallm.config.config import SETTINGS
from fundamentallm.data.text import read_text
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
@click.argument("data", shell_complete=files)
@click.option("--output", metavar="FILE", shell_complete=files, help="Write the numbers to FILE as JSON too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@options(ROWS.values())
def command(checkpoint: str, data: str, output: str | None, as_json: bool, **values: Any) -> None:
    """Measure how well the model in CHECKPOINT, a file or the folder of a run (its best.pt), predicts the text DATA.

    Every token of the text but the first is predicted once, with the context that the model was trained with.
    """
    device_name = parse(ROWS, values)["device"]
    target = output_path("--output", output)
    text = read_text(data)
    if len(text) < 2:
        raise UserError(f"{data}: one character leaves nothing to predict; 2 are needed")
    from fundamentallm.cli.model import load_model  # imports torch
    from fundamentallm.data.corpus import encode
    from fundamentallm.train.device import Precision
    from fundamentallm.train.evaluate import evaluate

    model, saved, device = load_model(checkpoint, device_name)
    tokens = encode(text, saved.tokenizer(), data).to(device)
    config = saved.settings()
    result = evaluate(model, tokens, config.max_seq_len, Precision(device, config.mixed_precision))
    classes = by_class(saved.vocabulary, result.by_token.tolist())
    numbers = to_line(
        {
            "loss": result.loss,
            "perplexity": result.perplexity,
            "bits_per_character": result.bits,
            "accuracy": result.accuracy,
            "tokens": result.tokens,
            "classes": {name: dict(zip(CLASS_COLUMNS, row, strict=True)) for name, row in classes.items()},
        }
    )
    if as_json:
        print(numbers)
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
        write_output("--output", target, numbers + "\n")


def by_class(vocabulary: str, counts: list[list[float]]) -> dict[str, tuple[int, float, float]]:
    """Sum up tokens, mean loss (nats) and accuracy for each class of characters that the text has.

    Args:
        counts: for each character of the vocabulary how often it occurred, the sum of its losses, and how often it was
            predicted.
    """
    sums = {name: [0.0, 0.0, 0.0] for name in CLASSES}
    for character, row in zip(vocabulary, counts, strict=True):
        name = next(name for name, holds in CLASSES.items() if holds(character))
        sums[name] = [a + b for a, b in zip(sums[name], row, strict=True)]
    return {name: (int(n), loss / n, hits / n) for name, (n, loss, hits) in sums.items() if n}
