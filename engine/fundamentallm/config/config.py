"""Every setting of a run in one table, and how a configuration is made from defaults, presets, files and flags.

- A configuration is resolved from layers; a later layer wins.
- Validation collects every problem, with the place of each value.
- Knows no command line and no form: both are made from `SETTINGS`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fundamentallm.config.format import format_value
from fundamentallm.config.settings import Setting, closest, setting, table
from fundamentallm.errors import UserError

DATA, MODEL, TRAINING, RUN, TRACKING = "Data", "Model", "Training", "Run", "Tracking"
CHAR, BYTES, BPE = "char", "bytes", "bpe"  # kinds of tokenizers; any other is the path of a tokenizer.json
VARIATIONS = ("casing", "punctuation", "whitespace")
MAX_PINS = 8
VARIATION_PROBABILITY = 0.05  # where the user gives none


@dataclass(frozen=True)
class Config:
    """A complete configuration. Immutable: `dataclasses.replace` makes a changed one."""

    data: tuple[str, ...] = setting(
        (), group=DATA, help="The text to train on: text files, folders of .txt and .md files, or -: standard input."
    )
    include: tuple[str, ...] = setting(
        (), group=DATA, typical="*.rst",
        help="Patterns of further files to read in folders; by default the .txt and .md files directly in them.",
    )  # fmt: skip
    text_field: str = setting("text", group=DATA, help="The field of each line of a .jsonl file that has its text.")
    tokenizer: str = setting(
        CHAR, group=DATA, fixed=True, typical="char, bytes, bpe or PATH",
        help="What a token is: a character; a byte; bpe: a sequence of bytes, learnt from the text; or as PATH says.",
    )  # fmt: skip
    vocab_size: int = setting(
        2048, group=DATA, at_least=257, at_most=1_000_000, fixed=True, typical="1024 to 32768",
        help="How many different tokens bpe learns, the 256 bytes included.",
        too_high="most tokens are too rare to be learnt", too_low="a context holds little text",
    )  # fmt: skip
    val_split: float = setting(
        0.1, group=DATA, above=0, below=1, fixed=True, typical="0.05 to 0.2",
        help="Share of the text, at its end, that is held out to measure how well the model generalises.",
        too_high="little is left to train on", too_low="the validation loss is mostly noise",
    )  # fmt: skip
    max_seq_len: int = setting(
        256, group=DATA, at_least=2, at_most=65536, fixed=True, typical="128 to 2048",
        help="Context length: how many tokens the model sees at once.",
        too_high="training is slow and memory runs out", too_low="the model forgets how the sentence began",
    )  # fmt: skip
    stride: int | None = setting(
        None, group=DATA, at_least=1, fixed=True, typical="an eighth of max_seq_len to max_seq_len",
        help="Distance between the starts of neighbouring training windows, in tokens.",
        auto="the largest of T, T/2, T/4 and T/8 that gives 40 steps an epoch (T: max_seq_len)",
        too_high="an epoch has few steps", too_low="an epoch reads the same text many times",
    )  # fmt: skip
    augment: str | None = setting(
        None, group=DATA, auto="off", typical="casing=0.05,punctuation=0.05",
        help="Vary casing, punctuation or whitespace of the training text, each with a probability per character.",
        too_high="the model learns the variations", too_low="the model memorises small texts",
    )  # fmt: skip

    model_dim: int = setting(
        128, group=MODEL, at_least=2, at_most=16384, fixed=True, typical="64 to 1024",
        help="Width: the size of embeddings and hidden states.",
        too_high="training is slow and memorises small texts", too_low="too little capacity: both losses stay high",
    )  # fmt: skip
    num_layers: int = setting(
        6, group=MODEL, at_least=1, at_most=256, fixed=True, typical="3 to 24",
        help="Depth: the number of transformer blocks.",
        too_high="training is slow and overfits", too_low="the model learns only simple patterns",
    )  # fmt: skip
    num_heads: int = setting(
        2, group=MODEL, at_least=1, at_most=1024, fixed=True, typical="2 to 16",
        help="Attention heads of each block; model_dim / num_heads must be an even number.",
        too_high="each head is too narrow", too_low="the model follows few relations at a time",
    )  # fmt: skip
    ff_dim: int | None = setting(
        None, group=MODEL, at_least=1, at_most=262144, fixed=True, typical="4 x model_dim",
        help="Width of the feed-forward network inside each block.", auto="4 x model_dim",
    )  # fmt: skip
    dropout: float = setting(
        0.1, group=MODEL, at_least=0, below=1, live=True, typical="0 to 0.3",
        help="Share of the activations that is dropped at random during training, against overfitting.",
        too_high="training is slow and both losses stay high", too_low="the model overfits small texts",
    )  # fmt: skip

    epochs: int = setting(
        10, group=TRAINING, at_least=1, at_most=1_000_000, live=True, typical="5 to 100",
        help="Passes over the training windows: the total, also of a run that is resumed.",
        too_high="the validation loss rises again: overfitting", too_low="training stops while still improving",
    )  # fmt: skip
    max_steps: int | None = setting(
        None, group=TRAINING, at_least=1, at_most=2**53, live=True, typical="1,000 to 100,000",
        help="Optimizer steps at most: the total, as for epochs. The run ends at whichever comes first.",
        auto="no limit", too_high="the epochs end the run before", too_low="training stops while still improving",
    )  # fmt: skip
    batch_size: int = setting(
        16, group=TRAINING, at_least=1, at_most=65536, fixed=True, typical="8 to 128",
        help="Training windows that are computed at once.",
        too_high="memory runs out", too_low="gradients are noisy and the hardware is idle",
    )  # fmt: skip
    accumulation_steps: int = setting(
        1, group=TRAINING, at_least=1, at_most=65536, fixed=True, typical="1 to 16",
        help="Batches whose gradients are added up for one step.",
        too_high="an epoch has few steps",
    )  # fmt: skip
    learning_rate: float = setting(
        1e-3, group=TRAINING, above=0, at_most=1, live=True, typical="1e-5 to 1e-2",
        help="How far each step moves the weights, at the peak of the schedule.",
        too_high="the loss explodes or turns NaN", too_low="the loss barely falls",
    )  # fmt: skip
    lr_schedule: str = setting(
        "cosine", group=TRAINING, choices=("cosine", "linear", "constant", "step", "wsd"),
        help="How the learning rate falls after the warm-up, to a tenth of its peak; wsd: in the last fifth only.",
    )  # fmt: skip
    warmup_steps: int | None = setting(
        10, group=TRAINING, at_least=0, typical="0 to a tenth of the run", auto="a twentieth of the run",
        help="Steps in which the learning rate rises to its peak, at most a tenth; auto: a twentieth of the run.",
        too_high="training is slow to start", too_low="the loss may jump in the first steps",
    )  # fmt: skip
    optimizer: str = setting(
        "muon", group=TRAINING, choices=("muon", "adamw"), fixed=True,
        help="adamw, or muon: Muon for the blocks' matrices (40 x the learning rate), AdamW for the embedding (20 x).",
    )  # fmt: skip
    weight_decay: float = setting(
        0.1, group=TRAINING, at_least=0, at_most=10, live=True, typical="0 to 0.2",
        help="How strongly each step pulls the weights to zero; multiplied by the learning rate.",
        too_high="the model underfits", too_low="long runs overfit",
    )  # fmt: skip
    gradient_clip: float = setting(
        1.0, group=TRAINING, at_least=0, at_most=1e30, live=True, typical="0.5 to 5",
        help="Largest norm of the gradient; 0 turns clipping off.",
        too_high="one bad batch can spoil the model", too_low="training is slow",
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
        help="Compile the model before the first step: a later start, faster steps. auto: never.",
    )  # fmt: skip
    mixed_precision: bool | None = setting(
        None, group=TRAINING, auto="where it is faster", help="Compute in 16-bit floating point if the hardware can."
    )

    seed: int = setting(0, group=RUN, at_least=0, at_most=2**31 - 1, fixed=True, help="Seed of all randomness.")
    device: str = setting("auto", group=RUN, help="cpu, cuda, cuda:1, mps, or auto: the fastest there is.")
    eval_every: int = setting(
        0, group=RUN, at_least=0, live=True, help="Steps between evaluations; 0: only at the end of each epoch."
    )
    save_every: int = setting(
        0, group=RUN, at_least=0, live=True,
        help="Steps between saves of last.pt; 0: once a minute and at the end of each epoch.",
    )  # fmt: skip
    keep_checkpoints: int = setting(
        0, group=RUN, at_least=0, live=True, help="How many checkpoint_epoch_N.pt to keep, the newest; 0: all."
    )
    pin: tuple[str, ...] = setting(
        (), group=RUN, live=True, typical="one to eight short prompts",
        help="Prompts that the model answers as it learns, with the same seed each time; training is not touched.",
    )  # fmt: skip
    pin_every: int = setting(
        0, group=RUN, at_least=0, live=True, help="Steps between answers to pinned prompts; 0: at each evaluation."
    )
    pin_tokens: int = setting(
        100, group=RUN, at_least=1, at_most=2000, live=True, typical="50 to 200",
        help="How many tokens each answer to a pinned prompt has.", too_high="training waits for the answers",
    )  # fmt: skip
    inspect_every: int = setting(
        0, group=RUN, at_least=0, live=True,
        help="Steps between measurements of each layer's gradient, weights and update; 0: none.",
        too_low="training waits for the measurements",
    )  # fmt: skip
    on_console_loss: str = setting(
        "continue", group=RUN, choices=("continue", "stop"), live=True,
        help="What to do if the console that started the run is killed. "
        "A run paused from a console saves and exits when its last console disconnects.",
    )  # fmt: skip
    output_dir: str | None = setting(
        None, group=RUN, help="The folder of the run.", auto="runs/<preset or data>-<n>"
    )  # fmt: skip
    tensorboard: bool = setting(False, group=TRACKING, help="Write event files for TensorBoard.")
    log_dir: str = setting("runs", group=TRACKING, help="Where TensorBoard's files go: into <log_dir>/<run name>.")
    wandb: bool = setting(
        False, group=TRACKING, help="Track with Weights & Biases, if installed; WANDB_MODE=offline keeps the data here."
    )
    track: tuple[str, ...] = setting(
        (), group=TRACKING, typical="mlflow, trackio",
        help="Other trackers, by name: mlflow, trackio, or what an installed package offers.",
    )  # fmt: skip
    project: str = setting(
        "fundamentallm", group=TRACKING, help="Name of the project at Weights & Biases and other trackers."
    )

    @property
    def augmentations(self) -> dict[str, float]:
        """The probability of each variation that `augment` names; a UserError if it names something else."""
        probabilities: dict[str, float] = {}
        if self.augment is None:
            return probabilities
        for part in self.augment.replace(" ", "").split(","):
            name, _, share = part.partition("=")
            if name not in VARIATIONS:
                raise UserError(f"{part}: {unknown('variation', name, VARIATIONS)}")
            try:
                probability = float(share or VARIATION_PROBABILITY)
            except ValueError:
                probability = -1.0
            if not 0 <= probability <= 1:
                raise UserError(f"{part}: the probability must be from 0 to 1, as in {name}={VARIATION_PROBABILITY:g}")
            probabilities[name] = probability
        return probabilities

    @property
    def ff_width(self) -> int:
        """The width of the feed-forward network, with its default resolved."""
        return 4 * self.model_dim if self.ff_dim is None else self.ff_dim

    @property
    def effective_batch(self) -> int:
        """Windows per optimizer step."""
        return self.batch_size * self.accumulation_steps


SETTINGS = table(Config)
LISTS = tuple(name for name, row in SETTINGS.items() if row.kind is tuple)
SHAPE = ("model_dim", "num_layers", "num_heads", "ff_dim")  # what the shapes of all weights but the embedding follow


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one value. `place` is empty for a flag, which names itself."""

    name: str
    text: str
    place: str = ""

    def __str__(self) -> str:
        line = f"{self.name}: {self.text}" + (f" ({self.place})" if self.place else "")
        return line.replace("\n", " ")  # a value may have line ends


@dataclass(frozen=True)
class Layer:
    """Values from one source, and the place of each to be shown ("small.yaml, line 6")."""

    values: Mapping[str, Any]
    places: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()  # found while it was read


class ConfigError(UserError):
    """All problems of a configuration at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def flags_layer(values: Mapping[str, Any]) -> Layer:
    """Make a layer of values that the user typed as command-line flags."""
    return Layer(values, {name: SETTINGS[name].flag for name in values if name in SETTINGS})


def resolve(*layers: Layer) -> Config:
    """Make a configuration from the defaults and layers; a later layer wins. A ConfigError has every problem."""
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
    config = Config(**values)
    wrong = {problem.name.removeprefix("--").replace("-", "_") for problem in problems}
    for names, text in _conflicts(config):
        if wrong.isdisjoint(names):  # otherwise one of them has its default and the conflict may be false
            problems.append(_at(names[0], text, places.get(names[0], "")))
    if problems:
        raise ConfigError(problems)
    return config


def origins(*layers: Layer) -> dict[str, str]:
    """Find where each value of `resolve(*layers)` comes from: a layer's place, or "default"."""
    found = dict.fromkeys(SETTINGS, "default")
    for layer in layers:
        found |= {name: layer.places.get(name, "") for name in layer.values if name in SETTINGS}
    return found


def to_dict(config: Config) -> dict[str, Any]:
    """Convert to plain values, as YAML files and checkpoints hold them."""
    return {**asdict(config), **{name: list(getattr(config, name)) for name in LISTS}}


def changed_while_running(config: Config, name: str, raw: Any) -> Config:
    """Change one setting during a run; a UserError if it is unknown or not `live`, or its value is wrong."""
    live = [row.name for row in SETTINGS.values() if row.live]
    if name not in SETTINGS:
        raise UserError(f"{name}: {unknown('setting of a running run', name, live)}")
    if name not in live:
        raise UserError(f"{name}: cannot change during a run; {', '.join(live)} can")
    try:
        return resolve(Layer({**to_dict(config), name: raw}))
    except ConfigError as error:
        raise UserError(str(error.problems[0])) from None


def changed_when_resuming(saved: Config, flags: Mapping[str, Any]) -> Config:
    """Apply the flags that the user typed to the configuration of a checkpoint.

    A ConfigError says that a flag is wrong, or would change a setting that the saved state depends on.
    """
    refused = [
        Problem(row.flag, f"cannot change on resume: the checkpoint has {format_value(has)}; leave it out")
        for row in SETTINGS.values()
        if row.fixed and row.name in flags and _differs(row, flags[row.name], has := getattr(saved, row.name))
    ]
    others = {name: value for name, value in flags.items() if SETTINGS[name].flag not in {p.name for p in refused}}
    config = resolve(Layer(to_dict(saved), problems=tuple(refused)), flags_layer(others))
    return replace(config, data=config.data or saved.data)


def shaped_like(saved: Config, config: Config, flags: Mapping[str, Any]) -> Config:
    """Give a configuration the shape of a saved model, and its context length unless a flag names another.

    A ConfigError says that a flag names another shape.
    """
    model = {name: getattr(saved, name) for name in (*SHAPE, "tokenizer")} | {"ff_dim": saved.ff_width}
    problems = [
        Problem(SETTINGS[name].flag, f"the model of --init-from has {value}; leave it out")
        for name, value in model.items()
        if name in flags and _differs(SETTINGS[name], flags[name], value, getattr(saved, name))
    ]
    taken = (*SHAPE, "tokenizer", "vocab_size", *(() if "max_seq_len" in flags else ("max_seq_len",)))
    values = {**to_dict(config), **{name: getattr(saved, name) for name in taken}}
    return resolve(Layer(values, problems=tuple(problems)))


def _differs(row: Setting, raw: Any, *saved: Any) -> bool:
    try:
        return row.parse(raw) not in saved
    except UserError:
        return True


def unknown(what: str, word: str, known: Iterable[str]) -> str:
    """Say that a name does not exist, with the nearest one that does."""
    known = list(known)
    near = closest(word, known)
    return f"no such {what}" + (f"; did you mean {near}?" if near else f"; there are {', '.join(known)}")


def _at(name: str, text: str, place: str) -> Problem:
    return Problem(place, text) if place.startswith("--") else Problem(name, text, place)


def _conflicts(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Find what is wrong between values that are each within their bounds; the first name is the one to change."""
    dim, heads = config.model_dim, config.num_heads
    valid = [str(n) for n in range(1, dim + 1) if dim % n == 0 and (dim // n) % 2 == 0]
    if not valid:
        yield ("model_dim",), f"{dim} is odd; {dim + 1} would do"
    elif str(heads) not in valid:
        why = f"does not divide model_dim {dim}" if dim % heads else f"leaves heads of odd width {dim // heads}"
        would = f"{', '.join(valid[:-1])} or {valid[-1]} do" if len(valid) > 1 else f"{valid[0]} does"
        yield ("num_heads", "model_dim"), f"{heads} {why}; {would}"
    if config.stride is not None and config.stride > config.max_seq_len:
        text = f"{config.stride} is more than max_seq_len {config.max_seq_len}; text would be skipped"
        yield ("stride", "max_seq_len"), text
    if config.augment is not None and config.tokenizer not in (CHAR, BYTES):
        yield ("augment", "tokenizer"), f"it varies single characters, which the tokens of {config.tokenizer} are not"
    if len(config.pin) > MAX_PINS:
        yield ("pin",), f"{len(config.pin)} prompts; {MAX_PINS} are the most"
    try:
        config.augmentations  # noqa: B018
    except UserError as error:
        yield ("augment",), str(error)
