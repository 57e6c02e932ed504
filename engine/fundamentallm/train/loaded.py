"""A trained model from its checkpoint: it writes texts, and predicts them. Writes only the cache of a long text."""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from fundamentallm.config.config import Config
from fundamentallm.config.format import format_count, format_names
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.data.encoded import encode_source
from fundamentallm.data.source import Facts, Say, Source, read_source
from fundamentallm.data.text import normalize_prompt
from fundamentallm.data.tokenizer import SHOWN_CHARACTERS, Tokenizer
from fundamentallm.errors import UserError
from fundamentallm.model.generate import stream
from fundamentallm.model.transformer import Transformer
from fundamentallm.paths import user_path
from fundamentallm.run.folder import BEST, find_checkpoint
from fundamentallm.run.history import read_history
from fundamentallm.train.checkpoint import load as load_checkpoint
from fundamentallm.train.device import Precision, choose_device
from fundamentallm.train.evaluate import Evaluation, predictions, tally

MIN_CONTEXT = 4  # the worst places are looked for where at least one part in so many of the context was read
Warn = Callable[[str], object]


@dataclass(frozen=True)
class Score:
    """How well a model predicted a text, token by token.

    Attributes:
        evaluation: of the whole text.
        offsets: the place in the text, in characters from 0, of each token that was predicted: the first is not, nor
            are characters that the model has never seen.
        lengths: how many characters each of these tokens has; 1 for a part of a character.
        losses: their losses, in nats; as many.
        context: how many tokens the model reads at most.
    """

    evaluation: Evaluation
    offsets: list[int]
    lengths: list[int]
    losses: list[float]
    context: int

    def worst(self, count: int) -> list[tuple[int, float]]:
        """Return the offsets and losses of the tokens that were predicted worst, the worst first.

        They are looked for where the model had read a quarter of its context at least: with less, all surprises it.
        """
        least = self.context // MIN_CONTEXT
        fed = [i for i in range(len(self.losses)) if i % self.context >= least] or range(len(self.losses))
        return [(self.offsets[i], self.losses[i]) for i in sorted(fed, key=lambda i: -self.losses[i])[:count]]


@dataclass(frozen=True)
class Model:
    """A trained model as it was after `step` steps; `model` computes, on its device and without dropout."""

    model: Transformer
    tokenizer: Tokenizer
    step: int
    config: Config

    def generate(
        self,
        prompt: str = "",
        options: SamplingOptions = SamplingOptions(),  # noqa: B008  # it is immutable
        *,
        stop: str | Sequence[str] = (),
        show: Callable[[str], object] = lambda _: None,
        sample: int = 0,
    ) -> str:
        """Continue `prompt` and return what was added.

        Args:
            options: how; `num_samples` is not used: this writes one text, and `sample` says which.
            stop: the text ends before the first of these; an empty one is passed over.
            show: is given the text piece by piece, as it grows.
            sample: the number of this text among those of the seed, from 0.

        Raises:
            UserError: names the options that are out of bounds, or a character of the prompt that the model has never
                seen.
        """
        options = options.checked()
        stop = [normalize_prompt(each, "stop") for each in ([stop] if isinstance(stop, str) else stop) if each]
        text, ended, shown, decode = "", False, 0, self.tokenizer.decoder()
        tokens = self.tokenizer.encode_prompt(normalize_prompt(prompt))
        for [(token, _)] in stream(self.model, tokens, options, [sample]):
            text, ended = _cut(text + decode(token), stop)
            sure = len(text) - (0 if ended else _begun_stop(text, stop))
            show(text[shown:sure])
            shown = max(shown, sure)
            if ended:
                break
        text += "" if ended else decode(end=True)
        show(text[shown:])
        return text

    def evaluate(
        self, data: str | Path | Sequence[str | Path], *, strict: bool = False, warn: Warn = warnings.warn
    ) -> Evaluation:
        """Measure how well the model predicts text files, which are one text, as `fundamentallm evaluate` does.

        Args:
            data: files, or folders of .txt and .md files.
            strict: refuse a text with characters that the model has never seen; otherwise they are left out.
            warn: is told what was left out.

        Raises:
            UserError: a text cannot be read, or has too little that the model knows.
        """
        paths = (data,) if isinstance(data, (str, Path)) else data
        source = read_source(Config(data=tuple(map(str, paths))))
        _, _, pieces = self.predict(source, strict, warn)
        return tally(pieces, len(self.tokenizer))

    def score(self, text: str, *, name: str = "the text", warn: Warn = warnings.warn) -> Score:
        """Predict a text and return the loss of each token; `name` is what a UserError calls the text."""
        normalize_prompt(text, name)  # refuses what is no text
        facts = Facts("", "".join(sorted(set(text))), (len(text),), (0,))
        left_out, encoded, predicted = self.predict(Source((name,), facts, "", (text,)), warn=warn)
        tokens, pieces, tokenizer = encoded.tolist(), list(predicted), self.tokenizer
        vocabulary = set(tokenizer.vocabulary)
        kept = [at for at, each in enumerate(text) if each in vocabulary] if left_out else range(len(text))
        offsets = [kept[at] for at in tokenizer.offsets(tokens)][1:]
        lengths = [max(1, tokenizer.characters[token]) for token in tokens][1:]
        losses = torch.cat([losses for _, losses, _ in pieces]).tolist()
        return Score(tally(pieces, len(tokenizer)), offsets, lengths, losses, self.config.max_seq_len)

    def predict(
        self, source: Source, strict: bool = False, warn: Warn = warnings.warn, say: Say = lambda text: None
    ) -> tuple[int, Tensor, Iterator[tuple[Tensor, Tensor, Tensor]]]:
        """Predict a text: return how many characters were left out, the tokens (n,), and their `predictions`.

        `say` is told how far the reading of a long text is.
        """
        known, left_out = _keep_known(source, self.tokenizer, strict, warn)
        encoded = encode_source(known, self.tokenizer, say)
        if len(encoded.tokens) < 2:
            raise UserError(f"{', '.join(source.files)}: one token leaves nothing to predict; 2 are needed")
        precision = Precision(self.model.embedding.weight.device, self.config.mixed_precision)
        tokens, length = encoded.tokens, self.config.max_seq_len
        return left_out, tokens, predictions(self.model, tokens, length, precision, encoded.release)


def load(path: str | Path, *, device: str = "auto", warn: Warn = warnings.warn) -> Model:
    """Load the model of a checkpoint, or of the best.pt in a run's folder.

    Args:
        device: cpu, cuda, cuda:1, mps, or auto: the fastest there is.
        warn: is told that the end of the run could not be saved, so that the model is older than it.

    Raises:
        UserError: there is no such checkpoint, it is damaged, or there is no such device.
    """
    computes, file = choose_device(device), find_checkpoint(str(path), BEST)
    checkpoint = load_checkpoint(file)
    model = Transformer(checkpoint.settings(), len(checkpoint.tokenizer()), checkpoint.attention_scale)
    model.load_state_dict(checkpoint.model)
    unsaved, step = "", checkpoint.progress().step
    if user_path(str(path)).is_dir():
        with suppress(UserError):  # a journal that cannot be read does not matter to the model
            unsaved = read_history(file.parent, steps=False).unsaved
    if unsaved:
        warn(f"{path}: the end of that run was NOT saved: {unsaved}; this is {file.name}, of step {step}")
    config = replace(checkpoint.settings(), mixed_precision=checkpoint.mixed_precision)
    return Model(model.to(computes).eval(), checkpoint.tokenizer(), step, config)


def _keep_known(source: Source, tokenizer: Tokenizer, strict: bool, warn: Warn) -> tuple[Source, int]:
    """Return the text without the characters that the model has never seen, which `warn` is told, and their number.

    A UserError says where the first of those is, if `strict`, or that none is left.
    """
    name, characters = ", ".join(source.files), sum(source.facts.characters)
    unknown = "".join(tokenizer.leave_out_unknown(source.facts.vocabulary)[1])
    if strict and unknown:
        _refuse_unknown(source, unknown, tokenizer)
    for notice in source.notices:
        warn(notice)
    left_out = Counter[str]()
    for piece in chain.from_iterable(source.pieces()) if unknown else ():
        left_out.update(tokenizer.leave_out_unknown(piece)[1])
    if left_out:
        counts = [f"{character!r} {count:,} x" for character, count in left_out.most_common()]
        share = f"{left_out.total():,} of {format_count(characters, 'character')} ({left_out.total() / characters:.2%})"
        warn(f"left out {share} that the model has never seen: {format_names(counts, SHOWN_CHARACTERS)}")
    if characters == left_out.total():
        raise UserError(f"{name}: " + ("the model knows none of its characters" if characters else "has no text"))
    return replace(source, without=unknown), left_out.total()


def _refuse_unknown(source: Source, unknown: str, tokenizer: Tokenizer) -> None:
    """Raise a UserError with the place of the first character that is unknown."""
    for path, pieces in zip(source.files, source.pieces(), strict=True):
        line, before = 1, 0  # `before`: characters of the line that stand in earlier pieces
        for piece in pieces:
            found = re.search(f"[{re.escape(unknown)}]", piece)
            end = found.start() if found else len(piece)
            newline = piece.rfind("\n", 0, end)
            line, before = line + piece.count("\n", 0, end), end - newline - 1 + (before if newline < 0 else 0)
            if found:
                place = f"{path}, line {line:,}, column {before + 1:,}: the text"
                raise UserError(f"{tokenizer.describe_unknown(unknown, place)}; without --strict they are left out")


def _cut(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """`text` up to the first stop in it, and whether there is one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


def _begun_stop(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end may be the beginning of a stop, and cannot be shown yet."""
    lengths = (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n]))
    return max(lengths, default=0)
