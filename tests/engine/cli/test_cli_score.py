"""`fundamentallm score`: the loss of `evaluate`, token by token, and the places in the file that have the highest."""

import json
from pathlib import Path

import pytest
import torch

from fundamentallm.train.loaded import load
from tests.engine.cli.conftest import Refused, Run

# characters that the model has never seen stand before, between and after those that it knows
TEXT = "\u00e9the sea\u6f22 was old,\nand q dawn came so early\u00e9\n" * 5 + "early"


def losses_of(trained: Path, known: str) -> list[float]:
    """The loss of each character of a text but the first, each by a forward pass of its own."""
    loaded = load(trained, device="cpu")
    model, tokens, length = loaded.model, loaded.tokenizer.encode(known), loaded.config.max_seq_len
    losses = []
    for i in range(1, len(tokens)):
        start = (i - 1) // length * length
        with torch.no_grad():
            logits = model(torch.tensor([tokens[start:i]]))[0, -1]
        losses.append(-logits.log_softmax(-1)[tokens[i]].item())
    return losses


def test_the_worst_places_are_those_with_the_highest_loss_where_the_model_has_read_enough(
    trained: Path, run: Run
) -> None:
    Path("text.txt").write_text(TEXT, encoding="utf-8", newline="")
    status, out, err = run("score", str(trained), "text.txt", "--json", "--worst", "7", "--device=cpu")
    numbers = json.loads(out)
    assert status == 0 and err.startswith("left out 20 of ")
    vocabulary = set(load(trained, device="cpu").tokenizer.vocabulary)
    places = [i for i, character in enumerate(TEXT) if character in vocabulary]
    losses = losses_of(trained, "".join(TEXT[i] for i in places))
    assert numbers["tokens"] == len(losses) == len(places) - 1
    assert numbers["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    enough = [(loss, places[i + 1]) for i, loss in enumerate(losses) if i % 16 >= 4]
    expected = sorted(enough, key=lambda pair: -pair[0])[:7]
    assert [place["loss"] for place in numbers["worst"]] == pytest.approx([loss for loss, _ in expected], abs=1e-4)
    assert {place["offset"] for place in numbers["worst"]} == {offset for _, offset in expected}
    for place in numbers["worst"]:
        assert TEXT[max(0, place["offset"] - 32) : place["offset"] + 8] == place["text"]
    measured = json.loads(run("evaluate", str(trained), "text.txt", "--json", "--device=cpu")[1])
    assert numbers["loss"] == pytest.approx(measured["loss"], abs=1e-6)
    assert numbers["classes"] == measured["classes"]


def test_the_tables_say_the_same_and_mark_the_character(trained: Path, run: Run) -> None:
    Path("text.txt").write_text(TEXT, encoding="utf-8", newline="")
    numbers = json.loads(run("score", str(trained), "text.txt", "--json", "--device=cpu")[1])
    lines = run("score", str(trained), "text.txt", "--device=cpu")[1].splitlines()
    assert lines[0] == f"loss    {numbers['loss']:.4f} nats a token"
    assert len(numbers["worst"]) == 10 and lines[-11].split() == ["offset", "loss", "text"]
    first, offset = lines[-10].split(maxsplit=2), numbers["worst"][0]["offset"]
    assert first[:2] == [str(offset), f"{numbers['worst'][0]['loss']:.2f}"]
    assert f"|{TEXT[offset]}|".replace("\n", "\\n") in first[2]


def test_files_of_a_folder_and_a_field_of_json_lines_are_one_text(trained: Path, run: Run) -> None:
    Path("texts").mkdir()
    Path("a.jsonl").write_text(json.dumps({"body": TEXT}))
    for path, part in (("texts/a.txt", TEXT[:100]), ("texts/b.txt", TEXT[100:]), ("whole.txt", TEXT)):
        Path(path).write_text(part, encoding="utf-8", newline="")
    plain, folder, field = (
        run("score", str(trained), *words.split(), "--json", "--device=cpu")
        for words in ("whole.txt", "texts", "a.jsonl --text-field=body")
    )
    assert plain == field and plain[0] == 0
    assert folder[:2] == plain[:2] and folder[2].startswith("read 2 files with ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.txt"], "nowhere.txt: "), (["text.txt", "--worst", "-1"], "--worst"),
        (["text.txt", "--device", "abacus"], "--device abacus: no such device"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_line(trained: Path, refused: Refused, words: list[str], said: str) -> None:
    Path("text.txt").write_text("the sea")
    (line,) = refused("score", str(trained), *words)
    assert said in line


def test_a_text_shorter_than_a_quarter_of_the_context_has_its_worst_places_too(trained: Path, run: Run) -> None:
    Path("text.txt").write_text("the")
    numbers = json.loads(run("score", str(trained), "text.txt", "--json", "--device=cpu")[1])
    assert sorted(place["offset"] for place in numbers["worst"]) == [1, 2]
