"""`fundamentallm train --dry-run`: what a run would do. Times a few steps of a copy, and writes nothing."""

import time
from dataclasses import replace

from fundamentallm.config.estimate import PROGRAM_MEMORY, estimate_size, measure_texts
from fundamentallm.config.format import format_count
from fundamentallm.data.corpus import Corpus
from fundamentallm.data.text import read_texts
from fundamentallm.run.folder import check_folder
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.state import build_state
from fundamentallm.train.step import TrainStep
from fundamentallm.untrusted import printable

TIMED_BATCH = 4  # windows of a timed step


def preview(spec: RunSpec, *, overwrite: bool) -> str:
    """Describe what a run would do.

    Raises:
        UserError: the run cannot start.
    """
    check_folder(spec.folder, may_hold_run=overwrite or spec.continues)
    state = build_state(spec)
    config = state.config
    texts = measure_texts(read_texts(config.data, config.include), state.tokenizer.vocabulary)
    size = estimate_size(config, texts)
    left = state.total_steps - state.counters.step
    seconds = seconds_per_step(spec) * left
    text = f"{size.train_tokens:,} training and {size.val_tokens:,} validation characters, {size.vocab_size} different"
    epoch = f"{format_count(size.steps_per_epoch, 'step')} of {format_count(config.effective_batch, 'window')}"
    rest = f", {left:,} left" if left < state.total_steps else ""
    whole = state.total_steps % size.steps_per_epoch == 0  # otherwise max_steps ends it
    epochs = f"{format_count(state.epochs, 'epoch')}, " if whole else ""
    memory = (
        f"{mebibytes(size.memory)} for training and {mebibytes(size.text_memory)} for the text "
        f"({mebibytes(size.loading_memory)} while it is read)"
    )
    windows = format_count(size.windows, "window")
    lines = [
        f"would write to  {spec.folder}",
        f"data            {', '.join(config.data)}: {text}",
        f"model           {size.parameters:,} parameters on {state.device}",
        f"an epoch        {windows} of {config.max_seq_len} tokens, {size.stride} apart: {epoch}",
        f"the run         {epochs}{format_count(state.total_steps, 'step')}{rest}",
        f"memory          about {memory}, beside {mebibytes(PROGRAM_MEMORY)} for the program itself",
        f"time            about {rounded_time(seconds)}, judging by a few small steps here",
    ]
    return "\n".join(printable(line) for line in [*lines, *state.origin.notices, *state.origin.warnings])


def seconds_per_step(spec: RunSpec) -> float:
    """Estimate the time of a step from a few small ones; the model that takes them is thrown away."""
    state = build_state(spec)
    batch_size = min(TIMED_BATCH, state.config.batch_size)
    config = replace(state.config, batch_size=batch_size, accumulation_steps=1, learning_rate=0.0)
    corpus = Corpus(read_texts(config.data, config.include), state.tokenizer, config, state.device)
    step = TrainStep(replace(state, config=config, corpus=corpus))
    times = []
    for i in range(4):  # the first one warms up
        started = time.perf_counter()
        step(i % corpus.steps_per_epoch).loss.item()
        times.append(time.perf_counter() - started)
    return min(times) * state.config.effective_batch / batch_size


def mebibytes(size: int) -> str:
    """Write a size in MiB: at least one, and without a fraction."""
    return f"{max(1, size / 2**20):,.0f} MiB"


def rounded_time(seconds: float) -> str:
    """Write a duration in the largest unit of which it has two: "90 seconds", "2 hours"."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return format_count(max(1, round(seconds)), "second")
