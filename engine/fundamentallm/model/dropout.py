"""Dropout masks as a pure function: the same (seed, step, site, row) gives the same bits, on every device.

The usual dropout draws from a generator that advances with every call, so an evaluation, a sample, a resume or another
split of the batch changes every mask that follows. Here nothing advances. A number is the hash of the place where it is
needed (a counter-based generator; Salmon et al. 2011, as in JAX):

    seed, step -> key of the step -> key of the site -> key of the row -> bits of the activation

A site is a place in the model where dropout stands: after the embedding, and after each sublayer.

- A checkpoint therefore holds no state of a generator: a resumed run knows its step, and with it all its masks.
- A batch whose gradient is accumulated over micro-batches drops what the same batch would drop as one.
- The data's order and its augmentation take their keys from `fold_in` too, with (seed, epoch). Step n and epoch n have
  the same key k, and share no random numbers: a mask's key is fold_in(k, site), an augmentation's is fold_in(seed,
  epoch, kind), which is another number, and for the order of the data k seeds one of torch's generators.
"""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: multiples of it spread evenly over 32 bits, however few there are


def fold_in(*numbers: int) -> int:
    """Hash integers, in their order, to a key of 64 well mixed bits (splitmix64's finalizer; Steele et al. 2014)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state


def random_bits(key: int, count: int, device: torch.device) -> Tensor:
    """Return `count` uniform whole numbers from 0 to 2^24 - 1, a function of `key` alone; int32, (count,)."""
    counter = torch.arange(count, dtype=torch.int32, device=device) * _int32(GOLDEN)
    return (_hash(counter + _int32(fold_in(key))) >> 8) & 0xFFFFFF


class DropoutMasks:
    """All dropout masks of one forward pass.

    Args:
        key: of the step, from `fold_in(seed, step)`.
        sites: how many sites the model has; they are numbered from 0.
        first_row: the place of the first row in the step's whole batch, of which `rows` rows are computed now.
        p: the probability that an activation is dropped.
    """

    def __init__(self, key: int, sites: int, first_row: int, rows: int, p: float, device: torch.device) -> None:
        self.p = p
        # p is rounded to 1/65536. What survives is scaled by exactly the share that survives, so its mean is unchanged.
        dropped = min(round(p * 65536), 65535)
        self.scale = 65536 / (65536 - dropped)
        self._threshold = dropped - 32768  # int16 numbers start at -32768
        # Keys and rows are tensors, not numbers: torch.compile would compile the model anew for each number.
        keys = [_int32(fold_in(key, site)) for site in range(sites)]
        self._site_keys = torch.tensor(keys, dtype=torch.int32).to(device)
        self._rows = torch.arange(first_row, first_row + rows, dtype=torch.int32, device=device)

    def mask(self, site: int, like: Tensor) -> Tensor:
        """Return ones where an activation survives and zeros where it is dropped; like `like`, (B, T, D)."""
        size = like[0].numel()
        row_keys = _hash(self._rows * _int32(GOLDEN) + self._site_keys[site])  # (B,)
        # Each 32-bit hash serves two activations, as two 16-bit numbers: half the hashing, which is most of the cost.
        counter = torch.arange((size + 1) // 2, dtype=torch.int32, device=like.device) * _int32(GOLDEN)
        bits = _hash(row_keys[:, None] + counter)  # (B, T D / 2)
        return (bits.view(torch.int16)[:, :size] >= self._threshold).to(like.dtype).view_as(like)


def _hash(x: Tensor) -> Tensor:
    """Mix int32 numbers in place (xor-shift-multiply with constants from Wellons' search for low bias, 2018)."""
    x ^= (x >> 16) & 0xFFFF  # `>>` copies the sign bit into the gap: mask it away
    x *= _int32(0x7FEB352D)
    x ^= (x >> 15) & 0x1FFFF
    x *= _int32(0x846CA68B)
    x ^= (x >> 16) & 0xFFFF
    return x


def _int32(bits: int) -> int:
    """Return the number that int32 reads in the low 32 bits: torch has no arithmetic on unsigned 32-bit tensors."""
    return ((bits & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
