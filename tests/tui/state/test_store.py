"""The store follows a run: phases, numbers, resumes, and what the user asked for."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fundamentallm.config.config import Config
from fundamentallm.run.commands import Sample
from fundamentallm.run.events import Answered, Event, Failed, Intervention, Phase, RunStarted, Sampled
from fundamentallm.run.spec import RunSpec
from fundamentallm_tui.state.sampler import Sampler
from fundamentallm_tui.state.store import Store
from tests.events import evaluated

FOLDER = Path("runs/x-1")
CONFIG = Config(data=("text.txt",))


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time."""

    def at(now: float) -> None:
        monkeypatch.setattr(time, "monotonic", lambda: now)

    at(0.0)
    return at


@pytest.fixture
def store(workshop: Any, at: Any) -> Store:
    """Of a run that trains."""
    store = Store()
    store.begin(FOLDER, "x", CONFIG, resumes=False)
    store.apply([workshop.started(RunSpec(CONFIG, FOLDER)), Phase(step=0, phase="training")])
    store.take_lines()
    return store


def resumed(workshop: Any, step: int, **changes: Any) -> RunStarted:
    start: RunStarted = workshop.started(RunSpec(CONFIG, FOLDER, Path("last.pt")), step)
    return replace(start, **changes)


def logged(store: Store, *events: Event) -> list[str]:
    store.apply(list(events))
    return [line.text for line in store.take_lines()]


def test_a_brief_phase_is_shown_only_when_it_lasts(store: Store, at: Any) -> None:
    for now, phase, shown in (
        (10.0, "saving", "TRAINING"), (10.29, "", "TRAINING"), (10.31, "", "SAVING"),
        (11.0, "evaluating", "SAVING"), (11.1, "", "SAVING"),  # one brief phase after another does not flicker
        (11.2, "training", "TRAINING"),
    ):  # fmt: skip
        at(now)
        store.apply([Phase(step=1, phase=phase)] if phase else [])
        assert store.status() == shown


def test_the_time_left_stands_still_while_nothing_is_trained(store: Store, at: Any, workshop: Any) -> None:
    for now, happens, left in (
        (100.0, workshop.progress(1, 10, eta=60.0), 60.0), (110.0, "pausing", 50.0),
        (115.0, Phase(step=10, phase="paused"), 50.0), (5000.0, "training", 50.0),
        (5010.0, Phase(step=10, phase="training"), 40.0), (5020.0, Phase(step=10, phase="sampling"), 30.0),
        (5110.0, Phase(step=10, phase="training"), 30.0), (5120.0, Phase(step=10, phase="training"), 20.0),
    ):  # fmt: skip
        at(now)
        assert store.eta() == (None if now == 100.0 else left)
        store.request(happens) if isinstance(happens, str) else store.apply([happens])
        assert store.eta() == left


def test_a_resumed_run_takes_the_curves_back_to_its_step(store: Store, workshop: Any) -> None:
    store.apply([workshop.progress(1, 100), evaluated(50, 2.0), evaluated(100, 2.0)])
    assert store.train.last == (100.0, 3.5)
    store.begin(FOLDER, "x", CONFIG, resumes=True)
    store.apply([resumed(workshop, 60)])
    assert (store.train.last, store.rate.last, store.val.last) == ((60.0, 3.7), (60.0, 1e-3), (50.0, 2.0))
    store.apply([workshop.progress(61, 70), evaluated(70, 2.0), evaluated(70, 1.9)])
    assert (store.step, len(store.train), store.val.last, len(store.val)) == (70, 70, (70.0, 1.9), 2)
    store.begin(Path("runs/x-2"), "x", CONFIG, resumes=False)
    assert (len(store.train), len(store.val), len(store.rate), store.step, store.epoch) == (0, 0, 0, 0, 0)


def test_changes_while_it_runs_reach_what_the_next_start_compares_with(store: Store) -> None:
    change = Intervention(step=1, setting="epochs", old=10, new=8, who="ada")
    assert "config" in store.apply([change])
    assert store.config == replace(CONFIG, epochs=8)
    assert (store.epochs, store.total_steps) == (8, 8 * 80)
    assert "config" in store.apply([Answered(step=1, id="a", command="set", ok=False, why="disk full")])
    assert store.config == CONFIG and (store.epochs, store.total_steps) == (5, 400)


def test_many_reports_at_once_are_as_one_by_one(at: Any, workshop: Any) -> None:
    start = workshop.started(RunSpec(CONFIG, FOLDER))
    events = [
        start,
        workshop.progress(1, 5),
        workshop.progress(6, 9),
        evaluated(9, 2.0),
        workshop.progress(10, 12, epoch=2),
    ]
    events += [workshop.progress(8, 14), workshop.progress(15, 15, eta=9.0)]  # the journal lacks a start
    one, many = Store(), Store()
    for store in (one, many):
        store.begin(FOLDER, "x", CONFIG, resumes=False)
    for event in events:
        one.apply([event])
    many.apply(events)
    for store in (one, many):
        assert (len(store.train), store.step, store.epoch, store.grad_norm, store.eta()) == (15, 15, 1, 0.41, 9.0)
        assert (store.train.last, store.rate.last, store.val.last) == ((15.0, 3.925), (15.0, 1e-3), None)


def test_every_metric_is_a_curve_and_time_counts_only_while_training(store: Store, workshop: Any) -> None:
    def at(time: float, event: Any) -> Any:
        return replace(event, time=time)

    events = [
        at(100, Phase(step=0, phase="training")), at(110, workshop.progress(1, 10, rate=100.0)),
        at(120, workshop.progress(11, 20, rate=200.0)), at(125, Phase(step=20, phase="paused")),
        at(900, Phase(step=20, phase="training")), at(905, workshop.progress(21, 25)),
        at(906, workshop.saved(25, "best.pt", "best")), at(906, workshop.saved(25, "by_hand.pt", "hand")),
        at(907, workshop.saved(25, "checkpoint_epoch_1.pt", "epoch")), at(908, workshop.saved(25, "last.pt", "last")),
    ]  # fmt: skip
    store.apply(events)
    points = {name: list(zip(*getattr(store, name).points, strict=True)) for name in ("seconds", "speed", "tokens")}
    assert points == {
        "seconds": [(10, 10), (20, 20), (25, 25)], "speed": [(10, 100), (20, 200), (25, 24_100)],
        "tokens": [(10, 10_000), (20, 20_000), (25, 25_000)],
    }  # fmt: skip
    assert store.memory.last[1] == 0.5, "MiB"
    assert [len(series) for series in (store.norm, store.memory, *store.smoothed.values())] == [25, 3, 25, 25, 25]
    assert list(zip(*store.saves.points, strict=True)) == [(25, 1.0)], "last.pt is written over again and again"
    store.apply([resumed(workshop, 20)])
    assert store.seconds.last == (20, 20) and store.smoothed[0.9].end == 20 and not len(store.saves)


def test_a_sample_takes_only_its_own_pieces_and_says_itself_why_it_was_refused(store: Store) -> None:
    def taken(*events: Event) -> list[str]:
        assert sampler.take(sampler.reader, list(events))
        return logged(store, *events)

    sampler: Any = Sampler(store, *[lambda *_: None] * 3, lambda: True)
    sampler.sample(Sample(prompt="Once", id="mine"))
    pieces = [("mine", " upon", False), ("other", "!!!", False), ("mine", " a time", False), ("mine", "", True)]
    events = [Sampled(step=7, id=id, prompt="Once", text=text, done=done) for id, text, done in pieces]
    assert taken(*events) == []
    assert (store.sample.text, store.sample.step, store.sample.done) == (" upon a time", 7, True)
    sampler.sample(Sample(prompt="Ω", id="next"))
    late = Answered(step=1, id="x", command="cancel_sample", ok=False, why="there is no such sample under way")
    refused = Answered(step=1, id="next", command="sample", ok=False, why="'Ω' is not in the text")
    assert taken(late, refused) == []
    assert store.sample.problem == "'Ω' is not in the text"


def test_an_engine_that_dies_leaves_the_reason_and_the_end_of_its_log(store: Store, workshop: Any) -> None:
    store.apply([workshop.saved(5, "last.pt", "last")])
    store.disconnected("killed by SIGKILL", ["Traceback", "MemoryError \x1b[31m"])
    text = "\n".join(line.text for line in store.take_lines())
    assert store.status() == "INTERRUPTED"
    assert "killed by SIGKILL" in text and "MemoryError ·[31m" in text and "F5 resumes last.pt" in text


def test_a_process_that_ends_after_its_run_changes_nothing(store: Store, workshop: Any) -> None:
    store.apply([workshop.finished(400)])
    assert (store.disconnected("ended with status 0", []), store.status()) == ({"phase"}, "FINISHED")


def test_a_start_resumes_the_newest_checkpoint_and_of_equal_ones_last_pt(store: Store, workshop: Any) -> None:
    names = [("last.pt", "last"), ("checkpoint_epoch_2.pt", "epoch"), ("best.pt", "best")]
    store.apply([workshop.saved(80, *name) for name in names])
    assert store.saved == "last.pt"
    store.apply([workshop.saved(90, "checkpoint_step_90.pt", "hand")])
    store.disconnected("killed by SIGKILL", [])
    assert store.take_lines()[-1].text == "F5 resumes checkpoint_step_90.pt."


def test_the_log_says_what_a_start_resumes(store: Store, workshop: Any) -> None:
    lines = logged(store, replace(workshop.finished(40, "stopped"), path="best.pt"))
    assert lines[-1] == "F5 resumes last.pt" and not any("best.pt" in line for line in lines)
    assert logged(store, workshop.finished(400))[-1] == "the model is in final_model.pt"
    failed = Failed(step=9, error="the loss is nan", advice="a lower learning_rate", saved="last.pt")
    lines = logged(store, failed)
    assert lines == ["failed at step 9: the loss is nan", "try a lower learning_rate", "F5 resumes last.pt"]


def test_files_saved_at_one_step_share_a_line(store: Store, workshop: Any) -> None:
    names = [("checkpoint_epoch_1.pt", "epoch"), ("last.pt", "last"), ("best.pt", "best")]
    lines = logged(store, *(workshop.saved(80, *name) for name in names))
    assert lines == ["saved checkpoint_epoch_1.pt, last.pt, best.pt (1.6 MB)"]
