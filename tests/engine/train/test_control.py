"""Commands: every one is answered, and what it asks for happens once. They may come from anyone: a run survives all."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import SETTINGS, to_dict
from fundamentallm.model.generate import stream
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import events
from fundamentallm.run.commands import (
    NAMES,
    Attend,
    CancelSample,
    Command,
    Evaluate,
    Explain,
    Neighbours,
    Pause,
    Resume,
    Sample,
    Save,
    Set,
    Stop,
)  # fmt: skip
from fundamentallm.run.history import read_history
from fundamentallm.run.journal import read_journal
from fundamentallm.train import samples
from fundamentallm.train.trainer import Trainer
from tests.engine.conftest import EPOCH, files
from tests.engine.train.conftest import Full, Small, Train


def answers(ran: Any) -> dict[str, events.Answered]:
    answered = ran.of(events.Answered)
    assert len({event.id for event in answered}) == len(answered), "answered twice"
    return {event.id: event for event in answered}


def obeyed(ran: Any) -> dict[str, bool]:
    return {id: answer.ok for id, answer in answers(ran).items()}


def sampled(ran: Any, id: str = "a") -> str:
    return "".join(piece.text for piece in ran.of(events.Sampled) if piece.id == id)


def one_at_a_time(commands: list[list[Command]], at: int = 4) -> Callable[[Trainer], list[Command]]:
    """From a step on, these commands one list at each look."""
    return lambda run: commands.pop(0) if run.state.step >= at and commands else []


@pytest.fixture
def token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are emitted in as many pieces as they have tokens, and commands are read after each."""
    monkeypatch.setattr(samples, "PIECE_SECONDS", 0.0)


def test_every_command_is_answered_exactly_once(train: Train) -> None:
    looks: list[Command] = [
        Explain(id="y", text="the"),
        Attend(id="z", text="the", layer=0),
        Neighbours(id="n", text="t"),
    ]
    ran = train(
        script={
            3: [Pause(id="p"), Save(id="s"), Resume(id="r")],
            4: [Evaluate(id="e"), Evaluate(id="f")],
            5: [Sample(id="a", prompt="the", max_tokens=5), *looks],
            6: [CancelSample(id="c", sample="a"), Sample(id="b", prompt="é☃", max_tokens=5), Resume(id="again")],
            7: [
                Set(id="l", setting="learning_rate", value=0.01, undoes=True),
                Set(id="m", setting="model_dim", value=8),
            ],
            8: [Stop(id="x")],
        }
    )
    assert {id: (answer.command, answer.ok) for id, answer in answers(ran).items()} == {
        "p": ("pause", True), "s": ("save", True), "r": ("resume", True), "a": ("sample", True),
        "c": ("cancel_sample", False), "b": ("sample", False), "again": ("resume", True), "l": ("set", True),
        "m": ("set", False), "x": ("stop", True), "e": ("evaluate", True),
        "f": ("evaluate", False), "y": ("explain", True), "z": ("attend", True), "n": ("neighbours", True),
    }  # fmt: skip
    assert {answer.command for answer in answers(ran).values()} == set(NAMES.values())
    assert "'é', '☃'" in answers(ran)["b"].why
    assert [(change.new, change.undoes) for change in ran.of(events.Intervention)] == [(0.01, True)]
    assert answers(ran)["f"].why == "nothing was trained since the last evaluation"
    assert [event.step for event in ran.of(events.Evaluated) if not event.epoch_ended] == [4]
    assert (ran.result.reason, ran.result.step) == ("stopped", 8)


def test_a_paused_run_stands_still_and_still_obeys(train: Train) -> None:
    ran = train(script=one_at_a_time([[Pause()], [], [], [Save(), Sample(prompt="a", max_tokens=2)], [], [Resume()]]))
    phases = [(event.phase, event.step) for event in ran.of(events.Phase)]
    paused = phases.index(("paused", 4))
    assert ("saving", 4) in phases[paused:] and ("sampling", 4) in phases[paused:]
    assert phases[paused:].count(("paused", 4)) == 3  # again after each of the two
    assert (ran.folder / "checkpoint_step_4.pt").exists()
    assert sorted(ran.losses) == list(range(1, 2 * EPOCH + 1))
    before = ran.events[: ran.events.index(ran.of(events.Phase)[paused])]
    assert [event.step[-1] for event in before if isinstance(event, events.Progress)][-1] == 4  # all is reported


def test_a_paused_run_can_be_stopped(train: Train) -> None:
    ran = train(script=one_at_a_time([[Pause(id="p")], [], [Stop(id="x")]]))
    assert (ran.result.reason, ran.result.step, ran.step_of("last.pt")) == ("stopped", 4, 4)
    assert set(answers(ran)) == {"p", "x"}


@pytest.mark.parametrize(("watches", "stays"), [(True, True), (True, False), (False, True), (False, False)])
def test_only_a_run_that_a_console_watched_or_paused_ends_without_one(
    train: Train, tmp_path: Path, watches: bool, stays: bool
) -> None:
    console: list[AttachedRun] = []
    paused_at: list[float] = []

    def listen(trainer: Any) -> Sequence[Command]:
        if trainer.state.step == 5 and not console:
            console.append(AttachedRun(tmp_path / "run", stays=watches))
            return [Pause(stays=stays)]
        if trainer.control.paused:
            paused_at.append(time.monotonic())
            console[0].close()
            if time.monotonic() - paused_at[0] > 1:
                return [Resume()]
        return []

    run = train(script=listen)
    ends = watches or stays
    assert (run.result.reason, run.result.step) == (("stopped", 5) if ends else ("completed", 36))
    assert [event.who for event in run.of(events.Answered) if event.command == "stop"] == ["its lost console"] * ends


# ---- samples ----


def test_the_pieces_of_a_sample_make_its_text(train: Train, token_by_token: None) -> None:
    ran = train(script={4: [Sample(id="a", prompt="the ", max_tokens=40, seed=1)]})
    pieces = ran.of(events.Sampled)
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True] and len(pieces) > 5
    assert {(piece.id, piece.prompt, piece.step) for piece in pieces} == {("a", "the ", 4)}
    probabilities = [p for piece in pieces for p in piece.probabilities]
    assert len(sampled(ran)) == len(probabilities) == 40 and all(0 <= p <= 1 for p in probabilities)


def test_several_samples_are_those_of_one_seed_and_end_with_a_cancel(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "PIECE_SECONDS", math.inf)  # commands are read between batches only
    asked = Sample(id="a", prompt="the ", max_tokens=20, seed=7, temperature=1.5, num_samples=3)
    endless = replace(asked, id="b", max_tokens=1, num_samples=1024)
    end = [CancelSample(id="c", sample="b"), Stop(id="s")]
    ran = train(script=one_at_a_time([[asked, endless], [], [], [], [], end]))
    texts = ["".join(p.text for p in ran.of(events.Sampled) if (p.id, p.number) == ("a", n)) for n in range(3)]
    state = ran.trainer.state
    prompt, decode = state.tokenizer.encode("the "), state.tokenizer.decode
    tokens = [[token for token, _ in row] for row in stream(state.model, prompt, asked, range(3))]
    assert texts == list(map(decode, zip(*tokens, strict=True)))
    assert len(set(texts)) == 3 and obeyed(ran) == {"a": True, "b": True, "c": True, "s": True}
    assert [(p.id, p.number) for p in ran.of(events.Sampled) if p.done] == [
        *(("a", number) for number in range(3)),
        *(("b", number) for number in range(32)),  # four batches
    ]


@pytest.mark.parametrize("arrives", ["later", "with it"])
@pytest.mark.parametrize("end", [CancelSample(id="c", sample="a"), Stop(id="c")])
def test_a_cancel_or_a_stop_ends_a_sample(train: Train, token_by_token: None, end: Command, arrives: str) -> None:
    sample, others = Sample(id="a", prompt="the ", max_tokens=5000), [Save(id="s"), CancelSample(id="n", sample="zz")]
    commands = [[sample, *others, end]] if arrives == "with it" else [[sample], [others[0]], [others[1]], [end]]
    ran = train(script=one_at_a_time(commands))
    assert len(sampled(ran)) < 20 and ran.of(events.Sampled)[-1].done
    assert obeyed(ran) == {"a": True, "s": True, "c": True, "n": False}
    cancelled = isinstance(end, CancelSample)
    assert (ran.result.reason, ran.result.step) == (("completed", 2 * EPOCH) if cancelled else ("stopped", 4))


def test_a_sample_that_waits_for_its_turn_can_be_cancelled(train: Train, token_by_token: None) -> None:
    first, second, third = (Sample(id=id, prompt="the ", max_tokens=n) for id, n in (("a", 5000), ("b", 9), ("c", 5)))
    looks: list[list[Command]] = [[first], [second, third], [CancelSample(sample="b")], [], [CancelSample(sample="a")]]
    ran = train(script=one_at_a_time(looks))
    samples = [(event.id, event.ok) for event in ran.of(events.Answered) if event.command == "sample"]
    assert samples == [("b", True), ("a", True), ("c", True)]
    assert sampled(ran, "b") == "" and len(sampled(ran, "c")) == 5 and 0 < len(sampled(ran)) < 20


@pytest.mark.parametrize("reason", ["completed", "stopped"])
def test_after_the_end_samples_are_answered_and_nothing_else(train: Train, token_by_token: None, reason: str) -> None:
    waiting: list[list[Command]] = [[Stop()]] if reason == "stopped" else []
    ran = train(script=one_at_a_time(waiting))
    assert ran.result.reason == reason
    journal, before = list(read_journal(ran.folder)), files(ran.folder)
    ran.events.clear()
    waiting += [[Save(id="s"), Pause(id="p")], [Set(id="l", setting="dropout", value=0.5)]]
    ran.trainer.control.obey_commands([Sample(id="a", prompt="the", max_tokens=4), CancelSample(id="c", sample="b")])
    assert len(sampled(ran)) == 4
    assert obeyed(ran) == {"a": True, "s": False, "p": False, "l": False, "c": False}
    assert answers(ran)["s"].why == "the run has ended"
    ran.trainer.control.obey_commands([Sample(id="b", prompt="the", max_tokens=5000), Stop(id="x")])
    assert len(sampled(ran, "b")) < 20 and not answers(ran)["x"].ok
    assert list(read_journal(ran.folder)) == journal and files(ran.folder) == before


# ---- changes ----


@pytest.mark.parametrize(("refusals", "shown"), [([True], []), ([False, True], [4])], ids=["before", "after"])
def test_a_change_that_the_disk_refuses_never_takes_effect(
    train: Train, full_disk: Full, refusals: list[bool], shown: list[int]
) -> None:
    """The disk refuses before anybody is shown the change; seldom only after it stands in the journal."""
    waiting: list[bool] = []
    full_disk(lambda: waiting and waiting.pop(0))

    def script(run: Trainer) -> list[Command]:
        if run.state.step != 9 or waiting:
            return []
        waiting[:] = refusals
        return [Set(setting="epochs", value=4)]

    ran = train(script=script)
    assert [(e.ok, e.why) for e in ran.of(events.Answered)] == [(False, "No space left on device")]
    assert [event.new for event in ran.of(events.Intervention)] == shown and ran.result.step == 2 * EPOCH
    for history in (ran.trainer.state.history, read_history(ran.folder)):
        assert history.config["epochs"] == 2 and history.interventions_from(0) == []
        assert history.started is not None and history.started.total_steps == 2 * EPOCH


def test_a_change_that_is_repeated_needs_no_room_on_the_disk(train: Train, full_disk: Full) -> None:
    first = train(script={9: [Set(setting="epochs", value=3)], 11: [Stop()]})
    first.last.unlink()  # starts anew, and repeats the change
    steps = [0]
    full_disk(lambda: steps[-1] == 8)  # as the change is repeated, before the next look for commands
    again = train(auto=True, script=lambda run: steps.append(run.state.step) or [])
    assert again.result.step == 3 * EPOCH


# ---- from anyone ----


def test_absurd_commands_are_answered_and_bounded(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MAX_SAMPLE_TOKENS", 30)
    obeyable: list[dict[str, Any]] = [
        {"max_tokens": 10**6, "top_k": 10**6, "temperature": 100.0, "top_p": 1e-300, "repetition_penalty": 1e-300},
        {"temperature": 1e-300}, {"prompt": ""}, {"prompt": "a" * 1000},
    ]  # fmt: skip
    out_of_bounds: list[dict[str, Any]] = [
        {"max_tokens": 10**12, "top_k": 2**53, "temperature": 1e300, "top_p": 7.0, "seed": 10**30},
        {"max_tokens": -5, "top_k": -1, "temperature": -1.0, "top_p": -1.0}, {"temperature": math.nan},
        {"temperature": math.inf}, {"top_p": math.nan}, {"seed": -1}, {"min_p": 7.0}, {"min_p": math.nan},
        {"repetition_penalty": 0.0}, {"num_samples": 10**9},
    ]  # fmt: skip
    asked = [Sample(**{"id": f"ok {n}", "prompt": "the", "max_tokens": 3, **how}) for n, how in enumerate(obeyable)]
    refused = [
        *(Sample(**{"prompt": "the", **how}) for how in out_of_bounds),
        Sample(prompt="t" * (samples.MAX_PROMPT_CHARS + 1)),
        Sample(prompt="\ud800"),
        Set(setting="output_dir", value="/tmp/elsewhere"),
        Set(setting="model_dim", value=4),
        Set(setting="__class__", value="x"),
        Set(setting="learning_rate", value=None),
        Set(setting="learning_rate", value=[1] * 1000),
        Set(setting="eval_every", value="9" * 5000),
    ]
    ran = train(script={2: [*asked, *refused]})
    assert obeyed(ran) == {command.id: command in asked for command in [*asked, *refused]}
    assert all(len(answer.why) < 600 and len(answer.why.splitlines()) <= 1 for answer in answers(ran).values())
    assert len(sampled(ran, "ok 0")) == 30
    assert ran.result.reason == "completed"


NUMBERS = [0, -1, 1, 2**53, 10**12, 10**30, 0.0, -1.5, 1e-320, 1e300, math.nan, math.inf, -math.inf]
TEXTS = ["", "the sea", "é", "\x1b]52;c;AAAA\x07", "\u202e", "x" * 70_000, "../../x", "auto", "nan", "1e400", "\ud800"]
VALUES: list[Any] = [*NUMBERS, *TEXTS, None, True, [], [1, "a"], {"a": {}}, [[[[["deep"]]]]]]


def test_whatever_value_a_setting_is_sent_a_run_answers_and_survives(train: Train, small: Small) -> None:
    sent: list[Command] = [Set(setting=name, value=value) for name in (*SETTINGS, "__class__") for value in VALUES]
    config = small()
    ran = train(config, script={3: sent})
    assert list(answers(ran)) == [command.id for command in sent]
    assert isinstance(ran.result, events.Finished) and ran.result.unsaved == ""
    fixed = [name for name in SETTINGS if not SETTINGS[name].live and name != "output_dir"]
    now, before = to_dict(ran.trainer.state.config), to_dict(config)
    assert {name: now[name] for name in fixed} == {name: before[name] for name in fixed}


def test_the_prompt_of_a_sample_is_read_as_training_text_is(train: Train) -> None:
    asked = [
        Sample(prompt=prompt, max_tokens=6, seed=1) for prompt in ("\ufeffthe\r\nsea\r", "the\nsea\n", "caf\udce9")
    ]
    ran = train(script={5: [*asked]})
    pieces = [[event for event in ran.of(events.Sampled) if event.id == command.id] for command in asked]
    assert {piece.prompt for piece in (*pieces[0], *pieces[1])} == {"the\nsea\n"} and pieces[2] == []
    assert sampled(ran, asked[0].id) == sampled(ran, asked[1].id) != ""
    refused = answers(ran)[asked[2].id]
    assert (refused.ok, refused.why) == (False, "the prompt is not UTF-8 (byte 0xe9 after 3 characters)")
