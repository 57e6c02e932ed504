"""A model from its checkpoint, and text from the model, for the commands that read one."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import torch

from fundamentallm.cli.terminal import complain
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.errors import UserError
from fundamentallm.model.generate import stream
from fundamentallm.model.transformer import Transformer
from fundamentallm.paths import user_path
from fundamentallm.run.folder import BEST, find_checkpoint
from fundamentallm.run.history import read_history
from fundamentallm.train import samples
from fundamentallm.train.checkpoint import Checkpoint
from fundamentallm.train.device import choose_device


def load_model(path: str, device_name: str) -> tuple[Transformer, Checkpoint, torch.device]:
    """Load the model of a checkpoint, or of the best.pt of a run's folder, on a device."""
    device = choose_device(device_name)
    file = find_checkpoint(path, BEST)
    model, checkpoint = samples.load_model(file, device)
    unsaved, step = "", checkpoint.progress().step
    if user_path(path).is_dir():
        with suppress(UserError):  # a journal that cannot be read does not matter to the model
            unsaved = read_history(file.parent, steps=False).unsaved
    if unsaved:
        complain(f"{path}: the end of that run was NOT saved: {unsaved}; this is {file.name}, of step {step}")
    return model, checkpoint, device


@dataclass(frozen=True)
class Writer:
    """A model and how it is sampled. A text ends before the first of `stops`."""

    model: Transformer
    tokenizer: Tokenizer
    options: SamplingOptions
    stops: tuple[str, ...] = ()

    def write(self, prompt: str, show: Callable[[str], None], sample: int = 0) -> str:
        """Continue `prompt` and return what was added, which is given to `show` as it grows.

        `sample` is the number of this text among those of the seed, from 0. A UserError names a character of the prompt
        that the model has never seen.
        """
        text, ended, shown = "", False, 0
        for token, _ in stream(self.model, self.tokenizer.encode_prompt(prompt), self.options, sample):
            text, ended = self._cut(text + self.tokenizer.vocabulary[token])
            sure = len(text) - (0 if ended else self._begun_stop(text))
            show(text[shown:sure])
            shown = max(shown, sure)
            if ended:
                break
        show(text[shown:])
        return text

    def _cut(self, text: str) -> tuple[str, bool]:
        """`text` up to the first stop in it, and whether there is one."""
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        return (text[: min(places)], True) if places else (text, False)

    def _begun_stop(self, text: str) -> int:
        """How many characters at the end may be the beginning of a stop, and cannot be shown yet."""
        lengths = (n for stop in self.stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(lengths, default=0)
