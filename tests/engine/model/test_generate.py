"""Text, token by token."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.cli import main
from fundamentallm.cli.generate import ROWS, RULE, Writer
from fundamentallm.config.config import Config
from fundamentallm.data.tokenizer import Tokenizer
from fundamentallm.errors import UserError
from fundamentallm.model.generate import Decoder, Sampling, penalise, sample_token, stream
from fundamentallm.model.transformer import Transformer

V = 9


@pytest.fixture
def model() -> Transformer:
    model = Transformer(Config(model_dim=16, num_layers=2, num_heads=2, max_seq_len=16), V)
    dice = torch.Generator().manual_seed(3)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.5, generator=dice)
    return model


def tokens_of(model: Transformer, prompt: list[int], n: int, samples: int = 1, **how: float) -> list[list[int]]:
    return [tokens for tokens, _ in stream(model, prompt, n, Sampling(**how), samples)]  # type: ignore[arg-type]


@torch.no_grad()
def naive(model: Transformer, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
    """Greedy, the whole window forward for each token; at the end of the context the last half is read again."""
    window, result, chances = prompt[-16:], [], []
    for _ in range(n):
        logits = model(torch.tensor([window]))[0, -1]
        result.append(int(logits.argmax()))
        chances.append(logits.softmax(-1).max().item())
        window = (window if len(window) < 16 else (window + result[-1:])[-8:-1]) + result[-1:]
    return result, chances


@pytest.mark.parametrize("first", [1, 5, 16])
def test_the_cached_decode_is_the_full_forward(model: Transformer, first: int) -> None:
    text = torch.randint(V, (2, 16), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        full = model(text)
        decoder = Decoder(model, 2)
        torch.testing.assert_close(decoder.prefill(text[:, :first]), full[:, first - 1], atol=1e-4, rtol=1e-4)
        for t in range(first, 16):
            torch.testing.assert_close(decoder.decode(text[:, t : t + 1]), full[:, t], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prompt", [[1], [1, 2, 3], list(range(V)) * 4])
def test_it_goes_on_past_the_context_and_a_long_prompt_counts_with_its_end(
    model: Transformer, prompt: list[int]
) -> None:
    expected, chances = naive(model, prompt, 60)
    found = list(stream(model, prompt, 60, Sampling(temperature=0)))
    assert [tokens[0] for tokens, _ in found] == expected
    assert [chance[0] for _, chance in found] == pytest.approx(chances, abs=1e-4)


def test_only_the_end_of_a_long_prompt_is_read(model: Transformer) -> None:
    end = [n % V for n in range(16)]
    assert tokens_of(model, [8] * 50 + end, 20, seed=1) == tokens_of(model, end, 20, seed=1)


def test_the_same_seed_gives_the_same_text_and_disturbs_nobody(model: Transformer) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    first = tokens_of(model, [1], 40, seed=5, temperature=1.0)
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    torch.manual_seed(2)
    assert tokens_of(model, [1], 40, seed=5, temperature=1.0) == first
    assert tokens_of(model, [1], 40, seed=6, temperature=1.0) != first
    assert tokens_of(model, [1], 40, temperature=1.0) != tokens_of(model, [1], 40, temperature=1.0)  # no seed: new


@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 + 5, 10**30])
def test_every_whole_number_is_a_seed(model: Transformer, seed: int) -> None:
    assert tokens_of(model, [1], 5, seed=seed) == tokens_of(model, [1], 5, seed=seed)


def test_several_samples_are_drawn_at_once(model: Transformer) -> None:
    found = tokens_of(model, [1], 30, samples=3, temperature=1.0, seed=2)
    assert all(len(tokens) == 3 for tokens in found) and len(found) == 30
    assert len({tuple(column) for column in zip(*found, strict=True)}) == 3


@pytest.mark.parametrize("n", [0, 1, 2])
def test_as_many_tokens_as_asked(model: Transformer, n: int) -> None:
    assert len(tokens_of(model, [1], n)) == n


PROBABILITY = torch.tensor([0.05, 0.4, 0.1, 0.3, 0.15])


def support(n: int = 4000, **how: float) -> dict[int, float]:
    """How often each token is picked."""
    dice = torch.Generator().manual_seed(0)
    picked = sample_token(PROBABILITY.log().expand(n, 5), Sampling(**{"temperature": 1.0, **how}), dice)  # type: ignore[arg-type]
    values, counts = picked.unique(return_counts=True)
    return {int(value): int(count) / n for value, count in zip(values, counts, strict=True)}


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        ({}, {0, 1, 2, 3, 4}),
        ({"temperature": 0}, {1}),
        ({"top_k": 1}, {1}),
        ({"top_k": 3}, {1, 3, 4}),
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.39}, {1}),
        ({"top_p": 0.6}, {1, 3}),
        ({"top_p": 0.75}, {1, 3, 4}),
        ({"top_p": 0.0}, {1}),
        ({"top_k": 3, "top_p": 0.8}, {1, 3}),  # of 0.85, 0.8 is 0.68: two reach it
        ({"top_k": 3, "top_p": 0.9}, {1, 3, 4}),
        ({"top_k": 2, "top_p": 0.99}, {1, 3}),
        ({"temperature": 1e-3}, {1}),
        ({"temperature": 1e-30}, {1}),
        ({"temperature": 1e-300}, {1}),
    ],
)
def test_top_k_and_top_p_keep_what_they_say_together_too(how: dict[str, float], kept: set[int]) -> None:
    found = support(**how)
    assert set(found) == kept
    if "temperature" not in how:
        total = sum(PROBABILITY[token].item() for token in kept)
        for token in kept:  # in proportion to what the model says
            assert found[token] == pytest.approx(PROBABILITY[token].item() / total, abs=0.035)


def test_temperature_flattens_and_sharpens() -> None:
    assert support(temperature=0.5)[1] > support()[1] > support(temperature=5.0)[1]
    hot = PROBABILITY.pow(0.5) / PROBABILITY.pow(0.5).sum()
    assert support(temperature=2.0)[1] == pytest.approx(hot[1].item(), abs=0.03)


def test_the_probability_is_the_models_own_whatever_the_temperature(model: Transformer) -> None:
    with torch.no_grad():
        expected = model(torch.tensor([[1, 2]]))[0, -1].softmax(-1)
    ((tokens, chances),) = stream(model, [1, 2], 1, Sampling(temperature=0.1, top_k=2, seed=1))
    assert chances[0] == pytest.approx(expected[tokens[0]].item(), abs=1e-4)


def test_unknown_characters_of_a_prompt_are_named() -> None:
    tokenizer = Tokenizer.fit("ab\n")
    with pytest.raises(UserError, match="the prompt has a? ?character that the model has never seen: 'é'"):
        tokenizer.encode_prompt("aéb")
    assert tokenizer.encode_prompt("ba") == [2, 1]
    assert tokenizer.encode_prompt("") == [0]  # a line's end
    assert Tokenizer.fit("xyz").encode_prompt("") == [0]


def test_generation_leaves_the_model_as_it_was(model: Transformer, equal: Callable[..., bool]) -> None:
    before = {name: p.clone() for name, p in model.state_dict().items()}
    tokens_of(model, [1], 40)
    assert equal(model.state_dict(), before)
    assert all(p.requires_grad for p in model.parameters())
    model(torch.tensor([[1, 2]])).sum().backward()


# ---- repetition ----


def test_a_penalty_divides_what_is_likely_and_multiplies_what_is_not() -> None:
    logits = torch.tensor([[2.0, -1.0, 3.0, 0.5], [1.0, 1.0, -4.0, 0.0]])
    found = penalise(logits, torch.tensor([[0, 1, 0], [2, 2, 3]]), 2.0)
    assert found.tolist() == [[1.0, -2.0, 3.0, 0.5], [1.0, 1.0, -8.0, 0.0]]
    assert logits[0, 0] == 2.0


def test_a_penalty_breaks_the_loop_of_the_likeliest(model: Transformer) -> None:
    """This model, asked for the likeliest, says the same for ever."""
    with torch.no_grad():
        for block in model.blocks:
            block.attention.out.weight.zero_()
            block.feed_forward.down.weight.zero_()
        embedding = torch.eye(16)[:V] + 0.5  # what comes next is what was there
        model.embedding.weight.copy_(embedding)
    loop = [tokens for (tokens,) in tokens_of(model, [3], 40, temperature=0)]
    assert loop == [3] * 40
    free = [tokens for (tokens,) in tokens_of(model, [3], 40, temperature=0, repetition_penalty=1.5)]
    assert 3 not in free[: V - 1] and len(set(free[: V - 1])) == V - 1  # every other one first
    again = [tokens for (tokens,) in tokens_of(model, [3], 40, temperature=0, repetition_penalty=0.5)]
    assert again == loop


def test_only_what_stands_in_the_context_is_penalised(model: Transformer) -> None:
    def penalised(prompt: list[int]) -> list[list[int]]:
        return tokens_of(model, prompt, 30, temperature=0, repetition_penalty=2.0)

    end = [1, 2] * 8
    assert penalised([3, 4, 5, 6, 7, *end]) == penalised(end)
    assert tokens_of(model, [1, 2], 30, seed=1, repetition_penalty=1.0) == tokens_of(model, [1, 2], 30, seed=1)


def test_the_probability_is_told_as_the_model_gave_it_whatever_the_penalty(model: Transformer) -> None:
    with torch.no_grad():
        expected = model(torch.tensor([[1, 2]]))[0, -1].softmax(-1)
    ((tokens, chances),) = stream(model, [1, 2], 1, Sampling(temperature=0, repetition_penalty=3.0))
    assert chances[0] == pytest.approx(expected[tokens[0]].item(), abs=1e-4)


# ---- stops ----


def says(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    """Make the model say these, a character at a time."""

    def fake(model: Any, prompt: Any, max_tokens: int, sampling: Any, samples: int) -> Any:
        for column in list(zip(*texts, strict=True))[:max_tokens]:
            yield [ALPHABET.vocabulary.index(character) for character in column], [1.0] * samples

    monkeypatch.setattr("fundamentallm.model.generate.stream", fake)


ALPHABET = Tokenizer.fit("abcdefgh .\n")


def written(*stops: str, samples: int = 1, max_tokens: int = 99) -> tuple[list[str], list[str]]:
    """The texts, and the pieces in which they were shown."""
    shown: list[str] = []
    wanted = {name: row.default for name, row in ROWS.items()} | {"num_samples": samples, "max_tokens": max_tokens}
    writer = Writer(None, ALPHABET, wanted, stops)  # type: ignore[arg-type]
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
        ("abcdef", ("c", "abc"), "ab"),  # both are there at once: the first in the text is it...
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
    if stops == ("c", "abc"):
        text = ""
    says(monkeypatch, said)
    texts, shown = written(*stops)
    assert texts == [text] and "".join(shown) == text
    for stop in stops:
        assert stop not in "".join(shown)


def test_each_sample_has_an_end_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    says(monkeypatch, "abcdef", "ddabcd", "aaaaaa")
    assert written("cd", samples=3) == (["ab", "ddab", "aaaaaa"], [])
    assert written("cd", samples=3, max_tokens=2) == (["ab", "dd", "aa"], [])


# ---- the command ----

Run = Callable[..., tuple[int, str, str]]
TEXT = "the sea was old, and dawn came early.\n" * 60


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    flags = ["--model-dim=16", "--num-layers=1", "--max-seq-len=16", "--stride=16", "--batch-size=16", "--epochs=1"]
    assert main(["train", str(folder / "text.txt"), f"--output-dir={folder / 'run'}", "--quiet", *flags]) == 0
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["generate", str(trained), "--device=cpu", *arguments])
        return status, *capsys.readouterr()

    return run


def test_several_samples_of_one_batch_are_different_and_the_same_for_the_same_seed(run: Run) -> None:
    flags = ("--prompt=the ", "--max-tokens=30", "--seed=4", "--temperature=1.2")
    status, out, err = run(*flags, "--num-samples=3")
    texts = out.removesuffix("\n").split(f"\n{RULE}\n")
    assert (status, err) == (0, "") and len(set(texts)) == 3
    assert all(text.startswith("the ") and len(text) == 34 for text in texts)
    assert run(*flags, "--num-samples=3")[1] == out
    assert run(*flags)[1] == run(*flags, "--num-samples=1")[1] != run(*flags, "--seed=5")[1]


def test_what_is_printed_is_written_into_the_file_too(run: Run) -> None:
    for flags in (["--num-samples=2"], [], ["--stop=e"]):
        status, out, _ = run("--prompt=the ", "--seed=1", "--max-tokens=20", "--output-file=out.txt", *flags)
        assert status == 0 and Path("out.txt").read_text() == out
    for target, words in (("no/out.txt", "is in no folder"), (".", "is a folder")):
        assert run(f"--output-file={target}") == (2, "", f"--output-file {target}: {words}\n")


def test_a_dash_reads_the_prompt_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run("--prompt=the sea\nwas", "--seed=1", "--max-tokens=9")
    monkeypatch.setattr(sys, "stdin", io.StringIO("the sea\nwas\n"))
    assert run("--prompt=-", "--seed=1", "--max-tokens=9") == plain and plain[1].startswith("the sea\nwas")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the \xff"), encoding="utf-8"))
    assert run("--prompt=-") == (2, "", "--prompt -: standard input is not UTF-8\n")


def test_nothing_is_printed_when_the_prompt_is_refused(run: Run) -> None:
    for flags in ([], ["--num-samples=2"]):
        status, out, err = run("--prompt=the é", *flags)
        assert (status, out) == (2, "") and err.startswith("the prompt has ") and err.count("\n") == 1


@pytest.mark.parametrize("flag", ["--prompt=the", "--output-file=out.txt", "--prompt=-"])
def test_a_talk_takes_no_flag_that_it_would_not_heed(run: Run, flag: str) -> None:
    status, out, err = run("--interactive", flag)
    assert (status, out) == (2, "") and err.startswith(flag.split("=")[0] + ": not with --interactive")
