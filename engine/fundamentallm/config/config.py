"""Every setting of a run, in one table, and how a configuration comes about.

- A configuration is resolved from layers: defaults, a preset, a YAML file, flags; the later wins.
- Validation collects every problem and says where each value came from.
- Knows no command line and no form: both are made from `SETTINGS`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fundamentallm.config.settings import Setting, closest, setting, table
from fundamentallm.errors import UserError

DATA, MODEL, TRAINING, RUN, TRACKING = "Data", "Model", "Training", "Run", "Tracking"
VARIATIONS = ("casing", "punctuation", "whitespace")
VARIED = 0.05  # how often, where a person does not say


@dataclass(frozen=True)
class Config:
    """A complete configuration. Immutable: `dataclasses.replace` makes another."""

    data: tuple[str, ...] = setting(
        (), group=DATA, help="The text to learn from: UTF-8 files, or folders of *.txt files."
    )
    val_split: float = setting(
        0.1, group=DATA, above=0, below=1, fixed=True, typical="0.05 to 0.2",
        help="Share of the text, at its end, that is held out to measure how well the model generalises.",
        too_high="little is left to learn from", too_low="the validation loss is mostly noise",
    )  # fmt: skip
    max_seq_len: int = setting(
        256, group=DATA, at_least=2, at_most=65536, fixed=True, typical="128 to 2048",
        help="Context: how many tokens the model sees at once.",
        too_high="slow, and memory runs out", too_low="the model forgets how the sentence began",
    )  # fmt: skip
    stride: int | None = setting(
        None, group=DATA, at_least=1, fixed=True, typical="an eighth of max_seq_len to max_seq_len",
        help="How many tokens apart the training windows of an epoch start.",
        auto="the largest of T, T/2, T/4 and T/8 that gives 40 steps an epoch (T: max_seq_len)",
        too_high="few steps an epoch", too_low="an epoch passes over the same text many times",
    )  # fmt: skip
    augment: str | None = setting(
        None, group=DATA, auto="off", typical="casing=0.05,punctuation=0.05",
        help="Vary the training text: casing, punctuation, whitespace, each with its probability for a character.",
        too_high="the model learns the noise", too_low="small texts are learnt by heart",
    )  # fmt: skip

    model_dim: int = setting(
        128, group=MODEL, at_least=2, at_most=16384, fixed=True, typical="64 to 1024",
        help="Width: the size of embeddings and hidden states.",
        too_high="slow, and small texts are learnt by heart", too_low="too little capacity; both losses stay high",
    )  # fmt: skip
    num_layers: int = setting(
        6, group=MODEL, at_least=1, at_most=256, fixed=True, typical="3 to 24",
        help="Depth: the number of transformer blocks.",
        too_high="slow, and overfits", too_low="only simple patterns are learnt",
    )  # fmt: skip
    num_heads: int = setting(
        2, group=MODEL, at_least=1, at_most=1024, fixed=True, typical="2 to 16",
        help="Attention heads of a block; must divide model_dim into an even width.",
        too_high="each head is too narrow", too_low="few relations are followed at a time",
    )  # fmt: skip
    ff_dim: int | None = setting(
        None, group=MODEL, at_least=1, at_most=262144, fixed=True, typical="4 x model_dim",
        help="Width of the feed-forward network inside a block.", auto="4 x model_dim",
    )  # fmt: skip
    dropout: float = setting(
        0.1, group=MODEL, at_least=0, below=1, live=True, typical="0 to 0.3",
        help="Share of the activations that is dropped at random while training, against overfitting.",
        too_high="learns slowly and stays vague", too_low="overfits small texts",
    )  # fmt: skip

    epochs: int = setting(
        10, group=TRAINING, at_least=1, at_most=1_000_000, live=True, typical="5 to 100",
        help="Passes over the training windows; the total, also when a run is resumed.",
        too_high="the validation loss rises again: overfitting", too_low="stops while still improving",
    )  # fmt: skip
    batch_size: int = setting(
        16, group=TRAINING, at_least=1, at_most=65536, fixed=True, typical="8 to 128",
        help="Windows that are computed at once.",
        too_high="memory runs out", too_low="noisy gradients, poor use of the hardware",
    )  # fmt: skip
    accumulation_steps: int = setting(
        1, group=TRAINING, at_least=1, at_most=65536, fixed=True, typical="1 to 16",
        help="Batches whose gradients are added up for one step.",
        too_high="few steps an epoch",
    )  # fmt: skip
    learning_rate: float = setting(
        1e-3, group=TRAINING, above=0, at_most=1, live=True, typical="1e-5 to 1e-2",
        help="How far each step moves the weights, at its peak.",
        too_high="the loss explodes or turns NaN", too_low="the loss barely falls",
    )  # fmt: skip
    lr_schedule: str = setting(
        "cosine", group=TRAINING, choices=("cosine", "linear", "constant", "step", "wsd"),
        help="How the learning rate falls, after the warm-up, to a tenth of its peak; wsd: only in the last fifth.",
    )  # fmt: skip
    warmup_steps: int | None = setting(
        None, group=TRAINING, at_least=0, typical="0 to a tenth of the run",
        help="Steps over which the learning rate rises from zero to its peak.", auto="a twentieth of the run",
        too_high="the peak is reached late", too_low="the first steps are rough",
    )  # fmt: skip
    optimizer: str = setting(
        "muon", group=TRAINING, choices=("muon", "adamw"), fixed=True,
        help="AdamW, or Muon for the blocks' matrices (40 x the learning rate) and AdamW for the embedding (20 x).",
    )  # fmt: skip
    weight_decay: float = setting(
        0.1, group=TRAINING, at_least=0, at_most=10, live=True, typical="0 to 0.2",
        help="How strongly weights are pulled to zero, times the learning rate, at each step.",
        too_high="the model underfits", too_low="overfits long runs",
    )  # fmt: skip
    gradient_clip: float = setting(
        1.0, group=TRAINING, at_least=0, live=True, typical="0.5 to 5",
        help="Largest norm of the gradient; 0 turns clipping off.",
        too_high="a bad batch can throw the model off", too_low="progress is slowed down",
    )  # fmt: skip
    early_stopping: bool = setting(
        False, group=TRAINING, live=True, help="Stop when the validation loss no longer improves."
    )
    patience: int = setting(
        5, group=TRAINING, at_least=1, live=True, typical="3 to 10",
        help="Epochs without improvement after which early stopping ends the run.",
    )  # fmt: skip
    compile: str = setting(
        "auto", group=TRAINING, choices=("auto", "always", "never"),
        help="Compile the model before the first step: it starts late and steps are faster. auto: long runs on a GPU.",
    )  # fmt: skip
    mixed_precision: bool = setting(
        False, group=TRAINING, help="Compute in 16-bit numbers where the hardware is faster with them."
    )

    seed: int = setting(0, group=RUN, at_least=0, at_most=2**31 - 1, fixed=True, help="The origin of all randomness.")
    device: str = setting("auto", group=RUN, help="cpu, cuda, cuda:1, mps, or auto: the fastest there is.")
    eval_every: int = setting(
        0, group=RUN, at_least=0, live=True, help="Steps between evaluations; 0: at the end of each epoch only."
    )
    save_every: int = setting(
        0, group=RUN, at_least=0, live=True,
        help="Steps between saves of last.pt; 0: once a minute and at the end of each epoch.",
    )  # fmt: skip
    keep_checkpoints: int = setting(
        0, group=RUN, at_least=0, live=True, help="How many checkpoint_epoch_N.pt are kept, the newest; 0: all."
    )
    on_console_loss: str = setting(
        "continue", group=RUN, choices=("continue", "stop"), live=True,
        help="What a run does when its console is lost. Paused in a console, it saves and ends when the last one goes.",
    )  # fmt: skip
    output_dir: str | None = setting(
        None, group=RUN, help="The folder of the run.", auto="runs/<preset or data>-<n>"
    )  # fmt: skip
    tensorboard: bool = setting(False, group=TRACKING, help="Write event files for TensorBoard.")
    log_dir: str = setting("runs", group=TRACKING, help="Where TensorBoard's files go: into <log_dir>/<run name>.")
    wandb: bool = setting(
        False, group=TRACKING, help="Track with Weights & Biases, if installed; WANDB_MODE=offline keeps it here."
    )
    project: str = setting("fundamentallm", group=TRACKING, help="The project's name at Weights & Biases.")

    @property
    def augmentations(self) -> dict[str, float]:
        """The probability of each variation that is asked for.

        Raises:
            UserError: `augment` names something else.
        """
        chosen = {}
        for part in (self.augment or "").replace(" ", "").split(",") if self.augment else []:
            name, _, share = part.partition("=")
            if name not in VARIATIONS:
                raise UserError(f"{part}: {unknown('variation', name, VARIATIONS)}")
            try:
                chosen[name] = float(share or VARIED)
            except ValueError:
                chosen[name] = -1.0
            if not 0 <= chosen[name] <= 1:
                raise UserError(f"{part}: the probability must be from 0 to 1, as in {name}={VARIED:g}")
        return chosen

    @property
    def ff_width(self) -> int:
        """The feed-forward width with its default resolved."""
        return 4 * self.model_dim if self.ff_dim is None else self.ff_dim

    @property
    def effective_batch(self) -> int:
        """Windows of one optimizer step."""
        return self.batch_size * self.accumulation_steps


SETTINGS = table(Config)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one value. `place` is empty for a flag, whose name says enough."""

    name: str
    text: str
    place: str = ""

    def __str__(self) -> str:
        line = f"{self.name}: {self.text}" + (f" ({self.place})" if self.place else "")
        return line.replace("\n", " ")  # of a value


@dataclass(frozen=True)
class Layer:
    """Values from one source, and the words that tell a person where each stands ("small.yaml, line 6")."""

    values: Mapping[str, Any]
    places: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()  # found while it was read


class ConfigError(UserError):
    """Everything that is wrong with a configuration, at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def flags_layer(values: Mapping[str, Any]) -> Layer:
    """A layer of values that a person typed as command-line flags."""
    return Layer(values, {name: SETTINGS[name].flag for name in values if name in SETTINGS})


def resolve(*layers: Layer) -> Config:
    """The configuration that the layers make on top of the defaults; a later layer wins.

    Raises:
        ConfigError: with every problem there is.
    """
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    problems: list[Problem] = [problem for layer in layers for problem in layer.problems]
    for layer in layers:
        for name, raw in layer.values.items():
            place = layer.places.get(name, "")
            if name not in SETTINGS:
                problems.append(_at(name, unknown("setting", name, tuple(SETTINGS)), place))
                continue
            try:
                values[name] = SETTINGS[name].parse(raw)
                places[name] = place
            except UserError as error:
                problems.append(_at(name, str(error), place))
    config, wrong = Config(**values), {problem.name.removeprefix("--").replace("-", "_") for problem in problems}
    for names, text in _conflicts(config):
        if wrong.isdisjoint(names):  # else one of them is not what was meant
            problems.append(_at(names[0], text, places.get(names[0], "")))
    if problems:
        raise ConfigError(problems)
    return config


def origins(*layers: Layer) -> dict[str, str]:
    """Where each value of `resolve(*layers)` came from: a place as its layer names it, or "default"."""
    found = dict.fromkeys(SETTINGS, "default")
    for layer in layers:
        found |= {name: layer.places.get(name, "") for name in layer.values if name in SETTINGS}
    return found


def check_field(config: Config, name: str, raw: Any) -> Config:
    """`config` with one value replaced, as a form does it.

    Raises:
        ConfigError: the value, or what it makes of the whole, is wrong.
    """
    return resolve(Layer({**to_dict(config), name: raw}))


def to_dict(config: Config) -> dict[str, Any]:
    """Plain values, as YAML and checkpoints hold them."""
    values = asdict(config)
    values["data"] = list(config.data)
    return values


def changed_while_running(config: Config, name: str, raw: Any) -> Config:
    """`config` with one live setting changed.

    Raises:
        UserError: there is no such setting, it cannot change during a run, or the value is wrong.
    """
    if name not in SETTINGS:
        raise UserError(f"{name}: {unknown('setting', name, tuple(SETTINGS))}")
    if not SETTINGS[name].live:
        live = ", ".join(row.name for row in SETTINGS.values() if row.live)
        raise UserError(f"{name}: cannot change while the run is under way; {live} can")
    try:
        return check_field(config, name, raw)
    except ConfigError as error:
        raise UserError(str(error.problems[0])) from None


def changed_when_resuming(saved: Config, flags: Mapping[str, Any]) -> Config:
    """The configuration with which a run goes on: the saved one with what was typed.

    Raises:
        ConfigError: a typed flag would change what the saved state is made of.
    """
    refused = [
        Problem(row.flag, f"cannot change on resume: the checkpoint has {getattr(saved, row.name)}; leave it out")
        for row in SETTINGS.values()
        if row.fixed and row.name in flags and _differs(row, flags[row.name], getattr(saved, row.name))
    ]
    others = {name: value for name, value in flags.items() if SETTINGS[name].flag not in {p.name for p in refused}}
    try:
        config = resolve(Layer(to_dict(saved)), flags_layer(others))
    except ConfigError as error:
        raise ConfigError([*refused, *error.problems]) from None
    if refused:
        raise ConfigError(refused)
    return replace(config, data=config.data or saved.data)


def _differs(row: Setting, raw: Any, saved: Any) -> bool:
    try:
        return bool(row.parse(raw) != saved)
    except UserError:
        return True


def unknown(what: str, word: str, known: "tuple[str, ...] | list[str]") -> str:
    """The words for a name that does not exist, with the nearest one that does."""
    near = closest(word, known)
    return f"no such {what}" + (f"; did you mean {near}?" if near else f"; there are {', '.join(known)}")


def _at(name: str, text: str, place: str) -> Problem:
    return Problem(place, text) if place.startswith("--") else Problem(name, text, place)


def _conflicts(config: Config) -> list[tuple[tuple[str, ...], str]]:
    """What is wrong between values that are each within their bounds; the first name is the one to change."""
    problems: list[tuple[tuple[str, ...], str]] = []
    dim, heads = config.model_dim, config.num_heads
    valid = [n for n in range(1, dim + 1) if dim % n == 0 and (dim // n) % 2 == 0]
    if not valid:
        problems.append((("model_dim",), f"{dim} is odd; {dim + 1} would do"))
    elif heads not in valid:
        names = ", ".join(map(str, valid[:-1])) + f" or {valid[-1]}" if len(valid) > 1 else str(valid[0])
        why = f"does not divide model_dim {dim}" if dim % heads else f"leaves heads of odd width {dim // heads}"
        problems.append((("num_heads", "model_dim"), f"{heads} {why}; {names} {'do' if len(valid) > 1 else 'does'}"))
    if config.stride is not None and config.stride > config.max_seq_len:
        problems.append(
            (
                ("stride", "max_seq_len"),
                f"{config.stride} is more than max_seq_len {config.max_seq_len}; text would be skipped",
            )
        )
    try:
        config.augmentations  # noqa: B018
    except UserError as error:
        problems.append((("augment",), str(error)))
    return problems
