"""Characters to numbers and back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.data.corpus import encode
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.errors import UserError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(text=TEXT)
def test_every_text_is_read_back_from_its_tokens(text: str) -> None:
    tokenizer = Tokenizer.fit(text)
    assert tokenizer.vocabulary == "".join(sorted(set(text))) and len(tokenizer) == len(set(text))
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert encode(text, tokenizer).tolist() == tokens  # a corpus is encoded faster, to the same tokens


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


def test_a_tokenizer_is_saved_as_utf8_in_any_locale(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from fundamentallm.data.tokenizer import Tokenizer as T; "
        "from fundamentallm.run.folder import write_atomic; "
        "write_atomic(Path(sys.argv[1]), T.fit('a\\xe9\\u2603').to_json())"
    )
    path = tmp_path / "tokenizer.json"
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PATH": os.defpath}
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, env=environment)
    assert json.loads(path.read_bytes().decode()) == {"type": "character", "vocabulary": ["a", "é", "☃"]}
