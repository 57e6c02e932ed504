"""What a run is to be, made of a preset, a file and typed settings: for the command line and for Python. No torch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fundamentallm.config.config import BPE, SETTINGS, SHAPE, Config, Layer, flags_layer, resolve
from fundamentallm.config.files import load_config, load_preset, preset_layer
from fundamentallm.paths import user_path
from fundamentallm.run.folder import BEST, CONFIG, choose_folder, find_checkpoint
from fundamentallm.run.spec import RunSpec, changed_flags, find_input, overridden, stay_inside

Warn = Callable[[str], object]
REACHING = ("wandb", "track", "log_dir")  # what may reach out of a run's folder


def config_layers(preset: str | None, config_file: str | None, flags: Mapping[str, Any]) -> list[Layer]:
    """Read the layers below the flags; the later wins."""
    layers = [load_config(user_path(config_file))] if config_file is not None else []
    return [preset_layer(load_preset(preset), *layers, Layer(flags)), *layers] if preset is not None else layers


def new_spec(
    preset: str | None, config_file: str | None, flags: dict[str, Any], auto: bool, init_from: str | None, warn: Warn
) -> RunSpec:
    """Make the spec of a run that begins from a preset, a file and typed settings, or with the weights of a checkpoint.

    `auto`: a run that is in the folder already is resumed, with its own settings.
    """
    layers = config_layers(preset, config_file, flags)
    if init_from is not None:
        return _initialised_spec(layers, flags, find_checkpoint(init_from, BEST), preset or "", warn)
    return _described_spec(layers, flags, auto, preset or "", warn)


def _described_spec(layers: list[Layer], flags: dict[str, Any], auto: bool, preset: str, warn: Warn) -> RunSpec:
    notes: list[str] = []
    described = bool(layers)
    source: Path | None = None
    own = user_path(flags["output_dir"]) / CONFIG if auto else None
    if own is not None and not described and not flags.get("data") and own.is_file():
        layer = load_config(own)  # of someone else's run, perhaps: only this command decides where it reports to
        spec = RunSpec(Config(), own.parent, changes=flags)
        inside, notes = stay_inside(resolve(layer, flags_layer(flags)), spec)
        source = own
        layers = [replace(layer, values={**layer.values, **{name: getattr(inside, name) for name in REACHING}})]
    config = resolve(*layers, flags_layer(flags))
    if "vocab_size" in flags and config.tokenizer != BPE:
        warn(f"--vocab-size: has no effect: only --tokenizer {BPE} learns a vocabulary of that size")
    if "patience" in flags and not config.early_stopping:
        warn("--patience: has no effect: --early-stopping is off")
    folder = choose_folder(config, preset)
    config = find_input(config, folder)
    if auto and described and (others := overridden(folder, config, flags)):
        warn(f"{folder} keeps its own {', '.join(others)}, whatever --preset or --config say")
    for note in notes if not any(folder.glob("*.pt")) else ():  # else the trainer says the same of the checkpoint's
        warn(note)
    changes = changed_flags(folder, flags) if auto else {}
    numbered = config.output_dir is None
    return RunSpec(config, folder, changes=changes, auto=auto, settings_from=source, preset=preset, numbered=numbered)


def _initialised_spec(layers: list[Layer], flags: dict[str, Any], weights: Path, preset: str, warn: Warn) -> RunSpec:
    """The spec of a run whose model has the shape of the one in `weights`, which is read later."""
    taken = (*SHAPE, "max_seq_len")
    if named := [name for name in taken if any(name in layer.values for layer in layers)]:
        warn(f"{weights} brings its own {', '.join(named)}, whatever --preset or --config say")
    layers = [
        replace(layer, values={name: value for name, value in layer.values.items() if name not in taken})
        for layer in layers
    ]
    longest = Layer({"max_seq_len": SETTINGS["max_seq_len"].at_most})  # so that no stride seems too long for now
    config = resolve(longest, *layers, flags_layer({name: flags[name] for name in flags if name not in SHAPE}))
    folder, numbered = choose_folder(config, preset), config.output_dir is None
    return RunSpec(config, folder, changes=flags, init_from=weights, preset=preset, numbered=numbered)
