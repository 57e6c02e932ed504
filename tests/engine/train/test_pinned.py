"""Pinned prompts are answered at their steps, by the model of that step, and what a run left behind is forgotten."""

import json
from pathlib import Path

import pytest

from fundamentallm.cli import main
from fundamentallm.config.sampling import SamplingOptions
from fundamentallm.errors import UserError
from fundamentallm.model.generate import stream
from fundamentallm.run import events
from fundamentallm.run.commands import Evaluate, Save, Set, Stop
from fundamentallm.run.history import read_history
from fundamentallm.train.checkpoint import load
from tests.conftest import journal_events
from tests.engine.conftest import EPOCH, files, steps_in
from tests.engine.train.conftest import Small, Train

PINS = ["the sea", "old boat"]


def steps_of(answers: list[events.Pinned]) -> list[tuple[int, str]]:
    return [(answer.step, answer.prompt) for answer in answers]


def test_prompts_are_answered_at_each_evaluation_by_the_model_of_that_step(train: Train) -> None:
    ran = train(pin=PINS, pin_tokens=12)
    answers = ran.of(events.Pinned)
    assert steps_of(answers) == [(step, prompt) for step in (EPOCH, 2 * EPOCH) for prompt in PINS]
    state = ran.trainer.state
    for answer in answers[2:]:
        tokens = stream(state.model, state.tokenizer.encode(answer.prompt), SamplingOptions(max_tokens=12, seed=0))
        text, probabilities = zip(*((state.tokenizer.vocabulary[token], p) for [(token, p)] in tokens), strict=True)
        assert answer.text == "".join(text) and answer.probabilities == pytest.approx(probabilities, abs=1e-4)
        assert 0 < answer.seconds < 60
    assert answers[0].text != answers[2].text  # it has learnt something between


@pytest.mark.parametrize(("every", "steps"), [(0, [3, EPOCH, 2 * EPOCH]), (10, [10, 20, 30])])
def test_an_evaluation_that_the_user_asks_for_has_answers_as_any_other(
    train: Train, every: int, steps: list[int]
) -> None:
    ran = train(pin=PINS[:1], pin_every=every, pin_tokens=1, script={3: [Evaluate()]})
    assert steps_of(ran.of(events.Pinned)) == [(step, PINS[0]) for step in steps]
    assert [event.step for event in ran.of(events.Evaluated)] == [3, EPOCH, 2 * EPOCH]


def test_prompts_may_be_answered_every_few_steps_and_changed_while_the_run_trains(train: Train) -> None:
    script = {10: [Set(setting="pin", value=["and", "crew"])], 20: [Set(setting="pin", value=[])]}
    ran = train(pin=PINS[:1], pin_every=4, pin_tokens=1, script=script)
    later = [(step, prompt) for step in (12, 16, 20) for prompt in ("and", "crew")]
    assert steps_of(ran.of(events.Pinned)) == [(4, "the sea"), (8, "the sea"), *later]
    assert len(steps_in(ran.folder)) == 2 * EPOCH
    changes = [(change.old, change.new) for change in read_history(ran.folder).interventions_from(0)]
    assert changes == [(["the sea"], ["and", "crew"]), (["and", "crew"], [])]
    assert read_history(ran.folder).config["pin"] == [] == load(ran.last).config["pin"]


def test_a_prompt_that_the_model_cannot_read_is_refused(train: Train, small: Small, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pin: 'Zebra' has a character that the model has never seen: 'Z'; "):
        train(small(pin=["the", "Zebra"]))
    assert "journal.jsonl" not in files(tmp_path / "run")
    ran = train(script={3: [Set(setting="pin", value=["Zebra"])], 4: [Set(setting="pin", value=["x"] * 9)]})
    assert [event.why for event in ran.of(events.Answered)] == [
        "pin: 'Zebra' has a character that the model has never seen: 'Z'; "
        + ran.of(events.Answered)[0].why.split("; ")[1],
        "pin: 9 prompts; 8 are the most",
    ]


def test_a_run_that_went_back_has_the_answers_of_its_steps_once(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    train(pin=PINS, pin_every=5, pin_tokens=6, script={12: [Save()], 23: [Stop()]})
    before = journal_events(folder, events.Pinned)
    train(resume_from=folder / "checkpoint_step_12.pt")
    answers = read_history(folder).pinned
    assert steps_of(answers) == [(step, prompt) for step in range(5, 2 * EPOCH, 5) for prompt in PINS]
    assert [answer.text for answer in answers[: len(before)]] == [answer.text for answer in before]
    assert main(["runs", "samples", str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [(row["step"], row["prompt"], row["text"]) for row in printed] == [
        (a.step, a.prompt, a.text) for a in answers
    ]
    assert main(["runs", "samples", str(folder)]) == 0
    shown = "".join(f"--- step {a.step}\n{prompt}{a.text}\n" for prompt in PINS for a in answers if a.prompt == prompt)
    took = sum(a.seconds for a in answers)
    assert capsys.readouterr() == (shown, f"{len(answers)} answers took {took:.2g} seconds of the run's time\n")
    train(name="other")
    assert main(["runs", "samples", str(tmp_path / "other")]) == 0
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'other'}: has answered no pinned prompts; ")
    (tmp_path / "other" / "journal.jsonl").write_text("hi\n")
    assert main(["runs", "samples", str(tmp_path / "other")]) == 2
    assert capsys.readouterr().err.startswith(f"{tmp_path / 'other'}: its journal is empty or damaged; ")
