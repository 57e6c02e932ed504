"""`fundamentallm generate`: the prompt and what the model makes of it, on standard output."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fundamentallm.cli.options import files, options, parse
from fundamentallm.cli.terminal import plain
from fundamentallm.config.config import SETTINGS
from fundamentallm.config.sampling import SAMPLING, SamplingOptions
from fundamentallm.config.settings import setting, table
from fundamentallm.errors import UserError
from fundamentallm.paths import user_path

if TYPE_CHECKING:
    from fundamentallm.data.tokenizer import Tokenizer
    from fundamentallm.model.transformer import Transformer


@dataclass(frozen=True)
class Wanted:
    """What text is asked for."""

    max_tokens: int = setting(200, group="", at_least=1, help="How many tokens to write.")
    temperature: float = setting(
        0.8, group="", at_least=0, at_most=100, typical="0.5 to 1.2", help="How daring; 0 takes the likeliest token."
    )
    top_k: int = setting(0, group="", at_least=0, help="Pick among the k likeliest tokens; 0: among all.")
    top_p: float = setting(1.0, group="", above=0, at_most=1, help="Pick among the likeliest that make up this share.")
    repetition_penalty: float = setting(
        1.0, group="", above=0, at_most=10, typical="1 to 1.3", help="Makes what stands in the context less likely."
    )
    seed: int | None = setting(
        None, group="", at_least=0, at_most=2**31 - 1, auto="another each time", help="The same seed, the same text."
    )
    num_samples: int = setting(1, group="", at_least=1, at_most=1024, help="How many texts to write, in one batch.")


ROWS = {**table(Wanted), "device": SETTINGS["device"]}
RULE = "-" * 40  # between samples


@dataclass(frozen=True)
class Writer:
    """A model and how it is to write."""

    model: "Transformer"
    tokenizer: "Tokenizer"
    wanted: dict[str, Any]
    stops: tuple[str, ...] = ()

    def write(self, prompt: str, show: Callable[[str], None]) -> list[str]:
        """Continue `prompt` once for each sample; a single one is shown as it grows.

        A text ends where it says one of `stops`, which is left out.

        Raises:
            UserError: the prompt has a character that the model has never seen.
        """
        from fundamentallm.model.generate import stream

        options = SamplingOptions(**{name: self.wanted[name] for name in SAMPLING})
        tokens, count = self.tokenizer.encode_prompt(prompt), options.num_samples
        texts, ended, shown = [""] * count, [False] * count, 0
        for picked, _ in stream(self.model, tokens, options):
            for i, token in enumerate(picked):
                if not ended[i]:
                    texts[i], ended[i] = self._cut(texts[i] + self.tokenizer.vocabulary[token])
            if count == 1:
                sure = len(texts[0]) - (0 if ended[0] else self._doubtful(texts[0]))
                show(texts[0][shown:sure])
                shown = max(shown, sure)
            if all(ended):
                break
        if count == 1:
            show(texts[0][shown:])
        return texts

    def _cut(self, text: str) -> tuple[str, bool]:
        """`text` up to the first stop that it has just come to, and whether it came to one."""
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)

    def _doubtful(self, text: str) -> int:
        """How many characters at the end may turn out to begin a stop: not to be shown yet."""
        lengths = (n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(lengths, default=0)


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
    wanted = parse(ROWS, values)
    target = None if output_file is None else user_path(output_file)
    if target is not None and (target.is_dir() or not target.parent.is_dir()):
        raise UserError(f"--output-file {output_file}: {'is a' if target.is_dir() else 'is in no'} folder")
    if interactive and (prompt or target is not None):
        raise UserError(f"{'--prompt' if prompt else '--output-file'}: not with --interactive, which asks for prompts")
    if prompt == "-":
        try:
            prompt = sys.stdin.read().removesuffix("\n")
        except UnicodeDecodeError:
            raise UserError("--prompt -: standard input is not UTF-8") from None
    from fundamentallm.cli.checkpoints import load_model  # imports torch

    model, saved, _ = load_model(checkpoint, wanted["device"])
    writer = Writer(model, saved.tokenizer(), wanted, tuple(text for text in stop if text))
    if interactive:
        from fundamentallm.cli.talk import Talk

        return Talk(writer, about=f"{checkpoint}, step {saved.progress().step}").run()
    write(writer, prompt, target)


def write(writer: Writer, prompt: str, target: Path | None) -> None:
    """Print the samples, and keep them in a file."""
    single = writer.wanted["num_samples"] == 1
    texts: list[str] = []
    writer.tokenizer.encode(prompt, name="the prompt")  # complains before anything is printed
    try:
        if single:
            show(prompt)
        texts = writer.write(prompt, show)
        if not single:
            show(f"\n{RULE}\n".join(prompt + text for text in texts))
    finally:
        show("\n")  # also after Ctrl+C
    if target is not None:
        try:
            target.write_text(f"\n{RULE}\n".join(prompt + text for text in texts) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--output-file {target}: cannot be written: {error.strerror}") from None


def show(text: str) -> None:
    """At once and harmless on a screen; as it is into a file or pipe."""
    screen = sys.stdout.isatty()
    sys.stdout.write(plain(text) if screen else text)
    if screen:
        sys.stdout.flush()
