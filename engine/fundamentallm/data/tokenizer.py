"""Characters to numbers and back. No torch.

- A token is one character; the vocabulary is every character of the corpus, sorted.
- A character that the vocabulary lacks is an error that names it, never dropped.
"""

import json
from collections.abc import Iterable

from fundamentallm.errors import UserError


class Tokenizer:
    """Knows `vocabulary`, a string whose i-th character is token i."""

    def __init__(self, vocabulary: str) -> None:
        assert list(vocabulary) == sorted(set(vocabulary)), "sorted and without repetition"
        self.vocabulary = vocabulary
        self._token = {character: token for token, character in enumerate(vocabulary)}

    @classmethod
    def fit(cls, text: str) -> "Tokenizer":
        """The tokenizer of a corpus."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str, *, name: str = "the text") -> list[int]:
        """
        Raises:
            UserError: characters of `text` are not in the vocabulary; names them.
        """
        try:
            return [self._token[character] for character in text]
        except KeyError:
            raise UserError(self.complaint(text, name)) from None

    def encode_prompt(self, prompt: str) -> list[int]:
        """The tokens of a prompt; of an empty one, a newline, or the first character there is.

        Raises:
            UserError: the prompt has a character that the model has never seen.
        """
        return self.encode(prompt, name="the prompt") if prompt else [max(0, self.vocabulary.find("\n"))]

    def complaint(self, text: str, name: str) -> str:
        """What to say of a text with unknown characters."""
        unknown = sorted(set(text) - set(self.vocabulary))
        shown = " ".join(repr(character) for character in unknown[:12]) + (" …" if len(unknown) > 12 else "")
        plural = "characters" if len(unknown) > 1 else "a character"
        return f"{name} has {plural} that the model has never seen: {shown}; it knows {self.known()}"

    def known(self) -> str:
        """The vocabulary for people: what can be seen of it, at most 100 characters."""
        seen = "".join(character for character in self.vocabulary if character.isprintable() and character != " ")
        return seen if len(seen) <= 100 else seen[:99] + "…"

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join(self.vocabulary[token] for token in tokens)

    def to_json(self) -> str:
        """For programs of other people; the checkpoints have the vocabulary in them."""
        return json.dumps({"type": "character", "vocabulary": list(self.vocabulary)}, ensure_ascii=False)
