"""Text to tokens and back. No torch.

- Each token stands for a few bytes of UTF-8, and the tokens of a text together for the bytes of the text. Reading a
  text back, the loss a byte and the place of a token all follow from that one table, `token_bytes`.
- `char`: a token is a character of the corpus; another one is an error that names it. `bytes`: a token is a byte.
  `bpe` and any tokenizer.json of Hugging Face's `tokenizers`: a token is what this file says.
"""

import codecs
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from typing import Any

from fundamentallm.config.config import BYTES, CHAR
from fundamentallm.config.format import format_count, format_names
from fundamentallm.errors import UserError

SHOWN_CHARACTERS = 8  # of those that an error names
MAX_TOKENS = 1 << 20  # of a tokenizer.json: no text needs more, and a model's embedding has a row for each
MAX_FILE_BYTES = 1 << 26


class Tokenizer:
    """Maps characters to tokens; the i-th character of `vocabulary` is token i.

    The other kinds derive from it. They have no `vocabulary`, and know every text.
    """

    file = ""  # the tokenizer.json that it was made from

    def __init__(self, vocabulary: str) -> None:
        assert list(vocabulary) == sorted(set(vocabulary)), "sorted and without repetition"
        self.vocabulary = vocabulary
        self.token_bytes: Sequence[bytes] = [character.encode("utf-8", "surrogatepass") for character in vocabulary]
        self._token = {character: token for token, character in enumerate(vocabulary)}

    @classmethod
    def fit(cls, *documents: str) -> "Tokenizer":
        """Make the tokenizer of a corpus."""
        return cls("".join(sorted(set().union(*documents))))

    def __len__(self) -> int:
        return len(self.token_bytes)

    def encode(self, text: str, *, name: str = "the text") -> list[int]:
        """Return the tokens of a text. A UserError names the characters that are unknown, and calls the text `name`."""
        try:
            return [self._token[character] for character in text]
        except KeyError:
            raise UserError(self.describe_unknown(text, name)) from None

    def encode_prompt(self, prompt: str) -> list[int]:
        """Return the tokens of a prompt; of an empty one a newline, or the first token if there is none."""
        return self.encode(prompt or "\n" * (b"\n" in self.token_bytes), name="the prompt") or [0]

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text of tokens; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.token_bytes[token] for token in tokens).decode("utf-8", "replace")

    def pieces(self, tokens: Sequence[int]) -> tuple[str, ...]:
        """Return the text of each token; together they are the text. A character's text is that of its last token."""
        decode = self.decoder()
        return tuple(decode(token, end=number == len(tokens)) for number, token in enumerate(tokens, 1))

    def decoder(self) -> Callable[..., str]:
        """Return a function that takes one token after the other, and returns the characters that they complete.

        At the `end`, it returns U+FFFD for a character that was only begun.
        """
        utf8 = codecs.getincrementaldecoder("utf-8")("replace")

        def decode(*tokens: int, end: bool = False) -> str:
            return utf8.decode(b"".join(self.token_bytes[token] for token in tokens), end)

        return decode

    @cached_property
    def texts(self) -> list[str]:
        """The text of each token by itself; empty for one that is a part of a character."""
        texts = [raw.decode("utf-8", "ignore") for raw in self.token_bytes]
        return [text if text.encode() == raw else "" for text, raw in zip(texts, self.token_bytes, strict=True)]

    @cached_property
    def sizes(self) -> list[int]:
        """How many bytes each token stands for."""
        return [len(raw) for raw in self.token_bytes]

    @cached_property
    def characters(self) -> list[int]:
        """How many characters begin in each token."""
        return [sum(byte & 0xC0 != 0x80 for byte in raw) for raw in self.token_bytes]

    def offsets(self, tokens: Iterable[int]) -> list[int]:
        """Return where in their text tokens begin: the number of the character that the token, or a part of it, is."""
        offsets, begun = list[int](), 0
        for token in tokens:
            inside = self.token_bytes[token][:1] and self.token_bytes[token][0] & 0xC0 == 0x80
            offsets.append(max(0, begun - bool(inside)))
            begun += self.characters[token]
        return offsets

    def leave_out_unknown(self, text: str) -> tuple[str, Counter[str]]:
        """Return the text without the characters that are not in the vocabulary, and how often each of those occurs."""
        known = self.vocabulary or text
        unknown = Counter({c: text.count(c) for c in sorted(set(text) - set(known))})
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
        """Describe the tokenizer for other programs; ours reads it from the checkpoint."""
        characters = {"type": "character", "vocabulary": list(self.vocabulary)}
        return json.dumps(characters if self.vocabulary else self.to_hf(), ensure_ascii=False)

    def to_hf(self) -> dict[str, Any]:
        """Describe the tokenizer as Hugging Face's `tokenizers` reads it; it refuses other characters."""
        split = {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False}
        model = {"type": "WordLevel", "vocab": self._token, "unk_token": "<unk>"}
        return _described(model, split, {"type": "Fuse"})


class ByteTokenizer(Tokenizer):
    """Token i is the byte i."""

    def __init__(self) -> None:
        super().__init__("")
        self.token_bytes = [bytes([byte]) for byte in range(256)]

    def encode(self, text: str, *, name: str = "the text") -> list[int]:
        return list(text.encode())

    def to_hf(self) -> dict[str, Any]:
        """Describe it as a byte-level BPE that merges nothing."""
        vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
        whole = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return _described({"type": "BPE", "vocab": vocabulary, "merges": []}, whole, whole)


class FileTokenizer(Tokenizer):
    """What a tokenizer.json describes, without dropout, marks at the ends of a text, padding and a longest length.

    A UserError says that it does not fit: the bytes of each token must be known, or no text could be read back.
    """

    def __init__(self, content: str, name: str = "tokenizer.json") -> None:
        super().__init__("")
        from tokenizers import Tokenizer as Library  # takes 20 ms to import, and most runs need none

        try:
            described = json.loads(content)
            if not isinstance(described, dict):
                raise ValueError("it is no object of JSON")
            described.update(truncation=None, padding=None, post_processor=None)
            if isinstance(described.get("model"), dict) and described["model"].get("dropout"):
                described["model"]["dropout"] = None  # the same text has the same tokens
            self.file = json.dumps(described, ensure_ascii=False)
            self._library = Library.from_str(self.file)
            tokens = self._library.get_vocab(with_added_tokens=True)
        except Exception as error:  # the library raises `Exception` itself
            why = str(error).partition("\n")[0][:200]
            raise UserError(f"{name}: is no tokenizer.json of Hugging Face's tokenizers: {why}") from None
        size = max(tokens.values(), default=-1) + 1
        if not 2 <= size <= MAX_TOKENS:
            raise UserError(f"{name}: has {size:,} tokens; 2 to {MAX_TOKENS:,} are possible")
        whole = {token["content"] for token in described.get("added_tokens") or ()}
        to_bytes = _reader(described.get("decoder"), name)
        table = [b""] * size
        for token, number in tokens.items():
            try:
                table[number] = token.encode() if token in whole else to_bytes(token)
            except KeyError:
                raise UserError(f"{name}: does not fit: its token {token[:40]!r} is no sequence of bytes") from None
        self.token_bytes = table

    def encode(self, text: str, *, name: str = "the text") -> list[int]:
        return self.encode_many([text], name=name)[0]

    def encode_many(self, texts: list[str], *, name: str = "the text") -> list[list[int]]:
        """Return the tokens of each text. A UserError says that they do not stand for all of the text's bytes."""
        try:
            rows = [row.ids for row in self._library.encode_batch_fast(texts, add_special_tokens=False)]
        except Exception as error:  # a word that the vocabulary lacks
            why = str(error).partition("\n")[0][:200]
            raise UserError(f"{name} has something that the tokenizer does not know: {why}") from None
        for text, row in zip(texts, rows, strict=True):
            if b"".join(map(self.token_bytes.__getitem__, row)) != text.encode():
                why = "the tokenizer does not fit: it changes what it reads, so that no text comes back as it was"
                raise UserError(f"{name}: {why}; one that keeps every byte does, such as a byte-level BPE")
        return rows

    def to_hf(self) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self.file)
        return described


@lru_cache(maxsize=2)  # a start reads several checkpoints of one run
def restore(kind: str, vocabulary: str, file: str) -> Tokenizer:
    """Make the tokenizer that was saved: its setting, its characters, its tokenizer.json. A UserError if none fits."""
    if kind == CHAR:
        return Tokenizer(vocabulary)
    return ByteTokenizer() if kind == BYTES else FileTokenizer(file)


def train_bpe(texts: Iterable[str], vocab_size: int) -> FileTokenizer:
    """Train a byte-level BPE of at most `vocab_size` tokens, 256 of which are the bytes (Sennrich et al. 2016)."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers, trainers

    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator(texts, trainer)
    return FileTokenizer(library.to_str())


def _described(model: dict[str, Any], pre_tokenizer: dict[str, Any], decoder: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": pre_tokenizer, "post_processor": None, "decoder": decoder, "model": model,
    }  # fmt: skip


def _reader(decoder: Any, name: str) -> Any:
    """Return the function from a token's name in a tokenizer.json to its bytes; a UserError if there is none."""
    kind = decoder.get("type") if isinstance(decoder, dict) else None
    if kind == "ByteLevel":
        byte = {character: value for value, character in enumerate(_byte_characters())}
        return lambda token: bytes(byte[character] for character in token)
    if kind == "Fuse":
        return lambda token: token.encode()
    why = f"its decoder is {ascii(kind)[:40]}, and ByteLevel is needed, as GPT-2, Llama 3 and Qwen have it"
    raise UserError(f"{name}: does not fit: {why}")


def _byte_characters() -> list[str]:
    """The character that stands for each byte in a byte-level tokenizer.json: itself, or one from U+0100 on (GPT-2)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) if byte in shown else chr(0x100 + hidden.index(byte)) for byte in range(256)]
