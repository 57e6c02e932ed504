"""`fundamentallm generate`: stops, several samples, files and standard input."""

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.cli.terminal import SEPARATOR
from fundamentallm.config.config import Config
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.train.loaded import Model
from tests.engine.cli.conftest import Refused, Run


def says(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Make the model say these, a character at a time."""

    def fake(model: Any, prompt: Any, options: SamplingOptions, samples: list[int]) -> Any:
        for character in texts[samples[0]][: options.max_tokens]:
            yield [(ALPHABET.vocabulary.index(character), 1.0)]

    monkeypatch.setattr("fundamentallm.train.loaded.stream", fake)


ALPHABET = Tokenizer.fit("abcdefgh .\n")


def written(*stops: str, sample: int = 0, max_tokens: int = 99) -> str:
    """A text, which was shown in pieces."""
    shown: list[str] = []
    model = Model(None, ALPHABET, 0, Config())  # type: ignore[arg-type]
    text = model.generate("a", SamplingOptions(max_tokens=max_tokens), stop=stops, show=shown.append, sample=sample)
    assert "".join(shown) == text
    return text


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
    assert written(*stops) == text and not any(stop in text for stop in stops)


def test_each_sample_has_an_end_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, "abcdef", "ddabcd", "aaaaaa")
    assert [written("cd", sample=n) for n in range(3)] == ["ab", "ddab", "aaaaaa"]
    assert [written("cd", sample=n, max_tokens=2) for n in range(3)] == ["ab", "dd", "aa"]


@pytest.fixture
def generate(run: Run, trained: Path) -> Run:
    """Runs `generate` with a small model."""
    return lambda *arguments: run("generate", str(trained), "--device=cpu", *arguments)


def test_several_samples_are_different_and_the_first_of_them_are_always_the_same(generate: Run) -> None:
    flags = ("--prompt=the ", "--max-tokens=30", "--seed=4", "--temperature=1.2")
    status, out, err = generate(*flags, "--num-samples=3")
    texts = out.removesuffix("\n").split(SEPARATOR)
    assert (status, err) == (0, "") and len(set(texts)) == 3
    assert all(text.startswith("the ") and len(text) == 34 for text in texts)
    assert generate(*flags, "--num-samples=3")[1] == out
    assert generate(*flags)[1] == texts[0] + "\n" != generate(*flags, "--seed=5")[1]
    assert generate(*flags, "--num-samples=2")[1] == SEPARATOR.join(texts[:2]) + "\n"
    stopped = generate(*flags, "--num-samples=3", f"--stop={texts[1][10:13]}")[1].split(SEPARATOR)
    assert stopped[1] == texts[1][:10] and texts[2].startswith(stopped[2].removesuffix("\n"))


def test_a_stop_that_the_model_cannot_write_is_named(generate: Run) -> None:
    status, out, err = generate("--max-tokens=3", "--stop=e", "--stop=th#")
    assert status == 0 and len(out) == 4
    assert err.startswith("--stop has a character that the model has never seen: '#'; it knows ")


def test_what_is_printed_is_written_into_the_file_too(generate: Run) -> None:
    for flags in (["--num-samples=2"], [], ["--stop=e"]):
        status, out, _ = generate("--prompt=the ", "--seed=1", "--max-tokens=20", "--output-file=out.txt", *flags)
        assert status == 0 and Path("out.txt").read_text() == out
        Path("out.txt").unlink()
    Path("empty.txt").touch()
    Path("out.txt").hardlink_to("empty.txt")
    assert generate("--prompt=the ", "--max-tokens=20", "--output-file=out.txt")[0] == 0
    assert not Path("empty.txt").read_text(), "another name of the old file keeps it"
    assert generate("--prompt=the ", "--max-tokens=5", "--output-file=/dev/null")[0] == 0
    assert Path("/dev/null").is_char_device()
    for target, words in (("no/out.txt", "its folder does not exist"), (".", "is a folder")):
        assert generate(f"--output-file={target}") == (2, "", f"--output-file {target}: {words}\n")


def types(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    """Let standard input be these bytes."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def test_a_prompt_is_read_as_training_text_is(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--seed=1", "--max-tokens=9")
    plain = generate("--prompt=the sea\nwas\n", *flags)
    assert plain[0] == 0 and plain[1].startswith("the sea\nwas\n")
    for prompt in ("the sea\r\nwas\r\n", "\ufeffthe sea\rwas\r"):
        assert generate(f"--prompt={prompt}", *flags) == plain
    for raw in (b"the sea\nwas\n\n", b"\xef\xbb\xbfthe sea\r\nwas\r\n\r\n"):
        types(monkeypatch, raw)  # without its last line end, which is the shell's
        assert generate("--prompt=-", *flags) == plain
    assert generate("--prompt=\ufeff", *flags) == generate(*flags)
    assert generate("--prompt=the", "--stop=e\r\n", *flags) == generate("--prompt=the", "--stop=e\n", *flags)


def test_a_prompt_that_is_not_utf8_is_called_that(generate: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert generate("--prompt=the \udce9") == (2, "", "--prompt is not UTF-8 (byte 0xe9 after 4 characters)\n")
    assert generate("--stop=\udcff") == (2, "", "--stop is not UTF-8 (byte 0xff after 0 characters)\n")
    types(monkeypatch, b"the \xff")
    wrong = "--prompt -: standard input is not UTF-8 (byte 0xff after 4 characters)\n"
    assert generate("--prompt=-") == (2, "", wrong)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_bytes_that_a_shell_passes_are_called_not_utf8(trained: Path, locale: str) -> None:
    command = [sys.executable.encode(), b"-m", b"fundamentallm", b"generate", bytes(trained)]
    talk = b"caf\xe9\nthe sea\n"
    for flag, typed in ((b"--prompt=caf\xe9", b""), (b"--prompt=-", b"caf\xe9"), (b"--interactive", talk)):
        done = subprocess.run([*command, flag], input=typed, capture_output=True, env={**os.environ, "LC_ALL": locale})
        talks = flag == b"--interactive"  # and continues with the next prompt
        assert (done.returncode, done.stdout[:7]) == ((0, b"the sea") if talks else (2, b"")), done.stderr
        assert b"is not UTF-8" in done.stderr and done.stderr.count(b"\n") == 1


def test_nothing_is_printed_when_the_prompt_is_refused(trained: Path, refused: Refused) -> None:
    for flags in ([], ["--num-samples=2"]):
        (line,) = refused("generate", str(trained), "--device=cpu", "--prompt=the é\x1b[2J", *flags)
        assert line.startswith("the prompt has ") and "'é'" in line and "\x1b" not in line


@pytest.mark.parametrize("flag", ["--prompt=the", "--output-file=out.txt", "--prompt=-"])
def test_a_talk_takes_no_flag_that_it_would_not_heed(trained: Path, refused: Refused, flag: str) -> None:
    (line,) = refused("generate", str(trained), "--interactive", flag)
    assert line.startswith(flag.split("=")[0] + ": not with --interactive")
