"""`fundamentallm presets`: the settings to start from."""

import click

from fundamentallm.cli.options import presets
from fundamentallm.cli.terminal import complain
from fundamentallm.config.config import resolve
from fundamentallm.config.estimate import count_parameters
from fundamentallm.config.files import Preset, load_preset, preset_names
from fundamentallm.config.format import format_digits, wrap
from fundamentallm.data.source import read_source
from fundamentallm.errors import UserError
from fundamentallm.untrusted import printable

SHOWN = ("model_dim", "num_layers", "num_heads", "batch_size", "epochs", "learning_rate")
USUAL_VOCABULARY = 65  # of Tiny Shakespeare: the guess for a text that is not here yet


@click.command
@click.argument("name", required=False, shell_complete=presets)
def command(name: str | None) -> None:
    """List the presets, or show the YAML of the preset NAME."""
    if name is not None:
        print(printable(load_preset(name).path.read_text(encoding="utf-8")), end="")
        return
    blocks = []
    for preset_name in preset_names():
        try:
            blocks.append(printable(_describe(load_preset(preset_name))))
        except UserError as error:  # a preset of the user's own
            complain(str(error))
    print("\n\n".join(blocks))


def _describe(preset: Preset) -> str:
    config = resolve(preset.layer)
    try:
        vocabulary, missing = len(read_source(config).facts.vocabulary), ""
    except UserError:
        vocabulary, missing = USUAL_VOCABULARY, " (not here yet)"
    millions = format_digits(count_parameters(config, vocabulary) / 1e6, 3)
    numbers = [f"{name} {getattr(config, name):g}" for name in SHOWN]
    lines = [
        *wrap(preset.description, 72),
        ", ".join(filter(None, (f"{millions} million parameters", preset.expected_time))),
        f"{', '.join(config.data)}{missing}" if config.data else "",
        ", ".join(numbers[:3]),
        ", ".join(numbers[3:]),
    ]
    return f"{preset.name:<7} " + "\n        ".join(line for line in lines if line)
