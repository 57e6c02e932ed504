"""Characters to numbers and back. No torch.

- A token is one character; the vocabulary is every character of the corpus, sorted.
- A character that the vocabulary lacks is an error that names it, never dropped.
"""

import json
from collections.abc import Iterable

from fundamentallm.errors import UserError


class Tokenizer:
    """Maps characters to tokens; the i-th character of `vocabulary` is token i."""

    def __init__(self, vocabulary: str) -> None:
        assert list(vocabulary) == sorted(set(vocabulary)), "sorted and without repetition"
        self.vocabulary = vocabulary
        self._token = {character: token for token, character in enumerate(vocabulary)}

    @classmethod
    def fit(cls, *documents: str) -> "Tokenizer":
        """Make the tokenizer of a corpus."""
        return cls("".join(sorted(set().union(*documents))))

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str, *, name: str = "the text") -> list[int]:
        """Return the tokens of a text; `name` is what an error calls it.

        Raises:
            UserError: characters of `text` are not in the vocabulary; names them.
        """
        try:
            return [self._token[character] for character in text]
        except KeyError:
            raise UserError(self.describe_unknown(text, name)) from None

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt; of an empty one a newline, or the first character if there is none.

        Raises:
            UserError: the prompt has a character that the model has never seen.
        """
        return self.encode(prompt, name="the prompt") if prompt else [max(0, self.vocabulary.find("\n"))]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens."""
        return "".join(self.vocabulary[token] for token in tokens)

    def describe_unknown(self, text: str, name: str) -> str:
        """Say which characters of a text are unknown, and which are known: of each as many as fit into a line."""
        unknown = sorted(set(text) - set(self.vocabulary))
        shown = " ".join(repr(character) for character in unknown[:12]) + (" …" if len(unknown) > 12 else "")
        plural = "characters" if len(unknown) > 1 else "a character"
        known = "".join(character for character in self.vocabulary if character.isprintable() and character != " ")
        known = known if len(known) <= 100 else known[:99] + "…"
        return f"{name} has {plural} that the model has never seen: {shown}; it knows {known}"

    def to_json(self) -> str:
        """Return the vocabulary for other programs; ours reads it from the checkpoint."""
        return json.dumps({"type": "character", "vocabulary": list(self.vocabulary)}, ensure_ascii=False)
