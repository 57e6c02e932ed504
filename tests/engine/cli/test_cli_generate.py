"""`fundamentallm generate`: stops, several samples, files and standard input."""

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli.generate import SEPARATOR
from fundamentallm.cli.model import Writer
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.data.tokenizer import Tokenizer
from tests.engine.cli.conftest import Run


def says(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Make the model say these, a character at a time."""

    def fake(model: Any, prompt: Any, options: SamplingOptions) -> Any:
        for column in list(zip(*texts, strict=True))[: options.max_tokens]:
            yield [ALPHABET.vocabulary.index(character) for character in column], [1.0] * len(texts)

    monkeypatch.setattr("fundamentallm.cli.model.stream", fake)


ALPHABET = Tokenizer.fit("abcdefgh .\n")


def written(*stops: str, samples: int = 1, max_tokens: int = 99) -> tuple[list[str], list[str]]:
    """The texts, and the pieces in which they were shown."""
    shown: list[str] = []
    options = SamplingOptions(num_samples=samples, max_tokens=max_tokens)
    writer = Writer(None, ALPHABET, options, stops)  # type: ignore[arg-type]
    return writer.write("a", shown.append), shown


@pytest.mark.parametrize(
    ("said", "stops", "text"),
    [
        ("abcdef", (), "abcdef"),
        ("abcdef", ("d",), "abc"),
        ("abcdef", ("cde",), "ab"),  # which comes in three pieces
        ("abcdef", ("h", "ef", "cd"), "ab"),
        ("abcabd", ("abd",), "abc"),  # a stop that began and then did not come
        ("aaaab", ("aab",), "aa"),
        ("abcdef", ("c", "abc"), ""),  # both are there at once: the first in the text counts
        ("abcdef", ("abc", "bc"), ""),
        ("abc", ("cd",), "abc"),  # begins as a stop does, and ends
        ("abc", ("abcd",), "abc"),
        ("a.\n.\nb", ("\n.\n",), "a."),
        ("abc", ("a",), ""),
    ],
)
def test_a_text_ends_before_its_stop_which_is_never_shown(
    said: str, stops: tuple[str, ...], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(monkeypatch, said)
    texts, shown = written(*stops)
    assert texts == [text] and "".join(shown) == text
    for stop in stops:
        assert stop not in "".join(shown)


def test_each_sample_has_an_end_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, "abcdef", "ddabcd", "aaaaaa")
    assert written("cd", samples=3) == (["ab", "ddab", "aaaaaa"], [])
    assert written("cd", samples=3, max_tokens=2) == (["ab", "dd", "aa"], [])


@pytest.fixture
def generate(run: Run, trained: Path) -> Run:
    """Runs `generate` with a small model."""
    return lambda *arguments: run("generate", str(trained), "--device=cpu", *arguments)


def test_several_samples_of_one_batch_are_different_and_the_same_for_the_same_seed(generate: Run) -> None:
    flags = ("--prompt=the ", "--max-tokens=30", "--seed=4", "--temperature=1.2")
    status, out, err = generate(*flags, "--num-samples=3")
    texts = out.removesuffix("\n").split(SEPARATOR)
    assert (status, err) == (0, "") and len(set(texts)) == 3
    assert all(text.startswith("the ") and len(text) == 34 for text in texts)
    assert generate(*flags, "--num-samples=3")[1] == out
    assert generate(*flags)[1] == generate(*flags, "--num-samples=1")[1] != generate(*flags, "--seed=5")[1]


def test_what_is_printed_is_written_into_the_file_too(generate: Run) -> None:
    for flags in (["--num-samples=2"], [], ["--stop=e"]):
        status, out, _ = generate("--prompt=the ", "--seed=1", "--max-tokens=20", "--output-file=out.txt", *flags)
        assert status == 0 and Path("out.txt").read_text() == out
    for target, words in (("no/out.txt", "its folder does not exist"), (".", "is a folder")):
        assert generate(f"--output-file={target}") == (2, "", f"--output-file {target}: {words}\n")


def test_a_dash_reads_the_prompt_from_standard_input(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = generate("--prompt=the sea\nwas", "--seed=1", "--max-tokens=9")
    monkeypatch.setattr(sys, "stdin", io.StringIO("the sea\nwas\n"))
    assert generate("--prompt=-", "--seed=1", "--max-tokens=9") == plain and plain[1].startswith("the sea\nwas")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the \xff"), encoding="utf-8"))
    assert generate("--prompt=-") == (2, "", "--prompt -: standard input is not UTF-8\n")


def test_nothing_is_printed_when_the_prompt_is_refused(generate: Run) -> None:
    for flags in ([], ["--num-samples=2"]):
        status, out, err = generate("--prompt=the é", *flags)
        assert (status, out) == (2, "") and err.startswith("the prompt has ") and err.count("\n") == 1


@pytest.mark.parametrize("flag", ["--prompt=the", "--output-file=out.txt", "--prompt=-"])
def test_a_talk_takes_no_flag_that_it_would_not_heed(generate: Run, flag: str) -> None:
    status, out, err = generate("--interactive", flag)
    assert (status, out) == (2, "") and err.startswith(flag.split("=")[0] + ": not with --interactive")
