"""Events and commands: lines of JSON and back, and through a queue."""

import json
import math
import pickle
from dataclasses import MISSING, fields
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fundamentallm.config.sampling import SAMPLING
from fundamentallm.run import commands, events
from fundamentallm.untrusted import MAX_INTEGER, MAX_NAME_CHARS, MAX_TIME
from tests.engine.run.conftest import evaluated, finished, progress, started

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


def _of(hint: Any) -> st.SearchStrategy[Any]:
    if hint is Any:
        return PLAIN
    if hint is float:
        return st.floats(allow_infinity=False)
    if get_origin(hint) is tuple:
        return st.lists(_of(get_args(hint)[0]), max_size=4).map(tuple)
    if get_origin(hint) is dict:
        return st.dictionaries(st.text(), PLAIN, max_size=3)
    if type(None) in get_args(hint):
        kind = next(kind for kind in get_args(hint) if kind is not type(None))
        return st.none() | (st.floats(allow_nan=False, allow_infinity=False) if kind is float else _of(kind))
    return {int: st.integers(1, MAX_INTEGER), str: st.text(max_size=50), bool: st.booleans()}[hint]


def _messages(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    drawn = {f.name: _of(hints[f.name]) for f in fields(kind)}
    drawn["time"] = st.floats(0, MAX_TIME)
    if kind is events.Phase:
        drawn["phase"] = st.sampled_from(events.PHASES)
    if kind is events.Progress:  # columns of one length, steps that increase
        drawn["step"] = st.sets(st.integers(0, MAX_INTEGER), min_size=3, max_size=3).map(lambda s: tuple(sorted(s)))
        numbers = st.lists(st.floats(allow_infinity=False), min_size=3, max_size=3).map(tuple)
        drawn |= dict.fromkeys(("train_loss", "learning_rate", "grad_norm"), numbers)
    return st.builds(kind, **drawn)


KINDS = [*((events, kind) for kind in events.NAMES), *((commands, kind) for kind in commands.NAMES)]
IDS = [kind.__name__ for _, kind in KINDS]


@pytest.mark.parametrize(("module", "kind"), KINDS, ids=IDS)
@given(data=st.data())
def test_a_message_survives_its_line_and_a_queue(module: Any, kind: type, data: st.DataObject) -> None:
    message = data.draw(_messages(kind))
    line = module.encode(message)
    assert "\n" not in line and line.isascii()
    json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not strict JSON"))
    for copy in (module.decode(line), module.decode(line.encode()), pickle.loads(pickle.dumps(message))):
        assert repr(copy) == repr(message)  # equal, types included, where NaN is not equal to itself


def test_every_event_and_every_command_has_a_name_and_every_event_a_step() -> None:
    assert all("step" in {f.name for f in fields(kind) if f.default is MISSING} for kind in events.NAMES)
    assert set(events.NAMES) == set(events.Event.__subclasses__())
    assert set(commands.NAMES) == set(commands.Command.__subclasses__())


def test_numbers_that_are_not_finite_are_null_in_json_and_nan_in_python() -> None:
    line = events.encode(evaluated(1, math.nan, train_loss=math.inf, perplexity=-math.inf))
    values = json.loads(line)
    assert values["train_loss"] is values["val_loss"] is values["perplexity"] is None
    for raw in (line, line.replace("null", "1e999")):
        decoded = events.decode(raw)
        assert isinstance(decoded, events.Evaluated)
        assert all(math.isnan(number) for number in (decoded.train_loss, decoded.val_loss, decoded.perplexity))
    ended = events.decode(events.encode(finished(3)).replace('"val_loss":1.0', '"val_loss":NaN'))
    assert isinstance(ended, events.Finished) and ended.val_loss is None
    config = {"gradient_clip": math.inf, "data": [math.nan]}
    change = events.Intervention(step=1, setting="x", old=config, new=(1.5, math.nan), who="")
    inside = events.decode(events.encode(change))
    assert isinstance(inside, events.Intervention)
    assert (inside.old, inside.new) == ({"gradient_clip": None, "data": [None]}, [1.5, None])


def test_a_line_is_flat_and_a_field_that_a_newer_engine_added_is_ignored() -> None:
    event = events.Phase(seq=3, time=1.5, step=7, phase="saving")
    values = {"event": "phase", "seq": 3, "time": 1.5, "step": 7, "phase": "saving"}
    assert json.loads(events.encode(event)) == values
    assert events.decode(json.dumps(values | {"mood": "good"})) == event


GOOD = events.encode(events.Notice(seq=1, step=0, level="info", text="é\n☃"))


@given(end=st.integers(0, len(GOOD) - 1))
def test_a_truncated_line_is_no_event(end: int) -> None:
    assert events.decode(GOOD[:end]) is None


MALFORMED = [
    b"", b"\xff\xfe", b"null", b"[]", b"7", b'"phase"', b"{}", b'{"event": "phase"}', b'{"event": ["phase"]}',
    b'{"event": "from_the_future", "seq": 1, "time": 1, "step": 1}',
    b'{"event": "phase", "seq": 1, "time": 1, "step": 1' + b"0" * 5000 + b', "phase": "x"}',
    b"[" * 100_000,
]  # fmt: skip


def test_an_unknown_or_malformed_line_is_no_message_and_no_error() -> None:
    for line in MALFORMED:
        assert events.decode(line) is None, line[:60]
        assert commands.decode(line.replace(b"event", b"command").replace(b"phase", b"sample")) is None, line[:60]


PHASE, STARTED, PROGRESS, FINISHED = events.Phase(step=1, phase="saving"), started(), progress(1, 3), finished(3)
IMPOSSIBLE: list[tuple[events.Event, dict[str, Any]]] = [
    (PHASE, {"step": "one"}), (PHASE, {"step": 1.5}), (PHASE, {"seq": True}), (PHASE, {"time": []}),
    (PHASE, {"time": 10**400}), (PHASE, {"phase": "x"}), (PHASE, {"phase": "saving\x1b[2J"}), (PHASE, {"phase": ""}),
    (PROGRESS, {"train_loss": [1.0, 2.0]}), (PROGRESS, {"grad_norm": []}), (PROGRESS, {"step": [1, 2]}),
    (PROGRESS, {"step": [], "train_loss": [], "learning_rate": [], "grad_norm": []}), (PROGRESS, {"step": [3, 2, 1]}),
    (PROGRESS, {"step": [1, 1, 2]}), (PROGRESS, {"step": [-1, 1, 2]}), (PROGRESS, {"step": [1, 2, 2**63]}),
    (PROGRESS, {"step": [1, 2, 10**300]}), (PROGRESS, {"step": [1, 2, True]}), (PROGRESS, {"epoch": -1}),
    (STARTED, {"steps_per_epoch": 0}), (STARTED, {"steps_per_epoch": -5}), (STARTED, {"total_steps": -1}),
    (STARTED, {"total_steps": 10**18}), (STARTED, {"step": -1}), (STARTED, {"parameters": -1}),
    (STARTED, {"config": json.loads("[" * 9 + "]" * 9)}), (STARTED, {"config": {"x": json.loads("[" * 8 + "]" * 8)}}),
    (FINISHED, {"time": -1.0}), (FINISHED, {"time": 1e300}), (FINISHED, {"time": None}), (FINISHED, {"seq": -1}),
    (FINISHED, {"step": 2**53 + 1}), (FINISHED, {"best_step": 10**30}),
]  # fmt: skip


@pytest.mark.parametrize(("event", "values"), IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
def test_what_no_run_can_have_written_is_no_event(event: events.Event, values: dict[str, Any]) -> None:
    line = json.loads(events.encode(event))
    assert events.decode(json.dumps(line)) is not None
    assert events.decode(json.dumps(line | values)) is None


def test_a_sample_command_of_an_earlier_version_has_the_defaults_of_options_that_it_lacks() -> None:
    line = '{"command":"sample","id":"a","time":1.0,"who":"x","prompt":"the","max_tokens":5,"temperature":0.5}'
    command = commands.decode(line)
    assert isinstance(command, commands.Sample)
    assert {name: getattr(command, name) for name in SAMPLING} == {
        **{name: row.default for name, row in SAMPLING.items()}, "max_tokens": 5, "temperature": 0.5
    }  # fmt: skip


def test_commands_name_their_user_and_have_ids_of_their_own_of_bounded_length() -> None:
    first, second = (commands.Set(setting="dropout", value=0.1) for _ in range(2))
    assert first.id != second.id and first.time > 1e9 and first.who
    values = json.loads(commands.encode(first))
    for name in ("id", "who", "setting"):
        assert commands.decode(json.dumps(values | {name: "x" * (MAX_NAME_CHARS + 1)})) is None
