"""`fundamentallm train --dry-run`: what a job would come to. Takes a few steps with a copy, and writes nothing."""

import time
from dataclasses import replace

from fundamentallm.cli.terminal import plain
from fundamentallm.config.estimate import estimate
from fundamentallm.data.corpus import Corpus
from fundamentallm.data.text import read_texts
from fundamentallm.run.folder import check_folder
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.state import build_state
from fundamentallm.train.step import TrainStep

PROBED = 4  # windows of a timed step


def lines(job: RunSpec, *, overwrite: bool) -> list[str]:
    """
    Raises:
        UserError: the job cannot be done.
    """
    check_folder(job.folder, may_hold_run=overwrite or job.continues)
    parts = build_state(job)
    config = parts.config
    size = estimate(config, read_texts(config.data))
    left = parts.total_steps - parts.counters.step
    seconds = seconds_per_step(job) * left
    text = f"{size.train_tokens:,} training and {size.val_tokens:,} validation characters, {size.vocab_size} different"
    epoch = f"{size.steps_per_epoch:,} steps of {config.effective_batch} windows"
    rest = f", {left:,} left" if left < parts.total_steps else ""
    told = [
        f"would write to  {job.folder}",
        f"data            {', '.join(config.data)}: {text}",
        f"model           {size.parameters:,} parameters on {parts.device}",
        f"an epoch        {size.windows:,} windows of {config.max_seq_len} tokens, {size.stride} apart: {epoch}",
        f"the run         {config.epochs} epochs, {parts.total_steps:,} steps{rest}",
        f"memory          about {size.memory / 2**20:,.0f} MiB beside the program itself",
        f"time            about {words(seconds)}, judging by a few small steps here",
    ]
    return [plain(line) for line in [*told, *parts.origin.notices, *parts.origin.warnings]]


def seconds_per_step(job: RunSpec) -> float:
    """The time of one step, from some of a few windows; the model that takes them is thrown away."""
    state = build_state(job)
    batch_size = min(PROBED, state.config.batch_size)
    config = replace(state.config, batch_size=batch_size, accumulation_steps=1, learning_rate=0.0)
    corpus = Corpus(read_texts(config.data), state.tokenizer, config, state.device)
    step = TrainStep(replace(state, config=config, corpus=corpus))
    times = []
    for i in range(4):  # the first one warms up
        started = time.perf_counter()
        step(i % corpus.steps_per_epoch).loss.item()
        times.append(time.perf_counter() - started)
    return min(times) * state.config.effective_batch / batch_size


def words(seconds: float) -> str:
    """A duration as a person says it."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(1, seconds):.0f} seconds"
