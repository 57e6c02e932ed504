"""Randomness as a pure function: the same (seed, step, place) gives the same bits, on every device, in any order.

A counter is hashed instead of a generator advanced, so nothing that happens in between (an evaluation, a sample, a
restart, another split of the batch) can change what a step draws.
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B9


def fold_in(*numbers: int) -> int:
    """64 well mixed bits of some integers (the finalizer of splitmix64, Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def random_bits(key: int, count: int, device: torch.device) -> Tensor:
    """`count` whole numbers from 0 to 2^24 - 1, a function of `key`."""
    words = torch.arange(count, dtype=torch.int32, device=device) * _signed(GOLDEN) + _signed(fold_in(key))
    return (_hash(words) >> 8) & 0xFFFFFF


class DropoutMasks:
    """Dropout masks of one training step, for the rows of its batch that are computed now.

    Args:
        key: of the step, from `fold_in(seed, step)`.
        layers: how many places of the model drop something.
        first_row: the place of the first row in the whole batch, so that a batch that is computed in parts draws
            what it would draw as one.
    """

    def __init__(self, key: int, layers: int, first_row: int, rows: int, p: float, device: torch.device) -> None:
        self.p = p
        self._cut = round(p * 65536) - 32768
        self.scale = 65536 / (65536 - round(p * 65536))  # exactly what the 16-bit cut keeps
        # tensors, not numbers: a compiled model would be compiled anew for each number
        keys = [_signed(fold_in(key, layer)) for layer in range(layers)]
        self._keys = torch.tensor(keys, dtype=torch.int32).to(device)
        self._rows = torch.arange(first_row, first_row + rows, dtype=torch.int32, device=device)

    def mask(self, layer: int, like: Tensor) -> Tensor:
        """Ones where an activation survives, zeros with probability p; like `like`, (B, T, D)."""
        size = like[0].numel()
        row_key = _hash(self._rows * _signed(GOLDEN) + self._keys[layer])
        counter = torch.arange((size + 1) // 2, dtype=torch.int32, device=like.device) * _signed(GOLDEN)
        words = _hash(row_key[:, None] + counter)  # (B, size / 2): two 16-bit numbers in each
        return (words.view(torch.int16)[:, :size] >= self._cut).to(like.dtype).view_as(like)


def _hash(words: Tensor) -> Tensor:
    """Mix int32 words in place (constants: Wellons' search for low bias, 2018)."""
    words ^= (words >> 16) & 0xFFFF  # `>>` keeps the sign: mask it away
    words *= _signed(0x7FEB352D)
    words ^= (words >> 15) & 0x1FFFF
    words *= _signed(0x846CA68B)
    words ^= (words >> 16) & 0xFFFF
    return words


def _signed(bits: int) -> int:
    """The low 32 bits as int32 has them."""
    return ((bits & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
