"""Commands from anyone, during a sample or from a console: a run answers each and survives all."""

import json
import time
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fundamentallm.config.config import SETTINGS, Config, to_dict
from fundamentallm.process.session import AttachedRun
from fundamentallm.run import commands, events
from fundamentallm.run.commands import COMMANDS, CancelSample, Command, Pause, Resume, Sample, Save, Set, Stop, encode
from fundamentallm.train import samples as sampler

NUMBERS = [0, -1, 1, 2**53, 10**12, 10**30, 0.0, -1.5, 1e-320, 1e300, float("nan"), float("inf"), -float("inf")]
TEXTS = ["", "the sea", "é", "\x1b]52;c;AAAA\x07", "\u202e", "x" * 70_000, "../../x", "auto", "nan", "1e400", "\ud800"]
VALUES = st.sampled_from([*NUMBERS, *TEXTS, None, True, [], [1, "a"], {"a": {}}, json.loads("[" * 9 + "]" * 9)])
REAL: list[Command] = [
    Sample(prompt="the", max_tokens=5), Set(setting="learning_rate", value=0.001), Save(), Resume(),
    CancelSample(sample="none"),
]  # fmt: skip


def append(folder: Path, raw: bytes) -> None:
    with (folder / COMMANDS).open("ab") as file:
        file.write(raw)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """A command, some of its fields exchanged; a setting may be any."""
    values: dict[str, Any] = json.loads(encode(draw(st.sampled_from(REAL))))
    names = [name for name in values if name not in ("command", "id")]
    for _ in range(draw(st.integers(0, 3))):
        values[draw(st.sampled_from(names))] = draw(VALUES)
    if values["command"] == "set" and draw(st.booleans()):
        values["setting"] = draw(st.sampled_from([*SETTINGS, "__class__", "output_dir"]))
    return values


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(mutated() | st.binary(max_size=40), min_size=1, max_size=10))
def test_whatever_a_run_is_told_it_answers_and_lives(
    drawn: list[Any], train: Callable[..., Any], small: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory
) -> None:
    before, sampler.MAX_SAMPLE_TOKENS = sampler.MAX_SAMPLE_TOKENS, 20
    name, config = str(tmp_path_factory.mktemp("run")), small()
    lines: list[bytes] = []
    ids = []
    for number, values in zip(count(), drawn):
        if isinstance(values, bytes):
            lines.append(values.replace(b"\n", b""))
            continue
        values["id"] = f"c{number}"
        lines.append(json.dumps(values).encode())
        if commands.decode(lines[-1]) is not None:
            ids.append(values["id"])

    def listen(trainer: Any) -> list[Any]:
        if trainer.state.step == 3 and lines:
            append(Path(name), b"\n".join([*lines, encode(Stop(id="stop")).encode() + b"\n"]))
            lines.clear()
        return []

    try:
        ran = train(config, name, listen)
    finally:
        sampler.MAX_SAMPLE_TOKENS = before
    answers = ran.of(events.Answered)
    assert [event.id for event in answers] == [*ids, "stop"]
    assert isinstance(ran.result, events.Finished) and ran.result.unsaved == ""
    for name in SETTINGS:
        if not SETTINGS[name].live and name != "output_dir":
            assert to_dict(ran.trainer.state.config)[name] == to_dict(config)[name], name


def test_absurd_wishes_are_answered_and_bounded(
    train: Callable[..., Any], small: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "MAX_SAMPLE_TOKENS", 30)
    wishes = [
        Sample(id="long", prompt="the", max_tokens=10**12, top_k=2**53, temperature=1e300, top_p=1e-300, seed=-1),
        Sample(id="prompt", prompt="t" * (sampler.MAX_PROMPT_CHARS + 1)),
        Sample(id="negative", prompt="the", max_tokens=-5, top_k=-1, temperature=-1.0, top_p=-1.0),
        Sample(id="surrogate", prompt="\ud800"),
        Set(id="folder", setting="output_dir", value="/tmp/elsewhere"),
        Set(id="fixed", setting="model_dim", value=4),
        Set(id="unknown", setting="__class__", value="x"),
        Set(id="none", setting="learning_rate", value=None),
        Set(id="list", setting="learning_rate", value=[1] * 1000),
        Set(id="number", setting="eval_every", value="9" * 5000),
    ]
    ran = train(small(), script={2: wishes})
    answers = {event.id: event for event in ran.of(events.Answered)}
    assert {id: event.ok for id, event in answers.items()} == {
        "long": True, "prompt": False, "negative": True, "surrogate": False, "folder": False, "fixed": False,
        "unknown": False, "none": False, "list": False, "number": False,
    }  # fmt: skip
    assert all(len(event.why) < 600 and len(event.why.splitlines()) <= 1 for event in answers.values())
    written = [event for event in ran.of(events.Sampled) if event.id == "long"]
    assert sum(len(event.text) for event in written) == 30
    assert isinstance(ran.result, events.Finished)


def test_a_sample_that_waits_for_its_turn_can_be_cancelled(
    train: Callable[..., Any], small: Callable[..., Config]
) -> None:
    first, second, third = (Sample(prompt="the ", max_tokens=n, seed=1) for n in (60_000, 9, 5))
    waiting: list[list[Command]] = [[first], [second, third], [CancelSample(sample=second.id)], []]
    told: list[str] = []

    def listen(trainer: Any) -> Sequence[Command]:
        if trainer.state.step < 3:
            return []
        told.append(trainer.current_phase)
        if waiting:
            return waiting.pop(0)
        return [CancelSample(sample=first.id)] if trainer.current_phase == "sampling" and len(told) == 5 else []

    run = train(small(), script=listen)
    answers = [(event.id, event.ok) for event in run.of(events.Answered) if event.command == "sample"]
    assert answers == [(second.id, True), (first.id, True), (third.id, True)]
    text = {sample.id: "" for sample in (first, second, third)}
    for piece in run.of(events.Sampled):
        text[piece.id] += piece.text
    assert text[second.id] == "" and len(text[third.id]) == 5 and 0 < len(text[first.id]) < 60_000


def test_stop_ends_a_sample(train: Callable[..., Any], small: Callable[..., Config]) -> None:
    waiting: list[list[Command]] = [[Sample(prompt="", max_tokens=60_000)], [Stop()]]
    run = train(small(), script=lambda trainer: waiting.pop(0) if trainer.state.step >= 3 and waiting else [])
    assert (run.result.reason, run.result.step) == ("stopped", 3)
    assert sum(len(piece.text) for piece in run.of(events.Sampled)) < 60_000


@pytest.mark.parametrize("stays", [True, False])
def test_a_run_paused_by_an_attached_console_ends_with_it_and_one_paused_by_a_shell_does_not(
    train: Callable[..., Any], small: Callable[..., Config], tmp_path: Path, stays: bool
) -> None:
    console: list[AttachedRun] = []
    rested = 0.0

    def listen(trainer: Any) -> Sequence[Command]:
        nonlocal rested
        if trainer.state.step == 5 and not console:
            console.append(AttachedRun(tmp_path / "run", stays=stays))
            return [Pause(stays=stays)]
        if trainer.control.paused:
            rested = rested or time.monotonic()
            console[0].close()
            if time.monotonic() - rested > 1:
                return [Resume()]
        return []

    run = train(small(), script=listen)
    assert (run.result.reason, run.result.step) == (("stopped", 5) if stays else ("completed", 36))
    assert [event.who for event in run.of(events.Answered) if event.command == "stop"] == ["its lost console"] * stays
