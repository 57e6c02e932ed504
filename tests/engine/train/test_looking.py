"""Looking at a run changes nothing: whatever it is asked, its weights are the same bits."""

from pathlib import Path
from typing import Any

import pytest

from fundamentallm.run import events
from fundamentallm.run.commands import Attend, Command, Evaluate, Explain, Neighbours, Pause, Resume, Sample, Save
from tests.engine.conftest import assert_same_end
from tests.engine.train.conftest import Train, Trained

SETTINGS: dict[str, Any] = {"dropout": 0.2, "augment": "casing=0.1", "accumulation_steps": 2, "batch_size": 4}
SAMPLES = [Sample(prompt="the ", max_tokens=30, seed=1), Sample(prompt="", max_tokens=7, temperature=0)]
LOOKS: dict[str, tuple[dict[str, Any], dict[int, list[Command]]]] = {
    "evaluated at every step": ({"eval_every": 1}, {}),
    "evaluated every 7 steps": ({"eval_every": 7}, {}),
    "saved at every step": ({"save_every": 1}, {}),
    "saved and evaluated at every step": ({"save_every": 1, "eval_every": 1}, {}),
    "asked for samples": ({}, {step: list(SAMPLES) for step in (1, 5, 17, 18, 19, 30)}),
    "asked what it does with a text": (
        {},
        {
            step: [Explain(text="the sea"), Attend(text="the sea", layer=0), Neighbours(text="e")]
            for step in (1, 17, 18, 30)
        },
    ),
    "inspected layer by layer": ({"inspect_every": 1}, {}),
    "evaluated by hand": ({}, {step: [Evaluate()] for step in (1, 5, 17, 30)}),
    "saved by hand": ({"keep_checkpoints": 1}, {step: [Save(), Save()] for step in (1, 2, 18, 35)}),
    "paused and resumed": ({}, {step: [Pause(), Save(), *SAMPLES, Resume()] for step in (1, 6, 18, 33)}),
    "answering pinned prompts": ({"pin": ["the sea", ""], "pin_every": 3, "pin_tokens": 9}, {}),
    "shown on TensorBoard": ({"tensorboard": True}, {4: list(SAMPLES)}),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_run_that_is_looked_at_comes_to_the_same_bits(
    train: Train, trained: Trained, tmp_path: Path, look: str
) -> None:
    settings, script = LOOKS[look]
    ran = train(**SETTINGS, **settings, log_dir=str(tmp_path / "logs"), script=script)
    assert [event.ok for event in ran.of(events.Answered)] == [True] * sum(map(len, script.values()))
    gains = "eval_every" not in settings and look != "evaluated by hand"
    assert_same_end(ran.folder, trained(**SETTINGS).folder, gains=gains)
