"""Characters to numbers and back. No torch.

- A token is one character; the vocabulary is every character of the corpus, sorted.
- A character that the vocabulary lacks is an error that names it. Only `leave_out_unknown` drops it, and counts it.
"""

import json
from collections import Counter
from collections.abc import Iterable

from fundamentallm.config.format import format_count, format_names
from fundamentallm.errors import UserError

SHOWN_CHARACTERS = 8  # of those that an error names


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
        """Return the tokens of a text. A UserError names the characters that are unknown, and calls the text `name`."""
        try:
            return [self._token[character] for character in text]
        except KeyError:
            raise UserError(self.describe_unknown(text, name)) from None

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt; of an empty one a newline, or the first character if there is none."""
        return self.encode(prompt, name="the prompt") if prompt else [max(0, self.vocabulary.find("\n"))]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens."""
        return "".join(self.vocabulary[token] for token in tokens)

    def leave_out_unknown(self, text: str) -> tuple[str, Counter[str]]:
        """Return the text without the characters that are not in the vocabulary, and how often each of those occurs."""
        unknown = Counter({c: text.count(c) for c in sorted(set(text) - set(self.vocabulary))})
        return text.translate(dict.fromkeys(map(ord, unknown))), unknown

    def describe_unknown(self, text: str, name: str) -> str:
        """Say which characters of a text are unknown, and what the vocabulary has: a few of each."""
        unknown = list(map(repr, sorted(set(text) - set(self.vocabulary))))
        visible = [character for character in self.vocabulary if character.isprintable() and character != " "]
        examples = sorted(visible, key=lambda character: not character.isalpha())[:SHOWN_CHARACTERS]
        has = f"{name} has {'characters' if len(unknown) > 1 else 'a character'} that the model has never seen"
        knows = f"it knows {format_count(len(self), 'character')}" + ", such as " * bool(examples) + " ".join(examples)
        return f"{has}: {format_names(unknown, SHOWN_CHARACTERS)}; {knows}"

    def to_json(self) -> str:
        """Return the vocabulary for other programs; ours reads it from the checkpoint."""
        return json.dumps({"type": "character", "vocabulary": list(self.vocabulary)}, ensure_ascii=False)
