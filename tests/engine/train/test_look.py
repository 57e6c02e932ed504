"""What a run, and the model of a checkpoint, answer to those who ask what the model does with a text."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from fundamentallm.run import events
from fundamentallm.run.commands import Attend, Command, Explain, Neighbours
from fundamentallm.run.history import read_history
from fundamentallm.train.loaded import load
from fundamentallm.train.samples import SampleControl
from tests.conftest import journal_events
from tests.engine.conftest import EPOCH, Ran
from tests.engine.train.conftest import Train, Trained

TEXT = "the sea, the old boat"


def asked(trained: Ran, *commands: Command) -> list[Any]:
    """What the model of a finished run answers."""
    emitted: list[Any] = []
    loaded = load(trained.folder / "final_model.pt", device="cpu")
    SampleControl(loaded, emitted.append, list).obey_commands(commands)
    return emitted


def test_a_text_is_explained_token_by_token(trained: Trained) -> None:
    ran = trained()
    explained, answered = asked(ran, Explain(id="a", text="\u00e9the sea\u6f22, the old boat"))
    assert answered.ok and (explained.id, explained.step, explained.left_out) == ("a", 2 * EPOCH, 2)
    assert "".join(explained.tokens) == TEXT
    columns = (
        explained.probability,
        explained.rank,
        explained.entropy,
        explained.likeliest,
        explained.likeliest_probability,
    )
    assert {len(column) for column in columns} == {len(TEXT) - 1}
    state = ran.trainer.state
    tokens = torch.tensor(state.tokenizer.encode(TEXT[:11]))
    p = state.model(tokens[None, :-1])[0].softmax(-1)
    for i in range(10):
        assert explained.probability[i] == pytest.approx(p[i, tokens[i + 1]].item(), abs=1e-5)
        likeliest = p[i].topk(10)
        assert explained.likeliest[i] == tuple(state.tokenizer.vocabulary[t] for t in likeliest.indices.tolist())
        assert explained.likeliest_probability[i] == pytest.approx(likeliest.values.tolist(), abs=1e-5)
    assert all(0 <= entropy <= math.log(len(state.tokenizer)) for entropy in explained.entropy)


def test_attention_and_neighbours_are_answered(trained: Trained) -> None:
    attended, _, nearest, _ = asked(trained(), Attend(id="a", text=TEXT, layer=0), Neighbours(id="n", text="e"))
    assert "".join(attended.tokens) == TEXT[-16:] and (attended.layer, attended.layers, len(attended.heads)) == (
        0,
        1,
        2,
    )
    for head in attended.heads:
        assert [len(row) for row in head] == list(range(1, 17))
        assert [sum(row) for row in head] == pytest.approx([1] * 16, abs=1e-4)
    assert nearest.token == "e" and len(nearest.tokens) == len(nearest.cosine) == 12 and "e" not in nearest.tokens
    assert list(nearest.cosine) == sorted(nearest.cosine, reverse=True)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (Explain(text="e"), "the text has 1 known character; 2 to 2,048 can be explained"),
        (Explain(text="e" * 2049), "the text has 2,049 known characters; 2 to 2,048 can be explained"),
        (Attend(text="the", layer=1), "layer 1: there are layers 0 to 0"),
        (Attend(text="the", layer=-1), "layer -1: there are layers 0 to 0"),
        (Attend(text="Zebra", layer=0), "the prompt has a character that the model has never seen: 'Z'; "),
        (Neighbours(text="th"), "'th' is not one token"), (Neighbours(text=""), "'' is not one token"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_said(trained: Trained, command: Command, why: str) -> None:
    (answered,) = asked(trained(), command)
    assert not answered.ok and answered.why.startswith(why)


def test_a_run_answers_between_two_steps_and_its_journal_has_the_answers(train: Train, tmp_path: Path) -> None:
    ran = train(
        script={5: [Explain(id="a", text=TEXT)], 6: [Attend(id="b", text="", layer=0), Explain(id="c", text="e")]}
    )
    [explained] = ran.of(events.Explained)
    assert [explained] == journal_events(ran.folder, events.Explained) and explained.step == 5
    assert [(event.id, event.ok) for event in ran.of(events.Answered)] == [("a", True), ("b", True), ("c", False)]
    assert [event.phase for event in ran.of(events.Phase)].count("sampling") == 3
    for steps in (True, False):
        history = read_history(ran.folder, steps=steps)
        assert history.completed and history.step == 2 * EPOCH
