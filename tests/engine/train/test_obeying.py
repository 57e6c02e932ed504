"""Commands: every one is answered, and what it asks for happens once."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.run import events
from fundamentallm.run.commands import CancelSample, Command, Pause, Resume, Sample, Save, Set, Stop
from fundamentallm.run.journal import read_journal
from fundamentallm.run.spec import RunSpec
from fundamentallm.train import trainer
from fundamentallm.train.checkpoint import load
from tests.engine.seen import EPOCH, files

Train = Callable[..., Any]
Small = Callable[..., Config]


def answers(ran: Any) -> dict[str, tuple[str, bool, str]]:
    told = ran.of(events.Answered)
    assert len({event.id for event in told}) == len(told), "answered twice"
    return {event.id: (event.command, event.ok, event.why) for event in told}


def test_every_command_is_answered_exactly_once(train: Train, small: Small) -> None:
    given: dict[int, list[Command]] = {
        3: [Pause(id="p"), Save(id="s"), Resume(id="r")],
        5: [Sample(id="a", prompt="the", max_tokens=5), CancelSample(id="c", sample="a")],
        6: [Sample(id="b", prompt="é☃", max_tokens=5), Resume(id="again")],
        7: [Stop(id="x")],
    }
    ran = train(small(), script=given)
    assert {id: (name, ok) for id, (name, ok, _) in answers(ran).items()} == {
        "p": ("pause", True), "s": ("save", True), "r": ("resume", True), "a": ("sample", True),
        "c": ("cancel_sample", False), "b": ("sample", False), "again": ("resume", True), "x": ("stop", True),
    }  # fmt: skip
    assert "'é' '☃'" in answers(ran)["b"][2]
    assert (ran.result.reason, ran.result.step) == ("stopped", 7)


def test_a_paused_run_stands_still_and_still_obeys(train: Train, small: Small) -> None:
    asked: list[int] = []

    def script(run: Any) -> list[Command]:
        step_now = run.state.step
        if step_now == 4:
            asked.append(step_now)
        if step_now == 4 and len(asked) == 1:
            return [Pause()]
        if len(asked) == 3:
            asked.append(4)
            return [Save(id="s"), Sample(prompt="a", max_tokens=2)]
        if len(asked) >= 5 and run.paused:
            return [Resume()]
        return []

    ran = train(small(), script=script)
    phases = [(event.phase, event.step) for event in ran.of(events.Phase)]
    paused = phases.index(("paused", 4))
    assert ("saving", 4) in phases[paused:] and ("sampling", 4) in phases[paused:]
    assert phases[paused:].count(("paused", 4)) == 3  # said again after each of the two
    assert (ran.folder / "checkpoint_step_4.pt").exists()
    assert sorted(ran.losses) == list(range(1, 2 * EPOCH + 1))
    before = [event for event in ran.said[: ran.said.index(ran.of(events.Phase)[paused])]]
    assert max(events.last_step(event) for event in before if isinstance(event, events.Progress)) == 4


def test_a_paused_run_can_be_stopped(train: Train, small: Small) -> None:
    left = [[Pause(id="p")], [], [Stop(id="x")]]
    ran = train(small(), script=lambda run: left.pop(0) if run.state.step == 4 and left else [])
    assert (ran.result.reason, ran.result.step) == ("stopped", 4)
    assert load(ran.folder / "last.pt").progress().step == 4
    assert set(answers(ran)) == {"p", "x"}


def test_a_sample_is_said_in_pieces_that_make_its_text(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fundamentallm.train import control as sampler

    monkeypatch.setattr(sampler, "PIECE", 0.0)
    ran = train(small(), script={4: [Sample(id="a", prompt="the ", max_tokens=40, seed=1)]})
    pieces = ran.of(events.Sampled)
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True] and len(pieces) > 5
    assert {(piece.id, piece.prompt, piece.step) for piece in pieces} == {("a", "the ", 4)}
    text, chances = "".join(piece.text for piece in pieces), [p for piece in pieces for p in piece.probabilities]
    assert len(text) == len(chances) == 40 and all(0 <= p <= 1 for p in chances)


@pytest.mark.parametrize("word", ["cancel", "stop"])
def test_a_cancel_or_a_stop_ends_a_sample_and_is_answered(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    from fundamentallm.train import control as sampler

    monkeypatch.setattr(sampler, "PIECE", 0.0)
    cancel = CancelSample(id="c", sample="a") if word == "cancel" else Stop(id="c")
    queue: list[list[Command]] = [
        [Sample(id="a", prompt="the ", max_tokens=5000)], [Save(id="s")], [CancelSample(id="n", sample="zz")], [cancel]
    ]  # fmt: skip
    ran = train(small(), script=lambda run: queue.pop(0) if run.state.step >= 4 and queue else [])
    assert len("".join(piece.text for piece in ran.of(events.Sampled))) < 20
    assert ran.of(events.Sampled)[-1].done
    told = answers(ran)
    assert set(told) == {"a", "s", "n", "c"}
    assert told["a"][1] and told["s"][1] and told["c"][1] and not told["n"][1]
    assert ran.result.reason == ("completed" if word == "cancel" else "stopped")


def test_strange_samples_do_not_stop_a_run(train: Train, small: Small) -> None:
    strange = [
        Sample(prompt="a", max_tokens=-5), Sample(prompt="a", max_tokens=3, temperature=math.nan),
        Sample(prompt="a", max_tokens=3, temperature=math.inf), Sample(prompt="a", max_tokens=3, temperature=1e-300),
        Sample(prompt="a", max_tokens=3, temperature=-1.0), Sample(prompt="a", max_tokens=3, top_k=-3),
        Sample(prompt="a", max_tokens=3, top_k=10**9), Sample(prompt="a", max_tokens=3, top_p=math.nan),
        Sample(prompt="a", max_tokens=3, top_p=-1.0), Sample(prompt="a", max_tokens=3, seed=10**30),
        Sample(prompt="a" * 1000, max_tokens=3), Sample(prompt="", max_tokens=3, seed=-1),
    ]  # fmt: skip
    ran = train(small(), script={4: strange})
    assert ran.result.reason == "completed"
    assert len(answers(ran)) == len(strange)


def test_after_the_end_samples_are_answered_and_nothing_else(train: Train, small: Small) -> None:
    ran = train(small())
    kept, before = len(list(read_journal(ran.folder))), files(ran.folder)
    ran.said.clear()
    late: list[list[Command]] = [[Save(id="s"), Pause(id="p")], []]
    ran.trainer._listen = lambda: late.pop(0) if late else []
    from fundamentallm.train import control as sampler

    piece, sampler.PIECE = sampler.PIECE, 0.0
    try:
        ran.trainer.answer_late(
            [Sample(id="a", prompt="the", max_tokens=4), Stop(id="x"), CancelSample(id="c", sample="a")]
        )
    finally:
        sampler.PIECE = piece
    assert len("".join(piece.text for piece in ran.of(events.Sampled))) == 4
    assert {id: ok for id, (_, ok, _) in answers(ran).items()} == {
        "a": True, "s": False, "p": False, "x": False, "c": False,
    }  # fmt: skip
    assert len(list(read_journal(ran.folder))) == kept and files(ran.folder) == before


def test_a_change_that_cannot_be_written_down_is_refused_and_never_told(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = trainer.Journal.sync

    def full(self: trainer.Journal) -> None:
        if ran_into and ran_into.pop():
            raise OSError(28, "No space left on device")
        sync(self)

    def script(running: trainer.Trainer) -> list[Command]:
        if running.state.step != 9 or ran_into:
            return []
        ran_into[:] = [False, True]
        return [Set(setting="epochs", value=4)]

    ran_into: list[bool] = []
    monkeypatch.setattr(trainer.Journal, "sync", full)
    ran = train(small(), script=script)
    assert [(e.ok, e.why) for e in ran.of(events.Answered)] == [(False, "[Errno 28] No space left on device")]
    assert ran.of(events.Intervention) == [] and ran.result.step == 2 * EPOCH


def test_a_change_that_is_made_again_needs_no_room_on_the_disk(
    train: Train, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(small(), script={9: [Set(setting="epochs", value=3)], 11: [Stop()]})
    (first.folder / "last.pt").unlink()  # starts afresh, and makes the change again
    sync = trainer.Journal.sync

    def full(self: trainer.Journal) -> None:
        if again.state.step == 9:
            raise OSError(28, "No space left on device")
        sync(self)

    monkeypatch.setattr(trainer.Journal, "sync", full)
    again = trainer.Trainer(RunSpec(small(), first.folder, auto=True), lambda _: None, lambda: [])
    end = again.run()
    again.close()
    assert isinstance(end, events.Finished) and end.step == 3 * EPOCH
