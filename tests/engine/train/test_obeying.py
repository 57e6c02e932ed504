"""Commands: every one is answered, and what it asks for happens once."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from fundamentallm.run import events
from fundamentallm.run.commands import NAMES, CancelSample, Command, Pause, Resume, Sample, Save, Set, Stop
from fundamentallm.run.journal import read_journal
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import samples
from fundamentallm.train.checkpoint import load
from fundamentallm.train.trainer import Trainer
from tests.engine.seen import EPOCH, files
from tests.engine.train.conftest import Full, Small, Train


def answers(ran: Any) -> dict[str, tuple[str, bool, str]]:
    answered = ran.of(events.Answered)
    assert len({event.id for event in answered}) == len(answered), "answered twice"
    return {event.id: (event.command, event.ok, event.why) for event in answered}


def sampled(ran: Any) -> str:
    return "".join(piece.text for piece in ran.of(events.Sampled))


def one_at_a_time(commands: list[list[Command]], at: int = 4) -> Callable[[Trainer], list[Command]]:
    """From a step on, these commands one list at each look."""
    return lambda run: commands.pop(0) if run.state.step >= at and commands else []


@pytest.fixture
def token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are emitted in as many pieces as they have tokens."""
    monkeypatch.setattr(samples, "PIECE_SECONDS", 0.0)


def test_every_command_is_answered_exactly_once(train: Train, small: Small) -> None:
    given: dict[int, list[Command]] = {
        3: [Pause(id="p"), Save(id="s"), Resume(id="r")],
        5: [Sample(id="a", prompt="the", max_tokens=5)],
        6: [CancelSample(id="c", sample="a"), Sample(id="b", prompt="é☃", max_tokens=5), Resume(id="again")],
        7: [Set(id="l", setting="learning_rate", value=0.01), Set(id="m", setting="model_dim", value=8)],
        8: [Stop(id="x")],
    }
    ran = train(small(), script=given)
    assert {id: (name, ok) for id, (name, ok, _) in answers(ran).items()} == {
        "p": ("pause", True), "s": ("save", True), "r": ("resume", True), "a": ("sample", True),
        "c": ("cancel_sample", False), "b": ("sample", False), "again": ("resume", True), "l": ("set", True),
        "m": ("set", False), "x": ("stop", True),
    }  # fmt: skip
    assert {name for name, _, _ in answers(ran).values()} == set(NAMES.values())
    assert "'é' '☃'" in answers(ran)["b"][2]
    assert (ran.result.reason, ran.result.step) == ("stopped", 8)


def test_the_prompt_of_a_sample_is_read_as_training_text_is(train: Train, small: Small) -> None:
    samples = [
        Sample(prompt=prompt, max_tokens=6, seed=1) for prompt in ("\ufeffthe\r\nsea\r", "the\nsea\n", "caf\udce9")
    ]
    ran = train(small(), script={5: [*samples]})
    pieces = {command.id: [e for e in ran.of(events.Sampled) if e.id == command.id] for command in samples}
    read, plain, refused = pieces.values()
    assert {piece.prompt for piece in (*read, *plain)} == {"the\nsea\n"} and refused == []
    assert "".join(piece.text for piece in read) == "".join(piece.text for piece in plain) != ""
    assert answers(ran)[samples[2].id] == ("sample", False, "the prompt is not UTF-8 (byte 0xe9 after 3 characters)")


def test_a_paused_run_stands_still_and_still_obeys(train: Train, small: Small) -> None:
    script = one_at_a_time([[Pause()], [], [], [Save(), Sample(prompt="a", max_tokens=2)], [], [Resume()]])
    ran = train(small(), script=script)
    phases = [(event.phase, event.step) for event in ran.of(events.Phase)]
    paused = phases.index(("paused", 4))
    assert ("saving", 4) in phases[paused:] and ("sampling", 4) in phases[paused:]
    assert phases[paused:].count(("paused", 4)) == 3  # again after each of the two
    assert (ran.folder / "checkpoint_step_4.pt").exists()
    assert sorted(ran.losses) == list(range(1, 2 * EPOCH + 1))
    before = ran.said[: ran.said.index(ran.of(events.Phase)[paused])]
    assert [event.step[-1] for event in before if isinstance(event, events.Progress)][-1] == 4  # all is reported


def test_a_paused_run_can_be_stopped(train: Train, small: Small) -> None:
    ran = train(small(), script=one_at_a_time([[Pause(id="p")], [], [Stop(id="x")]]))
    assert (ran.result.reason, ran.result.step) == ("stopped", 4)
    assert load(ran.folder / "last.pt").progress().step == 4
    assert set(answers(ran)) == {"p", "x"}


# ---- samples ----


def test_the_pieces_of_a_sample_make_its_text(train: Train, small: Small, token_by_token: None) -> None:
    ran = train(small(), script={4: [Sample(id="a", prompt="the ", max_tokens=40, seed=1)]})
    pieces = ran.of(events.Sampled)
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True] and len(pieces) > 5
    assert {(piece.id, piece.prompt, piece.step) for piece in pieces} == {("a", "the ", 4)}
    probabilities = [p for piece in pieces for p in piece.probabilities]
    assert len(sampled(ran)) == len(probabilities) == 40 and all(0 <= p <= 1 for p in probabilities)


@pytest.mark.parametrize("arrives", ["later", "with it"])
@pytest.mark.parametrize("end", [CancelSample(id="c", sample="a"), Stop(id="c")])
def test_a_cancel_or_a_stop_ends_a_sample_and_is_answered(
    train: Train, small: Small, token_by_token: None, end: Command, arrives: str
) -> None:
    sample, others = Sample(id="a", prompt="the ", max_tokens=5000), [Save(id="s"), CancelSample(id="n", sample="zz")]
    commands = [[sample, *others, end]] if arrives == "with it" else [[sample], [others[0]], [others[1]], [end]]
    ran = train(small(), script=one_at_a_time(commands))
    assert len(sampled(ran)) < 20 and ran.of(events.Sampled)[-1].done
    assert {id: ok for id, (_, ok, _) in answers(ran).items()} == {"a": True, "s": True, "c": True, "n": False}
    assert ran.result.reason == ("completed" if isinstance(end, CancelSample) else "stopped")


def test_strange_samples_do_not_stop_a_run(train: Train, small: Small) -> None:
    strange: list[dict[str, Any]] = [
        {"max_tokens": -5}, {"temperature": math.nan}, {"temperature": math.inf}, {"temperature": 1e-300},
        {"temperature": -1.0}, {"top_k": -3}, {"top_k": 10**9}, {"top_p": math.nan}, {"top_p": -1.0},
        {"seed": 10**30}, {"seed": -1, "prompt": ""}, {"prompt": "a" * 1000},
    ]  # fmt: skip
    ran = train(small(), script={4: [Sample(**{"prompt": "a", "max_tokens": 3, **values}) for values in strange]})
    assert ran.result.reason == "completed"
    assert len(answers(ran)) == len(strange)


@pytest.mark.parametrize("reason", ["completed", "stopped"])
def test_after_the_end_samples_are_answered_and_nothing_else(
    train: Train, small: Small, token_by_token: None, reason: str
) -> None:
    commands: list[list[Command]] = [[Stop()]] if reason == "stopped" else []
    ran = train(small(), script=one_at_a_time(commands))
    assert ran.result.reason == reason
    journal, before = list(read_journal(ran.folder)), files(ran.folder)
    ran.said.clear()
    commands += [[Save(id="s"), Pause(id="p")], [Set(id="l", setting="dropout", value=0.5)]]
    ran.trainer.answer_late([Sample(id="a", prompt="the", max_tokens=4), CancelSample(id="c", sample="b")])
    assert len(sampled(ran)) == 4
    assert {id: ok for id, (_, ok, _) in answers(ran).items()} == {
        "a": True, "s": False, "p": False, "l": False, "c": False,
    }  # fmt: skip
    assert answers(ran)["s"][2] == "the run has ended"
    ran.trainer.answer_late([Sample(id="b", prompt="the", max_tokens=5000), Stop(id="x")])
    assert len(sampled(ran)) < 20 and not answers(ran)["x"][1]
    assert list(read_journal(ran.folder)) == journal and files(ran.folder) == before


# ---- changes ----


def test_a_change_that_cannot_be_written_down_is_refused_and_never_shown(
    train: Train, small: Small, full_disk: Full
) -> None:
    full: list[bool] = []  # one refusal for each entry
    full_disk(lambda: full and full.pop())

    def script(run: Trainer) -> list[Command]:
        if run.state.step != 9 or full:
            return []
        full.append(True)
        return [Set(setting="epochs", value=4)]

    ran = train(small(), script=script)
    assert [(e.ok, e.why) for e in ran.of(events.Answered)] == [(False, "[Errno 28] No space left on device")]
    assert ran.of(events.Intervention) == [] and ran.result.step == 2 * EPOCH


def test_a_change_that_is_repeated_needs_no_room_on_the_disk(train: Train, small: Small, full_disk: Full) -> None:
    first = train(small(), script={9: [Set(setting="epochs", value=3)], 11: [Stop()]})
    (first.folder / "last.pt").unlink()  # starts afresh, and repeats the change
    again = Trainer(RunSpec(small(), first.folder, auto=True), lambda _: None, lambda: [])
    full_disk(lambda: again.state.step == 9)
    end = again.run()
    again.close()
    assert isinstance(end, events.Finished) and end.step == 3 * EPOCH
