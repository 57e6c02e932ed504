"""`fundamentallm generate`: the prompt and its continuation, on standard output."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fundamentallm.cli.options import files, options, output_path, parse, read_prompt, write_output
from fundamentallm.cli.terminal import SEPARATOR, write_text
from fundamentallm.config.config import SETTINGS
from fundamentallm.config.sampling import SAMPLING, SamplingOptions
from fundamentallm.data.text import normalize_prompt
from fundamentallm.errors import UserError

if TYPE_CHECKING:
    from fundamentallm.cli.model import Writer

ROWS = {**SAMPLING, "device": SETTINGS["device"]}


@click.command
@click.argument("checkpoint", shell_complete=files)
@click.option("--prompt", metavar="TEXT", default="", help="How the text begins; - reads it from standard input.")
@options(ROWS.values())
@click.option("--stop", metavar="TEXT", multiple=True, help="End where the model writes this; may be given again.")
@click.option("--output-file", metavar="FILE", shell_complete=files, help="Write the text into FILE too.")
@click.option("--interactive", is_flag=True, help="Ask for one prompt after the other.")
def command(
    checkpoint: str, prompt: str, stop: tuple[str, ...], output_file: str | None, interactive: bool, **values: Any
) -> None:
    """Write text with the model in CHECKPOINT, a file or the folder of a run (its best.pt).

    Standard output gets the prompt and its continuation and nothing else.
    """
    chosen = parse(ROWS, values)
    target = output_path("--output-file", output_file)
    if interactive and (prompt or target is not None):
        raise UserError(f"{'--prompt' if prompt else '--output-file'}: not with --interactive, which asks for prompts")
    prompt = read_prompt(prompt)
    stops = tuple(normalize_prompt(text, "--stop") for text in stop if text)
    from fundamentallm.cli.model import Writer, load_model  # imports torch

    device_name = chosen.pop("device")
    model, saved, _ = load_model(checkpoint, device_name)
    writer = Writer(model, saved.tokenizer(), SamplingOptions(**chosen), stops)
    if interactive:
        from fundamentallm.cli.talk import Talk

        return Talk(writer, f"{checkpoint}, step {saved.progress().step}", device_name).run()
    _write(writer, prompt, target)


def _write(writer: "Writer", prompt: str, target: Path | None) -> None:
    """Print the samples as they grow, and write them into a file if there is a `target`."""
    texts: list[str] = []
    writer.tokenizer.encode(prompt, name="the prompt")  # complains before anything is printed
    try:
        for sample in range(writer.options.num_samples):
            write_text(SEPARATOR * bool(sample) + prompt)
            texts.append(writer.write(prompt, write_text, sample))
    finally:
        write_text("\n")  # also after Ctrl+C
    if target is not None:
        write_output("--output-file", target, SEPARATOR.join(prompt + text for text in texts) + "\n")
