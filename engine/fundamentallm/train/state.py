"""The state of a run in training: everything that a step reads or changes.

- `TrainState` alone owns the counters and the settings that can change while the run trains. Whoever needs one reads
  it here when it is needed, so that a change reaches everything at once. Model and corpus keep copies of fixed ones.
- `build_state` makes one, anew or from a checkpoint.
- Trains nothing, emits nothing, writes nothing.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from fundamentallm.config.advice import advise_out_of_memory
from fundamentallm.config.config import SETTINGS, Config, changed_when_resuming, shaped_like, to_dict
from fundamentallm.config.estimate import Estimate, count_state_memory, count_steps, estimate_size, spans, token_noun
from fundamentallm.config.format import format_count, format_times
from fundamentallm.config.schedule import configured_rate, warmup
from fundamentallm.data.corpus import Corpus
from fundamentallm.data.encoded import encode_source
from fundamentallm.data.source import make_tokenizer, read_source
from fundamentallm.data.text import normalize_prompt, select_before_include
from fundamentallm.data.text_stats import source_warnings
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.errors import NothingToDo, UserError
from fundamentallm.model.transformer import ATTENTION_SCALE, Transformer
from fundamentallm.paths import user_path
from fundamentallm.run.events import Intervention
from fundamentallm.run.folder import check_writable
from fundamentallm.run.history import RECENT_STEPS, RunHistory, read_history
from fundamentallm.run.spec import RunSpec, explain_origin, find_input, stay_inside
from fundamentallm.train import distributed
from fundamentallm.train.checkpoint import Checkpoint, Counters, latest_valid_checkpoint, load, take_weights
from fundamentallm.train.device import (
    Precision,
    available_memory,
    choose_device,
    hardware,
    is_out_of_memory,
    memory_in_use,
)
from fundamentallm.train.metrics import StepMetrics
from fundamentallm.train.optimizer import MOMENTUM, Optimizer
from fundamentallm.untrusted import from_values

NOT_SAME_BITS = "the run resumes, but not to the same bits"


@dataclass
class Origin:
    """How a state came about, and what the user should know about that."""

    checkpoint: Path | None = None  # the one that the run was resumed from
    weights: Path | None = None  # the checkpoint whose weights a new run begins with
    changes: dict[str, Any] = field(default_factory=dict)  # settings that the resuming command changed
    interventions: list[Intervention] = field(default_factory=list)  # a killed process's changes, to be repeated
    planned: list[Intervention] = field(default_factory=list)  # another run's changes, to be made here
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class TrainState:
    """Settings, counters, and all that computes: the one copy that everybody reads."""

    # how far the run is, and the settings as they are now: `change` is the only way to change one
    config: Config
    counters: Counters

    # what is trained, on what text
    tokenizer: Tokenizer
    fingerprint: str  # of the text
    size: Estimate  # of the run
    corpus: Corpus
    model: Transformer
    optimizer: Optimizer

    # how it is computed
    device: torch.device
    precision: Precision
    memory_before: int = 0  # bytes that this process held before it built the state
    compiled: bool = False
    halves: bool = True  # whether two threads compute half of a batch each where they can; older runs did not

    # what happened before
    history: RunHistory = field(default_factory=lambda: RunHistory(RECENT_STEPS))
    origin: Origin = field(default_factory=Origin)

    @property
    def step(self) -> int:
        """How many optimizer steps are done."""
        return self.counters.step

    @property
    def available_memory(self) -> float:
        """The bytes that this run may take, those that it holds included; infinite where the system does not say."""
        return available_memory(self.device, self.memory_before)

    @property
    def fits(self) -> bool:
        """Whether the run will need no more memory than it may take."""
        return self.size.memory + self.size.text_memory <= self.available_memory

    def advise_out_of_memory(self) -> str:
        """Return what to try when memory runs out."""
        config = self.size.fit_batch(self.config)
        return advise_out_of_memory(config, len(self.tokenizer), self.available_memory, self.size.text_memory)

    @property
    def total_steps(self) -> int:
        return count_steps(self.config.epochs, self.config.max_steps, self.corpus.steps_per_epoch)

    @property
    def epochs(self) -> int:
        """The epoch in which the run will end."""
        return -(-self.total_steps // self.corpus.steps_per_epoch)

    @property
    def epoch(self) -> int:
        """The epoch that the last step belongs to, from 1."""
        return max(1, -(-self.step // self.corpus.steps_per_epoch))

    @property
    def epoch_ended(self) -> bool:
        """Whether the last step was the last of its epoch; True before the first step, too."""
        return self.step % self.corpus.steps_per_epoch == 0

    @property
    def evaluation_due(self) -> bool:
        """Whether the run evaluates after the step that was just taken: also at each epoch's end, and at the run's."""
        every = self.config.eval_every
        return self.epoch_ended or self.step >= self.total_steps or (every > 0 and self.step % every == 0)

    @property
    def pinned_due(self) -> bool:
        """Whether the run answers its pinned prompts after the step that was just taken."""
        every = self.config.pin_every
        return bool(self.config.pin) and (self.step % every == 0 if every else self.evaluation_due)

    @property
    def evaluation_missing(self) -> bool:
        """Whether the last step is due an evaluation that it did not get: the process ended first, or in the middle."""
        if self.epoch_ended:
            return self.counters.epoch_tokens > 0  # not `evaluated`, which checkpoints of earlier versions lack
        return self.evaluation_due and self.counters.evaluated < self.step

    @property
    def end_reason(self) -> str | None:
        """Why the training is over, "completed" or "patience"; None while it is not."""
        if self.step >= self.total_steps:
            return "completed"
        out_of_patience = self.config.early_stopping and self.counters.epochs_without_gain >= self.config.patience
        return "patience" if out_of_patience else None

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of step number `step` (0, 1, ...) under the settings as they are now."""
        return configured_rate(self.config, self.total_steps, step)

    def changed(self, setting: str, value: Any) -> Config:
        """Return the settings with another value of one, which may be as a journal has it."""
        return replace(self.config, **{setting: SETTINGS[setting].parse(value)})

    def change(self, setting: str, value: Any) -> None:
        """Set a setting for the steps to come. The value is valid: `changed_while_running` has checked it."""
        self.config = self.changed(setting, value)

    def check_pinned(self, prompts: Sequence[str]) -> None:
        """Raise a UserError if the model cannot read one of the prompts."""
        for prompt in prompts:
            self.tokenizer.encode(normalize_prompt(prompt), name=f"pin: {prompt[:40]!r}")

    def count_steps(self, steps: "Sequence[StepMetrics]") -> None:
        """Add the losses and tokens of steps to the counters."""
        for step in steps:
            self.counters.epoch_loss += step.train_loss * step.tokens
            self.counters.epoch_tokens += step.tokens
            self.counters.tokens += step.tokens

    def count_evaluation(self, val_loss: float) -> bool:
        """Take a validation loss (nats) into the counters; at the end of an epoch, count its gain and begin a new sum.

        Returns whether it is the best so far. One that is not finite never is: nothing would be better than NaN.
        """
        counters, lowest = self.counters, self.counters.best_val_loss
        best = isfinite(val_loss) and (lowest is None or not lowest <= val_loss)  # `lowest` may be NaN in an old file
        counters.train_loss, counters.val_loss = counters.epoch_loss / counters.epoch_tokens, val_loss
        if best:
            counters.best_val_loss, counters.best_step, counters.best_epoch = val_loss, self.step, self.epoch
        counters.gained |= best
        counters.evaluated = self.step
        if self.epoch_ended:
            counters.epochs_without_gain = 0 if counters.gained else counters.epochs_without_gain + 1
            counters.gained = False
            counters.epoch_loss, counters.epoch_tokens = 0.0, 0
        return best

    def checkpoint(self) -> Checkpoint:
        """Return what a checkpoint of this moment holds. Its tensors are the live ones: save before the next step."""
        return Checkpoint(
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            counters=asdict(self.counters),
            config=to_dict(self.config),
            vocabulary=self.tokenizer.vocabulary,
            tokenizer_json=self.tokenizer.file,
            fingerprint=self.fingerprint,
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
            device=hardware(self.device),
            compiled=self.compiled,
            processes=distributed.size(),
            precision=self.precision.name,
            attention_scale=self.model.attention_scale,
            normuon=self.optimizer.normuon,
            momentum=self.optimizer.momentum,
            halves=self.halves,
        )


def build_state(
    spec: RunSpec, described: Checkpoint | None = None, say: Callable[[str], None] = lambda text: None
) -> TrainState:
    """Make the state with which a run starts: a new model, one with a checkpoint's weights, or a checkpoint's state.

    `described` is what rank 0 begins with, where this is another process of the same run; its tensors come later.

    A resumed run takes the steps that it would have taken without the stop: weights, optimizer state and counters are
    the checkpoint's, random numbers depend on the seed and on the step or its epoch only, and what users changed after
    the checkpoint was saved is repeated at the same steps. `train/step.py` says where the bits are the same, too.

    `say` is told how far the reading of a long text is. A UserError says that the data, the device or the checkpoint
    cannot be used; NothingToDo, that the run has ended.
    """
    # Which checkpoint, if any, and which settings.
    if spec.auto:
        source, saved, problems = latest_valid_checkpoint(spec.folder)
    else:
        source, problems = spec.resume_from, []
        saved = described if source is None else load(source)
    history = read_history(spec.folder)  # with its steps: the verdict on the run needs the last ones
    history.keep = RECENT_STEPS
    origin = Origin(checkpoint=source, notices=[*problems])
    config, changed = spec.config, dict[str, Any]()
    if saved is not None:
        origin.changes = changed = spec.changes
        if spec.auto:  # commands that resumed the run after this checkpoint was saved changed settings, too
            changed = {**history.changes_since(saved.progress().said), **changed}
        config, inside = stay_inside(changed_when_resuming(saved.settings(), changed), spec)
        origin.notices += inside
        config = find_input(config, source.parent if source is not None else spec.folder)
    elif spec.auto and history.starts and (weights := history.starts[0].initialised_from):
        # The path is from a journal, which may be someone else's: the user has to name it.
        why = f"has no valid checkpoint, and began with the weights of {weights}"
        raise UserError(f"{spec.folder}: {why}; begin anew with --init-from, in another folder or with --overwrite")
    init = None if spec.init_from is None else load(spec.init_from)
    if init is not None:
        config = shaped_like(init.settings(), config, spec.changes)
    config = replace(config, output_dir=str(spec.folder))
    distributed.rows_of(config)  # or the batch cannot be shared

    # The text, and what the run will need.
    before = None if saved is None else saved.settings()
    inherited = {
        name: source if name not in changed and getattr(before, name, None) == getattr(config, name) else None
        for name in ("device", "log_dir", "data")
    }
    with explain_origin(inherited["device"], "device"):
        device = distributed.own_device(choose_device(config.device))
    memory_before = memory_in_use(device)
    if config.tensorboard:
        with explain_origin(inherited["log_dir"], "log_dir"):
            check_writable(user_path(config.log_dir) / spec.folder.resolve().name, f"--log-dir {config.log_dir}")
    with explain_origin(inherited["data"], "data"):
        text = read_source(config, say)
    if saved is not None and "include" not in saved.config and saved.fingerprint != text.facts.fingerprint:
        config = replace(config, data=select_before_include(config.data))  # 0.1.0 read fewer files of a folder
        text = read_source(config, say)
    origin.notices += text.notices
    if saved is None:
        origin.warnings += source_warnings(text, config, say)
    elif saved.fingerprint != text.facts.fingerprint:
        what = f"is not the text that {source} was trained on" if source else "is not the text that process 0 reads"
        raise UserError(f"{', '.join(config.data)}: {what}; restore the text, or start a new run")
    known = None if init is None else init.tokenizer()
    tokenizer = saved.tokenizer() if saved is not None else make_tokenizer(config, text, known, say)
    encoded = encode_source(text, tokenizer, say)
    size = estimate_size(config, encoded.size(tokenizer, text))

    # The model and its optimizer, new ones at first.
    begun = saved if "mixed_precision" not in changed else None  # what was decided then stays: it computes other bits
    precision = Precision(device, (begun or config).mixed_precision, config.model_dim)
    free = available_memory(device, memory_before)
    try:
        if count_state_memory(config, len(tokenizer)) + size.text_memory > free:
            raise MemoryError  # Linux would grant it, and kill the process once it writes there
        corpus = Corpus(encoded, tokenizer, config, device)
        first = saved or init
        model = Transformer(config, len(tokenizer), first.attention_scale if first else ATTENTION_SCALE).to(device)
        normuon, momentum = (True, MOMENTUM) if saved is None else (saved.normuon, saved.momentum)
        optimizer = Optimizer(model, config.optimizer, precision.dtype, normuon, momentum)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        advice = advise_out_of_memory(size.fit_batch(config), len(tokenizer), free, size.text_memory)
        raise UserError(f"out of memory; try {advice}") from None
    if init is not None and spec.init_from is not None:
        origin.weights = spec.init_from
        origin.notices.append(take_weights(model, tokenizer, init, spec.init_from))
    state = TrainState(
        config, Counters(), tokenizer, text.facts.fingerprint, size, corpus, model, optimizer, device, precision,
        memory_before, history=history, origin=origin, halves=saved is None or saved.halves,
        compiled=config.compile == "always",  # "auto" means never, for now: nobody has measured where it pays
    )  # fmt: skip
    state.check_pinned(config.pin)
    if not state.fits:
        origin.warnings.append(f"memory may run out; try {state.advise_out_of_memory()}")

    # The checkpoint's threads, whose number changes the bits of a matrix product, its weights and its counters.
    if saved is not None and saved.threads <= (os.cpu_count() or 1) and saved.processes == distributed.size():
        torch.set_num_threads(saved.threads)
    if saved is not None and source is not None:
        if "compile" not in changed:
            state.compiled = saved.compiled  # compiled code computes other bits
        _restore(state, saved)
        if config.epochs < state.epoch:
            least = f"{state.step // size.steps_per_epoch + 1} is the smallest total"  # that leaves something to do
            raise UserError(f"--epochs {config.epochs}: {source} is in epoch {state.epoch} already; {least}")
        if config.max_steps is not None and config.max_steps < state.step:
            done = f"{source} is at step {state.step} already; {state.step + 1} is the smallest total"
            raise UserError(f"--max-steps {config.max_steps}: {done}")
        if not spec.auto or history.completed:  # a process that was killed at the end has not said how it ended
            _check_unfinished(state, source)
    origin.planned = _planned(spec, history, state.step)
    if spec.auto:
        planned = [(change.step, change.setting, change.new) for change in origin.planned]
        origin.interventions = [
            change for change in history.interventions_from(state.step)
            if change.setting not in origin.changes and (change.step, change.setting, change.new) not in planned
        ]  # fmt: skip
    origin.notices += _describe_size(state, encoded.lengths)
    return state


def _planned(spec: RunSpec, history: RunHistory, step: int) -> list[Intervention]:
    """The changes of another run that are still to be made at `step`: those of this start, or of all earlier ones."""
    planned = list(spec.planned)
    if not planned and spec.continues:
        values = [{"old": None, **change} for start in history.starts for change in start.planned]
        found = [from_values(Intervention, change) for change in values]
        planned = [change for i, change in enumerate(found) if change is not None and change not in found[:i]]
    return sorted((change for change in planned if change.step >= step), key=lambda change: change.step)


def _restore(state: TrainState, saved: Checkpoint) -> None:
    """Take weights, optimizer and counters from a checkpoint; warn of what makes the same steps give other bits."""
    state.model.load_state_dict(saved.model)
    state.optimizer.load_state_dict(saved.optimizer)
    state.counters = saved.progress()
    if differences := saved.differences(state.checkpoint()):
        state.origin.warnings.append(f"{NOT_SAME_BITS}: {'; '.join(differences)}")


def _check_unfinished(state: TrainState, source: Path) -> None:
    if state.end_reason == "completed" and not state.evaluation_missing:
        epochs, max_steps, last = state.config.epochs, state.config.max_steps, state.total_steps
        if max_steps != last:
            raise NothingToDo(f"{source}: epoch {epochs} of {epochs} is done; give a larger total with --epochs")
        flags = "--max-steps" if last < epochs * state.corpus.steps_per_epoch else "--max-steps and --epochs"
        raise NothingToDo(f"{source}: step {last} of {last} is done; give a larger total with {flags}")
    if state.end_reason == "patience":
        waited = f"{format_count(state.counters.epochs_without_gain, 'epoch')} without improvement"
        what = f"early stopping ended that run after {waited}"
        raise NothingToDo(f"{source}: {what}; give a larger --patience, or resume from best.pt")


def _describe_size(state: TrainState, lengths: Sequence[int]) -> list[str]:
    """Notices about what the settings amount to. `lengths`: tokens of each document."""
    config, size = state.config, state.size
    notices = [
        f"{format_count(size.windows, 'window')} of {config.max_seq_len} tokens, {size.stride} apart: "
        f"an epoch reads the text {format_times(size.passes)}"
    ]
    begun = sum(end - length < size.train_tokens for length, end in zip(lengths, accumulate(lengths), strict=True))
    if too_short := begun - len(spans(lengths, size.train_tokens, config.max_seq_len)):
        verb = "is" if too_short == 1 else "are"
        window = f"a window of {config.max_seq_len} + 1 {token_noun(config)}s"
        notices.append(f"{too_short} of the {begun} training texts {verb} left out: shorter than {window}")
    if config.accumulation_steps > 1:
        product = f"{config.batch_size} x {config.accumulation_steps} = {config.effective_batch}"
        notices.append(f"effective batch size: {product}")
    wanted, steps = config.warmup_steps, warmup(state.total_steps, config.warmup_steps)
    if wanted is not None and steps < wanted and wanted != Config.warmup_steps:  # nobody asked for the default
        notices.append(f"warm-up shortened from {wanted} to {format_count(steps, 'step')}, a tenth of the run")
    return [*notices, *filter(None, [state.precision.why_not])]
