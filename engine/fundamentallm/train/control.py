"""Answers a person who asks the model for text while it lives in a worker. Changes nothing in the run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.errors import UserError
from fundamentallm.model.generate import stream
from fundamentallm.model.transformer import Transformer
from fundamentallm.run.commands import CancelSample, Command, Sample, Stop
from fundamentallm.run.events import Answered, Event, Sampled

PIECE = 0.05  # seconds of text in one event
LONGEST = 100_000  # tokens in one sample
LONGEST_PROMPT = 65_536  # characters; no context is longer


def answer(
    command: Sample,
    model: Transformer,
    tokenizer: Tokenizer,
    step: int,
    say: Callable[[Event], None],
    listen: Callable[[], Sequence[Command]],
    stopped: Callable[[], bool],
) -> list[Command]:
    """Say a sample piece by piece, until its end or a cancel or stop; `stopped`: a signal said so.

    Returns:
        Commands that came in the meantime and are still to be obeyed.

    Raises:
        UserError: the prompt is too long, or has a character that the model has never seen.
    """
    if len(command.prompt) > LONGEST_PROMPT:
        raise UserError(f"the prompt has {len(command.prompt):,} characters; {LONGEST_PROMPT:,} are the most")
    prompt = tokenizer.encode_prompt(command.prompt)
    options = replace(
        command,
        max_tokens=min(command.max_tokens, LONGEST),
        temperature=max(0.0, command.temperature),
        top_k=max(0, command.top_k),
        num_samples=1,
    )
    later: list[Command] = []
    text, probabilities, since = "", [], time.monotonic()
    for tokens, probability in stream(model, prompt, options):
        text += tokenizer.decode(tokens)
        probabilities.append(round(probability[0], 4))
        if time.monotonic() - since >= PIECE:
            say(_piece(command, step, text, probabilities))
            text, probabilities, since = "", [], time.monotonic()
            ended = stopped()
            for other in listen():
                if isinstance(other, CancelSample) and other.sample == command.id:
                    say(Answered(step=step, id=other.id, command="cancel_sample", ok=True, who=other.who))
                    ended = True
                elif queued := _queued(later, other):
                    later.remove(queued)
                    say(_piece(queued, step, "", [], done=True))
                    for told, name in ((queued, "sample"), (other, "cancel_sample")):
                        say(Answered(step=step, id=told.id, command=name, ok=True, who=told.who))
                else:
                    later.append(other)
                    ended |= isinstance(other, Stop)
            if ended:
                break
    say(_piece(command, step, text, probabilities, done=True))
    return later


def _queued(later: list[Command], cancel: Command) -> Sample | None:
    """The sample that waits for its turn and is no longer wanted."""
    wanted = cancel.sample if isinstance(cancel, CancelSample) else None
    return next((other for other in later if isinstance(other, Sample) and other.id == wanted), None)


def _piece(command: Sample, step: int, text: str, probabilities: list[float], done: bool = False) -> Sampled:
    return Sampled(
        step=step, id=command.id, prompt=command.prompt, text=text, probabilities=tuple(probabilities), done=done
    )
