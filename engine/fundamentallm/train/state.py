"""From a job to everything that training needs: text, tokenizer, model, optimizer, counters. Trains nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from fundamentallm.config.config import Config, changed_when_resuming, to_dict
from fundamentallm.config.estimate import estimate, spans
from fundamentallm.data.corpus import Corpus, fingerprint
from fundamentallm.data.text import read_texts
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.errors import NothingToDo, UserError
from fundamentallm.model.transformer import Transformer
from fundamentallm.run.events import Intervention
from fundamentallm.run.folder import BEST, check_log_dir
from fundamentallm.run.history import read_history
from fundamentallm.run.spec import RunSpec, stay_inside
from fundamentallm.train.checkpoint import Checkpoint, Counters, load
from fundamentallm.train.checkpoints import latest_valid_checkpoint
from fundamentallm.train.device import Precision, choose_device, free_memory, hardware, is_out_of_memory
from fundamentallm.train.health import out_of_memory
from fundamentallm.train.optimizer import Optimizer
from fundamentallm.train.schedule import warmup

FAITHFUL = "goes on faithfully, not to the same bits"


@dataclass
class TrainState:
    """The parts of a run. `notices` are what people should know about how they came out, `warnings` what they must."""

    config: Config
    device: torch.device
    precision: Precision
    tokenizer: Tokenizer
    corpus: Corpus
    model: Transformer
    optimizer: Optimizer
    counters: Counters
    notices: list[str]
    warnings: list[str]
    changes: dict[str, Any]  # what was newly asked for when it was resumed
    compiled: bool  # decided once, at a run's start
    best_on_disk: float | None = None  # the validation loss of best.pt
    resumed_from: Path | None = None
    interventions: list[Intervention] = field(default_factory=list)  # to be made again

    @property
    def step(self) -> int:
        """How many optimizer steps are done."""
        return self.counters.step

    @property
    def total_steps(self) -> int:
        return self.corpus.steps_per_epoch * self.config.epochs

    @property
    def epoch(self) -> int:
        """The epoch that the last step belongs to, from 1."""
        return max(1, -(-self.counters.step // self.corpus.steps_per_epoch))

    @property
    def epoch_ended(self) -> bool:
        return self.counters.step % self.corpus.steps_per_epoch == 0

    def checkpoint(self) -> Checkpoint:
        """The state as it is now; its tensors are the live ones."""
        return Checkpoint(
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            counters=asdict(self.counters),
            config=to_dict(self.config),
            vocabulary=self.tokenizer.vocabulary,
            fingerprint=self.corpus.fingerprint,
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
            device=hardware(self.device),
            compiled=self.compiled,
        )


def build_state(job: RunSpec) -> TrainState:
    """
    Raises:
        UserError: the data, the device or the checkpoint cannot be used.
    """
    source, told = latest_valid_checkpoint(job.folder) if job.auto else (job.resume_from, [])
    saved = None if source is None else load(source)
    history = read_history(job.folder, steps=False)
    changes = job.changes if saved is not None else {}
    config, asked = job.config, changes
    if saved is not None:
        if job.auto:
            asked = {**history.changes_since(saved.progress().said), **changes}
        config, inside = stay_inside(changed_when_resuming(saved.settings(), asked), job)
        told = [*told, *inside]
    config = replace(config, output_dir=str(job.folder))
    device = choose_device(config.device)
    if config.tensorboard:
        check_log_dir(config, job.folder)
    documents = read_texts(config.data)
    if saved is not None and saved.fingerprint != fingerprint(documents):
        raise UserError(
            f"{', '.join(config.data)}: is not the text that {source} was trained on; "
            "restore the text, or start a new run"
        )
    size = estimate(config, documents)
    tokenizer = Tokenizer.fit("".join(documents)) if saved is None else saved.tokenizer()
    with _enough_memory(config, len(tokenizer)):
        corpus = Corpus(documents, tokenizer, config, device)
        model = Transformer(config, len(tokenizer)).to(device)
        optimizer = Optimizer(model, config.optimizer)
    precision = Precision(device, config.mixed_precision)
    compiled = config.compile == "always"
    if saved is not None and "compile" not in asked:
        compiled = saved.compiled
    parts = TrainState(
        config, device, precision, tokenizer, corpus, model, optimizer, Counters(), [], [*told], changes, compiled
    )
    if size.memory > (free := free_memory(device)):
        advice = out_of_memory(config, len(tokenizer))
        parts.warnings.append(f"memory may run out, {free / 2**30:.1f} GiB are free: {advice}")
    if saved is not None and source is not None:
        parts.resumed_from = source
        _restore(parts, saved, source)
        if config.epochs < parts.epoch:
            raise UserError(f"--epochs {config.epochs}: {source} is in epoch {parts.epoch} already; that is the least")
        if not job.auto or history.completed:  # else its last process was killed before it could say so
            _check_rest(parts, source)
        _respect_best(parts, job)
    if job.auto:
        again = history.interventions_from(parts.counters.step)
        parts.interventions = [change for change in again if change.setting not in changes]
    parts.notices += _explain(parts, size.passes, [len(text) for text in documents])
    return parts


@contextmanager
def _enough_memory(config: Config, vocab_size: int) -> Iterator[None]:
    """
    Raises:
        UserError: what is made within does not fit; says what would.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"out of memory: {out_of_memory(config, vocab_size)}") from None


def _restore(parts: TrainState, saved: Checkpoint, source: Path) -> None:
    try:
        parts.model.load_state_dict(saved.model)
        parts.optimizer.load_state_dict(saved.optimizer)
    except (RuntimeError, KeyError):
        raise UserError(f"{source}: its weights do not fit its configuration; it was changed by hand") from None
    parts.counters = saved.progress()
    if saved.threads <= (os.cpu_count() or 1):
        torch.set_num_threads(saved.threads)  # it changes the bits of a matrix product
    now = {"torch": str(torch.__version__), "device": hardware(parts.device), "threads": torch.get_num_threads()}
    now |= {"compiled": parts.compiled}
    other = [
        f"{name} {getattr(saved, name)} then, {value} now"
        for name, value in now.items()
        if value != getattr(saved, name)
    ]
    if other:
        parts.warnings.append(f"{FAITHFUL}: {'; '.join(other)}")


def _check_rest(parts: TrainState, source: Path) -> None:
    """
    Raises:
        NothingToDo: the run is at its end.
    """
    if parts.counters.step >= parts.total_steps and not parts.counters.epoch_tokens:  # else an evaluation is owed
        last = parts.config.epochs
        raise NothingToDo(f"{source}: epoch {last} of {last} is done; give a larger total with --epochs")
    if parts.config.early_stopping and parts.counters.epochs_without_gain >= parts.config.patience:
        raise NothingToDo(
            f"{source}: early stopping ended that run after {parts.counters.epochs_without_gain} epochs "
            "without improvement; give a larger --patience, or go on from best.pt"
        )


def _respect_best(parts: TrainState, job: RunSpec) -> None:
    """Resumed from an earlier state, a run must not replace a better best.pt by a worse one.

    The counters stay as they were saved: when early stopping ends a run must not depend on what the folder holds.
    """
    parts.best_on_disk = parts.counters.best_val_loss
    path = job.folder / BEST
    if path.is_file():
        with suppress(UserError):  # damaged: nothing to protect
            parts.best_on_disk = load(path).progress().best_val_loss


def _explain(parts: TrainState, passes: float, lengths: list[int]) -> list[str]:
    config, corpus = parts.config, parts.corpus
    notices = [
        f"{corpus.windows} windows of {config.max_seq_len} tokens, {corpus.stride} apart: "
        f"an epoch is {corpus.steps_per_epoch} steps and reads the text {passes:.3g} times"
    ]
    train = len(corpus.train)
    begun = sum(end - size < train for size, end in zip(lengths, accumulate(lengths), strict=True))
    if short := begun - len(spans(lengths, train, config.max_seq_len)):
        notices.append(
            f"{short} of the {begun} training texts {'is' if short == 1 else 'are'} left out: shorter than a window of "
            f"{config.max_seq_len} + 1 characters"
        )
    if config.accumulation_steps > 1:
        notices.append(
            f"effective batch size: {config.batch_size} x {config.accumulation_steps} = {config.effective_batch}"
        )
    steps = warmup(parts.total_steps, config.warmup_steps)
    if config.warmup_steps is not None and steps < config.warmup_steps:
        notices.append(f"warm-up shortened from {config.warmup_steps} to {steps} steps, a tenth of the run")
    if parts.precision.why_not:
        notices.append(parts.precision.why_not)
    return notices
