"""A text as tokens, and which of them each step sees.

- An epoch is windows of T tokens that start `stride` apart in each document, so that none crosses into the next. The
  offset of the first one and the order in which they are seen are drawn from (seed, epoch). Every epoch has as many
  steps as any other.
- The validation text is one piece: windows of an evaluation may cross from one document into the next.
- A batch is a function of (seed, step): no loader, no state, no order of calls. A resumed run asks for the batch of its
  next step, and that is all.
- Augmentation varies the training text, once an epoch, as a function of (seed, epoch). Validation sees the true text.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import choose_stride, count_all_windows, count_windows, spans, split
from fundamentallm.data.encoded import Encoded
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.model.dropout import fold_in, random_bits

IGNORED = -100  # a target that does not count: the default `ignore_index` of torch's cross_entropy
PUNCTUATION = ".,;:!?-"
RELEASE = 1 << 8  # windows of a mapped text after which the memory is given back: each brought in 64 kB and more


class Corpus:
    """Training and validation tokens of one run: `train` and `val`, each (n,).

    They are on the device that computes, but for a mapped text, of which the windows of a batch are brought there.
    """

    def __init__(self, encoded: Encoded, tokenizer: Tokenizer, config: Config, device: torch.device) -> None:
        self.encoded, self._device = encoded, device
        tokens, lengths = encoded.tokens, encoded.lengths
        n = split(len(tokens), config.val_split)
        if encoded.mapped and not config.augmentations:  # a varied text is made anew each epoch, in memory
            device = tokens.device
        self.train = tokens[:n].to(device)
        self.val = tokens[n:].to(device)
        self.stride = choose_stride(config, lengths, n)
        self.windows = count_all_windows(lengths, n, config.max_seq_len, self.stride)
        self._spans = spans(lengths, n, config.max_seq_len)
        self.steps_per_epoch = -(-self.windows // config.effective_batch)
        self._length, self._batch, self._rows = config.max_seq_len, config.batch_size, config.effective_batch
        self._seed, self._read = config.seed, 0  # windows that were read since the last release
        self._positions = torch.arange(config.max_seq_len + 1, device=device)
        augment = Augmenter(config.augmentations, tokenizer, config.seed, device) if config.augmentations else None
        # Only the epoch under way is kept: steps go forward, and a varied text is as large as the text.
        self.starts = lru_cache(maxsize=1)(self._draw_starts)
        self._text = lru_cache(maxsize=1)(lambda epoch: augment(self.train, epoch) if augment else self.train)

    def real_rows(self, step: int) -> int:
        """Count the windows of a step's batch that are real; the rest of an epoch's last batch is masked."""
        return min(self._rows, self.windows - (step % self.steps_per_epoch) * self._rows)

    def batch(self, step: int, micro_batch: int = 0, size: int | None = None) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of one of a step's micro-batches (0, 1, ...), each int64 (B, T).

        `size` is how many windows a micro-batch has; without it `batch_size`.
        """
        B = size or self._batch
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self._rows + micro_batch * B
        starts = self.starts(epoch)[first : first + B]
        missing = B - len(starts)
        if missing:  # fill up with any window: all batches have one shape, and what is filled up is masked below
            starts = torch.cat([starts, starts.new_zeros(missing)])
        windows = self._text(epoch)[starts[:, None] + self._positions].to(self._device).long()  # (B, T + 1)
        self._read += B
        if self._read >= RELEASE:
            self.encoded.release()
            self._read = 0
        inputs, targets = windows[:, :-1], windows[:, 1:]
        if missing:
            targets = targets.clone()
            targets[B - missing :] = IGNORED
        return inputs, targets

    def _draw_starts(self, epoch: int) -> Tensor:
        """Return where the windows of an epoch (0, 1, ...) start, in the order in which they are seen; int64, (W,)."""
        # 31 bits: torch's CPU generator uses no more than 32 of a seed
        rng = torch.Generator().manual_seed(fold_in(self._seed, epoch) & 0x7FFFFFFF)
        starts = []
        for first, end in self._spans:  # of one document each: no window crosses into the next
            offsets = min(self.stride, end - first - self._length)  # fewer where a document is barely a window
            offset = int(torch.randint(offsets, (), generator=rng))
            count = count_windows(end - first, self._length, self.stride)
            starts.append(first + offset + torch.arange(count) * self.stride)
        order = torch.randperm(self.windows, generator=rng)
        return torch.cat(starts)[order].to(self.train.device)


class Augmenter:
    """Varies a text a little, so that less of it is learnt by heart.

    A varied text has the length and the vocabulary of the original. `recipe` has the probability of each kind, for each
    character that the kind concerns:

    - casing: a letter changes its case;
    - punctuation: a mark becomes another one;
    - whitespace: a line's end or tab becomes a space.
    """

    def __init__(self, recipe: dict[str, float], tokenizer: Tokenizer, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._kinds = [(p, _alternatives(kind, tokenizer.texts).to(device)) for kind, p in recipe.items()]

    def __call__(self, tokens: Tensor, epoch: int) -> Tensor:
        """Return the tokens of one epoch, like `tokens` (n,)."""
        varied = tokens
        for kind, (p, alternatives) in enumerate(self._kinds):
            chance = random_bits(fold_in(self._seed, epoch, 2 * kind), len(tokens), tokens.device)
            choice = random_bits(fold_in(self._seed, epoch, 2 * kind + 1), len(tokens), tokens.device)
            other = alternatives[varied.long(), (choice % alternatives.shape[1]).long()].to(tokens.dtype)
            varied = torch.where(chance < p * 2**24, other, varied)
        return varied


def _alternatives(kind: str, vocabulary: Sequence[str]) -> Tensor:
    """Return what each token may become, itself where nothing fits; int64, (V, number of alternatives)."""
    token = {character: i for i, character in enumerate(vocabulary)}
    found = ([token[other] for other in _replacements(kind, character, vocabulary)] for character in vocabulary)
    rows = [row or [own] for own, row in enumerate(found)]
    width = max(len(row) for row in rows)
    return torch.tensor([[row[i % len(row)] for i in range(width)] for row in rows])


def _replacements(kind: str, character: str, vocabulary: Sequence[str]) -> list[str]:
    if kind == "casing":
        other = character.swapcase()  # of the ligature \ufb06 it is "ST", which is no character
        fits = len(other) == 1 and other != character and other in vocabulary
        return [other] if fits else []
    if kind == "punctuation":
        if character not in PUNCTUATION:
            return []
        return [mark for mark in PUNCTUATION if mark != character and mark in vocabulary]
    return [" "] if character.isspace() and character != " " and " " in vocabulary else []
