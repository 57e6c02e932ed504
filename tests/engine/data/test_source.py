"""Texts of any size: read in pieces, with the same tokens, steps and warnings as short ones."""

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd

from fundamentallm.cli import main
from fundamentallm.config.config import Config
from fundamentallm.data import encoded as encoded_module
from fundamentallm.data import source as source_module
from fundamentallm.data import text as text_module
from fundamentallm.data.encoded import encode_source
from fundamentallm.data.encoding import normalize
from fundamentallm.data.source import cache_folder, guess_size, make_tokenizer, measure_source, read_source
from fundamentallm.data.text import read_pieces, select
from fundamentallm.data.text_stats import source_warnings
from fundamentallm.errors import UserError
from fundamentallm.train.checkpoint import load
from tests.engine.conftest import Ran, assert_same_end
from tests.engine.data.conftest import LINES, cached, damage_byte, texts_of
from tests.texts import read_texts

pytestmark = pytest.mark.usefixtures("cache_home")


@pytest.mark.parametrize("tokenizer", ["char", "bytes", "bpe"])
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_long_text_is_the_same_as_a_short_one(long: Callable[..., None], tokenizer: str, piece: int) -> None:
    text = LINES[: 2000 if piece < 1000 else None]
    Path("texts").mkdir()
    for name, content in (("a.txt", f"{text}end\r"), ("b.txt", "\n \n"), ("c.txt", text[::-1]), ("d.md", text[:50])):
        Path("texts", name).write_bytes(content.encode())
    config = Config(data=("texts",), tokenizer=tokenizer, vocab_size=280)
    short = read_source(config)
    expected = encode_source(short, make_tokenizer(config, short))
    assert short.documents is not None and not expected.mapped and not cache_folder().exists()
    long(piece)
    source = read_source(config)
    found = encode_source(source, make_tokenizer(config, source))
    assert source.documents is None and found.mapped
    assert source.facts == short.facts and source.notices == short.notices and source.files == short.files
    if tokenizer != "bpe":  # which learns from pieces
        assert found.tokens.tolist() == expected.tokens.tolist() and found.lengths == expected.lengths
        assert found.size(make_tokenizer(config, source), source).lengths == measure_source(config, source).lengths
    made = make_tokenizer(config, source)
    assert made.decode(found.tokens.tolist()) == "".join(short.documents)


def test_a_text_is_read_and_encoded_once_until_it_changes(long_text: None, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, lengths, said = texts_of("t.txt")
    assert said.startswith("encoding ") and str(cache_folder()) in said and lengths == [len(tokens)]
    before = cached()
    with monkeypatch.context() as patch:
        patch.setattr(source_module, "read_pieces", None)  # a second start does not even open it
        patch.setattr(encoded_module, "_checksum", None)  # nor read its tokens
        assert texts_of("t.txt") == (tokens, lengths, "")
    assert cached() == before and len(before) == 3
    pieces, _, said = texts_of("t.txt", tokenizer="bpe", vocab_size=300)
    assert said.startswith("learning a vocabulary of 300 tokens\nencoding ")
    with monkeypatch.context() as patch:
        patch.setattr(source_module, "read_pieces", None)
        assert texts_of("t.txt", tokenizer="bpe", vocab_size=300) == (pieces, [len(pieces)], "")
    assert texts_of("t.txt", tokenizer="bytes")[0] == list(Path("t.txt").read_bytes().replace(b"\r\n", b"\n"))
    Path("t.txt").write_text(LINES.replace("line 7:", "line ☃:"))
    again, _, said = texts_of("t.txt")
    assert again != tokens and said.startswith("encoding ")


LACKS = "the held-out text has 2 characters that the training text lacks (ж, ☃), 100.00% of it: "


def test_a_text_that_changes_while_it_is_encoded_is_not_taken_for_what_it_was(long_text: None) -> None:
    source = read_source(config := Config(data=("t.txt",)))

    def change(text: str) -> None:
        Path("t.txt").write_text(LINES[::-1])

    tokenizer = make_tokenizer(config, source)
    with pytest.raises(UserError, match="t.txt: changed while it was read; run the command again"):
        encode_source(source, tokenizer, change)
    Path("t.txt").write_text(LINES)
    assert tokenizer.decode(texts_of("t.txt")[0]) == normalize(LINES)


@pytest.mark.parametrize(
    ("learnt", "held_out", "said"),
    [
        (range(9000), range(9000, 10_000), []),
        (range(9000), range(4000, 5000), ["100% of the held-out text stands in the training text, too: "]),
        (range(9000), [*range(4000, 4500), *range(9000, 9500)], ["50% of the held-out text stands in the training "]),
        (range(9000), [], ["only 4 characters are held out (--val-split 1e-05 of ", LACKS]),
    ],
)  # fmt: skip
def test_the_held_out_part_of_a_long_text_is_checked_like_that_of_a_short_one(
    long: Callable[..., None], monkeypatch: pytest.MonkeyPatch, learnt: list[int], held_out: list[int], said: list[str]
) -> None:
    def write(numbers: Iterable[int]) -> str:
        return "".join(f"{hashlib.sha256(b'%d' % n).hexdigest()[:40]} é\n" for n in numbers)

    Path("a.txt").write_text(write(learnt))
    Path("b.txt").write_text(write(held_out) + "ж☃ж☃")
    size = len(write(held_out)) + 4
    config = Config(data=("a.txt", "b.txt"), val_split=size / (len(write(learnt)) + size) if held_out else 1e-5)
    short = source_warnings(read_source(config), config)
    assert len(short) == len(said) and all(map(str.startswith, short, said))
    long(20_000)
    source = read_source(config)
    assert source.documents is None and source_warnings(source, config) == short
    monkeypatch.setattr(source_module, "read_pieces", None)  # what was found is kept, whatever the context
    assert source_warnings(source, config) == source_warnings(source, replace(config, max_seq_len=64)) == short
    for record in cache_folder().glob("*.json"):
        record.write_text("[1]")
    with pytest.raises(TypeError):
        source_warnings(source, config)


def test_a_run_on_a_long_text_takes_the_same_steps_and_resumes(
    long: Callable[..., None], train: Callable[..., Ran], tmp_path: Path
) -> None:
    short = train(name="short")
    long()
    there = train(name="long")
    assert there.trainer.state.corpus.encoded.mapped and short.losses == there.losses
    assert_same_end(there.folder, short.folder)
    stopped = train(name="stopped", script=lambda t: t.stop() or [] if t.state.step == 5 else [])
    train(name="stopped", resume_from=stopped.last)
    assert_same_end(stopped.folder, short.folder, gains=False)
    varied = train(name="varied", augment="casing=0.3", epochs=1)
    assert varied.result.reason == "completed" and varied.trainer.state.corpus.encoded.mapped


def test_the_reading_of_a_long_text_is_announced_to_whoever_watches(
    long: Callable[..., None], data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    long()
    small = ["--model-dim", "16", "--num-layers", "1", "--max-seq-len", "16", "--stride", "16", "--max-steps", "2"]
    assert main(["train", data, *small, "--output-dir", "run"]) == 0
    error = capsys.readouterr().err
    assert "encoding 2.5 kB of text once, into " in error
    assert main(["evaluate", "run", data]) == main(["runs", "show", "run"]) == 0
    (path,) = cache_folder().glob("*.tokens")
    damage_byte(path)
    assert main(["train", "--resume-from", "run/last.pt", "--max-steps", "4"]) == 0
    assert "is damaged: it is not as it was written; it is made again" in capsys.readouterr().err
    assert load(Path("run/final_model.pt")).progress().step == 4


def test_a_long_text_is_evaluated_as_a_short_one_without_being_loaded(
    long: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["--model-dim", "16", "--num-layers", "1", "--max-seq-len", "16", "--stride", "16", "--max-steps", "2"]
    known = LINES[:3000].replace("\r", "")
    Path("known.txt").write_text(known)
    assert main(["train", "known.txt", *small, "--output-dir", "run"]) == 0
    Path("a.jsonl").write_text("".join(json.dumps({"body": line}) + "\n" for line in known.splitlines()))
    Path("b.txt").write_text(f"{known}\nthe Жcafé, XЖ\n")

    def evaluate(*options: str) -> tuple[int, str, list[str]]:
        capsys.readouterr()
        status = main(["evaluate", "run", "a.jsonl", "b.txt", "--text-field", "body", *options, "--json"])
        said = capsys.readouterr()
        return status, said.out, [line for line in said.err.splitlines() if not line.startswith("encoding ")]

    short = [evaluate(), evaluate("--strict")]
    assert short[0][0] == 0 and json.loads(short[0][1])["left_out"] == 3 and short[1][0] == 2
    assert short[0][2][-1].endswith(" that the model has never seen: 'Ж' 2 x, 'X' 1 x")
    assert short[1][2][0].startswith(f"b.txt, line {known.count(chr(10)) + 2}, column 5: the text has characters")
    for piece in (1, 1000):
        long(piece)
        with monkeypatch.context() as patch:
            patch.setattr(source_module, "_read_documents", None)
            assert [evaluate(), evaluate("--strict")] == short
    assert len(list(cache_folder().glob("*.tokens"))) == 1


def test_standard_input_is_not_taken_for_what_it_was_before(
    long: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    long()
    for text in (LINES, LINES[::-1]):
        monkeypatch.setattr(text_module, "read_standard_input", lambda text=text: text.encode())
        source = read_source(Config(data=("-",)))
        tokens = encode_source(source, make_tokenizer(Config(), source)).tokens
        assert make_tokenizer(Config(), source).decode(tokens.tolist()) == normalize(text)


def test_progress_is_said_again_and_again(long_text: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "SAY_SECONDS", 0.0)
    said = texts_of("t.txt")[2].splitlines()
    for what in ("reading the text: ", f"encoding the text into {cache_folder()}: "):
        shares = [int(line.removeprefix(what).split("%")[0]) for line in said if line.startswith(what)]
        assert shares == sorted(shares) and len(shares) > 10 and shares[-1] >= 95


def test_a_long_text_is_measured_without_reading_it(long: Callable[..., None]) -> None:
    Path("t.txt").write_text("the sea, the boat and the crew\n" * 3000)
    long()
    size = guess_size(Config(data=("t.txt",)), ["t.txt"])
    assert size.mapped and size.lengths == (93_000,) and size.vocab_size == len(set("the sea, the boat and the crew\n"))
    pieces = guess_size(Config(data=("t.txt",), tokenizer="bpe"), ["t.txt"])
    assert 20_000 < pieces.lengths[0] < 50_000 and pieces.vocab_size == 2048


# ---- what a file may be ----

NO_FIELD = b'{"text": "a"}\n{"body": "b", "n": 1}\n'


def packed(name: str, text: str) -> Path:
    raw = text.encode()
    pack = {".gz": gzip.compress, ".zst": zstd.compress}.get(Path(name).suffix.lower(), bytes)
    Path(name).write_bytes(pack(raw))
    return Path(name)


@pytest.mark.parametrize("name", ["t.txt", "t.txt.gz", "t.md.zst", "T.GZ"])
def test_packed_files_are_read_as_what_is_in_them(long: Callable[..., None], name: str) -> None:
    packed(name, LINES)
    expected = LINES.replace("\r\n", "\n")
    assert read_texts(name) == [expected]
    long()
    assert "".join(read_pieces(name, "text")) == expected


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_the_text_of_lines_of_json_has_an_empty_line_between_them(long: Callable[..., None], suffix: str) -> None:
    lines = [json.dumps({"n": n, "body": f"text {n}\r\nends ☃"}) for n in range(300)]
    packed(f"t.jsonl{suffix}", "\n".join([*lines[:2], "", *lines[2:]]) + "\n")
    expected = "\n\n".join(f"text {n}\nends ☃" for n in range(300))
    assert read_texts(f"t.jsonl{suffix}", text_field="body") == [expected]
    long(7)
    assert "".join(read_pieces(f"t.jsonl{suffix}", "body")) == expected


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("t.jsonl", NO_FIELD, 't.jsonl, line 2: has no text in a field "text"; its fields: body, n; --text-field'),
        ("t.jsonl", b'{"text": 5}\n', 't.jsonl, line 1: has no text in a field "text"; its fields: text;'),
        ("t.jsonl", b'{"text": "a"}\n\n["text"]\n', 't.jsonl, line 3: has no text in a field "text"; its fields: none'),
        ("t.jsonl", b'{"text": "a"}\nb\n', "t.jsonl, line 2: cannot be read as JSON: Expecting value"),
        ("t.jsonl", b'{"n": ' + b"[" * 10**5 + b"]" * 10**5 + b"}", "t.jsonl, line 1: cannot be read as JSON: "),
        ("t.jsonl", b'{"text": ' + b"9" * 10**4 + b"}", "t.jsonl, line 1: cannot be read as JSON: Exceeds the limit"),
        ("t.jsonl", b'{"text": "a\\u0000"}\n', "t.jsonl, line 1: its text has a zero character, or half of a char"),
        ("t.jsonl", b'{"text": "a\\ud800"}\n', "t.jsonl, line 1: its text has a zero character, or half of a char"),
        ("t.txt.gz", b"text", "t.txt.gz: cannot be unpacked: Not a gzipped file"),
        ("t.txt.gz", gzip.compress(b"text" * 999, mtime=0)[:-9], "t.txt.gz: cannot be unpacked: Compressed file ended"),
        ("t.txt.zst", b"text", "t.txt.zst: cannot be unpacked: "),
        ("t.txt.zst", zstd.compress(b"text" * 999)[:-9], "t.txt.zst: cannot be unpacked: "),
        ("t.txt.gz", gzip.compress(b"a\xe9\xe9b", mtime=0), "t.txt.gz: is not UTF-8"),
        ("t.txt", b"a" * 3000 + b"\0", "t.txt: is not a text file: it has a zero"),
        ("t.txt", b"a\n" * 1500 + b"\xe9" + b"a" * 3000, "t.txt: is not UTF-8 (byte 0xe9 in line 1501, offset 3000): "),
        ("t.txt", "a☃".encode() * 750 + b"\xe2\x98", "t.txt: is not UTF-8 (byte 0xe2 in line 1, offset 3000): it is d"),
        ("t.txt", b"%PDF-" + b"a" * 3000, "t.txt: is a PDF, not plain text"),
        ("t.txt", ("a" * 3000).encode("utf-16") + b"a", "t.txt: is damaged UTF-16"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", ["short", "long"])
def test_what_cannot_be_read_gets_one_line(
    long: Callable[..., None], name: str, content: bytes, error: str, size: str
) -> None:
    Path(name).write_bytes(content)
    if size == "long":
        long(512)
        Path("other.txt").write_text(LINES)
    with pytest.raises(UserError) as caught:
        read_source(Config(data=(name, *(["other.txt"] if size == "long" else []))))
    assert str(caught.value).startswith(error) and "\n" not in str(caught.value)


@pytest.mark.parametrize("rest", [b"\xc3", b"a" * 3000 + b"\xe9" + b"a" * 3000])
def test_a_damaged_byte_far_from_other_letters_is_not_taken_for_another_encoding(
    long: Callable[..., None], rest: bytes
) -> None:
    Path("t.txt").write_bytes("caf\u00e9\n".encode() * 300 + rest)
    long(512)
    with pytest.raises(UserError, match="is not UTF-8 .*: it is damaged UTF-8; without its wrong bytes: "):
        read_source(Config(data=("t.txt",)))


def test_a_pattern_stands_for_the_files_that_fit_it() -> None:
    for name in ("a1.txt", "a2.txt", "b.txt", "deep/er/c.txt", "odd[1].txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)
    assert select(("a*.txt",)).files == ["a1.txt", "a2.txt"]
    assert select(("**/c.txt", "b.txt")).files == ["deep/er/c.txt", "b.txt"]
    assert select(("odd[1].txt",)).files == ["odd[1].txt"]  # a file of that name comes first
    assert select(("z*.txt",)).files == [] and select(("z*.txt",)).problems[0].startswith("z*.txt: no such file")
    assert read_texts("a*.txt") == ["a1.txt", "a2.txt"]


def test_a_pattern_takes_a_file_once_whatever_leads_to_it() -> None:
    Path("a/b").mkdir(parents=True)
    Path("a/b/one.txt").write_text("the sea")
    Path("a/b/two.txt").symlink_to("one.txt")
    Path("a/b/circle").symlink_to("..", target_is_directory=True)
    assert select(("a/**/*.txt",)).files == ["a/b/one.txt"]
    assert select(("a/b/one.txt", "a/b/one.txt")).files == ["a/b/one.txt"] * 2  # as the user asked for
