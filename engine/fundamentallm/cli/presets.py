"""`fundamentallm presets`: the starting points there are."""

from textwrap import wrap

import click

from fundamentallm.cli.options import presets
from fundamentallm.cli.terminal import complain, plain
from fundamentallm.config.config import resolve
from fundamentallm.config.estimate import count_parameters
from fundamentallm.config.files import Preset, load_preset, preset_names
from fundamentallm.data.text import read_texts
from fundamentallm.errors import UserError

SHOWN = ("model_dim", "num_layers", "num_heads", "batch_size", "epochs", "learning_rate")
VOCABULARY = 65  # of Tiny Shakespeare, where the text is not here yet


@click.command
@click.argument("name", required=False, shell_complete=presets)
def command(name: str | None) -> None:
    """List the presets, or show the YAML of the preset NAME."""
    if name is not None:
        print(plain(load_preset(name).path.read_text(encoding="utf-8")), end="")
        return
    blocks = []
    for preset_name in preset_names():
        try:
            blocks.append(plain(_describe(load_preset(preset_name))))
        except UserError as error:  # one of a person's own
            complain(str(error))
    print("\n\n".join(blocks))


def _describe(preset: Preset) -> str:
    config = resolve(preset.layer)
    try:
        vocabulary, missing = len(set().union(*read_texts(config.data))), ""
    except UserError:
        vocabulary, missing = VOCABULARY, " (not here yet)"
    size = f"{count_parameters(config, vocabulary) / 1e6:.3g} million parameters"
    numbers = [f"{name} {getattr(config, name):g}" for name in SHOWN]
    lines = [
        *wrap(preset.description, 72),
        f"{size}, {preset.expected_time}",
        f"{', '.join(config.data)}{missing}",
        ", ".join(numbers[:3]),
        ", ".join(numbers[3:]),
    ]
    return f"{preset.name:<8}" + "\n        ".join(line for line in lines if line)
