"""Samples that a console asks for: of a run in training, or of a model that was loaded from a checkpoint.

- Commands are obeyed in the order in which they came; a cancel overtakes the others.
- The samples of a command are one batch, or batches of MAX_BATCH.
- Sampling changes nothing: neither the model nor anyone else's randomness.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.data.text import normalize_prompt
from fundamentallm.errors import UserError, describe_error
from fundamentallm.model.generate import stream
from fundamentallm.run.commands import NAMES, CancelSample, Command, Sample, Stop
from fundamentallm.run.events import Answered, Event, Pinned, Sampled
from fundamentallm.train.device import is_out_of_memory
from fundamentallm.train.look import LOOKS

if TYPE_CHECKING:
    from fundamentallm.train.loaded import Model
    from fundamentallm.train.state import TrainState

PIECE_SECONDS = 0.05  # of text in one event of a sample
MAX_BATCH = 8  # samples: the cache of each takes 38 MB in a large model
MAX_SAMPLE_TOKENS = 100_000
MAX_PROMPT_CHARS = 65_536  # no context is longer
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


class SampleControl:
    """Writes samples, cancels them, and explains texts; refuses every other command, as after the end of a run.

    `read_commands` returns the commands that arrived since the last call; it must not wait.
    """

    def __init__(
        self,
        state: "TrainState | Model",
        emit: Callable[[Event], None],
        read_commands: Callable[[], Sequence[Command]],
    ) -> None:
        self._state, self._emit, self._read_commands = state, emit, read_commands
        self._queue: deque[Command] = deque()
        self._sampling: Sample | None = None  # the sample that is being written
        self._cancelled = False

    def obey_commands(self, commands: Iterable[Command]) -> None:
        """Obey commands in their order. After the end of a run only samples are written; all else is refused."""
        self._receive(commands)
        while self._queue:
            self._obey(self._queue.popleft())

    def _obey(self, command: Command) -> None:
        self._answer(command, self._show(command) if isinstance(command, (Sample, *LOOKS)) else RUN_ENDED)

    def _answer(self, command: Command, why: str = "") -> None:
        """`why` it was refused or failed; empty if it was obeyed."""
        step, name = self._state.step, NAMES[type(command)]
        self._emit(Answered(step=step, id=command.id, command=name, ok=not why, why=why, who=command.who))

    def _receive(self, commands: Iterable[Command]) -> None:
        """Put commands into the queue, but obey a cancel at once: of the sample under way, or of one in the queue."""
        for command in commands:
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
