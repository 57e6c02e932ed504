"""What a run, and the model of a checkpoint, answer to those who ask what the model does with a text.

That the numbers are those of a forward pass is the matter of test_look and test_attention in tests/tui/screens.
"""

from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run import events
from fundamentallm.run.commands import Attend, Command, Explain, Neighbours
from fundamentallm.run.history import read_history
from fundamentallm.train.loaded import load
from fundamentallm.train.samples import SampleControl
from tests.conftest import journal_events
from tests.engine.conftest import EPOCH, Ran
from tests.engine.train.conftest import Train, Trained


def asked(trained: Ran, *commands: Command) -> list[Any]:
    """What the model of a finished run answers."""
    emitted: list[Any] = []
    loaded = load(trained.folder / "final_model.pt", device="cpu")
    SampleControl(loaded, emitted.append, list).obey_commands(commands)
    return emitted


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
    first = Explain(id="a", text="\u00e9the sea\u6f22, the old boat")
    ran = train(script={5: [first], 6: [Attend(id="b", text="", layer=0), Explain(id="c", text="e")]})
    [explained] = ran.of(events.Explained)
    assert [explained] == journal_events(ran.folder, events.Explained)
    assert (explained.id, explained.step, explained.left_out) == ("a", 5, 2)
    assert "".join(explained.tokens) == "the sea, the old boat"
    columns = ("probability", "rank", "entropy", "likeliest", "likeliest_probability")
    assert {len(getattr(explained, column)) for column in columns} == {len(explained.tokens) - 1}
    assert [(event.id, event.ok) for event in ran.of(events.Answered)] == [("a", True), ("b", True), ("c", False)]
    assert [event.phase for event in ran.of(events.Phase)].count("sampling") == 3
    for steps in (True, False):
        history = read_history(ran.folder, steps=steps)
        assert history.completed and history.step == 2 * EPOCH
