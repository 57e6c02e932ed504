"""`fundamentallm export`: a model for other programs."""

from pathlib import Path

import click

from fundamentallm.cli.options import files
from fundamentallm.cli.terminal import one_line
from fundamentallm.paths import user_path
from fundamentallm.run.folder import BEST, find_checkpoint

FORMATS = ("hf", "safetensors")


@click.command
@click.argument("checkpoint", shell_complete=files)
@click.argument("target", shell_complete=files)
@click.option("--to", "form", type=click.Choice(FORMATS), default="hf", help="What to write. [default: hf]")
def command(checkpoint: str, target: str, form: str) -> None:
    """Write the model in CHECKPOINT, a file or the folder of a run (its best.pt), for other programs to open.

    hf makes TARGET a folder for Hugging Face's transformers: AutoModelForCausalLM and AutoTokenizer open it without
    this program. safetensors makes it one file with the weights. TARGET must not exist yet.
    """
    path: Path = user_path(target)
    from fundamentallm.train.checkpoint import load  # imports torch
    from fundamentallm.train.export import export_hf, export_safetensors

    export = export_hf if form == "hf" else export_safetensors
    export(load(find_checkpoint(checkpoint, BEST)), path)
    print(one_line(path))
