"""`fundamentallm generate`: the prompt and its continuation, on standard output."""

from typing import Any

import click

from fundamentallm.cli.options import files, options, output_path, parse, read_prompt, write_output
from fundamentallm.cli.terminal import SEPARATOR, complain, write_text
from fundamentallm.config.config import SETTINGS
from fundamentallm.config.sampling import SAMPLING, SamplingOptions
from fundamentallm.data.text import normalize_prompt
from fundamentallm.errors import UserError

ROWS = {**SAMPLING, "device": SETTINGS["device"]}


@click.command
@click.argument("checkpoint", shell_complete=files)
@click.option("--prompt", metavar="TEXT", default="", help="How the text begins; - reads it from standard input.")
@options(ROWS.values())
@click.option("--stop", metavar="TEXT", multiple=True, help="End where the model writes this; may be given again.")
@click.option("--output-file", metavar="FILE", shell_complete=files, help="Write the text into a new FILE too.")
@click.option("--interactive", is_flag=True, help="Ask for one prompt after the other.")
def command(
    checkpoint: str, prompt: str, stop: tuple[str, ...], output_file: str | None, interactive: bool, **values: Any
) -> None:
    """Write text with the model in CHECKPOINT, a file or the folder of a run (its best.pt).

    Standard output gets the prompt and its continuation and nothing else.
    """
    chosen = parse(ROWS, values)
    target = output_path("--output-file", output_file, begins="")
    if interactive and (prompt or target is not None):
        raise UserError(f"{'--prompt' if prompt else '--output-file'}: not with --interactive, which asks for prompts")
    prompt = read_prompt(prompt)
    stops = tuple(normalize_prompt(text, "--stop") for text in stop if text)
    from fundamentallm.train.loaded import load  # imports torch

    device_name = chosen.pop("device")
    model, sampling = load(checkpoint, device=device_name, warn=complain), SamplingOptions(**chosen)
    for text in stops:
        if model.tokenizer.leave_out_unknown(text)[1]:
            complain(model.tokenizer.describe_unknown(text, "--stop"))
    if interactive:
        from fundamentallm.cli.talk import Talk

        return Talk(model, sampling, stops, f"{checkpoint}, step {model.step}", device_name).run()
    texts: list[str] = []
    model.tokenizer.encode(prompt, name="the prompt")  # complains before anything is printed
    try:
        for sample in range(sampling.num_samples):
            write_text(SEPARATOR * bool(sample) + prompt)
            texts.append(model.generate(prompt, sampling, stop=stops, show=write_text, sample=sample))
    finally:
        write_text("\n")  # also after Ctrl+C
    if target is not None:
        write_output("--output-file", target, SEPARATOR.join(prompt + text for text in texts) + "\n")
