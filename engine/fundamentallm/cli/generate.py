"""`fundamentallm generate`: the prompt and what the model makes of it, on standard output."""

import sys
from dataclasses import dataclass
from typing import Any

import click

from fundamentallm.cli.options import options, parse
from fundamentallm.cli.terminal import plain
from fundamentallm.config import SETTINGS
from fundamentallm.settings import setting, table


@dataclass(frozen=True)
class Wanted:
    """What text is asked for."""

    max_tokens: int = setting(200, group="", at_least=1, help="How many tokens to write.")
    temperature: float = setting(
        0.8, group="", at_least=0, at_most=100, typical="0.5 to 1.2", help="How daring; 0 takes the likeliest token."
    )
    top_k: int = setting(0, group="", at_least=0, help="Pick among the k likeliest tokens; 0: among all.")
    top_p: float = setting(1.0, group="", above=0, at_most=1, help="Pick among the likeliest that make up this share.")
    seed: int | None = setting(
        None, group="", at_least=0, at_most=2**31 - 1, auto="another each time", help="The same seed, the same text."
    )


ROWS = {**table(Wanted), "device": SETTINGS["device"]}


@click.command
@click.argument("checkpoint")
@click.option("--prompt", metavar="TEXT", default="", help="How the text begins.")
@options(ROWS.values())
def command(checkpoint: str, prompt: str, **values: Any) -> None:
    """Write text with the model in CHECKPOINT, a file or the folder of a run (its best.pt).

    Standard output gets the prompt and its continuation and nothing else.
    """
    wanted = parse(ROWS, values)
    from fundamentallm.cli.checkpoints import load_model  # imports torch
    from fundamentallm.generate import Sampling, encode_prompt, stream

    model, saved, _ = load_model(checkpoint, wanted["device"])
    tokenizer = saved.tokenizer()
    tokens = encode_prompt(tokenizer, prompt)
    sampling = Sampling(wanted["temperature"], wanted["top_k"], wanted["top_p"], wanted["seed"])
    screen = sys.stdout.isatty()
    try:
        _write(prompt, screen)
        for picked, _ in stream(model, tokens, wanted["max_tokens"], sampling):
            _write(tokenizer.decode(picked), screen)
    finally:
        _write("\n", screen)  # also after Ctrl+C


def _write(text: str, screen: bool) -> None:
    """At once and harmless on a screen; as it is into a file or pipe."""
    sys.stdout.write(plain(text) if screen else text)
    if screen:
        sys.stdout.flush()
