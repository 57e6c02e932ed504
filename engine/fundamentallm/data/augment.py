"""Small variations of the training text, so that less of it is learnt by heart.

A varied text has the length and the vocabulary of the original, and is a function of (seed, epoch).
"""

import torch
from torch import Tensor

from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.model.dropout import fold_in, random_bits

PUNCTUATION = ".,;:!?-"


class Augmenter:
    """Varies tokens by `recipe`, the probability of each kind for each character that it concerns.

    - casing: a letter changes its case;
    - punctuation: a mark becomes another one;
    - whitespace: a line's end or tab becomes a space.
    """

    def __init__(self, recipe: dict[str, float], tokenizer: Tokenizer, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._changes = [(p, _choices(kind, tokenizer.vocabulary).to(device)) for kind, p in recipe.items()]

    def __call__(self, tokens: Tensor, epoch: int) -> Tensor:
        """The tokens of one epoch, like `tokens` (n,)."""
        varied = tokens
        for place, (p, choices) in enumerate(self._changes):
            chance = random_bits(fold_in(self._seed, epoch, 2 * place), len(tokens), tokens.device)
            which = (
                random_bits(fold_in(self._seed, epoch, 2 * place + 1), len(tokens), tokens.device) % choices.shape[1]
            )
            other = choices[varied.long(), which.long()].to(tokens.dtype)
            varied = torch.where(chance < p * 2**24, other, varied)
        return varied


def _choices(kind: str, vocabulary: str) -> Tensor:
    """What each token may become, (V, number of choices); itself where nothing fits."""
    rows = [_others(kind, character, vocabulary) or [character] for character in vocabulary]
    width = max(len(row) for row in rows)
    token = {character: i for i, character in enumerate(vocabulary)}
    return torch.tensor([[token[row[i % len(row)]] for i in range(width)] for row in rows])


def _others(kind: str, character: str, vocabulary: str) -> list[str]:
    if kind == "casing":
        return [
            c for c in (character.swapcase(),) if c != character and c in set(vocabulary)
        ]  # not "ST", as one of \ufb06
    if kind == "punctuation":
        return [c for c in PUNCTUATION if character in PUNCTUATION and c != character and c in vocabulary]
    return [" "] if character.isspace() and character != " " and " " in vocabulary else []
