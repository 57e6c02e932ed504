"""Text to tokens and back."""

import json
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.data.encoded import PIECE, encode
from fundamentallm.data.source import read_tokenizer
from fundamentallm.data.tokenizer import ByteTokenizer, FileTokenizer, Tokenizer, train_bpe
from fundamentallm.errors import UserError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def test_unknown_characters_are_named_never_dropped() -> None:
    tokenizer = Tokenizer.fit("abc\n")
    with pytest.raises(UserError) as caught:
        tokenizer.encode_prompt("aXbY☃X")
    never_seen = "the prompt has characters that the model has never seen: 'X', 'Y', '☃'"
    assert str(caught.value) == f"{never_seen}; it knows 4 characters, such as a b c"
    large = Tokenizer.fit("".join(map(chr, range(32, 127))))
    with pytest.raises(UserError) as caught:
        large.encode("ÀÁÂÃÄÅÆÇÈÉ")
    assert str(caught.value) == (
        "the text has characters that the model has never seen: 'À', 'Á', 'Â', 'Ã', 'Ä', 'Å', 'Æ', 'Ç' and 2 more; "
        "it knows 95 characters, such as A B C D E F G H"
    )
    for text in ("ab\U0010ffff", "\x00ab", "abA"):
        with pytest.raises(UserError, match=r"^t\.txt has a character that the model has never seen: "):
            encode(text, tokenizer, "t.txt")


def test_an_empty_prompt_is_a_newline_or_the_first_character() -> None:
    for text, prompt, tokens in (("ab\n", "ba", [2, 1]), ("\tab\n", "", [1]), ("xyz", "", [0])):
        assert Tokenizer.fit(text).encode_prompt(prompt) == tokens


@pytest.mark.parametrize(("size", "kind"), [(256, torch.uint8), (257, torch.int16), (40_000, torch.int32)])
def test_a_corpus_takes_the_smallest_numbers_that_hold_it(size: int, kind: torch.dtype) -> None:
    text = "".join(map(chr, range(0xE000, 0xE000 + size)))
    tokens = encode(text, Tokenizer.fit(text))
    assert tokens.dtype == kind and tokens.tolist() == list(range(size))


def test_a_tokenizer_is_described_with_its_characters_as_they_are() -> None:
    assert Tokenizer.fit("é☃a").to_json() == '{"type": "character", "vocabulary": ["a", "é", "☃"]}'


@pytest.fixture(scope="module")
def learnt() -> FileTokenizer:
    return train_bpe(["the sea, the ☃ and the boat\nwent out at dawn; " * 40], 270)


def kinds(learnt: FileTokenizer, text: str) -> list[Tokenizer]:
    return [Tokenizer.fit(text), ByteTokenizer(), learnt]


@given(text=TEXT)
def test_the_tokens_of_every_kind_stand_for_the_bytes_of_the_text(learnt: FileTokenizer, text: str) -> None:
    for tokenizer in kinds(learnt, text):
        tokens = tokenizer.encode(text)
        assert b"".join(tokenizer.token_bytes[token] for token in tokens) == text.encode()
        assert tokenizer.decode(tokens) == "".join(tokenizer.pieces(tokens)) == text
        assert encode(text, tokenizer).tolist() == tokens and max(tokens) < len(tokenizer)
        places, ends = (
            tokenizer.offsets(tokens),
            list(accumulate(len(tokenizer.token_bytes[token]) for token in tokens)),
        )
        starts = [len(text[:at].encode()) for at in places]  # of the character that a token begins with or is inside of
        assert all(start <= at < start + 4 for start, at in zip(starts, [0, *ends], strict=False))
        assert sum(tokenizer.characters[token] for token in tokens) == len(text)


@given(text=st.text(st.characters(exclude_categories=["Cs"])), cut=st.integers(0, 40))
def test_a_stream_gives_whole_characters_only(learnt: FileTokenizer, text: str, cut: int) -> None:
    for tokenizer in (ByteTokenizer(), learnt):
        decode, tokens = tokenizer.decoder(), tokenizer.encode(text)
        shown = [decode(token) for token in tokens]
        assert "".join(shown) == text
        begun = tokens[:cut]
        decode = tokenizer.decoder()
        written = "".join(map(decode, begun))
        assert text.startswith(written)  # the part of a character that was begun is not shown
        rest = len(b"".join(tokenizer.token_bytes[token] for token in begun)) - len(written.encode())
        assert decode(end=True) == "\ufffd" * (rest > 0)


def test_bytes_need_no_vocabulary_and_bpe_learns_one_of_the_size_asked_for_always_the_same(
    learnt: FileTokenizer,
) -> None:
    assert ByteTokenizer().encode("é\n") == [0xC3, 0xA9, 0x0A] and len(ByteTokenizer()) == 256
    assert len(learnt) == 270 and len(learnt.encode("the sea")) < 5
    assert train_bpe(["the sea, the ☃ and the boat\nwent out at dawn; " * 40], 270).file == learnt.file
    assert ByteTokenizer().encode_prompt("") == [10] and learnt.encode_prompt("") == learnt.encode("\n")


def test_where_a_long_text_is_cut_makes_no_difference_to_its_tokens(learnt: FileTokenizer) -> None:
    lines = [f"{'the sea ' * (n % 9)}, the ☃ {n}\n" + "\n" * (n % 3) + " " * (n % 2) for n in range(9000)]
    text = "".join(lines)
    assert len(text) > 5 * PIECE and encode(text, learnt).tolist() == learnt.encode(text)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        (None, "is no tokenizer.json of Hugging Face's tokenizers: "),
        ([0], "is no tokenizer.json of Hugging Face's tokenizers: it is no object of JSON"),
        ({"model": {"type": "Nothing"}}, "is no tokenizer.json of Hugging Face's tokenizers: "),
        ({"decoder": None}, "does not fit: its decoder is None, and ByteLevel is needed, as GPT-2"),
        (
            {"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}},
            "does not fit: its decoder is 'WordPiece'",
        ),
        (
            {"model": {"type": "BPE", "vocab": {"☃": 0, "b": 1}, "merges": []}},
            "does not fit: its token '☃' is no sequence",
        ),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "has 1 tokens; 2 to 1,048,576 are possible"),
    ],
)
def test_a_tokenizer_file_that_does_not_fit_gets_one_line(
    learnt: FileTokenizer, tmp_path: Path, changes: dict[str, object] | list[object] | None, error: str
) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({**learnt.to_hf(), **changes} if isinstance(changes, dict) else changes or {}))
    with pytest.raises(UserError) as caught:
        read_tokenizer(str(path))
    assert str(caught.value).startswith(f"--tokenizer {path}: {error}") and "\n" not in str(caught.value)


def test_a_tokenizer_file_with_dropout_gives_the_same_tokens_each_time(learnt: FileTokenizer) -> None:
    described = learnt.to_hf()
    described["model"]["dropout"] = 0.5
    tokenizer, text = FileTokenizer(json.dumps(described)), "the sea, the sea; " * 20
    assert tokenizer.encode(text) == learnt.encode(text) and tokenizer.file == learnt.file


def test_a_tokenizer_that_changes_the_text_is_refused_and_what_it_adds_at_its_ends_is_left_out(
    learnt: FileTokenizer,
) -> None:
    own = {"Sequence": {"id": "A", "type_id": 0}}
    mark = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    ids = {"<s>": {"id": "<s>", "ids": [270], "tokens": ["<s>"]}}
    marked = {"type": "TemplateProcessing", "single": [mark, own], "pair": [own], "special_tokens": ids}
    added = {"id": 270, "content": "<s>", "special": True}
    added |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer = FileTokenizer(json.dumps({**learnt.to_hf(), "added_tokens": [added], "post_processor": marked}))
    assert tokenizer.encode("the sea") == learnt.encode("the sea") and len(tokenizer) == 271
    assert tokenizer.encode("a<s>") == [*learnt.encode("a"), 270] and tokenizer.decode([270]) == "<s>"
    lower = FileTokenizer(json.dumps({**learnt.to_hf(), "normalizer": {"type": "Lowercase"}}))
    assert lower.encode("owl") == learnt.encode("owl")
    with pytest.raises(UserError, match=r"^t\.txt: the tokenizer does not fit: it changes what it reads"):
        lower.encode("Owl", name="t.txt")  # as many bytes, others
    lower = FileTokenizer(json.dumps({**learnt.to_hf(), "normalizer": {"type": "NFC"}}))
    with pytest.raises(UserError, match=r"^t\.txt: the tokenizer does not fit: it changes what it reads"):
        encode("e\u0301", lower, "t.txt")
