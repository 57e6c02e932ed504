"""`fundamentallm train --dry-run`: what a run would do. Times a few steps, and writes no run."""

from fundamentallm.cli.terminal import complain
from fundamentallm.config.estimate import PROGRAM_MEMORY, token_noun
from fundamentallm.config.format import format_count, format_estimate, format_memory
from fundamentallm.process.prepare import check_start
from fundamentallm.run.spec import RunSpec
from fundamentallm.train.bench import seconds_per_step
from fundamentallm.train.state import build_state
from fundamentallm.untrusted import printable


def preview(spec: RunSpec, *, overwrite: bool) -> str:
    """Describe what a run would do; a UserError if it cannot start."""
    check_start(spec, overwrite=overwrite)
    state = build_state(spec, say=complain)
    config, size = state.config, state.size
    left = state.total_steps - state.step
    seconds = "not measured: too little memory is free"
    if state.fits:
        seconds = f"{format_estimate(seconds_per_step(state) * left)}, judging by a few small steps here"
    noun = f"{token_noun(config)}s"
    text = f"{size.train_tokens:,} training and {size.val_tokens:,} validation {noun}, {size.vocab_size} different"
    rest = f", {left:,} left" if left < state.total_steps else ""
    whole = state.total_steps % size.steps_per_epoch == 0  # otherwise max_steps ends it
    epochs = f"{format_count(state.epochs, 'epoch')}, " if whole else ""
    sizes = size.memory, size.text_memory, size.loading_memory, PROGRAM_MEMORY
    training, corpus, loading, program = (format_memory(max(2**20, count)) for count in sizes)
    memory = f"{training} for training and {corpus} for the text ({loading} while it is read)"
    lines = [
        f"would write to  {spec.folder}",
        f"data            {', '.join(config.data)}: {text}",
        f"model           {size.parameters:,} parameters on {state.device}",
        f"the run         {epochs}{format_count(state.total_steps, 'step')}{rest}",
        f"memory          about {memory}, beside {program} for the program itself",
        f"time            {seconds}",
    ]
    return "\n".join(printable(line) for line in [*lines, *state.origin.notices, *state.origin.warnings])
