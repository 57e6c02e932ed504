"""Commands from anywhere: a run hears whole, sensible ones once, answers them, and outlives the rest."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fundamentallm.config.config import SETTINGS, Config, to_dict
from fundamentallm.run import commands, events
from fundamentallm.run.commands import COMMANDS, Pause, Sample, Save, Set, Stop, encode
from fundamentallm.run.journal import Inbox, send_command
from fundamentallm.train import control as sampler
from fundamentallm.untrusted import MAX_COMMAND_BYTES, MAX_NAME_CHARS

NUMBERS = [0, -1, 1, 2**53, 10**12, 10**30, 0.0, -1.5, 1e-320, 1e300, float("nan"), float("inf"), -float("inf")]
TEXTS = ["", "the sea", "é", "\x1b]52;c;AAAA\x07", "\u202e", "x" * 70_000, "../../x", "auto", "nan", "1e400", "\ud800"]
VALUES = st.sampled_from([*NUMBERS, *TEXTS, None, True, [], [1, "a"], {"a": {}}, json.loads("[" * 9 + "]" * 9)])
REAL: list[commands.Command] = [
    Sample(prompt="the", max_tokens=5), Set(setting="learning_rate", value=0.001), Save(), commands.Resume(),
    commands.CancelSample(sample="none"),
]  # fmt: skip


def append(folder: Path, raw: bytes) -> None:
    with (folder / COMMANDS).open("ab") as file:
        file.write(raw)


def line(command: commands.Command) -> bytes:
    return encode(command).encode() + b"\n"


# ---- the inbox ----


def test_what_was_said_before_the_run_began_is_not_for_it(tmp_path: Path) -> None:
    send_command(tmp_path, Stop())
    inbox = Inbox(tmp_path)
    assert inbox.read() == []
    command = Pause()
    send_command(tmp_path, command)
    assert inbox.read() == [command] and inbox.read() == []


def test_a_line_that_somebody_left_torn_does_not_swallow_the_next_command(tmp_path: Path) -> None:
    inbox, stop = Inbox(tmp_path), Stop()
    append(tmp_path, line(Pause())[:-9])
    assert inbox.read() == []
    send_command(tmp_path, stop)
    assert inbox.read() == [stop]
    assert (tmp_path / COMMANDS).read_bytes().count(b"\n") == 2


def test_a_file_that_became_shorter_was_made_anew_and_is_heard_from_its_beginning(tmp_path: Path) -> None:
    inbox, stop = Inbox(tmp_path), Stop()
    for _ in range(3):
        send_command(tmp_path, Pause())
    assert len(inbox.read()) == 3
    (tmp_path / COMMANDS).unlink()
    send_command(tmp_path, stop)
    assert inbox.read() == [stop] and inbox.read() == []
    (tmp_path / COMMANDS).write_bytes(b"")
    assert inbox.read() == []
    send_command(tmp_path, stop)
    assert inbox.read() == [stop]


def test_long_lines_and_garbage_are_passed_over_whole(tmp_path: Path) -> None:
    inbox, stop = Inbox(tmp_path), Stop()
    hidden = b"x" * MAX_COMMAND_BYTES + line(Save())  # not a command, also where reading in blocks would cut it
    append(tmp_path, hidden + os.urandom(100_000).replace(b"{", b"") + b"\n\0\0\xff{}\n[]\n" + b"[" * 100_000 + b"\n")
    append(tmp_path, line(stop))
    heard = [command for _ in range(20) for command in inbox.read()]
    assert heard == [stop]


@pytest.mark.parametrize("name", ["id", "who", "setting"])
def test_a_name_of_a_length_that_none_has_is_no_command(name: str) -> None:
    values = json.loads(encode(Set(setting="dropout", value=0.1)))
    assert commands.decode(json.dumps(values)) is not None
    assert commands.decode(json.dumps(values | {name: "x" * (MAX_NAME_CHARS + 1)})) is None


SHOUT = """
import sys
from pathlib import Path
from fundamentallm.run.commands import Pause
from fundamentallm.run.journal import send_command
for n in range(200):
    send_command(Path(sys.argv[1]), Pause(id=f"{sys.argv[2]}{n}", who="x" * (n % 90)))
"""


def test_two_writers_at_once_are_both_heard_to_the_last_word(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    writers = [subprocess.Popen([sys.executable, "-c", SHOUT, str(tmp_path), who]) for who in "ab"]
    heard: list[str] = []
    while any(writer.poll() is None for writer in writers):
        heard += [command.id for command in inbox.read()]
    assert [writer.wait() for writer in writers] == [0, 0]
    heard += [command.id for command in inbox.read()]
    for who in "ab":
        assert [id for id in heard if id.startswith(who)] == [f"{who}{n}" for n in range(200)]


def test_a_command_goes_through_no_link_and_is_not_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "precious").write_text("a")
    (tmp_path / COMMANDS).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        send_command(tmp_path, Stop())
    assert (tmp_path / "precious").read_text() == "a"
    (tmp_path / COMMANDS).unlink()
    monkeypatch.setattr("fundamentallm.run.folder.os.write", lambda file, block: len(block) // 2)
    with pytest.raises(OSError, match="No space"):
        send_command(tmp_path, Stop())


# ---- a run that hears them ----


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
            append(Path(name), b"\n".join([*lines, line(Stop(id="stop"))]))
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
