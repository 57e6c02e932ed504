"""A text as tokens, and which of them each step sees.

- An epoch is windows of T tokens that start `stride` apart, at a phase drawn from (seed, epoch), in an order drawn
  from (seed, epoch). Every epoch has as many steps as any other.
- A batch is a function of (seed, step): no loader, no state, no order of calls.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from fundamentallm.config.config import Config
from fundamentallm.config.estimate import choose_stride, count_all_windows, count_windows, spans, split
from fundamentallm.data.augment import Augmenter
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.errors import UserError
from fundamentallm.model.dropout import fold_in

IGNORED = -100  # a target that is not counted, as `cross_entropy` has it


def encode(text: str, tokenizer: Tokenizer, name: str = "the text") -> Tensor:
    """Tokens in the smallest integer type that holds them, shape (n,).

    Raises:
        UserError: the text has a character that the tokenizer does not know.
    """
    codes = torch.frombuffer(bytearray(text.encode("utf-32-le")), dtype=torch.int32)
    known = torch.frombuffer(bytearray(tokenizer.vocabulary.encode("utf-32-le")), dtype=torch.int32)
    tokens = torch.searchsorted(known, codes).clamp_(max=len(known) - 1)
    if not torch.equal(known[tokens], codes):
        raise UserError(tokenizer.complaint(text, name))
    size = torch.uint8 if len(known) <= 256 else torch.int16 if len(known) <= 32768 else torch.int32
    return tokens.to(size)


def fingerprint(documents: Sequence[str]) -> str:
    """The SHA-256 of a corpus: the same only for the same texts with the same borders."""
    return hashlib.sha256("\0".join(documents).encode()).hexdigest()


class Corpus:
    """Training and validation tokens of one run."""

    def __init__(self, documents: Sequence[str], tokenizer: Tokenizer, config: Config, device: torch.device) -> None:
        tokens = encode("".join(documents), tokenizer, ", ".join(config.data) or "the text")
        lengths = [len(text) for text in documents]
        n = split(len(tokens), config.val_split)
        self.train = tokens[:n].to(device)
        self.val = tokens[n:].to(device)
        self.fingerprint = fingerprint(documents)
        self.stride = choose_stride(config, lengths, n)
        self.windows = count_all_windows(lengths, n, config.max_seq_len, self.stride)
        self._spans = spans(lengths, n, config.max_seq_len)
        self.steps_per_epoch = -(-self.windows // config.effective_batch)
        self._length, self._batch, self._rows = config.max_seq_len, config.batch_size, config.effective_batch
        self._seed = config.seed
        self._offsets = torch.arange(config.max_seq_len + 1, device=device)
        self._starts = lru_cache(maxsize=2)(self._draw_starts)
        vary = Augmenter(config.augmentations, tokenizer, config.seed, device) if config.augmentations else None
        self._text = lru_cache(maxsize=2)(lambda epoch: vary(self.train, epoch) if vary else self.train)

    def starts(self, epoch: int) -> Tensor:
        """Where the windows of an epoch (0, 1, ...) start, in the order in which they are seen; int64, (W,)."""
        return self._starts(epoch)

    def real_rows(self, step: int) -> int:
        """How many windows of a step's batch are real; the rest of an epoch's last batch is masked."""
        return min(self._rows, self.windows - (step % self.steps_per_epoch) * self._rows)

    def batch(self, step: int, part: int = 0) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the `part`-th of a step's accumulated batches, each int64 (B, T)."""
        epoch, place = divmod(step, self.steps_per_epoch)
        first = place * self._rows + part * self._batch
        starts = self.starts(epoch)[first : first + self._batch]
        missing = self._batch - len(starts)
        if missing:
            starts = torch.cat([starts, starts.new_zeros(missing)])
        windows = self._text(epoch)[starts[:, None] + self._offsets].long()  # (B, T + 1)
        inputs, targets = windows[:, :-1], windows[:, 1:]
        if missing:
            targets = targets.clone()
            targets[self._batch - missing :] = IGNORED
        return inputs, targets

    def _draw_starts(self, epoch: int) -> Tensor:
        dice = torch.Generator().manual_seed(fold_in(self._seed, epoch) & 0x7FFFFFFF)
        starts = []
        for first, end in self._spans:
            phases = min(self.stride, end - first - self._length)  # fewer where a document is barely a window
            phase = int(torch.randint(phases, (), generator=dice))
            count = count_windows(end - first, self._length, self.stride)
            starts.append(first + phase + torch.arange(count) * self.stride)
        order = torch.randperm(self.windows, generator=dice)
        return torch.cat(starts)[order].to(self.train.device)
