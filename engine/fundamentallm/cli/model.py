"""A model from its checkpoint, and text from the model, for the commands that read one."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from fundamentallm.cli.terminal import columns, complain
from fundamentallm.config.format import format_count, format_names
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.data.corpus import encode
from fundamentallm.data.text import Texts
from fundamentallm.data.tokenizer import SHOWN_CHARACTERS, Tokenizer
from fundamentallm.errors import UserError
from fundamentallm.model.generate import stream
from fundamentallm.model.transformer import Transformer
from fundamentallm.paths import user_path
from fundamentallm.run.folder import BEST, find_checkpoint
from fundamentallm.run.history import read_history
from fundamentallm.train import samples
from fundamentallm.train.checkpoint import Checkpoint
from fundamentallm.train.device import Precision, choose_device
from fundamentallm.train.evaluate import CLASS_COLUMNS, predictions


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


def predict(
    path: str, texts: Texts, device_name: str, strict: bool = False
) -> tuple[Checkpoint, str, Iterator[tuple[Tensor, Tensor, Tensor]]]:
    """Predict documents, as one text, with the model of a checkpoint.

    Returns the checkpoint, the characters of the text that the model knows, and their `predictions`.
    """
    model, saved, device = load_model(path, device_name)
    tokenizer, config = saved.tokenizer(), saved.settings()
    known = _keep_known(texts, tokenizer, strict)
    tokens, precision = encode(known, tokenizer).to(device), Precision(device, config.mixed_precision)
    return saved, known, predictions(model, tokens, config.max_seq_len, precision)


def _keep_known(texts: Texts, tokenizer: Tokenizer, strict: bool) -> str:
    """Return the documents as one text, without the characters that the model has never seen, which are reported.

    A UserError says where the first of those is, if `strict`, or that fewer than two characters are left.
    """
    text, name = "".join(texts.documents), ", ".join(texts.files)
    if len(text) < 2:
        raise UserError(f"{name}: one character leaves nothing to predict; 2 are needed")
    if strict:
        for path, document in zip(texts.files, texts.documents, strict=True):
            _refuse_unknown(path, document, tokenizer)
    known, left_out = tokenizer.leave_out_unknown(text)
    for notice in texts.notices:
        complain(notice)
    if left_out:
        counts = [f"{character!r} {count:,} x" for character, count in left_out.most_common()]
        share = f"{left_out.total():,} of {format_count(len(text), 'character')} ({left_out.total() / len(text):.2%})"
        complain(f"left out {share} that the model has never seen: {format_names(counts, SHOWN_CHARACTERS)}")
    if len(known) < 2:
        raise UserError(f"{name}: the model knows {len(known)} of its characters, and 2 are needed")
    return known


def _refuse_unknown(path: str, text: str, tokenizer: Tokenizer) -> None:
    first = min((text.index(character) for character in set(text) - set(tokenizer.vocabulary)), default=None)
    if first is not None:
        line, column = text.count("\n", 0, first) + 1, first - text.rfind("\n", 0, first)
        why = tokenizer.describe_unknown(text, f"{path}, line {line:,}, column {column:,}: the text")
        raise UserError(f"{why}; without --strict they are left out")


def class_table(classes: dict[str, tuple[int, float, float]]) -> str:
    """Lay out what `by_class` returns."""
    rows = [(name, f"{n:,}", f"{loss:.4f}", f"{hits:.2%}") for name, (n, loss, hits) in classes.items()]
    return "\n".join(columns([("characters", *CLASS_COLUMNS), *rows], right=(1, 2, 3)))


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
        for [(token, _)] in stream(self.model, self.tokenizer.encode_prompt(prompt), self.options, [sample]):
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
