"""What a console asks a model for, one in training or one from a checkpoint: samples, and what it does with a text.

- Commands are obeyed in the order in which they came; a cancel overtakes the others.
- The samples of a command are one batch, or batches of MAX_BATCH.
- An answer changes nothing: neither the model nor anyone else's randomness.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from fundamentallm.config.format import format_count
from fundamentallm.config.sampling import MAX_SAMPLE_TOKENS, SamplingOptions
from fundamentallm.data.text import normalize_prompt
from fundamentallm.errors import UserError, describe_error
from fundamentallm.model.generate import stream
from fundamentallm.model.inspect import attention, neighbours, surprise
from fundamentallm.run import commands
from fundamentallm.run.commands import MAX_EXPLAINED, NAMES, CancelSample, Command, Sample, Stop
from fundamentallm.run.events import Answered, Attended, Event, Explained, Nearest, Pinned, Sampled
from fundamentallm.train.device import is_out_of_memory

if TYPE_CHECKING:
    from fundamentallm.train.loaded import Model
    from fundamentallm.train.state import TrainState

PIECE_SECONDS = 0.05  # of text in one event of a sample
MAX_BATCH = 8  # samples: the cache of each takes 38 MB in a large model
MAX_PROMPT_CHARS = 65_536  # no context is longer
LIKELIEST = 10
MAX_ATTENDED = 96  # tokens, as MAX_EXPLAINED
NEAREST = 12
RUN_ENDED = "the run has ended"
NO_SUCH_SAMPLE = "there is no such sample under way"


def answer_pinned(state: "TrainState", prompt: str) -> Pinned:
    """Continue a pinned prompt with the model as it is now; the same weights give the same text.

    A UserError names a character that the model has never seen.
    """
    began, options = time.monotonic(), SamplingOptions(max_tokens=state.config.pin_tokens, seed=state.config.seed)
    prompt_tokens = state.tokenizer.encode_prompt(normalize_prompt(prompt))
    pairs = [pair for [pair] in stream(state.model, prompt_tokens, options)]
    return Pinned(
        step=state.step, prompt=prompt, text=state.tokenizer.decode(token for token, _ in pairs),
        probabilities=tuple(round(probability, 4) for _, probability in pairs),
        seconds=round(time.monotonic() - began, 3),
    )  # fmt: skip


def explain(state: "TrainState | Model", command: commands.Explain) -> Explained:
    """Answer how the model predicts a text; a UserError says that the text is too long or too short."""
    text = normalize_prompt(command.text, "the text")
    known, left_out = state.tokenizer.leave_out_unknown(text)
    tokens = state.tokenizer.encode(known)
    if not 2 <= len(tokens) <= MAX_EXPLAINED:
        noun = "known character" if state.tokenizer.vocabulary else "token"
        raise UserError(f"the text has {format_count(len(tokens), noun)}; 2 to {MAX_EXPLAINED:,} can be explained")
    texts = state.tokenizer.texts
    probability, rank, entropy, likeliest, likely = surprise(
        state.model, torch.tensor(tokens, device=state.model.embedding.weight.device), LIKELIEST
    )
    return Explained(
        step=state.step, id=command.id, tokens=state.tokenizer.pieces(tokens), probability=_rounded(probability),
        rank=tuple(rank.tolist()), entropy=_rounded(entropy),
        likeliest=tuple(tuple(texts[token] for token in row) for row in likeliest.tolist()),
        likeliest_probability=tuple(map(_rounded, likely)), left_out=left_out.total(),
    )  # fmt: skip


def attend(state: "TrainState | Model", command: commands.Attend) -> Attended:
    """Answer what the last tokens of a text attend to; a UserError says that there is no such layer or token."""
    layers, longest = len(state.model.blocks), min(MAX_ATTENDED, len(state.model.freqs))
    if not 0 <= command.layer < layers:
        raise UserError(f"layer {command.layer}: there are layers 0 to {layers - 1}")
    text = normalize_prompt(command.text, "the text")
    last = state.tokenizer.encode_prompt(text[-longest:] if state.tokenizer.vocabulary else text)[-longest:]
    heads = attention(state.model, torch.tensor(last, device=state.model.embedding.weight.device), command.layer)
    rows = tuple(tuple(_rounded(row[: i + 1]) for i, row in enumerate(head)) for head in heads)
    shown = state.tokenizer.pieces(last)
    return Attended(step=state.step, id=command.id, tokens=shown, layer=command.layer, layers=layers, heads=rows)


def nearest(state: "TrainState | Model", command: commands.Neighbours) -> Nearest:
    """Answer which tokens are nearest to one in the embedding; a UserError says that it is not one token."""
    tokens = state.tokenizer.encode(command.text)
    if len(tokens) != 1:
        raise UserError(f"{command.text[:40]!r} is not one token")
    found, cosines = neighbours(state.model, tokens[0], NEAREST)
    names = tuple(state.tokenizer.texts[token] for token in found.tolist())
    return Nearest(step=state.step, id=command.id, token=command.text, tokens=names, cosine=_rounded(cosines))


LOOKS: dict[type, Callable[..., Event]] = {
    commands.Explain: explain, commands.Attend: attend, commands.Neighbours: nearest,
}  # fmt: skip


def _rounded(values: Any) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values.tolist())  # a loss needs the digits of small ones


class SampleControl:
    """Writes samples, cancels them, and explains texts; refuses every other command, as after the end of a run.

    `read_commands` returns the commands that arrived since the last call; it must not wait.
    """

    def __init__(
        self, state: "TrainState | Model", emit: Callable[[Event], None], read_commands: Callable[[], Sequence[Command]]
    ) -> None:
        self._state, self._emit, self._read_commands = state, emit, read_commands
        self._queue: deque[Command] = deque()
        self._sampling: Sample | None = None  # the sample that is being written
        self._cancelled = False

    def obey_commands(self, received: Iterable[Command]) -> None:
        """Obey commands in their order. After the end of a run only samples and questions are; all else is refused."""
        self._receive(received)
        while self._queue:
            self._obey(self._queue.popleft())

    def _obey(self, command: Command) -> None:
        self._answer(command, self._show(command) if isinstance(command, (Sample, *LOOKS)) else RUN_ENDED)

    def _answer(self, command: Command, why: str = "") -> None:
        """`why` it was refused or failed; empty if it was obeyed."""
        step, name = self._state.step, NAMES[type(command)]
        self._emit(Answered(step=step, id=command.id, command=name, ok=not why, why=why, who=command.who))

    def _receive(self, received: Iterable[Command]) -> None:
        """Put commands into the queue, but obey a cancel at once: of the sample under way, or of one in the queue."""
        for command in received:
            sample = self._find_sample(command.sample) if isinstance(command, CancelSample) else None
            if sample is None:
                self._queue.append(command)
                continue
            if sample is self._sampling:
                self._cancelled = True
            else:
                self._queue.remove(sample)
                self._emit_piece(sample, "", [], done=True)
                self._answer(sample)
            self._answer(command)

    def _find_sample(self, id: str) -> Sample | None:
        for command in (self._sampling, *self._queue):
            if isinstance(command, Sample) and command.id == id:
                return command
        return None

    def _show(self, command: Command) -> str:
        """Emit samples piece by piece, to their end, a cancel or a stop; or what the model does with a text.

        Returns why that failed; empty if it did not.
        """
        try:
            if isinstance(command, Sample):
                self._sampling, self._cancelled = command, False
                command = replace(command.checked(), prompt=normalize_prompt(command.prompt))
                for first in range(0, command.num_samples, MAX_BATCH):
                    self._stream(command, range(first, min(first + MAX_BATCH, command.num_samples)))
                    self._receive(self._read_commands())
                    if self._cancelled or self._stop_requested:
                        break
            else:
                self._emit(LOOKS[type(command)](self._state, command))
        except UserError as error:
            return str(error).replace("\n", "; ")  # a line for each option that is wrong
        except (RuntimeError, MemoryError) as error:  # such as no memory for the cache: the run continues
            why = "out of memory" if is_out_of_memory(error) else describe_error(error)
            return f"the {NAMES[type(command)]} broke off: {why}"
        finally:
            self._sampling = None
        return ""

    def _stream(self, command: Sample, numbers: range) -> None:
        if len(command.prompt) > MAX_PROMPT_CHARS:
            raise UserError(f"the prompt has {len(command.prompt):,} characters; {MAX_PROMPT_CHARS:,} are the most")
        tokenizer = self._state.tokenizer
        prompt = tokenizer.encode_prompt(command.prompt)
        options = replace(command, max_tokens=min(command.max_tokens, MAX_SAMPLE_TOKENS))
        written: list[list[tuple[int, float]]] = []  # since the last piece: a row for each token of each sample
        decoders = [tokenizer.decoder() for _ in numbers]

        def emit_pieces(done: bool) -> None:
            for i, number in enumerate(numbers):
                text = decoders[i](*(row[i][0] for row in written), end=done)
                self._emit_piece(command, text, [round(row[i][1], 4) for row in written], number=number, done=done)
            written.clear()

        piece_began = time.monotonic()
        for row in stream(self._state.model, prompt, options, numbers):
            written.append(row)
            if time.monotonic() - piece_began < PIECE_SECONDS:
                continue
            emit_pieces(done=False)
            piece_began = time.monotonic()
            self._receive(self._read_commands())
            if self._cancelled or self._stop_requested:
                break
        emit_pieces(done=True)

    @property
    def _stop_requested(self) -> bool:
        """Whether a stop waits in the queue: samples end for it."""
        return any(isinstance(command, Stop) for command in self._queue)

    def _emit_piece(
        self, sample: Sample, text: str, probabilities: list[float], *, number: int = 0, done: bool = False
    ) -> None:
        piece = Sampled(
            step=self._state.step, id=sample.id, prompt=sample.prompt, text=text,
            probabilities=tuple(probabilities), done=done, number=number,
        )  # fmt: skip
        self._emit(piece)
