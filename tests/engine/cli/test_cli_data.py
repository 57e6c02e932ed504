"""`fundamentallm data`: known texts, fetched and inspected."""

import hashlib
import json
import logging
import random
import re
import sys
from pathlib import Path

import pytest

from fundamentallm.config.config import Config
from fundamentallm.data.download import KNOWN_TEXTS, KnownText, TextFile
from tests.engine.cli.conftest import Refused, Run
from tests.texts import estimate, read_texts

TEXT = "".join(random.Random(3).choices("abcdefgh \n", k=20_000))


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file that is all of Shakespeare in these tests, beside the folder in which they run."""
    raw = TEXT.encode()
    pieces = tuple(
        TextFile(f"shakespeare{name}.txt", size, hashlib.sha256(raw[:size]).hexdigest())
        for name, size in (("25k", 2500), ("100k", 10_000), ("1mil", len(raw)))
    )
    monkeypatch.setitem(
        KNOWN_TEXTS,
        "shakespeare",
        KnownText("shakespeare", "plays", "data/raw/shakespeare", pieces, "http://127.0.0.1:9/none"),
    )
    path = tmp_path.with_suffix(".txt")
    path.write_bytes(raw)
    return str(path)


def test_a_preset_trains_on_what_get_fetched(run: Run, source: str) -> None:
    assert run("train", "--preset", "small") == (
        2,
        "",
        "data/raw/shakespeare/shakespeare25k.txt: no such file; fundamentallm data get shakespeare downloads it\n",
    )
    assert run("data", "get", "shakespeare", "--from", source) == (
        0,
        "data/raw/shakespeare/shakespeare25k.txt  2,500 characters\n"
        "data/raw/shakespeare/shakespeare100k.txt  10,000 characters\n"
        "data/raw/shakespeare/shakespeare1mil.txt  20,000 characters\n",
        "",
    )
    assert Path("data/raw/shakespeare/shakespeare100k.txt").read_text() == TEXT[:10_000]
    status, _, err = run("data", "get", "shakespeare")
    assert (status, err) == (0, "already there\n")
    assert run("presets")[1].count("not here yet") == 0


def test_a_dataset_becomes_files_that_are_read_as_texts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"story": f"Zoë saw {number} owls.\n{'So it went. ' * 30}", "page": number} for number in range(40)]
    Path("owls").mkdir()
    for split, some in ("train", rows[:30]), ("test", rows[30:]):
        Path(f"owls/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    status, out, err = run("data", "get", "hf:./owls")
    train, test = Path("data/raw/owls/train.jsonl"), Path("data/raw/owls/test.jsonl")
    said = "fields: story, page; choose one: --text-field NAME"
    assert (status, err) == (0, "") and [line.partition(", ")[2] for line in out.splitlines()] == [said] * 2
    assert [json.loads(line) for line in train.read_text().splitlines()] == rows[:30]
    assert [json.loads(line) for line in test.read_text().splitlines()] == rows[30:]
    assert read_texts(str(train), text_field="story")[0].startswith("Zoë saw 0 owls.")
    train.write_text("mine")
    again = f"hf:./owls: is there already: {test}, {train}; to fetch it again, move that away\n"
    assert run("data", "get", "hf:./owls") == (2, "", again) and train.read_text() == "mine"
    assert not [path for path in train.parent.iterdir() if path not in (train, test)]


@pytest.mark.parametrize(
    ("name", "line"),
    [("hf:", "hf:: names no dataset; write hf:OWNER/NAME"), ("hf:./none", "hf:./none: no such folder")],
)
def test_what_is_no_dataset_is_refused_in_one_line(refused: Refused, name: str, line: str) -> None:
    (said,) = refused("data", "get", name)
    assert said.startswith(line)


def test_a_dataset_of_the_hub_is_never_taken_from_a_folder_of_its_name(
    refused: Refused, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load_dataset(name: str, _: str | None) -> None:
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError(f"Couldn't reach {name!r} on the Hub")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    why = "hf:a/b: cannot be fetched: Couldn't reach 'a/b' on the Hub; check the name and the network"
    assert refused("data", "get", "hf:a/b") == [why] and not caplog.records
    Path("a/b").mkdir(parents=True)
    (line,) = refused("data", "get", "hf:a/b")
    assert line.startswith("hf:a/b: a/b is a folder here, too; write hf:./a/b for the folder")


def test_without_the_library_a_line_says_how_to_install_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    install = "hf:a/b: datasets are read by another program; install it: pip install datasets\n"
    assert run("data", "get", "hf:a/b") == (2, "", install)


def test_list_says_what_is_here_and_how_to_get_the_rest(run: Run, source: str) -> None:
    out = run("data", "list")[1]
    assert out.count("not here") == 4 and "data/samples/sample_data.txt  8" in out
    assert "from http://127.0.0.1:9/none" in out and "fundamentallm data get shakespeare" in out
    run("data", "get", "shakespeare", "--from", source)
    out = run("data", "list")[1]
    assert out.count("not here") == 1 and "fundamentallm data get shakespeare" not in out
    assert re.search(r"shakespeare100k\.txt +10\.0 kB", out)


REFUSED = {
    "data get hf:a/b --from x": "--from x: only for a known text; for a folder of this machine write hf:./FOLDER",
    "data get": "Missing argument '[shakespeare|python-docs|hf:OWNER/NAME]'; see fundamentallm data get --help",
    "data get shakespear": "shakespear: no such known text; did you mean shakespeare?",
    "data git": "data git: no such command; did you mean get?",
    "data get shakespeare --form x": "--form: no such option; did you mean --from?",
    "data get shakespeare": (
        "http://127.0.0.1:9/none: cannot be read: Connection refused; name another file or URL: "
        "fundamentallm data get shakespeare --from FILE_OR_URL"
    ),
    "data get python-docs --from x": "--from x: python-docs is made on this machine; leave the option out",
    "data inspect": "Missing argument 'FILE...'; see fundamentallm data inspect --help",
    "data inspect none.txt": "none.txt: no such file (looked in {cwd})",
    "data inspect .": ".: holds no .txt or .md file; name its files, or a pattern with --include",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(refused: Refused, source: str, words: str) -> None:
    assert refused(*words.split()) == [REFUSED[words].format(cwd=Path.cwd())]


def test_a_group_without_a_command_shows_its_help(run: Run) -> None:
    for name in ("data", "runs", "config"):
        status, out, err = run(name)
        assert (status, err) == (0, "") and out.startswith(f"Usage: fundamentallm {name}")


def lines(out: str) -> dict[str, str]:
    """The labelled lines of an inspection."""
    return {words[0]: words[1] for line in out.splitlines() if len(words := line.strip().split("  ", 1)) == 2}


def test_inspect_counts_what_a_text_is_made_of(run: Run) -> None:
    Path("a.txt").write_text("one two\nthree\n\none two\n\n\nthree\nfour\n")
    shown = {name: text.strip() for name, text in lines(run("data", "inspect", "a.txt")[1]).items()}
    assert shown["size"] == "36 bytes, 36 characters, 8 lines, 7 words"
    assert shown["vocabulary"] == "11 characters"
    assert shown["rare"] == "f 1, u 1"
    assert shown["repetitions"] == "40.0% of the lines and 0.0% of the paragraphs occurred before"
    assert shown["problems"] == "none"
    assert shown["training"].startswith("not with the default settings: a.txt: --val-split 0.1 of 36 char")


def test_inspect_looks_at_the_texts_of_a_folder_one_by_one_and_together(run: Run) -> None:
    Path("b.txt").write_text(TEXT[:9000])
    Path("a.txt").write_text(TEXT[9000:])
    Path("notes.rst").write_text("not a text to learn from")
    status, out, err = run("data", "inspect", ".")
    blocks = out.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["a.txt", "b.txt", "all 2 files together"]
    assert status == 0 and err.startswith("left out: notes.rst; a folder stands for the .txt and .md files directly in")
    status, more, err = run("data", "inspect", ".", "--include", "*.rst")
    assert (status, err) == (0, "") and "\n\nnotes.rst\n" in more
    expected = estimate(Config(data=("a.txt", "b.txt")), [TEXT[9000:], TEXT[:9000]])
    assert f"{expected.windows:,} windows" in " ".join(blocks[2].split())


def test_of_json_lines_inspect_shows_what_training_would_read(run: Run) -> None:
    texts = ["the sea was calm\n" * 30, "a ship sailed by\n" * 30]
    Path("a.jsonl").write_text("".join(json.dumps({"id": 7, "story": text}) + "\n" for text in texts))
    Path("a.txt").write_text("\n\n".join(texts))
    status, out, err = run("data", "inspect", "a.jsonl", "--text-field", "story")
    assert (status, err) == (0, "") and out == run("data", "inspect", "a.txt")[1].replace("a.txt", "a.jsonl")
    status, out, err = run("data", "inspect", "a.jsonl")
    assert (status, out) == (2, "") and err.startswith('a.jsonl, line 1: has no text in a field "text"; its fields:')


def test_inspect_tells_what_training_would_make_of_a_text(run: Run) -> None:
    Path("a.txt").write_text(TEXT)
    shown = " ".join(run("data", "inspect", "a.txt")[1].split())
    expected = estimate(Config(data=("a.txt",)), [TEXT])
    assert f"{expected.train_tokens:,} characters to learn from and {expected.val_tokens:,} to measure on" in shown
    assert f"{expected.windows:,} windows and {expected.steps_per_epoch:,} steps an epoch" in shown
    assert f"{expected.total_steps:,} steps in 10 epochs; {expected.parameters:,} parameters" in shown


def test_inspect_places_every_problem_of_encoding(run: Run) -> None:
    Path("bad.txt").write_bytes("é\r\nb".encode() + b"\xe9\xff\x00 \x1b[31m\r\nx\xef\xbb\xbf\xef\xbf\xbd\n")
    status, out, err = run("data", "inspect", "bad.txt")
    assert (status, err) == (0, "") and "\x1b" not in out and "\r" not in out
    places = re.findall(r"line (\d+), offset (\d+): (.*)", out)
    assert places == [
        ("2", "5", "byte 0xe9 ('é' in Windows-1252)"),
        ("2", "6", "byte 0xff ('ÿ' in Windows-1252)"),
        ("2", "7", "U+0000"),
        ("1", "2", "carriage return"),
        ("2", "14", "carriage return"),
        ("2", "9", "U+001B"),
        ("3", "17", "U+FEFF"),
        ("3", "20", "\ufffd"),
    ]
    assert "training     refuses bad.txt: bytes that are not UTF-8" in out
    assert "2 x bytes that are not UTF-8; it is damaged UTF-8; without its wrong bytes: iconv -c " in out


def test_inspect_looks_at_whatever_it_is_given(run: Run) -> None:
    contents = {
        "empty": b"", "blank": b" \n", "utf16": "abc\n".encode("utf-16"), "bom": b"\xef\xbb\xbfabc",
        "all": bytes(range(256)) * 40, "mac": b"a\rb\rc", "odd": "abc\n".encode("utf-16") + b"a",
    }  # fmt: skip
    for name, raw in contents.items():
        Path(name).write_bytes(raw)
    status, out, _ = run("data", "inspect", *contents)
    assert status == 0
    shown = dict(zip(contents, out.split("\n\n"), strict=False))
    assert (
        "it is UTF-16, not UTF-8; training reads it" in shown["utf16"]
        and "4 characters, 1 line, 1 word\n" in shown["utf16"]
    )
    assert "line 1, offset 0: U+FEFF" in shown["bom"] and "3 characters, 1 line," in shown["bom"]
    assert "5,120 x bytes that are not UTF-8" in shown["all"] and "and 5,115 more" in shown["all"]
    assert "it is damaged UTF-16: truncated data at offset 10" in shown["odd"]
    assert "training     refuses odd: it is damaged UTF-16" in shown["odd"]
    assert "2 x line ends of old Macs" in shown["mac"] and "3 lines" in shown["mac"]
    for name in ("empty", "blank"):
        assert "it has no text; training refuses it" in shown[name]
        assert f"training     refuses {name}: has no text" in shown[name]
    assert "problems     none" not in shown["empty"] and "vocabulary" not in shown["empty"]


def test_inspect_names_what_cannot_be_seen(run: Run) -> None:
    Path("a.txt").write_text("soft\xadhyphen\nno\xa0break\u202f!\nthé the\u0301 ñ 가 \u1100\u1161\n")
    out = run("data", "inspect", "a.txt")[1]
    assert "problem      soft hyphens (U+00AD), which are not seen; each is learnt like a letter\n" in out
    assert "problem      2 x no-break spaces; to the model each is another character than the space\n" in out
    assert (
        "problem      2 x accents apart from their letters (NFD), and 3 in one character with them (NFC); the model "
        "learns them as different letters: normalise the text\n"
    ) in out
    assert re.findall(r"line (\d+), offset (\d+): (.*)", out) == [
        ("1", "4", "U+00AD"), ("2", "15", "U+00A0"), ("2", "22", "U+202F"),
        ("3", "35", "U+0301"), ("3", "48", "\u1161"),
    ]  # fmt: skip
    Path("nfd.txt").write_text("the\u0301 the\u0301")  # one form alone is no problem
    assert "problems     none" in run("data", "inspect", "nfd.txt")[1]


def test_inspect_wraps_wide_characters_by_their_cells(run: Run) -> None:
    from rich.cells import cell_len

    Path("zh.txt").write_text("".join(map(chr, range(0x4E00, 0x4E00 + 400))) + "😀🌊" * 50)
    out = run("data", "inspect", "zh.txt")[1]
    widths = [cell_len(line) for line in out.splitlines() if "\u4e00" <= line.strip()[-1] <= "\u9fff"]
    assert len(widths) == 7 and set(widths) == {15 + 42 * 2}  # 42 characters of two cells fit beside the labels


def test_inspect_says_what_a_file_is_and_does_not_count_its_bytes_as_text(run: Run) -> None:
    Path("book.txt").write_bytes(b"%PDF-1.7\n\xe2\xe3")
    assert run("data", "inspect", "book.txt")[1] == (
        "book.txt\n"
        "  size         11 bytes\n"
        "  problem      it is a PDF, not plain text; save it as text: pdftotext book.txt book.text.txt\n"
        "  training     refuses book.txt: it is a PDF, not plain text\n"
    )


def test_inspect_warns_of_a_held_out_part_that_measures_nothing(run: Run) -> None:
    for name in ("a.txt", "b.txt"):
        Path(name).write_text(TEXT)
    out = run("data", "inspect", "a.txt", "b.txt")[1]
    assert out.count("warning") == 1
    assert "100% of the held-out text stands in the training text" in " ".join(out.split("\n\n")[2].split())
    assert "warning" not in run("data", "inspect", "a.txt")[1]
    Path("c.txt").write_text("")
    alone, _, together = run("data", "inspect", "a.txt", "c.txt")[1].split("\n\n")
    assert (
        together.splitlines()[1:] == alone.splitlines()[-len(together.splitlines()) + 1 :]
    )  # the empty one is nothing
